package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

// Client publishes to and reads from one cluster. All methods may be called
// concurrently. It connects when something is first asked of it.
type Client struct {
	opt Options

	mu      sync.Mutex
	closed  bool
	closers map[any]func() // what is open, by its pointer; each returns when it has ended
	at      int            // the node that reads begin with
	shared  *pipe          // of Send, made when first used

	lanes *lanes // of PublishOnce
}

// New returns a Client; no connection is made yet. Close it.
func New(opt Options) (*Client, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client{opt: opt, closers: make(map[any]func()), lanes: newLanes(opt.Lanes)}, nil
}

// Close fails what is unanswered and closes all connections, those of Producers,
// Histories and Subscriptions too. It returns when all have ended, and must not
// be called from a done function.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	var closers []func()
	for _, f := range c.closers {
		closers = append(closers, f)
	}
	c.mu.Unlock()
	for _, f := range closers {
		f()
	}
	return nil
}

// opened notes what Close must close.
func (c *Client) opened(what any, closer func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.closers[what] = closer
	return nil
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *Client) ended(what any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.closers, what)
}

// conn is a greeted connection. Its reader is for one goroutine; Write may be
// called by one other.
type conn struct {
	net.Conn
	addr  string
	hello wire.Hello
	in    *wire.ReplyReader
}

// dial connects to a node and waits for its greeting.
func (c *Client) dial(ctx context.Context, addr string) (*conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opt.DialTimeout, fmt.Errorf("no greeting within %v", c.opt.DialTimeout))
	defer cancel()
	nc, err := c.opt.Dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	cn := &conn{Conn: nc, addr: addr, in: wire.NewReplyReader(nc, 0)}
	var reply wire.Reply
	err = cn.in.Next(&reply)
	if !stop() {
		err = context.Cause(ctx)
	} else if err == nil && reply.Kind == wire.KindError {
		err = reply.Err
	} else if err == nil && reply.Kind != wire.KindHello {
		err = fmt.Errorf("%w: no greeting", wire.ErrMalformed)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	cn.hello = reply.Hello
	return cn, nil
}

// dialAny connects to the first node that answers, beginning with the one that
// answered last. Reads use it.
func (c *Client) dialAny(ctx context.Context) (*conn, error) {
	c.mu.Lock()
	at := c.at
	c.mu.Unlock()
	var errs []error
	for i := range c.opt.Nodes {
		n := (at + i) % len(c.opt.Nodes)
		cn, err := c.dial(ctx, c.opt.Nodes[n])
		if err == nil {
			c.mu.Lock()
			c.at = n
			c.mu.Unlock()
			return cn, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// avoid makes reads begin with the node after addr.
func (c *Client) avoid(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opt.Nodes[c.at] == addr {
		c.at = (c.at + 1) % len(c.opt.Nodes)
	}
}

// backoff counts failures in a row. Every node is tried once without waiting;
// then waits double from 25 ms to 1 s, with jitter.
type backoff struct {
	fails int
	free  int // failures without a wait
}

func (b *backoff) next() time.Duration {
	b.fails++
	if b.fails < b.free {
		return 0
	}
	d := min(25*time.Millisecond<<min(b.fails-b.free, 10), time.Second)
	return d/2 + rand.N(d)
}

func (b *backoff) reset() { b.fails = 0 }

// sleep waits for d and reports whether ctx was still good then.
func sleep(ctx context.Context, clock timesvc.Clock, d time.Duration) bool {
	if d > 0 {
		t := clock.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C():
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// Topics lists topics, a line for each partition, as the node that answers knows
// them; patterns (a topic, or with * and >) select some, none means all.
func (c *Client) Topics(ctx context.Context, patterns ...string) ([]wire.TopicLine, error) {
	q := wire.Request{Verb: wire.Topics}
	for _, s := range patterns {
		t, err := wire.ParsePattern(s)
		if err != nil {
			return nil, err
		}
		q.Topics = append(q.Topics, t)
	}
	var lines []wire.TopicLine
	err := c.list(ctx, &q, func(r *wire.Reply) { lines = append(lines, r.Topic) }, func() { lines = nil })
	return lines, err
}

// EachTopic is Topics without holding them: each gets the lines of all topics in
// the order of names and partitions, each once, also where the answer breaks and
// goes on with another node.
func (c *Client) EachTopic(ctx context.Context, each func(*wire.TopicLine)) error {
	var last wire.TopicLine
	begun := false
	return c.list(ctx, &wire.Request{Verb: wire.Topics}, func(r *wire.Reply) {
		l := &r.Topic
		if begun && (l.Topic < last.Topic || l.Topic == last.Topic && l.Partition <= last.Partition) {
			return // told before the break
		}
		begun, last = true, *l
		each(l)
	}, func() {})
}

// Info lists nodes.
func (c *Client) Info(ctx context.Context) ([]wire.NodeLine, error) {
	var lines []wire.NodeLine
	err := c.list(ctx, &wire.Request{Verb: wire.Info}, func(r *wire.Reply) { lines = append(lines, r.Node) }, func() { lines = nil })
	return lines, err
}

// Time lists the nodes' clocks, as one of them knows them.
func (c *Client) Time(ctx context.Context) ([]wire.ClockLine, error) {
	var lines []wire.ClockLine
	err := c.list(ctx, &wire.Request{Verb: wire.Time}, func(r *wire.Reply) { lines = append(lines, r.Clock) }, func() { lines = nil })
	return lines, err
}

// list asks q of any node, hands each line before +END to line, and asks anew
// when a connection breaks, after calling again.
func (c *Client) list(ctx context.Context, q *wire.Request, line func(*wire.Reply), again func()) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opt.Timeout, fmt.Errorf("no answer within %v", c.opt.Timeout))
	defer cancel()
	wait := backoff{free: len(c.opt.Nodes)}
	for {
		err := c.listOnce(ctx, q, line)
		var refused *wire.Error
		if err == nil || errors.As(err, &refused) {
			return err
		}
		if !sleep(ctx, c.opt.Clock, wait.next()) {
			return fmt.Errorf("client: %v: %w: last: %w", q.Verb, context.Cause(ctx), err)
		}
		again()
	}
}

func (c *Client) listOnce(ctx context.Context, q *wire.Request, line func(*wire.Reply)) error {
	// A node that is silent must leave time for the others.
	most := min(c.opt.Stall, c.opt.Timeout/time.Duration(len(c.opt.Nodes)))
	ctx, cancel := context.WithTimeoutCause(ctx, most, errStalled)
	defer cancel()
	cn, err := c.dialAny(ctx)
	if err != nil {
		return err
	}
	defer cn.Close()
	defer context.AfterFunc(ctx, func() { cn.Close() })()
	if err = c.exchange(cn, q, line); err != nil {
		c.avoid(cn.addr)
	}
	return err
}

func (c *Client) exchange(cn *conn, q *wire.Request, line func(*wire.Reply)) error {
	if _, err := cn.Write(wire.AppendRequest(nil, q)); err != nil {
		return err
	}
	var reply wire.Reply
	for {
		if err := cn.in.Next(&reply); err != nil {
			return err
		}
		switch reply.Kind {
		case wire.KindEnd:
			return nil
		case wire.KindError:
			return reply.Err
		default:
			line(&reply)
		}
	}
}
