// Package client speaks the text protocol to the nodes of one cluster: it
// publishes, reads histories and subscribes, and goes on with another node when
// a connection breaks.
//
// A message that was sent and not answered has an unknown outcome. It is sent
// again only under an identity that lets the cluster recognise it: its id, or
// the name and number that a Producer gives it. A Producer is what keeps order
// and once-only across failures.
//
// Invariants, each with a test of the same name:
//
//	ResendsInOrder:   after a break a Producer sends all that is unanswered again,
//	                  oldest first, before anything new.
//	NeverUnderNoName: a message without identity is sent at most once, unless
//	                  the node said that it was certainly not written.
//	OnceForOthers:    what PublishOnce forwards is stored once, over any number
//	                  of breaks, and one message's failure is no other's.
//	NoGapNoRepeat:    a Subscription delivers every offset of a partition once,
//	                  in order, over any number of breaks.
//
// Not here: which node leads what; any node takes any request. The protocol is
// docs/protocol.md. Start reading at Producer.Send and pipe.run.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

// Options configure a Client. Zero fields mean the default.
type Options struct {
	// Nodes are the client addresses (host:port) of the cluster's nodes, at
	// least one. The first is tried first; after a break the next one is.
	Nodes []string
	// Clock is required: timesvc.NewSystem outside of tests.
	Clock timesvc.Clock
	// Dial opens connections; default TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// DialTimeout bounds one attempt to connect and be greeted; default 1 s.
	DialTimeout time.Duration
	// Timeout is how long a node may wait for a leader before it answers
	// (timeout= of PUBN); default 10 s, the protocol's.
	Timeout time.Duration
	// Deadline is how long a message is tried, over all nodes, before its
	// publish fails; default 60 s.
	Deadline time.Duration
	// Stall is how long a node with unanswered requests may stay silent before
	// another one is tried; default 5 s. Smaller notices a hung node sooner and
	// sends more twice.
	Stall time.Duration
	// WindowMessages is the largest number of unanswered messages; default 4,096.
	// When the window is full, Send waits.
	WindowMessages int
	// WindowBytes is their largest total size; default 8 MiB. One message may be larger.
	WindowBytes int
	// Lanes is the largest number of messages that PublishOnce has on their way,
	// each with a connection; default 64. When all are used, PublishOnce waits.
	Lanes int
	// Direct says that the node is in this very process, so that no connection
	// breaks: PublishOnce then gives messages no identity.
	Direct bool
}

func (o Options) withDefaults() (Options, error) {
	if len(o.Nodes) == 0 {
		return o, errors.New("client: no node address given")
	}
	if o.Clock == nil {
		return o, errors.New("client: Options.Clock is required")
	}
	for _, f := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.DialTimeout, time.Second}, {&o.Timeout, 10 * time.Second}, {&o.Deadline, time.Minute}, {&o.Stall, 5 * time.Second}} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < 0 {
			return o, fmt.Errorf("client: negative duration %v in Options", *f.v)
		}
	}
	if o.WindowMessages <= 0 {
		o.WindowMessages = 4096
	}
	if o.WindowBytes <= 0 {
		o.WindowBytes = 8 << 20
	}
	if o.Lanes <= 0 {
		o.Lanes = 64
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	return o, nil
}

// Message is a message to publish.
type Message struct {
	// Topic is name or name/partition. Without a partition, a topic with several
	// is served by key, else by id, else in turn.
	Topic   string
	Key     []byte // nil: none
	ID      []byte // nil: none; else the topic keeps the first of this id within its window
	Headers []wire.Header
	Value   []byte
	// Timeout is how long the message is tried, instead of Options.Deadline; 0
	// means that. What a node says until a second later still counts.
	Timeout time.Duration
}

// Result is what became of a message.
type Result struct {
	// N is the message's number, from 1, among those accepted by its Producer or
	// Client.
	N uint64
	// Receipt is the acknowledgement, if Err is nil.
	Receipt wire.Receipt
	// Err is nil or a *PublishError.
	Err error
}

// PublishError says why a message was not acknowledged, and whether it may
// nevertheless have been written.
type PublishError struct {
	Class wire.Class
	// Err is the node's *wire.Error, or a context's or connection's error.
	Err error
}

// Error returns the class and the cause.
func (e *PublishError) Error() string { return fmt.Sprintf("publish: %v: %v", e.Class, e.Err) }

// Unwrap returns the cause.
func (e *PublishError) Unwrap() error { return e.Err }

// What ends requests on this side; they are wrapped.
var (
	// ErrClosed: the Client, Producer or iterator was closed.
	ErrClosed = errors.New("client: closed")
	// ErrDeadline: Options.Deadline has passed without an answer.
	ErrDeadline = errors.New("client: no acknowledgement before the deadline")
	// ErrProducerEnded: an earlier message of this Producer failed, and this one
	// was not sent, because order would be lost. Make a new Producer.
	ErrProducerEnded = errors.New("client: the producer has ended: an earlier message failed")
)
