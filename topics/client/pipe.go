package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wiber/wiber/topics/wire"
)

const (
	writeBytes = 256 << 10 // how much goes to the connection in one call
	blockBytes = 64 << 10  // encoded requests share blocks of this size

	// wireTimeout is how long a node waits for a leader if it is not told.
	wireTimeout = 10 * time.Second
	// answerGrace is how much longer than its own Timeout a message waits for what
	// a node says about it: that it was certainly not written, for one.
	answerGrace = time.Second

	// surelyTaken: a message up to this size is sent without knowing the maximum.
	surelyTaken = 1 << 10
)

var (
	errStalled = errors.New("the node was silent for too long")
	errRetry   = errors.New("the node asks to try again")
)

// entry is an unanswered message.
type entry struct {
	n        uint64
	request  []byte
	done     func(Result)
	deadline time.Duration // on the clock's Mono: it is not sent again after that
	overdue  time.Duration // likewise: an answer is not waited for any longer
	// named: the cluster recognises the message when it comes again.
	named bool
	// doubt: it was sent and the outcome of that is unknown.
	doubt bool
}

// pipe sends messages over one connection at a time and matches the replies,
// which come in the order of the requests.
//
// run owns the connection, reads replies and calls every done; writeLoop and
// watch live as long as a connection. They share the queue, behind mu, which is
// never held across I/O or a call of done. A full window makes Send wait.
type pipe struct {
	c       *Client
	ordered bool // a Producer's: nothing may be overtaken, and a failure ends it
	first   int  // the node to begin with
	cancel  context.CancelFunc
	done    chan struct{} // closed when run has returned
	wakec   chan struct{} // holds one: there may be something to send

	mu       sync.Mutex
	changed  sync.Cond // room in the window, outcomes, or the end
	waiting  int       // in changed.Wait
	queue    []entry   // the first head are answered, the next sent are on the wire
	head     int
	sent     int
	bytes    int    // of the unanswered requests
	taken    uint64 // messages taken
	finished uint64 // outcomes delivered
	replies  uint64
	max      int    // the largest message of the last greeting; 0 before it
	greet    bool   // Send waits for the first greeting
	held     bool   // nothing is sent until a wait is over
	block    []byte // the rest of it takes the next request
	cause    error  // why this side closed the connection
	stopped  error  // set: nothing more is taken
}

func (c *Client) newPipe(ordered bool, first int) (*pipe, error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &pipe{c: c, ordered: ordered, first: first, cancel: cancel, done: make(chan struct{}), wakec: make(chan struct{}, 1)}
	p.changed.L = &p.mu
	if err := c.opened(p, p.close); err != nil {
		cancel()
		return nil, err
	}
	go p.run(ctx)
	return p, nil
}

func (p *pipe) close() {
	p.stop(ErrClosed)
	p.cancel()
	<-p.done
	p.c.ended(p)
}

// stop lets nothing more in. The first reason stays.
func (p *pipe) stop(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped == nil {
		p.stopped = err
	}
	p.changed.Broadcast()
}

// send takes a message: fill completes the request while the pipe is locked, so
// that numbers are given in the order of the queue.
func (p *pipe) send(ctx context.Context, q *wire.Request, fill func(), done func(Result)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := q.MessageBytes()
	if err := p.greeted(ctx, size); err != nil {
		return &PublishError{Class: wire.NotWritten, Err: err}
	}
	if err := p.room(ctx, size); err != nil {
		return &PublishError{Class: wire.NotWritten, Err: err}
	}
	if p.max > 0 && size > p.max {
		return &PublishError{Class: wire.NotWritten,
			Err: wire.Errorf(wire.TooLarge, "a message has at most %d bytes (payload, key and headers), this one %d", p.max, size)}
	}
	if fill != nil {
		fill()
	}
	tries, grace := p.c.opt.Deadline, time.Duration(0)
	if q.Timeout > 0 {
		tries, grace = q.Timeout, answerGrace
	}
	if q.Timeout == 0 || q.Timeout > p.c.opt.Timeout {
		q.Timeout = p.c.opt.Timeout
	}
	if q.Timeout == wireTimeout {
		q.Timeout = 0
	}
	p.taken++
	deadline := p.c.opt.Clock.Mono() + tries
	p.push(entry{
		n:        p.taken,
		request:  p.encode(q),
		done:     done,
		deadline: deadline,
		overdue:  deadline + grace,
		named:    q.Producer != "" || q.ID != nil,
	})
	return nil
}

// room waits until the window has room for size more bytes.
func (p *pipe) room(ctx context.Context, size int) error {
	p.await(ctx, func() bool {
		n := len(p.queue) - p.head
		return p.stopped != nil || n == 0 || n < p.c.opt.WindowMessages && p.bytes+size <= p.c.opt.WindowBytes
	})
	if p.stopped != nil {
		return p.stopped
	}
	return context.Cause(ctx)
}

// greeted waits for the first greeting if the message might be over a node's
// maximum: one far over it is not answered but ends the connection.
func (p *pipe) greeted(ctx context.Context, size int) error {
	if p.max > 0 || size <= surelyTaken {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer p.c.opt.Clock.AfterFunc(p.c.opt.Deadline, func() { cancel(ErrDeadline) }).Stop()
	p.greet = true
	p.wake()
	p.await(ctx, func() bool { return p.stopped != nil || p.max > 0 })
	p.greet = false
	if p.stopped != nil {
		return p.stopped
	}
	return context.Cause(ctx)
}

// await waits until ok, or until ctx ends.
func (p *pipe) await(ctx context.Context, ok func() bool) {
	if ok() || ctx.Err() != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changed.Broadcast()
	})
	defer stop()
	p.waiting++
	for !ok() && ctx.Err() == nil {
		p.changed.Wait()
	}
	p.waiting--
}

// encode appends the request to the current block. A block is given back when
// the last of its requests is answered.
func (p *pipe) encode(q *wire.Request) []byte {
	need := 512 + q.MessageBytes()
	if cap(p.block)-len(p.block) < need {
		p.block = make([]byte, 0, max(need, blockBytes))
	}
	at := len(p.block)
	out := wire.AppendRequest(p.block, q)
	if cap(out) == cap(p.block) { // it fitted, else the request has a block of its own
		p.block = out
	}
	return out[at:len(out):len(out)]
}

func (p *pipe) push(e entry) {
	if p.head > 1024 && p.head > len(p.queue)/2 {
		n := copy(p.queue, p.queue[p.head:])
		clear(p.queue[n:])
		p.queue, p.head = p.queue[:n], 0
	}
	p.queue = append(p.queue, e)
	p.bytes += len(e.request)
	if len(p.queue)-p.head-p.sent == 1 { // else it has been woken for an earlier one
		p.wake()
	}
}

func (p *pipe) wake() {
	select {
	case p.wakec <- struct{}{}:
	default:
	}
}

// pop takes the oldest entry off the queue.
func (p *pipe) pop() entry {
	e := p.queue[p.head]
	p.queue[p.head] = entry{}
	p.head++
	p.bytes -= len(e.request)
	if p.sent > 0 {
		p.sent--
	}
	return e
}

// run connects while there is something to send, and to the next node after a
// failure, until the pipe is closed or ended.
func (p *pipe) run(ctx context.Context) {
	defer close(p.done)
	nodes := p.c.opt.Nodes
	wait := backoff{free: len(nodes)}
	for at := p.first; p.waitWork(ctx); at++ {
		before := p.outcomes()
		cn, err := p.c.dial(ctx, nodes[at%len(nodes)])
		if err == nil {
			err = p.serve(ctx, cn)
		}
		if p.outcomes() != before {
			wait.reset()
		}
		if p.broken(err) {
			break
		}
		if !p.idle() {
			sleep(ctx, p.c.opt.Clock, wait.next())
		}
	}
	p.failRest()
}

// waitWork waits until there is something to send; false means the end.
func (p *pipe) waitWork(ctx context.Context) bool {
	for ctx.Err() == nil {
		if !p.idle() {
			return true
		}
		select {
		case <-p.wakec:
		case <-ctx.Done():
		}
	}
	return false
}

func (p *pipe) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.head == len(p.queue) && !p.greet
}

func (p *pipe) outcomes() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.finished
}

// serve uses one connection until it breaks, and says why it did.
func (p *pipe) serve(ctx context.Context, cn *conn) error {
	p.mu.Lock()
	p.max, p.cause, p.held, p.greet = cn.hello.Max, nil, false, false
	p.changed.Broadcast()
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { cn.Close() })
	defer stop()
	quit := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { p.writeLoop(cn, quit) })
	both.Go(func() { p.watch(cn, quit) })
	err := p.readLoop(cn)
	close(quit)
	cn.Close()
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause != nil {
		err = p.cause
	}
	return fmt.Errorf("%s: %w", cn.addr, err)
}

func (p *pipe) writeLoop(cn *conn, quit <-chan struct{}) {
	var buf []byte
	for {
		buf = p.gather(buf[:0])
		if len(buf) == 0 {
			select {
			case <-p.wakec:
				continue
			case <-quit:
				return
			}
		}
		if _, err := cn.Write(buf); err != nil {
			p.cut(cn, err)
			return
		}
		if cap(buf) > 4*writeBytes {
			buf = nil
		}
	}
}

// gather takes what is to be sent next. A request is on the wire from then on.
func (p *pipe) gather(buf []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held || p.ordered && p.stopped != nil {
		return buf
	}
	for i := p.head + p.sent; i < len(p.queue) && len(buf) < writeBytes; i++ {
		buf = append(buf, p.queue[i].request...)
		p.sent++
	}
	return buf
}

// watch closes a connection that is silent while something is unanswered, and
// one whose oldest message has passed its deadline.
func (p *pipe) watch(cn *conn, quit <-chan struct{}) {
	clock := p.c.opt.Clock
	tick := clock.NewTicker(max(p.c.opt.Stall/8, time.Millisecond))
	defer tick.Stop()
	var seen uint64
	since := clock.Mono()
	for {
		select {
		case <-tick.C():
		case <-quit:
			return
		}
		now := clock.Mono()
		p.mu.Lock()
		if p.sent == 0 || p.replies != seen {
			seen, since = p.replies, now
		}
		expired := p.head < len(p.queue) && now >= p.queue[p.head].overdue
		p.mu.Unlock()
		if expired || now-since >= p.c.opt.Stall {
			p.cut(cn, errStalled)
			return
		}
	}
}

// cut closes the connection from this side.
func (p *pipe) cut(cn *conn, cause error) {
	p.mu.Lock()
	if p.cause == nil {
		p.cause = cause
	}
	p.mu.Unlock()
	cn.Close()
}

func (p *pipe) readLoop(cn *conn) error {
	var reply wire.Reply
	for {
		if err := cn.in.Next(&reply); err != nil {
			return err
		}
		var again bool
		switch reply.Kind {
		case wire.KindAck, wire.KindError:
			var err error
			if again, err = p.answered(&reply); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: an answer that nobody asked for", wire.ErrMalformed)
		}
		if again {
			return fmt.Errorf("%w: %w", errRetry, reply.Err)
		}
		p.tellWaiting(cn.in.Buffered() == 0)
	}
}
