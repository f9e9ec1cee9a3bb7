package server

import (
	"errors"
	"time"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

// ordered is what a subscription has more in order of time: a merge of its
// sources, and the wait for shards that have not promised anything yet. It belongs
// to writeLoop, as the subscription does.
//
// Each look goes: take the shards' safe times, then the news, read the next
// message of every source that has one, release. In this order, because what is
// promised to be complete is then in the news.
//
// Memory: of a message that waits there is its stamp and its offset, and its bytes
// while all sources of the subscription together hold less than orderBytes.
type ordered struct {
	sub   *subscription
	merge *timesvc.Merge
	of    map[*timesvc.MergeSource]*source
	fresh []*source // may have something to read
	held  int       // bytes of batches that sources hold
	delay time.Duration

	timer  timesvc.Timer // looks again
	waits  []func()      // stop waiting for safe times
	silent map[uint64]bool
}

const (
	orderBytes = 1 << 20
	orderLoads = 256 // sources read at once, before others get their turn
	// A shard that could not promise enough is asked again when its clock should
	// have come as far, within these bounds.
	askAgainMin = 5 * time.Millisecond
	askAgainMax = 50 * time.Millisecond
)

// arrival says that what lies below next was readable at a time.
type arrival struct {
	next uint64
	at   time.Duration
}

func newOrdered(sub *subscription, delay time.Duration) *ordered {
	return &ordered{
		sub: sub, delay: delay, silent: make(map[uint64]bool),
		merge: timesvc.NewMerge(delay), of: make(map[*timesvc.MergeSource]*source),
	}
}

// add takes a source in.
func (o *ordered) add(src *source) {
	group := ShardGroup(o.sub.s.srv.backend.Shard(src.r.stream.UID, src.r.stream.Partition))
	src.merged = o.merge.Add(group, src.r.msg.Topic, src.r.msg.Partition)
	o.of[src.merged] = src
}

// remove forgets a source with what it holds.
func (o *ordered) remove(src *source) {
	o.merge.Remove(src.merged)
	delete(o.of, src.merged)
	o.rest(src)
}

// news notes that a source may have something new, and when it came.
func (o *ordered) news(src *source) {
	if src.dead {
		return
	}
	_, next, err := o.sub.s.srv.backend.Bounds(src.r.stream)
	if err == nil {
		at := o.sub.s.srv.clock.Mono()
		if n := len(src.came); n == 0 || at-src.came[n-1].at > o.delay/64 {
			src.came = append(src.came, arrival{next, at})
		} else {
			src.came[n-1].next = next
		}
	}
	if !src.merged.Waiting() && !src.fresh {
		src.fresh = true
		o.fresh = append(o.fresh, src)
	}
}

// promises takes the shards' safe times. It is called before the news is taken.
func (o *ordered) promises() {
	o.merge.Origins(func(group uint64) { o.merge.Promise(group, o.sub.s.srv.backend.Safe(group)) })
}

// turn writes what may go, up to a chunk. It returns whether it did anything.
func (o *ordered) turn() (worked bool) {
	s := o.sub.s
	for n := 0; len(o.fresh) > 0; n++ {
		if n == orderLoads {
			return true
		}
		src := o.fresh[0]
		o.fresh = o.fresh[1:]
		src.fresh = false
		if !src.dead && !src.merged.Waiting() && !o.load(src) {
			return true // the subscription is over
		}
	}
	now := s.srv.clock.Mono()
	for most := len(s.out) + turnBytes; len(s.out) < most; {
		r, ok := o.merge.Next(now)
		if !ok {
			o.await(now)
			return worked
		}
		worked = true
		if !o.release(r) {
			return true
		}
	}
	return true
}

// load reads the next message of a source. It returns false if that ended the
// subscription.
func (o *ordered) load(src *source) bool {
	m, ok := o.read(src)
	if m == nil {
		return ok
	}
	src.head = m.Offset
	o.merge.Offer(src.merged, m.TS, o.came(src, m.Offset))
	if o.held > orderBytes {
		o.park(src)
	}
	return true
}

// read steps a source's reader; nil: there is nothing, or the source or, with ok
// false, the subscription is over.
func (o *ordered) read(src *source) (m *wire.Message, ok bool) {
	s := o.sub.s
	o.held -= src.r.held
	m, err := src.r.next()
	o.held += src.r.held
	switch {
	case errors.Is(err, ErrTopicGone):
		s.forget(src)
		return nil, true
	case err != nil:
		s.fail(o.sub, err)
		return nil, false
	case m == nil:
		o.rest(src)
	}
	return m, true
}

// rest lets go of what a source holds.
func (o *ordered) rest(src *source) {
	o.held -= src.r.held
	src.r.rest()
}

// park lets go of a head's bytes; they are read again when it is released.
func (o *ordered) park(src *source) {
	o.rest(src)
	src.r.lo = src.head
	src.parked = true
}

// came is when a message was readable here.
func (o *ordered) came(src *source, offset uint64) time.Duration {
	for len(src.came) > 0 && src.came[0].next <= offset {
		src.came = src.came[1:]
	}
	if len(src.came) == 0 {
		return o.sub.s.srv.clock.Mono()
	}
	return src.came[0].at
}

// release writes a head, and reads the one behind it. It returns false if that
// ended the subscription.
func (o *ordered) release(r timesvc.Released) bool {
	s, sub := o.sub.s, o.sub
	src := o.of[r.Source]
	m := &src.r.msg
	if src.parked {
		src.parked = false
		var ok bool
		if m, ok = o.read(src); m == nil {
			return ok
		}
	}
	if r.Forced {
		o.report(r.TS)
	}
	m.Late = r.Late
	s.out = wire.AppendMessage(s.out, sub.sid, m)
	m.Late = false
	if sub.left--; sub.left == 0 {
		s.drop(sub)
		return false
	}
	return o.load(src)
}

// report logs that messages went on without a shard's word, once until it speaks.
func (o *ordered) report(ts uint64) {
	o.merge.Behind(ts, func(group, _ uint64) {
		if !o.silent[group] {
			o.silent[group] = true
			o.sub.s.srv.log.Info("a shard does not say that nothing older comes: messages ordered by time go on without it",
				"group", group, "leader", o.sub.s.srv.backend.Leader(group), "addr", o.sub.s.conn.RemoteAddr().String())
		}
	})
}

// await asks the shards that hold the next message back for their promise, and
// sees to it that they, or the end of the delay, wake the session.
func (o *ordered) await(now time.Duration) {
	o.stopWaits()
	until, ok := o.merge.Until()
	if !ok {
		return
	}
	s := o.sub.s
	again := askAgainMax
	waits := make(map[uint64]bool)
	o.merge.Missing(func(group, safe, ts uint64) {
		waits[group] = true
		o.waits = append(o.waits, s.srv.backend.AwaitSafe(group, ts, s.wake))
		again = min(again, max(askAgainMin, time.Duration(min(ts-safe, 1e6))*time.Microsecond))
	})
	for group := range o.silent {
		if !waits[group] {
			delete(o.silent, group)
		}
	}
	again = max(min(again, until-now), 0)
	if o.timer == nil {
		o.timer = s.srv.clock.AfterFunc(again, s.wake)
	} else {
		o.timer.Reset(again)
	}
}

func (o *ordered) stopWaits() {
	for _, stop := range o.waits {
		stop()
	}
	o.waits = o.waits[:0]
	if o.timer != nil {
		o.timer.Stop()
	}
}

// pending says whether messages wait for others.
func (o *ordered) pending() bool {
	_, ok := o.merge.Until()
	return ok || len(o.fresh) > 0
}
