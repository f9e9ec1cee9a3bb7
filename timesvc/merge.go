package timesvc

import (
	"cmp"
	"container/heap"
	"time"
)

// Merge puts messages of several sources into the order of their stamps, those
// of one stamp into the order of the sources' names and parts. A message is
// released when every origin promises that nothing older will come, or when one
// that is at hand has waited for the longest delay; one that comes after something
// younger was released goes at once, and is late.
//
// It holds one message of each source, its head, and of that only the stamp; who
// uses it offers the next one when the head was taken. Before Next is called every
// source that has something must have offered it: what was promised and is not
// offered would be overtaken. It has one owner and no clock: times are the
// caller's, on one monotonic clock.
type Merge struct {
	delay   time.Duration
	byStamp mergeHeap // sources with a head
	byAge   mergeHeap // the same
	origins map[uint64]*mergeOrigin
	least   uint64 // no origin's promise is below it
	high    uint64 // the youngest stamp that was released
}

// MergeSource is one sequence of messages whose stamps do not fall: a partition.
type MergeSource struct {
	Name string
	Part int

	origin  *mergeOrigin
	ts      uint64
	arrived time.Duration
	place   [2]int // in byStamp and byAge; -1: it has no head
}

// mergeOrigin is who promises for sources: a shard for its partitions.
type mergeOrigin struct {
	id      uint64
	safe    uint64
	sources int
}

// Released is a head that was taken.
type Released struct {
	Source *MergeSource
	TS     uint64
	// Late says that something younger was released before.
	Late bool
	// Forced says that it was released because the longest delay was over: an
	// origin has not promised anything.
	Forced bool
}

// NewMerge returns a merge without sources. delay is how long a message waits at
// most for others.
func NewMerge(delay time.Duration) *Merge {
	return &Merge{
		delay: delay, origins: make(map[uint64]*mergeOrigin),
		byStamp: mergeHeap{kind: 0, before: func(a, b *MergeSource) bool {
			return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Part, b.Part)) < 0
		}},
		byAge: mergeHeap{kind: 1, before: func(a, b *MergeSource) bool { return a.arrived < b.arrived }},
	}
}

// Add takes a source in, which belongs to an origin.
func (m *Merge) Add(origin uint64, name string, part int) *MergeSource {
	o := m.origins[origin]
	if o == nil {
		o = &mergeOrigin{id: origin}
		m.origins[origin] = o
		m.least = 0
	}
	o.sources++
	return &MergeSource{Name: name, Part: part, origin: o, place: [2]int{-1, -1}}
}

// Remove forgets a source with its head, and an origin with its last source.
func (m *Merge) Remove(s *MergeSource) {
	if s.Waiting() {
		m.take(s)
	}
	if s.origin.sources--; s.origin.sources == 0 {
		delete(m.origins, s.origin.id)
	}
}

// Waiting says whether the source has a head.
func (s *MergeSource) Waiting() bool { return s.place[0] >= 0 }

// Offer gives the source its head: the stamp of its next message, and when that
// came.
func (m *Merge) Offer(s *MergeSource, ts uint64, arrived time.Duration) {
	if s.Waiting() {
		panic("timesvc: a merge is offered a second head")
	}
	s.ts, s.arrived = ts, arrived
	heap.Push(&m.byStamp, s)
	heap.Push(&m.byAge, s)
}

// Promise says that no message of the origin that is stamped at or before safe
// will be offered any more, but for those that are at hand.
func (m *Merge) Promise(origin, safe uint64) {
	if o := m.origins[origin]; o != nil {
		o.safe = max(o.safe, safe)
	}
}

// Origins calls f with each origin.
func (m *Merge) Origins(f func(origin uint64)) {
	for id := range m.origins {
		f(id)
	}
}

// Next takes the head that may be released now, false if there is none.
func (m *Merge) Next(now time.Duration) (Released, bool) {
	if m.byStamp.Len() == 0 {
		return Released{}, false
	}
	first := m.byStamp.items[0]
	r := Released{Source: first, TS: first.ts, Late: first.ts < m.high}
	if !r.Late && !m.promised(r.TS) {
		// What has waited for long enough may be another one, and younger: then
		// this one goes before it.
		if until, _ := m.Until(); now < until {
			return Released{}, false
		}
		r.Forced = true
	}
	m.take(first)
	m.high = max(m.high, r.TS)
	return r, true
}

// Until is when the next message is released without promises; false if none is
// at hand.
func (m *Merge) Until() (time.Duration, bool) {
	if m.byAge.Len() == 0 {
		return 0, false
	}
	return m.byAge.items[0].arrived + m.delay, true
}

// Missing calls f with each origin that has not promised that nothing older than
// the next message will come, with the stamp that it has to promise.
func (m *Merge) Missing(f func(origin, safe, ts uint64)) {
	if m.byStamp.Len() == 0 {
		return
	}
	ts := m.byStamp.items[0].ts
	m.Behind(ts, func(origin, safe uint64) { f(origin, safe, ts) })
}

// Behind calls f with each origin that has not promised that nothing at or before
// ts will come.
func (m *Merge) Behind(ts uint64, f func(origin, safe uint64)) {
	for id, o := range m.origins {
		if o.safe < ts {
			f(id, o.safe)
		}
	}
}

// promised says whether all origins promise that nothing at or before ts comes.
func (m *Merge) promised(ts uint64) bool {
	if ts <= m.least {
		return true
	}
	least := ^uint64(0)
	for _, o := range m.origins {
		least = min(least, o.safe)
	}
	m.least = least
	return ts <= least
}

func (m *Merge) take(s *MergeSource) {
	heap.Remove(&m.byStamp, s.place[0])
	heap.Remove(&m.byAge, s.place[1])
}

// mergeHeap orders sources with a head.
type mergeHeap struct {
	items  []*MergeSource
	kind   int // which of a source's places is here
	before func(a, b *MergeSource) bool
}

// Len implements heap.Interface, as the next four methods.
func (h *mergeHeap) Len() int { return len(h.items) }

// Less compares two sources.
func (h *mergeHeap) Less(i, j int) bool { return h.before(h.items[i], h.items[j]) }

// Swap swaps two sources.
func (h *mergeHeap) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.items[i].place[h.kind], h.items[j].place[h.kind] = i, j
}

// Push adds a source at the end.
func (h *mergeHeap) Push(x any) {
	s := x.(*MergeSource)
	s.place[h.kind] = len(h.items)
	h.items = append(h.items, s)
}

// Pop removes the last source.
func (h *mergeHeap) Pop() any {
	n := len(h.items) - 1
	s := h.items[n]
	h.items[n] = nil
	h.items = h.items[:n]
	s.place[h.kind] = -1
	return s
}
