package server

import (
	"context"

	"github.com/wiber/wiber/topics/wire"
)

// writeLoop writes replies and messages until there is nothing more to come; it
// returns an error when the connection failed. One round takes the replies that
// are done, one chunk of the job whose turn it is, and one chunk of each
// subscription that has news; the socket is written when a chunk is full or
// nothing more is at hand.
func (s *session) writeLoop(ctx context.Context) error {
	var done []*reply
	for {
		var idle bool
		done, idle = s.takeReplies(done[:0])
		for _, r := range done {
			s.appendReply(r)
			if len(s.out) >= flushBytes {
				if err := s.flush(); err != nil {
					return err
				}
			}
		}
		progress := len(done) > 0
		clear(done)
		if s.quit {
			return s.flush()
		}
		if s.current != nil {
			s.emit()
			progress = true
		}
		if s.pump() {
			progress = true
		}
		if len(s.out) >= flushBytes || len(s.out) > 0 && !progress {
			if err := s.flush(); err != nil {
				return err
			}
			continue // the flush may have taken a while, or ended a subscription
		}
		switch {
		case progress:
			continue
		case idle && !s.holding():
			return nil
		}
		select {
		case <-s.wakec:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeReplies moves what may be written now into dst: tagged replies, then those
// at the head of the queue that are done. It stops behind a job, which becomes
// current, and starts the preparation of a job that has come to the head. idle
// says that nothing is to come any more.
func (s *session) takeReplies(dst []*reply) (_ []*reply, idle bool) {
	const most = 256
	s.mu.Lock()
	defer s.mu.Unlock()
	dst = append(dst, s.tagged...)
	clear(s.tagged)
	s.tagged = s.tagged[:0]
	for s.current == nil && len(dst) < most {
		r := s.queue.head()
		if r == nil || !r.done || r.last && s.taggedBeforeLocked(r.number) {
			break
		}
		s.queue.pop()
		if r.job != nil && r.err == nil {
			s.current = r
			break
		}
		dst = append(dst, r)
		if r.last {
			break
		}
	}
	r := s.queue.head()
	if s.current == nil && r != nil && r.job != nil && !r.done && !r.started && !s.taggedBeforeLocked(r.number) {
		r.started = true
		s.goLocked(func() { s.finish(r, r.job.prepare(s.ctx)) })
	}
	idle = s.lastRequest && r == nil && s.current == nil && len(dst) == 0 &&
		!s.taggedBeforeLocked(s.numbers) && (len(s.news) == 0 || s.draining.Load())
	return dst, idle
}

func (s *session) appendReply(r *reply) {
	switch {
	case r.err != nil:
		e := *r.err
		e.Tag = r.tag
		s.out = wire.AppendError(s.out, &e)
	case r.pub != nil:
		s.out = r.pub.appendAck(s.out)
	default:
		s.out = append(s.out, r.text...)
	}
	s.quit = s.quit || r.last
	s.release(r)
}

// emit appends a chunk of the current job.
func (s *session) emit() {
	var more bool
	s.out, more = s.current.job.emit(s.out)
	if !more {
		s.release(s.current)
		s.current = nil
	}
}

// flush writes out. Subscriptions whose client took nothing for too long end.
func (s *session) flush() error {
	const keep = 256 << 10
	start := s.srv.clock.Mono()
	s.cut.Reset(s.srv.opts.CutAfter)
	_, err := s.conn.Write(s.out)
	s.cut.Stop()
	if err != nil {
		return err
	}
	if s.out = s.out[:0]; cap(s.out) > keep {
		s.out = nil
	}
	if len(s.subs) > 0 && s.srv.clock.Mono()-start >= s.srv.opts.SlowAfter {
		s.endSlow()
	}
	return nil
}
