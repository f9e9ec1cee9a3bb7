package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

// HistoryOptions select what a History returns, as the options of HISTORY do.
type HistoryOptions struct {
	From, Until wire.Position // unset: the protocol's default
	Last        uint64        // the newest so many of the range; 0: all
	Limit       uint64        // at most so many; 0: no limit
	Reverse     bool          // newest first
	// Read is how fresh the answer must be. The zero value is ReadSession, which
	// promises nothing here, because a History has a connection of its own.
	Read wire.ReadLevel
}

// History is a stream of messages with an end:
//
//	h := c.History(ctx, "orders", client.HistoryOptions{Read: wire.ReadLinearizable})
//	defer h.Close()
//	for h.Next() {
//		use(h.Message())
//	}
//	err := h.Err()
//
// It is for one goroutine. After a break it goes on with another node where it
// was; only one that merges several partitions ends with an error, unless
// nothing had been delivered yet.
type History struct {
	c      *Client
	ctx    context.Context // of the iteration: Next cannot be given another one
	q      wire.Request
	cn     *conn
	quiet  timesvc.Timer // closes a connection that is silent while Next waits
	hushed atomic.Bool   // it did
	unctx  func() bool

	reply  wire.Reply
	got    uint64
	at     uint64 // offset of the message delivered last
	merged bool   // messages came of several partitions of one topic
	wait   backoff
	since  time.Duration // on the clock's Mono: the last progress
	end    wire.End
	over   bool
	err    error
}

// History asks for the messages of topic (name or name/partition). The question
// is sent with the first Next.
func (c *Client) History(ctx context.Context, topic string, opt HistoryOptions) *History {
	h := &History{c: c, ctx: ctx, wait: backoff{free: len(c.opt.Nodes)}, since: c.opt.Clock.Mono()}
	t, err := wire.ParseTopic(topic)
	if err != nil {
		h.over, h.err = true, err
		return h
	}
	h.q = wire.Request{Verb: wire.History, Topic: t, From: opt.From, Until: opt.Until, Last: opt.Last, Limit: opt.Limit, Reverse: opt.Reverse, Read: opt.Read}
	return h
}

// Next reads the next message and reports whether there is one.
func (h *History) Next() bool {
	for !h.over {
		err := h.ask()
		if err == nil {
			if err = h.read(); err == nil {
				h.wait.reset()
				h.since = h.c.opt.Clock.Mono()
				return !h.over
			}
		}
		h.release(true)
		if err = h.final(err); err != nil {
			h.over, h.err = true, err
			return false
		}
		sleep(h.ctx, h.c.opt.Clock, h.wait.next())
	}
	return false
}

// final returns the error to end with, or nil when another attempt is due.
func (h *History) final(err error) error {
	var refused *wire.Error
	switch {
	case h.ctx.Err() != nil:
		return context.Cause(h.ctx)
	case errors.Is(err, ErrClosed):
		return err
	case errors.As(err, &refused) && refused.Code != wire.Busy && (h.got == 0 || refused.Code != wire.Range):
		return refused
	case h.got > 0 && h.merged:
		return fmt.Errorf("client: HISTORY %v: a merged answer broke and cannot be continued: %w", h.q.Topic, err)
	case h.c.opt.Clock.Mono()-h.since > h.c.opt.Timeout && h.wait.fails >= h.wait.free: // each node had its turn
		return fmt.Errorf("client: HISTORY %v: no answer within %v: last: %w", h.q.Topic, h.c.opt.Timeout, err)
	}
	return nil
}

// question is what is still to be asked; over means nothing.
func (h *History) question() (q wire.Request, over bool) {
	q = h.q
	if h.got == 0 {
		return q, false
	}
	// The range now begins behind what came, so last= would count anew.
	most := q.Limit
	if q.Last > 0 && (most == 0 || q.Last < most) {
		most = q.Last
	}
	q.Last, q.Limit = 0, 0
	if most > 0 {
		q.Limit = most - h.got
		over = h.got >= most
	}
	if q.Reverse {
		q.Until = wire.OffsetPosition(h.at)
		return q, over || h.at == 0
	}
	q.From = wire.OffsetPosition(h.at + 1)
	return q, over
}

func (h *History) ask() error {
	if h.cn != nil {
		return nil
	}
	q, over := h.question()
	if over {
		m := &h.reply.Message
		e := wire.End{Topic: m.Topic, Partition: m.Partition, Partitioned: m.Partitioned, Next: h.at + 1, AsOf: m.TS}
		if h.q.Reverse {
			e.Next = h.at
		}
		h.finish(e)
		return nil
	}
	if h.c.isClosed() {
		return ErrClosed
	}
	cn, err := h.c.dialAny(h.ctx)
	if err != nil {
		return err
	}
	if err := h.c.opened(h, func() { cn.Close() }); err != nil {
		cn.Close()
		return err
	}
	h.cn = cn
	h.unctx = context.AfterFunc(h.ctx, func() { cn.Close() })
	h.hushed.Store(false)
	h.quiet = h.c.opt.Clock.AfterFunc(h.patience(), func() {
		h.hushed.Store(true)
		cn.Close()
	})
	_, err = cn.Write(wire.AppendRequest(nil, &q))
	return err
}

// patience is longer than the node's own, so that its error arrives.
func (h *History) patience() time.Duration { return h.c.opt.Timeout + 2*time.Second }

func (h *History) read() error {
	if h.over {
		return nil
	}
	if h.cn.in.Buffered() == 0 {
		h.quiet.Reset(h.patience())
		defer h.quiet.Stop()
	}
	if err := h.cn.in.Next(&h.reply); err != nil {
		switch {
		case h.c.isClosed():
			return ErrClosed
		case h.hushed.Load():
			return fmt.Errorf("%s: %w", h.cn.addr, errStalled)
		}
		return fmt.Errorf("%s: %w", h.cn.addr, err)
	}
	switch h.reply.Kind {
	case wire.KindMessage:
		h.got++
		h.at = h.reply.Message.Offset
		h.merged = h.merged || h.reply.Message.Partitioned && h.q.Topic.Partition == wire.AnyPartition
		return nil
	case wire.KindEnd:
		h.finish(h.reply.End)
		return nil
	case wire.KindError:
		return h.reply.Err
	default:
		return fmt.Errorf("%w: no answer to HISTORY", wire.ErrMalformed)
	}
}

func (h *History) finish(e wire.End) {
	h.over, h.end = true, e
	h.end.N = h.got
	h.release(false)
}

func (h *History) release(broken bool) {
	if h.cn == nil {
		return
	}
	h.unctx()
	h.quiet.Stop()
	h.cn.Close()
	h.c.ended(h)
	if broken {
		h.c.avoid(h.cn.addr)
	}
	h.cn = nil
}

// Message returns the current message; its bytes are overwritten by Next.
func (h *History) Message() *wire.Message { return &h.reply.Message }

// End returns the closing line, once Next has returned false and Err is nil. N
// counts the messages delivered.
func (h *History) End() wire.End { return h.end }

// Err returns why Next stopped early: a *wire.Error, or ctx's or the connection's error.
func (h *History) Err() error { return h.err }

// Close ends the reading early.
func (h *History) Close() error {
	if !h.over {
		h.over, h.err = true, ErrClosed
	}
	h.release(false)
	return nil
}
