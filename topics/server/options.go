package server

import (
	"errors"
	"log/slog"
	"time"

	"github.com/wiber/wiber/timesvc"
)

// Options are what a Server is made of. Backend and Clock are needed; a zero
// limit means its default.
type Options struct {
	Backend Backend
	Clock   timesvc.Clock
	Logger  *slog.Logger // default: none

	// AllowedHosts are the values of Host, without a port, that HTTP takes beside
	// loopback names and the address that was listened on.
	AllowedHosts []string

	// MaxConnections bounds the sessions; one more is told BUSY. Default 4,096.
	// A session costs about 40 KiB, more while it has something unanswered.
	MaxConnections int
	// SessionBytes bounds what one session has unanswered; beyond it the session
	// reads no further request. Default 8 MiB. More lets one client pipeline
	// deeper and lets it hold more memory.
	SessionBytes int
	// NodeBytes bounds what all sessions together have unanswered. Default 64 MiB.
	NodeBytes int
	// MaxSources bounds the partitions that the subscriptions of one session
	// follow. Default 100,000.
	MaxSources int

	// PublishTimeout is how long a publish waits that has no timeout=, ReadTimeout
	// how long a read waits for its level. Default 10 s.
	PublishTimeout time.Duration
	ReadTimeout    time.Duration

	// A client that took nothing for SlowAfter (default 10 s) loses those
	// subscriptions that are SlowBehind messages or more (default 10,000) behind,
	// and is told so. After CutAfter (default 60 s) its connection is closed.
	SlowAfter  time.Duration
	SlowBehind uint64
	CutAfter   time.Duration

	// DrainTimeout is how long a server that stops waits for the answers to what
	// it has accepted. Default 5 s.
	DrainTimeout time.Duration
}

const (
	flushBytes = 64 << 10 // replies are written when so many wait, or when no more do
	readBytes  = 64 << 10 // of the log, at once, for one reader
	linger     = time.Second
)

func (o Options) withDefaults() (Options, error) {
	if o.Backend == nil || o.Clock == nil {
		return o, errors.New("server: Options need a Backend and a Clock")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&o.MaxConnections, 4096)
	orDefault(&o.SessionBytes, 8<<20)
	orDefault(&o.NodeBytes, 64<<20)
	orDefault(&o.MaxSources, 100_000)
	orDefault(&o.PublishTimeout, 10*time.Second)
	orDefault(&o.ReadTimeout, 10*time.Second)
	orDefault(&o.SlowAfter, 10*time.Second)
	orDefault(&o.SlowBehind, 10_000)
	orDefault(&o.CutAfter, time.Minute)
	orDefault(&o.DrainTimeout, 5*time.Second)
	if o.MaxConnections < 0 || o.SessionBytes < 0 || o.NodeBytes < 0 || o.MaxSources < 0 {
		return o, errors.New("server: a limit in Options is negative")
	}
	return o, nil
}

func orDefault[T int | uint64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
