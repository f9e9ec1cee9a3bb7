package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// link sends to one peer. Its goroutine owns the connection that it dials;
// others reach it by the queue and by kick. A break, a failed dial or a full
// queue loses messages, which those who sent them repeat.
type link struct {
	t     *TCP
	peer  uint64
	addr  string
	queue queue
	kickc chan struct{} // the peer was heard of: dial now

	failing bool // the last dial failed, and that was logged
	buf     []byte
}

// flushBytes is how much is encoded before it is written; what waits goes in
// as few writes as that allows.
const flushBytes = 1 << 20

// run dials, sends, and dials again, until ctx ends.
func (l *link) run(ctx context.Context) {
	pause := l.t.opts.MinBackoff
	for ctx.Err() == nil {
		l.queue.open(true)
		conn, err := l.dial(ctx)
		if err == nil {
			pause = l.t.opts.MinBackoff
			err = l.send(ctx, conn)
		}
		l.queue.open(false)
		if ctx.Err() != nil {
			return
		}
		l.logEnd(err)
		l.wait(ctx, pause/2+rand.N(pause))
		pause = min(2*pause, l.t.opts.MaxBackoff)
	}
}

// wait pauses, or until the peer is heard of.
func (l *link) wait(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-l.kickc:
	}
}

func (l *link) kick() {
	select {
	case l.kickc <- struct{}{}:
	default:
	}
}

// dial connects and greets.
func (l *link) dial(ctx context.Context) (*peerConn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.t.opts.DialTimeout)
	defer cancel()
	d := net.Dialer{LocalAddr: l.t.local}
	conn, err := d.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, fmt.Errorf("transport: connect to node %d: %w", l.peer, err)
	}
	ok := false
	defer func() {
		if !ok {
			_ = conn.Close()
		}
	}()
	noDelay(conn)
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	g := greeting{version: version, from: l.t.opts.ID, to: l.peer, incarnation: l.t.opts.Incarnation, cluster: l.t.opts.Cluster}
	if _, err := conn.Write(g.append(nil)); err != nil {
		return nil, fmt.Errorf("transport: greet node %d: %w", l.peer, err)
	}
	v, incarnation, err := readAnswer(conn)
	if err != nil {
		return nil, err
	}
	if v != welcome {
		return nil, &RefusedError{Peer: l.peer, Reason: v.String()}
	}
	_ = conn.SetDeadline(time.Time{})
	pc := &peerConn{Conn: conn, peer: l.peer, incarnation: incarnation, dialled: true}
	if !stop() || !l.t.connected(pc) {
		return nil, fmt.Errorf("transport: connect to node %d: %w", l.peer, net.ErrClosed)
	}
	ok = true
	l.failing = false
	l.t.log(slog.LevelInfo, "peer connected", "peer", l.peer, "addr", l.addr)
	return pc, nil
}

// send writes what is queued until the connection breaks or ctx ends. The peer
// never answers on it; reading tells the moment when its process dies.
func (l *link) send(ctx context.Context, conn *peerConn) error {
	ended := make(chan error, 1)
	go func() {
		var b [1]byte
		_, err := conn.Read(b[:])
		if err == nil {
			err = &FrameError{"the acceptor of a connection spoke"}
		}
		l.t.ended(conn)
		ended <- err
	}()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	var err error
	for read := false; err == nil; {
		select {
		case <-l.queue.wakec:
			err = l.flush(ctx, conn)
		case err = <-ended:
			read = true
		}
		if err != nil {
			stop()
			l.t.ended(conn)
			if !read {
				<-ended
			}
		}
	}
	return err
}

// flush writes all that waits now.
func (l *link) flush(ctx context.Context, conn net.Conn) error {
	waiting := l.queue.take()
	for i := 0; i < len(waiting); {
		b := l.buf[:0]
		for i < len(waiting) && len(b) < flushBytes {
			var err error
			if b, err = appendFrame(b, &waiting[i]); err != nil {
				l.t.log(slog.LevelError, "message dropped", "peer", l.peer, "group", waiting[i].Group, "err", err)
			}
			i++
		}
		if err := l.write(ctx, conn, b); err != nil {
			return err
		}
		if l.buf = b; cap(l.buf) > 2*flushBytes {
			l.buf = nil
		}
	}
	return nil
}

func (l *link) write(ctx context.Context, conn net.Conn, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, l.t.opts.WriteTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	_ = conn.SetWriteDeadline(deadline)
	_, err := conn.Write(b)
	return err
}

// logEnd logs that a connection ended, or the first of several failed dials.
func (l *link) logEnd(err error) {
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		if !l.failing {
			l.t.log(slog.LevelWarn, "peer refuses the connection", "peer", l.peer, "addr", l.addr, "reason", refused.Reason)
		}
		l.failing = true
	case errors.Is(err, io.EOF):
		l.t.log(slog.LevelInfo, "peer closed the connection", "peer", l.peer)
	case !l.failing:
		l.t.log(slog.LevelInfo, "peer not connected", "peer", l.peer, "addr", l.addr, "err", err)
		l.failing = true
	}
}

// queue is what waits for one peer, bounded in bytes and messages.
type queue struct {
	maxBytes, maxMessages int
	wakec                 chan struct{} // has a token when something waits

	mu      sync.Mutex // guards what follows
	waiting []Message
	bytes   int
	shut    bool
	dropped uint64
}

func newQueue(maxBytes, maxMessages int) queue {
	return queue{maxBytes: maxBytes, maxMessages: maxMessages, wakec: make(chan struct{}, 1)}
}

// put adds a message, or drops it when the queue is full or shut.
func (q *queue) put(m Message) {
	n := m.weight()
	q.mu.Lock()
	ok := !q.shut && len(q.waiting) < q.maxMessages && (q.bytes+n <= q.maxBytes || len(q.waiting) == 0)
	if ok {
		q.waiting = append(q.waiting, m)
		q.bytes += n
	} else {
		q.dropped++
	}
	q.mu.Unlock()
	if ok {
		select {
		case q.wakec <- struct{}{}:
		default:
		}
	}
}

// take empties the queue.
func (q *queue) take() []Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.waiting
	q.waiting, q.bytes = nil, 0
	return w
}

// open lets messages wait; shutting drops those that do.
func (q *queue) open(yes bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shut = !yes
	if !yes {
		q.dropped += uint64(len(q.waiting))
		q.waiting, q.bytes = nil, 0
	}
}

func (q *queue) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}
