package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wiber/wiber/topics/wire"
)

// answered settles the oldest message on the wire with a reply. Again means that
// the connection must end, because order asks for sending everything anew.
func (p *pipe) answered(reply *wire.Reply) (again bool, err error) {
	p.mu.Lock()
	p.replies++
	if p.sent == 0 {
		p.mu.Unlock()
		if reply.Kind == wire.KindError {
			return false, reply.Err
		}
		return false, fmt.Errorf("%w: an acknowledgement too many", wire.ErrMalformed)
	}
	if reply.Kind == wire.KindAck {
		e := p.pop()
		p.mu.Unlock()
		p.deliver(e, Result{Receipt: reply.Receipt})
		return false, nil
	}

	e := &p.queue[p.head]
	class := reply.Err.Code.Class()
	retry := reply.Err.Code.Later() && p.c.opt.Clock.Mono() < e.deadline
	if class != wire.NotWritten {
		e.doubt = true
		retry = retry && e.named
	}
	switch {
	case retry && p.ordered && p.stopped == nil:
		p.mu.Unlock()
		return true, nil
	case retry && !p.ordered:
		e := p.pop()
		p.queue = append(p.queue, e)
		p.bytes += len(e.request)
		p.hold()
		p.mu.Unlock()
		return false, nil
	}
	failed := p.pop()
	if class == wire.NotWritten && failed.doubt {
		class = wire.Unknown
	}
	result := Result{Err: &PublishError{Class: class, Err: reply.Err}}
	if p.ordered && p.stopped == nil {
		p.stopped = fmt.Errorf("%w: %w", ErrProducerEnded, reply.Err)
	}
	over := p.ordered && p.sent == 0
	p.mu.Unlock()
	p.deliver(failed, result)
	if over {
		return false, ErrProducerEnded
	}
	return false, nil
}

// hold keeps the writer from sending for a moment.
func (p *pipe) hold() {
	if p.held {
		return
	}
	p.held = true
	p.c.opt.Clock.AfterFunc(100*time.Millisecond, func() {
		p.mu.Lock()
		p.held = false
		p.mu.Unlock()
		p.wake()
	})
}

// broken puts what was on the wire back in line, or fails what must not be sent
// again. It reports whether the pipe has ended.
func (p *pipe) broken(err error) bool {
	p.mu.Lock()
	now := p.c.opt.Clock.Mono()
	var kept, failed []entry
	for i, e := range p.queue[p.head:] {
		sent := i < p.sent
		// The node that asked to try again has told about this one.
		e.doubt = e.doubt || sent && !(i == 0 && errors.Is(err, errRetry))
		if e.deadline <= now || e.doubt && !e.named || p.ordered && (p.stopped != nil || len(failed) > 0) {
			failed = append(failed, e)
		} else {
			kept = append(kept, e)
		}
	}
	cause := err
	if p.ordered && len(failed) > 0 && p.stopped == nil {
		cause = fmt.Errorf("%w: last: %w", ErrDeadline, err)
		p.stopped = fmt.Errorf("%w: %w", ErrProducerEnded, cause)
	}
	p.queue, p.head, p.sent, p.bytes = kept, 0, 0, 0
	for i := range kept {
		p.bytes += len(kept[i].request)
	}
	ended := p.ordered && p.stopped != nil
	p.mu.Unlock()
	for i, e := range failed {
		because := cause
		switch {
		case p.ordered && (i > 0 || cause == err):
			because = p.reason()
		case !p.ordered && e.deadline <= now:
			because = fmt.Errorf("%w: last: %w", ErrDeadline, err)
		}
		p.deliver(e, Result{Err: &PublishError{Class: e.class(), Err: because}})
	}
	p.tellWaiting(true)
	return ended
}

func (p *pipe) reason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopped
}

// class is what holds for a message that fails unanswered.
func (e *entry) class() wire.Class {
	if e.doubt {
		return wire.Unknown
	}
	return wire.NotWritten
}

// failRest fails everything, at the end.
func (p *pipe) failRest() {
	p.mu.Lock()
	if p.stopped == nil {
		p.stopped = ErrClosed
	}
	reason := p.stopped
	rest := p.queue[p.head:]
	for i := range rest[:p.sent] {
		rest[i].doubt = true
	}
	p.queue, p.head, p.sent, p.bytes = nil, 0, 0, 0
	p.mu.Unlock()
	for _, e := range rest {
		p.deliver(e, Result{Err: &PublishError{Class: e.class(), Err: reason}})
	}
	p.tellWaiting(true)
}

func (p *pipe) deliver(e entry, r Result) {
	r.N = e.n
	if e.done != nil {
		e.done(r)
	}
	p.mu.Lock()
	p.finished++
	p.mu.Unlock()
}

// tellWaiting wakes Send and Flush: at once when the replies at hand are read,
// else when a good part of the window is free.
func (p *pipe) tellWaiting(now bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting > 0 && (now || len(p.queue)-p.head < p.c.opt.WindowMessages/2) {
		p.changed.Broadcast()
	}
}

// flush waits until everything taken so far has its outcome.
func (p *pipe) flush(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	target := p.taken
	p.await(ctx, func() bool { return p.finished >= target })
	if p.stopped != nil && p.stopped != ErrClosed {
		return p.stopped
	}
	return context.Cause(ctx)
}
