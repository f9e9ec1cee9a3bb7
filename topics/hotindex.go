package topics

import (
	"cmp"
	"math"
	"slices"
)

// hotIndex says where the batches of log segments without an index file lie. It
// is derived from the log and no part of the replicated state: positions differ
// between nodes.
//
// Inside a segment the batches of a stream form a list. Batch number d of the
// list points at number d-1, at d+1, and at d with its lowest bit cleared, so
// any of n is found in O(log² n) steps from the newest.
type hotIndex struct {
	segments []*hotSegment // ascending
	unloaded uint64        // segments up to this one are in index files
	indexed  bool          // there are such segments
	current  hotEntry
}

type hotSegment struct {
	number  uint64
	entries []hotEntry
	items   []hotItem
	heads   map[uint32]hotHead // by place of the stream in Broker.parts
	saved   int                // items in a checkpoint
}

// hotEntry is the raft entry that items point at.
type hotEntry struct{ index, term uint64 }

// hotHead is the list of one stream in one segment.
type hotHead struct{ first, last, count uint32 }

// hotItem is one batch. 48 bytes.
type hotItem struct {
	base   uint64
	ts     uint64
	offset uint32 // of the command in the segment
	length uint32 // of the command
	count  uint32
	entry  uint32 // in hotSegment.entries
	slot   uint32
	prev   uint32
	next   uint32
	jump   uint32
}

// entry notes the entry that the next items belong to.
func (h *hotIndex) entry(e *Entry) { h.current = hotEntry{e.Index, e.Term} }

// add indexes one batch of the entry noted last.
func (h *hotIndex) add(e *Entry, c *Command, slot uint32, base uint64, count uint32) {
	if h.has(e.Pos.Segment) {
		return
	}
	g := h.segment(e.Pos.Segment)
	if n := len(g.entries); n == 0 || g.entries[n-1] != h.current {
		g.entries = append(g.entries, h.current)
	}
	g.add(hotItem{
		base: base, ts: c.Stamp.TS, offset: position(e.Pos.Offset + int64(c.Delta)), length: uint32(c.Len),
		count: count, entry: uint32(len(g.entries) - 1), slot: slot,
	})
}

// has reports whether the segment has an index file.
func (h *hotIndex) has(segment uint64) bool { return h.indexed && segment <= h.unloaded }

// position narrows an offset in a segment. Segments are 64 MiB, or one entry.
func position(offset int64) uint32 {
	if offset < 0 || offset > math.MaxUint32 {
		panic("topics: a log segment of more than 4 GiB")
	}
	return uint32(offset)
}

func (h *hotIndex) segment(number uint64) *hotSegment {
	n := len(h.segments)
	if n > 0 && h.segments[n-1].number == number {
		return h.segments[n-1]
	}
	i, ok := slices.BinarySearchFunc(h.segments, number, func(g *hotSegment, n uint64) int { return cmp.Compare(g.number, n) })
	if !ok {
		h.segments = slices.Insert(h.segments, i, &hotSegment{number: number, heads: map[uint32]hotHead{}})
	}
	return h.segments[i]
}

func (g *hotSegment) add(it hotItem) {
	at := uint32(len(g.items))
	head, ok := g.heads[it.slot]
	if !ok {
		head = hotHead{first: at}
	} else {
		it.prev = head.last
		it.jump = g.back(head.last, head.count-1, head.count&(head.count-1))
		g.items[head.last].next = at
	}
	head.last = at
	head.count++
	g.heads[it.slot] = head
	g.items = append(g.items, it)
}

// back walks from item i, number d of its list, to number to <= d.
func (g *hotSegment) back(i, d, to uint32) uint32 {
	for d > to {
		if j := d & (d - 1); j >= to {
			i, d = g.items[i].jump, j
		} else {
			i, d = g.items[i].prev, d-1
		}
	}
	return i
}

// search returns the last item of the list that lies at or before a point,
// given as a test that holds for every item up to it; false if none does.
func (g *hotSegment) search(head hotHead, upTo func(*hotItem) bool) (uint32, bool) {
	i, d := head.last, head.count-1
	for !upTo(&g.items[i]) {
		if d == 0 {
			return 0, false
		}
		if j := g.items[i].jump; !upTo(&g.items[j]) {
			i, d = j, d&(d-1)
		} else {
			i, d = g.items[i].prev, d-1
		}
	}
	return i, true
}

// located is item i as a reader wants it.
func (g *hotSegment) located(s Stream, i uint32) Located {
	it := &g.items[i]
	e := g.entries[it.entry]
	return Located{
		Pos: Pos{Segment: g.number, Offset: int64(it.offset)},
		StreamRecord: StreamRecord{
			Stream: s, Base: it.base, Count: it.count, TS: it.ts, Term: e.term, Index: e.index,
			Offset: int64(it.offset), Len: it.length,
		},
	}
}

// oldest returns the base of the stream's oldest batch in memory.
func (h *hotIndex) oldest(slot uint32) (uint64, bool) {
	for _, g := range h.segments {
		if head, ok := g.heads[slot]; ok {
			return g.items[head.first].base, true
		}
	}
	return 0, false
}

// scan appends the batches from the one that holds offset from, or the first
// above it, in ascending order until it has max.
func (h *hotIndex) scan(s Stream, slot uint32, from uint64, limit int, to []Located) []Located {
	limit += len(to)
	for k := range h.segments {
		g := h.segments[k]
		head, ok := g.heads[slot]
		if !ok {
			continue
		}
		if last := &g.items[head.last]; last.base+uint64(last.count) <= from {
			continue
		}
		i, found := g.search(head, func(it *hotItem) bool { return it.base <= from })
		if !found {
			i = head.first
		} else if it := &g.items[i]; it.base+uint64(it.count) <= from {
			i = it.next // a hole cannot be: offsets are dense
		}
		for len(to) < limit {
			to = append(to, g.located(s, i))
			if i == head.last {
				break
			}
			i = g.items[i].next
		}
		if len(to) >= limit {
			break
		}
	}
	return to
}

// scanBack appends the batches with a base below before, newest first.
func (h *hotIndex) scanBack(s Stream, slot uint32, before uint64, limit int, to []Located) []Located {
	limit += len(to)
	for k := len(h.segments) - 1; k >= 0 && len(to) < limit; k-- {
		g := h.segments[k]
		head, ok := g.heads[slot]
		if !ok {
			continue
		}
		i, found := g.search(head, func(it *hotItem) bool { return it.base < before })
		for found && len(to) < limit {
			to = append(to, g.located(s, i))
			found = i != head.first
			i = g.items[i].prev
		}
	}
	return to
}

// findTime returns the first batch in memory with a stamp of ts or later.
func (h *hotIndex) findTime(s Stream, slot uint32, ts uint64) (Located, bool) {
	for _, g := range h.segments {
		head, ok := g.heads[slot]
		if !ok || g.items[head.last].ts < ts {
			continue
		}
		i, before := g.search(head, func(it *hotItem) bool { return it.ts < ts })
		if before {
			return g.located(s, g.items[i].next), true
		}
		return g.located(s, head.first), true
	}
	return Located{}, false
}

// forget drops the lists of a stream whose topic is gone.
func (h *hotIndex) forget(slot uint32) {
	for _, g := range h.segments {
		delete(g.heads, slot)
	}
}

// unload drops every segment up to number.
func (h *hotIndex) unload(number uint64) {
	if !h.has(number) {
		h.unloaded, h.indexed = number, true
	}
	n := 0
	for n < len(h.segments) && h.segments[n].number <= number {
		n++
	}
	h.segments = slices.Delete(h.segments, 0, n)
}

// Sealed is what a sealed segment holds of one shard.
type Sealed struct {
	segment *hotSegment
	lists   []sealedList // by stream
}

type sealedList struct {
	stream Stream
	head   hotHead
}

// Seal takes what a sealed segment holds, for its index file, and drops
// nothing. All of the segment must be applied: nothing is added to it any more,
// so the work is left to Records, which needs no lock.
func (b *Broker) Seal(segment uint64) Sealed {
	for _, g := range b.hot.segments {
		if g.number != segment {
			continue
		}
		s := Sealed{segment: g, lists: make([]sealedList, 0, len(g.heads))}
		for slot, head := range g.heads {
			s.lists = append(s.lists, sealedList{b.parts[slot].stream(), head})
		}
		return s
	}
	return Sealed{}
}

// Records appends where the segment's batches lie, sorted by stream and base.
func (s Sealed) Records(to []StreamRecord) []StreamRecord {
	slices.SortFunc(s.lists, func(a, b sealedList) int {
		return cmp.Or(cmp.Compare(a.stream.UID, b.stream.UID), cmp.Compare(a.stream.Partition, b.stream.Partition))
	})
	total := 0
	for _, l := range s.lists {
		total += int(l.head.count)
	}
	to = slices.Grow(to, total)
	for _, l := range s.lists {
		for i := l.head.first; ; i = s.segment.items[i].next {
			to = append(to, s.segment.located(l.stream, i).StreamRecord)
			if i == l.head.last {
				break
			}
		}
	}
	return to
}

// Unload drops what is in memory of every segment up to this one: their index
// files stand.
func (b *Broker) Unload(segment uint64) { b.hot.unload(segment) }

// Locate returns where in memory the batch lies that holds the offset; false if
// it lies in a segment with an index file, or nowhere.
func (b *Broker) Locate(s Stream, offset uint64) (Located, bool) {
	slot, ok := b.slots[s]
	if !ok {
		return Located{}, false
	}
	var one [1]Located
	found := b.hot.scan(s, slot, offset, 1, one[:0])
	if len(found) == 0 || found[0].Base > offset {
		return Located{}, false
	}
	return found[0], true
}
