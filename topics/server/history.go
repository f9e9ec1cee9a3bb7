package server

import (
	"context"

	"github.com/wiber/wiber/topics/wire"
)

// history is a HISTORY: it waits for its level, turns its options into a part of
// each partition, and writes that part chunk by chunk.
type history struct {
	s           *session
	topic       wire.Topic
	from, until wire.Position
	last, limit uint64
	reverse     bool
	level       Level

	messages interface{ next() (*wire.Message, error) }
	end      wire.End
	left     uint64 // messages that may still be given
}

func newHistory(s *session, q *wire.Request) *history {
	return &history{
		s: s, topic: q.Topic, from: q.From, until: q.Until, last: q.Last, limit: q.Limit,
		reverse: q.Reverse, level: q.Read,
	}
}

// prepare implements job.
func (h *history) prepare(ctx context.Context) *wire.Error {
	// The wait for the level has an end; what it takes to find the messages then
	// is work, and no lack of a majority.
	level, cancel := context.WithTimeout(ctx, h.s.srv.opts.ReadTimeout)
	defer cancel()
	t, asOf, err := h.s.resolve(level, h.topic, h.level)
	if err == nil {
		h.end = wire.End{Topic: t.Name, Partition: max(0, h.topic.Partition), AsOf: asOf}
		err = h.plan(ctx, t)
	}
	if err != nil {
		return h.s.srv.problem(err, wire.NoQuorum)
	}
	return nil
}

// plan turns the options into readers.
func (h *history) plan(ctx context.Context, t *Topic) error {
	b := h.s.srv.backend
	h.left = ^uint64(0)
	if h.limit > 0 {
		h.left = h.limit
	}
	if h.last > 0 && h.reverse {
		h.left = min(h.left, h.last)
	}
	if t.Partitions > 1 && h.topic.Partition == wire.AnyPartition {
		return h.planMerged(ctx, t)
	}
	p := uint32(max(0, h.topic.Partition))
	lo, hi, err := h.span(t, p)
	if err != nil {
		return err
	}
	if h.last > 0 && !h.reverse {
		lo = max(lo, hi-min(hi, h.last))
	}
	r := newReader(b, t, p, lo, hi, h.reverse, readBytes)
	r.whole = true
	h.messages = r
	h.end.Partitioned = t.Partitions > 1
	h.end.Next = hi
	if h.reverse {
		h.end.Next = lo
	}
	return nil
}

func (h *history) planMerged(ctx context.Context, t *Topic) error {
	if h.from.Kind == wire.AtOffset || h.until.Kind == wire.AtOffset {
		return wire.Errorf(wire.Syntax, "%s has %d partitions, each with offsets of its own: name one, as in %s/0, or use times", t.Name, t.Partitions, t.Name)
	}
	h.end.Next = wire.NoOffset
	lo, hi := make([]uint64, t.Partitions), make([]uint64, t.Partitions)
	for p := range t.Partitions {
		var err error
		if lo[p], hi[p], err = h.span(t, p); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if h.last > 0 && !h.reverse {
		if err := h.newest(ctx, t, lo, hi); err != nil {
			return err
		}
	}
	h.messages = h.merge(t, lo, hi, h.reverse)
	return nil
}

func (h *history) merge(t *Topic, lo, hi []uint64, down bool) *merge {
	chunk := max(readBytes/int(t.Partitions), 4<<10)
	m := &merge{down: down}
	for p := range t.Partitions {
		r := newReader(h.s.srv.backend, t, p, lo[p], hi[p], down, chunk)
		r.whole = true
		m.readers = append(m.readers, r)
	}
	return m
}

// newest moves lo up so that only the last newest messages are left.
func (h *history) newest(ctx context.Context, t *Topic, lo, hi []uint64) error {
	m := h.merge(t, lo, hi, true)
	copy(lo, hi)
	for n := uint64(0); n < h.last; n++ {
		msg, err := m.next()
		if err != nil || msg == nil {
			return err
		}
		lo[msg.Partition] = msg.Offset
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// span turns from and until into offsets of one partition, lo <= hi.
func (h *history) span(t *Topic, p uint32) (lo, hi uint64, err error) {
	b := h.s.srv.backend
	stream := Stream{t.UID, p}
	first, next, err := b.Bounds(stream)
	if err != nil {
		return 0, 0, err
	}
	now, _ := b.Now()
	if lo, err = offsetOf(b, stream, h.from, first, first, next, now); err != nil {
		return 0, 0, err
	}
	if hi, err = offsetOf(b, stream, h.until, next, first, next, now); err != nil {
		return 0, 0, err
	}
	return lo, max(lo, min(hi, next)), nil
}

// offsetOf returns the offset that a position means in a partition that has the
// offsets [first, next); unset is that of a position that was not given.
func offsetOf(b Backend, stream Stream, pos wire.Position, unset, first, next, now uint64) (uint64, error) {
	switch pos.Kind {
	case wire.Unset:
		return unset, nil
	case wire.Earliest:
		return first, nil
	case wire.Latest:
		return next, nil
	case wire.AtOffset:
		switch {
		case pos.Offset > next:
			return 0, wire.PastEndError(pos.Offset, next)
		case pos.Offset < first:
			return 0, wire.BelowStartError(pos.Offset, first)
		}
		return pos.Offset, nil
	}
	ts, _ := pos.Time(now)
	return b.Seek(stream, ts)
}

// emit implements job.
func (h *history) emit(dst []byte) ([]byte, bool) {
	for len(dst) < flushBytes {
		if h.left == 0 {
			return h.finish(dst), false
		}
		m, err := h.messages.next()
		if err != nil {
			return wire.AppendError(dst, h.s.srv.problem(err, wire.NoQuorum)), false
		}
		if m == nil {
			return h.finish(dst), false
		}
		dst = wire.AppendMessage(dst, "-", m)
		h.end.N++
		if h.left--; h.left == 0 && h.end.Next != wire.NoOffset {
			h.end.Next = m.Offset
			if !h.reverse {
				h.end.Next++
			}
		}
	}
	return dst, true
}

func (h *history) finish(dst []byte) []byte {
	return wire.AppendEnd(dst, &h.end)
}

// resolve finds a topic and waits until it may be read at the level. It returns
// as_of.
func (s *session) resolve(ctx context.Context, want wire.Topic, level Level) (*Topic, uint64, error) {
	b := s.srv.backend
	for try := 0; ; try++ {
		before, known := b.Topic(want.Name)
		floors := s.floorsOf(before, want.Partition, level)
		asOf, err := b.Barrier(ctx, level, floors)
		if err != nil {
			return nil, 0, err
		}
		t, ok := b.Topic(want.Name)
		switch {
		case !ok:
			return nil, 0, wire.Errorf(wire.NoTopic, "no topic %s", want.Name)
		case want.Partition != wire.AnyPartition && uint64(want.Partition) >= uint64(t.Partitions):
			return nil, 0, noPartition(t, want.Partition)
		case known && t.UID == before.UID && t.Partitions == before.Partitions:
			return t, asOf, nil
		case try == maxTries:
			return nil, 0, wire.Errorf(wire.Busy, "topic %s is being changed: try again", want.Name)
		}
	}
}

// floorsOf returns what a read of a topic (nil: unknown yet) must have applied.
func (s *session) floorsOf(t *Topic, partition int, level Level) []Floor {
	var floors []Floor
	if level == Linearizable {
		floors = append(floors, Floor{Group: Catalogue})
	}
	if t == nil {
		return floors
	}
	seen := make(map[uint64]bool)
	shards := len(floors)
	for p := range t.Partitions {
		if partition != wire.AnyPartition && uint64(partition) != uint64(p) {
			continue
		}
		group := ShardGroup(s.srv.backend.Shard(t.UID, p))
		if !seen[group] {
			seen[group] = true
			floors = append(floors, Floor{Group: group})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range floors[shards:] {
		f := &floors[shards+i]
		f.Index = s.floors[f.Group]
	}
	return floors
}

// written returns a floor for each group that the connection has written to.
func (s *session) written() []Floor {
	s.mu.Lock()
	defer s.mu.Unlock()
	floors := make([]Floor, 0, len(s.floors))
	for group, index := range s.floors {
		floors = append(floors, Floor{group, index})
	}
	return floors
}
