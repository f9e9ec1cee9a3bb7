package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

// Server is a node's door. Its methods may be called concurrently.
type Server struct {
	opts    Options
	backend Backend
	clock   timesvc.Clock
	log     *slog.Logger
	bytes   *budget // unanswered, of all sessions
	inside  *inside
	metrics *metrics

	sessions      atomic.Int64  // open now
	subscriptions atomic.Int64  // of all sessions
	turn          atomic.Uint32 // where the next session's round robin begins
}

// New returns a Server that serves nothing yet.
func New(opts Options) (*Server, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	in, err := newInside(opts)
	if err != nil {
		return nil, err
	}
	s := &Server{
		inside:  in,
		opts:    opts,
		backend: opts.Backend,
		clock:   opts.Clock,
		log:     opts.Logger,
		bytes:   newBudget(opts.NodeBytes),
	}
	s.metrics = newMetrics(s)
	return s, nil
}

// ServeTCP serves the text protocol to everyone who connects, until ctx ends.
// Then it closes the listener, takes no further request, answers those that it
// has taken (at most for DrainTimeout), closes the connections and returns nil
// when every goroutine has ended. Another error is the listener's.
func (s *Server) ServeTCP(ctx context.Context, ln net.Listener) error {
	// hard ends what still runs when the time to drain is over.
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	drained := s.clock.NewTimer(time.Hour)
	drained.Stop()
	defer drained.Stop()
	defer context.AfterFunc(ctx, func() {
		ln.Close()
		s.inside.end()
		drained.Reset(s.opts.DrainTimeout)
	})()
	defer s.inside.close()

	var sessions sync.WaitGroup
	inside, stop := context.WithCancel(ctx)
	defer stop()
	sessions.Go(func() {
		s.inside.serve(inside, &sessions, func(conn net.Conn) { s.serveConn(ctx, hard, conn) })
	})
	err := s.acceptLoop(ctx, ln, func(conn net.Conn) {
		sessions.Go(func() { s.serveConn(ctx, hard, conn) })
	})
	stop()
	ended := make(chan struct{})
	go func() { sessions.Wait(); close(ended) }()
	if err != nil {
		cut()
	}
	select {
	case <-ended:
	case <-drained.C():
		cut()
		<-ended
	}
	return err
}

// acceptLoop hands on connections until ctx ends. What the machine refuses for
// a while (too many open files) is tried again.
func (s *Server) acceptLoop(ctx context.Context, ln net.Listener, serve func(net.Conn)) error {
	const first, most = 5 * time.Millisecond, time.Second
	wait := first
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			wait = first
			serve(conn)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		s.log.Warn("a connection could not be accepted, trying again", "addr", ln.Addr().String(), "err", err)
		pause := s.clock.NewTimer(wait)
		select {
		case <-pause.C():
		case <-ctx.Done():
			pause.Stop()
		}
		wait = min(2*wait, most)
	}
}

// serveConn serves one connection and returns when it is closed.
func (s *Server) serveConn(drain, hard context.Context, conn net.Conn) {
	defer conn.Close()
	if s.sessions.Add(1) > int64(s.opts.MaxConnections) {
		s.sessions.Add(-1)
		err := wire.Errorf(wire.Busy, "this node has %d connections, its maximum: try another node, or later", s.opts.MaxConnections)
		_, _ = conn.Write(wire.AppendError(nil, err))
		s.log.Warn("a connection was refused: too many", "addr", conn.RemoteAddr().String())
		return
	}
	defer s.sessions.Add(-1)
	newSession(s, conn).serve(drain, hard)
}

// ServeWeb serves HTTP until ctx ends; it then waits for the requests that run,
// at most for DrainTimeout.
func (s *Server) ServeWeb(ctx context.Context, ln net.Listener) error {
	web := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.DrainTimeout)
		defer cancel()
		if web.Shutdown(end) != nil {
			web.Close()
		}
	})
	err := web.Serve(ln)
	if !stop() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	web.Close()
	return err
}

// problem turns what a Backend answered into what the client is told. late is
// the code for a context that ended.
func (s *Server) problem(err error, late wire.Code) *wire.Error {
	var e *wire.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, ErrTopicGone):
		return wire.Errorf(wire.NoTopic, "the topic was deleted meanwhile")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		if late == wire.NoQuorum {
			return wire.Errorf(late, "no majority of the nodes answered in time: try again, or ask with read=local")
		}
		return wire.Errorf(late, "not known to be done in time: it may or may not have taken effect")
	}
	s.log.Error("a request failed in a way nobody expected", "err", err)
	return wire.Errorf(wire.Internal, "internal error; the node's log says more")
}
