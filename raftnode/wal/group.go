package wal

import (
	"fmt"
	"slices"
	"sort"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Group is one group's part of the log and implements raft.Storage. Its
// methods may be called by any goroutine, beside Append.
//
// The newest entries are in memory, as Append got them (the tail). Of older
// ones the group knows where they lie: for segments without an index file 8
// bytes an entry, for the others the segment. Terms are kept as runs, so that
// Term never reads.
type Group struct {
	w  *WAL
	id uint64

	// Guarded by w.mu.
	hs      *raftpb.HardState // the newest appended; nil if there is none
	durable *raftpb.HardState // the newest that an fdatasync covers
	conf    *raftpb.ConfState
	last    uint64    // index of the last entry
	terms   []termRun // by first
	// Invariant: spans follow each other without a gap, from 1 to last.
	spans []span

	// Invariant: between calls the tail ends with last.
	tailFirst uint64 // index of tail[0]; last+1 if the tail is empty
	tail      []*raftpb.Entry
}

// termRun says that the entries from first on have a term, up to the next run.
type termRun struct{ first, term uint64 }

// span is n entries of one segment.
type span struct {
	first uint64
	n     int
	seg   *segment
	refs  []ref // nil: in the segment's index file, from entry at on
	at    int
	// gone: a later segment replaces these entries, so the index file does not
	// list them. Recovery alone has such spans, until it reads that segment.
	gone bool
}

func (s span) end() uint64 { return s.first + uint64(s.n) }

// part returns the span's entries in [lo, hi).
func (s span) part(lo, hi uint64) span {
	lo, hi = max(lo, s.first), min(hi, s.end())
	skip := int(lo - s.first)
	p := span{first: lo, n: int(hi - lo), seg: s.seg, at: s.at + skip, gone: s.gone}
	if s.refs != nil {
		p.refs = s.refs[skip : skip+p.n : skip+p.n]
	}
	return p
}

// apply takes one record of a frame, when it is appended and when it is
// recovered.
func (g *Group) apply(seg *segment, r record) error {
	if r.kind == kindState {
		g.hs = &raftpb.HardState{Term: &r.term, Vote: &r.vote, Commit: &r.commit}
		return nil
	}
	end := r.first + uint64(r.count)
	if r.first > g.last+1 {
		return fmt.Errorf("entry %d of group %d does not follow entry %d", r.first, g.id, g.last)
	}
	if r.kind == kindCarried && end <= g.last+1 {
		g.carry(seg, r)
		return nil
	}
	if err := g.cut(r.first); err != nil {
		return err
	}
	s := g.activeSpan(seg, r.first)
	r.each(func(index uint64, ref ref, term uint64) {
		s.refs = append(s.refs, ref)
		s.n++
		g.addTerm(termRun{index, term})
	})
	g.last = end - 1
	return nil
}

func (g *Group) addTerm(run termRun) {
	if n := len(g.terms); n == 0 || g.terms[n-1].term != run.term {
		g.terms = append(g.terms, run)
	}
}

// activeSpan returns the last span if entries from first on can join it, else
// a new one.
func (g *Group) activeSpan(seg *segment, first uint64) *span {
	if n := len(g.spans); n > 0 && g.spans[n-1].seg == seg && g.spans[n-1].end() == first {
		return &g.spans[n-1]
	}
	g.spans = append(g.spans, span{first: first, seg: seg})
	return &g.spans[len(g.spans)-1]
}

// cut drops the entries from first on: a new leader replaces them.
func (g *Group) cut(first uint64) error {
	if first > g.last {
		return nil
	}
	for n := len(g.spans); n > 0 && g.spans[n-1].end() > first; n = len(g.spans) {
		s := &g.spans[n-1]
		if s.seg.index != nil && !s.gone {
			return fmt.Errorf("entry %d of group %d would replace one of segment %d, which is indexed and so applied", first, g.id, s.seg.number)
		}
		if s.first >= first {
			g.spans = g.spans[:n-1]
			continue
		}
		s.n = int(first - s.first)
		if s.refs != nil {
			s.refs = s.refs[:s.n]
		}
	}
	for n := len(g.terms); n > 0 && g.terms[n-1].first >= first; n = len(g.terms) {
		g.terms = g.terms[:n-1]
	}
	g.last = first - 1
	if first <= g.tailFirst {
		g.w.tail.drop(g, len(g.tail))
		g.tail, g.tailFirst = nil, first
	} else if keep := int(first - g.tailFirst); keep < len(g.tail) {
		for _, e := range g.tail[keep:] {
			g.w.tail.bytes -= entryCost(e)
		}
		clear(g.tail[keep:])
		g.tail = g.tail[:keep]
	}
	return nil
}

// carry notes that entries which the log has lie in a newer segment too.
func (g *Group) carry(seg *segment, r record) {
	s := span{first: r.first, n: r.count, seg: seg}
	r.each(func(_ uint64, ref ref, _ uint64) { s.refs = append(s.refs, ref) })
	var spans []span
	for _, old := range g.spans {
		if old.first < s.first {
			spans = append(spans, old.part(old.first, s.first))
		}
	}
	spans = append(spans, s)
	for _, old := range g.spans {
		if old.end() > s.end() {
			spans = append(spans, old.part(s.end(), old.end()))
		}
	}
	g.spans = spans
}

// InitialState implements raft.Storage.
func (g *Group) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	g.w.mu.RLock()
	defer g.w.mu.RUnlock()
	return g.hs, g.conf, nil
}

// SetConfState sets what InitialState returns; it comes from the checkpoint.
func (g *Group) SetConfState(cs *raftpb.ConfState) {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	g.conf = raftpb.EnsureConfState(cs)
}

// Durable returns the newest hard state that an fdatasync covers, nil if there
// is none. A checkpoint may be made up to its commit. Nobody may change it.
func (g *Group) Durable() *raftpb.HardState {
	g.w.mu.RLock()
	defer g.w.mu.RUnlock()
	return g.durable
}

// FirstIndex implements raft.Storage. The log is kept whole, so it is 1.
func (g *Group) FirstIndex() (uint64, error) { return 1, nil }

// LastIndex implements raft.Storage.
func (g *Group) LastIndex() (uint64, error) {
	g.w.mu.RLock()
	defer g.w.mu.RUnlock()
	return g.last, nil
}

// Term implements raft.Storage. It never reads the disk.
func (g *Group) Term(i uint64) (uint64, error) {
	g.w.mu.RLock()
	defer g.w.mu.RUnlock()
	switch {
	case i == 0:
		return 0, nil
	case i > g.last:
		return 0, raft.ErrUnavailable
	}
	n := sort.Search(len(g.terms), func(k int) bool { return g.terms[k].first > i })
	return g.terms[n-1].term, nil
}

// Snapshot implements raft.Storage. It returns
// raft.ErrSnapshotTemporarilyUnavailable: the log is kept whole, so nobody
// needs one.
func (g *Group) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

// Entries implements raft.Storage. What lies above the bounded tail is read
// from the disk, and checked.
func (g *Group) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	g.w.mu.RLock()
	last, tailFirst := g.last, g.tailFirst
	switch {
	case lo < 1:
		g.w.mu.RUnlock()
		return nil, raft.ErrCompacted
	case hi > last+1:
		g.w.mu.RUnlock()
		return nil, raft.ErrUnavailable
	case lo >= hi:
		g.w.mu.RUnlock()
		return nil, nil
	}
	if lo >= tailFirst {
		entries := slices.Clone(g.tail[lo-tailFirst : hi-tailFirst])
		g.w.mu.RUnlock()
		return limit(entries, maxSize), nil
	}
	g.w.mu.RUnlock()
	return g.read(lo, hi, maxSize)
}

// limit cuts entries to maxSize bytes, but keeps one.
func limit(entries []*raftpb.Entry, maxSize uint64) []*raftpb.Entry {
	size := uint64(0)
	for i, e := range entries {
		if size += wireSize(e.GetTerm(), e.GetIndex(), len(e.GetData())); size > maxSize && i > 0 {
			return entries[:i:i]
		}
	}
	return entries
}

// wireSize is an entry's size as raft counts it: encoded as protobuf.
func wireSize(term, index uint64, data int) uint64 {
	n := 2 + 1 + varint(term) + 1 + varint(index)
	if data > 0 {
		n += 1 + varint(uint64(data)) + uint64(data)
	}
	return n
}

func varint(v uint64) uint64 {
	n := uint64(1)
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// maxRead bounds the bytes of one read of entries, and maxRefs their number;
// more entries take more reads.
const (
	maxRead = 1 << 20
	maxRefs = 4096
)

// read reads entries from the disk, as many as lie together at a time.
func (g *Group) read(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	var entries []*raftpb.Entry
	size := uint64(0)
	for lo < hi {
		run, err := g.refs(lo, hi)
		if err != nil {
			return nil, err
		}
		n, full := 0, false
		for _, r := range run.refs {
			add := wireSize(0, lo, r.size())
			if size+add > maxSize && (n > 0 || len(entries) > 0) {
				full = true
				break
			}
			if n > 0 && (r.off < run.refs[n-1].off || r.end()-int64(run.refs[0].off) > maxRead) {
				break
			}
			size += add
			n++
		}
		if n > 0 {
			got, err := g.readRun(run, n)
			if err != nil {
				return nil, err
			}
			entries = append(entries, got...)
			lo += uint64(n)
		}
		if full {
			break
		}
	}
	return entries, nil
}

// refs returns where entries from lo on lie, as many as one span knows.
func (g *Group) refs(lo, hi uint64) (span, error) {
	g.w.mu.RLock()
	i := sort.Search(len(g.spans), func(k int) bool { return g.spans[k].end() > lo })
	if i == len(g.spans) || g.spans[i].first > lo {
		g.w.mu.RUnlock()
		return span{}, raft.ErrUnavailable
	}
	p := g.spans[i].part(lo, min(hi, lo+maxRefs))
	p.refs = slices.Clone(p.refs) // Append may cut and fill the span again
	index := p.seg.index
	g.w.mu.RUnlock()
	if index == nil {
		return p, nil
	}
	refs, err := index.refs(p.at, p.n)
	p.refs = refs
	return p, err
}

// readBuffers hold what is read before the entries wanted are copied out.
var readBuffers = sync.Pool{New: func() any { return new([]byte) }}

// readRun reads the first n entries of a span with one read. Other groups'
// entries lie between them, and nobody shall keep those in memory: the entries
// are copied out of what was read.
func (g *Group) readRun(run span, n int) ([]*raftpb.Entry, error) {
	name := segmentName(run.seg.number)
	start := int64(run.refs[0].off)
	length, wanted := int(run.refs[n-1].end()-start), 0
	for _, r := range run.refs[:n] {
		wanted += int(r.end() - int64(r.off))
	}
	if length < wanted {
		return nil, &CorruptError{g.w.path(name), start, fmt.Errorf("the index of group %d is out of order", g.id)}
	}
	pooled := readBuffers.Get().(*[]byte)
	defer func() {
		if cap(*pooled) <= 2*maxRead {
			readBuffers.Put(pooled)
		}
	}()
	*pooled = slices.Grow((*pooled)[:0], length)[:length]
	b, kept := *pooled, make([]byte, 0, wanted)
	if err := g.w.files.read(name, b, start); err != nil {
		return nil, err
	}
	entries := make([]*raftpb.Entry, 0, n)
	for i, r := range run.refs[:n] {
		lo, hi := int64(r.off)-start, r.end()-start
		if lo < 0 || hi > int64(length) || lo > hi {
			return nil, &CorruptError{g.w.path(name), int64(r.off), fmt.Errorf("the index of group %d is out of order", g.id)}
		}
		at := len(kept)
		kept = append(kept, b[lo:hi]...)
		e, err := decodeEntry(kept[at:], r, g.id, run.first+uint64(i))
		if err != nil {
			return nil, &CorruptError{g.w.path(name), int64(r.off), err}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Pos returns where an entry's data lies.
func (g *Group) Pos(index uint64) (Pos, error) {
	if index == 0 {
		return Pos{}, raft.ErrCompacted
	}
	p, err := g.refs(index, index+1)
	if err != nil {
		return Pos{}, err
	}
	return Pos{Segment: p.seg.number, Offset: p.refs[0].data()}, nil
}

// tailBudget bounds the tails of all groups together. The oldest entries go
// first, whatever their group.
type tailBudget struct {
	limit, bytes int64
	queue        []tailItem // in the order of appending
}

// tailItem says that a group got entries up to an index. If they were replaced
// since, the item is stale and only drops a little early.
type tailItem struct {
	g    *Group
	last uint64
}

// entryCost estimates the memory of an entry.
func entryCost(e *raftpb.Entry) int64 { return int64(cap(e.Data)) + 160 }

// add puts entries that were just applied to a group into its tail, but for
// those that are there already (carried ones).
func (t *tailBudget) add(g *Group, entries []*raftpb.Entry) {
	next := g.tailFirst + uint64(len(g.tail))
	if next > g.last {
		return
	}
	entries = entries[next-entries[0].GetIndex():]
	g.tail = append(g.tail, entries...)
	for _, e := range entries {
		t.bytes += entryCost(e)
	}
	t.queue = append(t.queue, tailItem{g, entries[len(entries)-1].GetIndex()})
	for t.bytes > t.limit && len(t.queue) > 0 {
		item := t.queue[0]
		t.queue = t.queue[1:]
		if item.last >= item.g.tailFirst {
			t.drop(item.g, min(int(item.last-item.g.tailFirst)+1, len(item.g.tail)))
		}
	}
}

// drop removes the first n entries of a group's tail.
func (t *tailBudget) drop(g *Group, n int) {
	for _, e := range g.tail[:n] {
		t.bytes -= entryCost(e)
	}
	clear(g.tail[:n])
	g.tail = g.tail[n:]
	g.tailFirst += uint64(n)
}
