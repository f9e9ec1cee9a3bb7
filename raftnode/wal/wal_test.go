package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/wiber/wiber/raftnode/vfs"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// randReader makes lives from a seeded generator.
type randReader struct{ r *rand.Rand }

func (r randReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.r.Uint32())
	}
	return len(p), nil
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// small returns options with which a few kilobytes fill a segment.
func small(fsys vfs.FS, seed uint64) Options {
	return Options{
		FS: fsys, Dir: "wal", Rand: randReader{seeded(seed)},
		SegmentBytes: 16 << 10, FirstSegmentBytes: 8 << 10, TailBytes: 4 << 10, IndexCacheBytes: 64 << 10,
	}
}

func mustOpen(t testing.TB, o Options) *WAL {
	t.Helper()
	w, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func mustAppend(t testing.TB, w *WAL, recs ...Record) {
	t.Helper()
	if err := w.Append(recs); err != nil {
		t.Fatal(err)
	}
}

func entry(term, index uint64, data []byte) *raftpb.Entry {
	typ := raftpb.EntryNormal
	return &raftpb.Entry{Term: &term, Index: &index, Type: &typ, Data: data}
}

// run returns entries first..last of a term, each with size bytes of data that
// name group, index and term.
func run(group, term, first, last uint64, size int) []*raftpb.Entry {
	var list []*raftpb.Entry
	for i := first; i <= last; i++ {
		data := []byte(fmt.Sprintf("g%d-i%d-t%d.", group, i, term))
		for len(data) < size {
			data = append(data, data...)
		}
		if size == 0 {
			data = nil // as raft's empty entries are
		}
		list = append(list, entry(term, i, data[:size:size]))
	}
	return list
}

func hard(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

func noLimit() uint64 { return 1 << 62 }

// checkEntries compares a group's log with what it should be, entry by entry,
// through Entries, Term and Pos.
func checkEntries(t testing.TB, w *WAL, group uint64, want []*raftpb.Entry) {
	t.Helper()
	g := w.Group(group)
	last, err := g.LastIndex()
	if err != nil || last != uint64(len(want)) {
		t.Fatalf("group %d ends with %d (%v), want %d", group, last, err, len(want))
	}
	if last == 0 {
		return
	}
	got, err := g.Entries(1, last+1, noLimit())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("group %d: got %d entries, want %d", group, len(got), len(want))
	}
	for i, e := range want {
		sameEntry(t, group, got[i], e)
		if term, err := g.Term(e.GetIndex()); err != nil || term != e.GetTerm() {
			t.Fatalf("group %d: term of %d is %d (%v), want %d", group, e.GetIndex(), term, err, e.GetTerm())
		}
		pos, err := g.Pos(e.GetIndex())
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, len(e.Data))
		if err := w.ReadAt(data, pos); err != nil || !bytes.Equal(data, e.Data) {
			t.Fatalf("group %d: entry %d at %v reads %q (%v), want %q", group, e.GetIndex(), pos, data, err, e.Data)
		}
	}
}

func sameEntry(t testing.TB, group uint64, got, want *raftpb.Entry) {
	t.Helper()
	if got.GetIndex() != want.GetIndex() || got.GetTerm() != want.GetTerm() || got.GetType() != want.GetType() || !bytes.Equal(got.Data, want.Data) {
		t.Fatalf("group %d: got entry %v, want %v", group, got, want)
	}
	if len(want.Data) == 0 && got.Data != nil {
		t.Fatalf("group %d: empty entry %d has data that is not nil", group, want.GetIndex())
	}
}

func TestAppendAndReopen(t *testing.T) {
	m := vfs.NewMem(seeded(1))
	w := mustOpen(t, small(m, 1))
	one, two := run(1, 1, 1, 3, 20), run(2, 1, 1, 1, 0)
	mustAppend(t, w, Record{Group: 1, HardState: hard(1, 1, 0), Entries: one}, Record{Group: 2, Entries: two})
	mustAppend(t, w, Record{Group: 1, HardState: hard(1, 1, 3)})
	if err := w.Idle(); err != nil {
		t.Fatal(err)
	}
	checkEntries(t, w, 1, one)
	checkEntries(t, w, 2, two)

	w2 := mustOpen(t, small(m.Kill(), 2))
	checkEntries(t, w2, 1, one)
	checkEntries(t, w2, 2, two)
	hs, conf, err := w2.Group(1).InitialState()
	if err != nil || conf == nil || hs.GetTerm() != 1 || hs.GetVote() != 1 || hs.GetCommit() != 3 {
		t.Fatalf("hard state %v, conf %v, %v", hs, conf, err)
	}
	if hs, _, _ := w2.Group(2).InitialState(); hs != nil {
		t.Fatalf("group 2 has hard state %v", hs)
	}
	r := w2.Recovered()
	if r.Segments != 1 || r.Frames != 3 || r.TornBytes != 0 || r.TornFrames != 0 || len(r.Groups) != 2 || r.Groups[0].Last != 3 {
		t.Fatalf("recovery %+v", r)
	}
	if r.Synced.Offset != r.End.Offset-frameHead {
		t.Fatalf("an idle log is not proven durable: synced %v, end %v", r.Synced, r.End)
	}
}

// TestStorage holds Group to the rules of raft.Storage.
func TestStorage(t *testing.T) {
	w := mustOpen(t, small(vfs.NewMem(seeded(1)), 1))
	g := w.Group(5)
	var _ raft.Storage = g
	entries := run(5, 3, 1, 10, 100)
	mustAppend(t, w, Record{Group: 5, HardState: hard(3, 0, 0), Entries: entries})
	if first, _ := g.FirstIndex(); first != 1 {
		t.Errorf("first index %d", first)
	}
	if term, err := g.Term(0); term != 0 || err != nil {
		t.Errorf("term of 0: %d, %v", term, err)
	}
	if _, err := g.Term(11); !errors.Is(err, raft.ErrUnavailable) {
		t.Errorf("term of 11: %v", err)
	}
	if _, err := g.Entries(0, 5, noLimit()); !errors.Is(err, raft.ErrCompacted) {
		t.Errorf("entries from 0: %v", err)
	}
	if _, err := g.Entries(5, 12, noLimit()); !errors.Is(err, raft.ErrUnavailable) {
		t.Errorf("entries to 12: %v", err)
	}
	if _, err := g.Snapshot(); !errors.Is(err, raft.ErrSnapshotTemporarilyUnavailable) {
		t.Errorf("snapshot: %v", err)
	}
	for name, lo := range map[string]uint64{"from memory": 10, "from disk": 1} {
		got, err := g.Entries(lo, 11, 0)
		if err != nil || len(got) != 1 || got[0].GetIndex() != lo {
			t.Errorf("%s with limit 0: %v, %v", name, got, err)
		}
	}
	for limit := range uint64(600) {
		want := limitEntries(entries, limit)
		got, err := g.Entries(1, 11, limit)
		if err != nil || len(got) != want {
			t.Fatalf("limit %d: %d entries, want %d (%v)", limit, len(got), want, err)
		}
	}
	g.SetConfState(&raftpb.ConfState{Voters: []uint64{1, 2, 3}})
	if _, conf, _ := g.InitialState(); len(conf.GetVoters()) != 3 {
		t.Errorf("conf %v", conf)
	}
}

func limitEntries(entries []*raftpb.Entry, max uint64) int {
	return len(limit(entries, max))
}

// TestSyncs counts the fsyncs: one for entries, a term or a vote, none for a
// commit, and an idle log stays silent.
func TestSyncs(t *testing.T) {
	w := mustOpen(t, small(vfs.NewMem(seeded(1)), 1))
	steps := []struct {
		name  string
		do    func() error
		syncs uint64
	}{
		{"nothing", func() error { return w.Append(nil) }, 0},
		{"empty record", func() error { return w.Append([]Record{{Group: 1}}) }, 0},
		{"idle when new", w.Idle, 0},
		{"term and vote", func() error { return w.Append([]Record{{Group: 1, HardState: hard(2, 1, 0)}}) }, 1},
		{"entries of three groups", func() error {
			return w.Append([]Record{{Group: 1, Entries: run(1, 2, 1, 5, 9)}, {Group: 2, Entries: run(2, 1, 1, 1, 0)}, {Group: 3, Entries: run(3, 1, 1, 2, 7)}})
		}, 1},
		{"commit", func() error { return w.Append([]Record{{Group: 1, HardState: hard(2, 1, 5)}}) }, 0},
		{"idle", w.Idle, 2},
		{"idle again", w.Idle, 0},
		{"vote", func() error { return w.Append([]Record{{Group: 1, HardState: hard(2, 3, 5)}}) }, 1},
		{"idle after a sync", w.Idle, 1},
	}
	for _, s := range steps {
		before := w.Syncs()
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if got := w.Syncs() - before; got != s.syncs {
			t.Errorf("%s: %d syncs, want %d", s.name, got, s.syncs)
		}
	}
	if w.Group(1).Durable().GetVote() != 3 {
		t.Errorf("durable hard state %v", w.Group(1).Durable())
	}
}

// TestDurableCommit: a commit counts as durable only after a sync.
func TestDurableCommit(t *testing.T) {
	w := mustOpen(t, small(vfs.NewMem(seeded(1)), 1))
	mustAppend(t, w, Record{Group: 1, HardState: hard(1, 0, 0), Entries: run(1, 1, 1, 4, 3)})
	mustAppend(t, w, Record{Group: 1, HardState: hard(1, 0, 4)})
	if c := w.Group(1).Durable().GetCommit(); c != 0 {
		t.Fatalf("commit %d is durable without a sync", c)
	}
	if err := w.Idle(); err != nil {
		t.Fatal(err)
	}
	if c := w.Group(1).Durable().GetCommit(); c != 4 {
		t.Fatalf("commit %d is durable after Idle, want 4", c)
	}
}

// TestContiguous: what would leave a gap, go back or not fit is refused, and
// ends the log.
func TestContiguous(t *testing.T) {
	for name, recs := range map[string][]Record{
		"a gap":                {{Group: 1, Entries: run(1, 1, 5, 6, 1)}},
		"a gap inside":         {{Group: 1, Entries: append(run(1, 1, 4, 4, 1), run(1, 1, 6, 6, 1)...)}},
		"a gap over records":   {{Group: 1, Entries: run(1, 1, 4, 4, 1)}, {Group: 1, Entries: run(1, 1, 6, 6, 1)}},
		"index 0":              {{Group: 1, Entries: run(1, 1, 0, 1, 1)}},
		"a lower term":         {{Group: 1, HardState: hard(1, 0, 0)}},
		"a commit of nothing":  {{Group: 1, HardState: hard(2, 0, 9)}},
		"an entry in the void": {{Group: 9, Entries: run(9, 1, 2, 2, 1)}},
	} {
		w := mustOpen(t, small(vfs.NewMem(seeded(1)), 1))
		mustAppend(t, w, Record{Group: 1, HardState: hard(2, 0, 0), Entries: run(1, 1, 1, 3, 5)})
		err := w.Append(recs)
		if err == nil {
			t.Errorf("%s: was appended", name)
			continue
		}
		if again := w.Append([]Record{{Group: 1, Entries: run(1, 1, 4, 4, 1)}}); again != err {
			t.Errorf("%s: the log went on after its error: %v", name, again)
		}
	}
}

// TestTwoRecordsOfOneGroup: the second cuts what the first wrote.
func TestTwoRecordsOfOneGroup(t *testing.T) {
	m := vfs.NewMem(seeded(1))
	w := mustOpen(t, small(m, 1))
	mustAppend(t, w, Record{Group: 1, Entries: run(1, 1, 1, 6, 5)}, Record{Group: 1, Entries: run(1, 2, 4, 5, 5)})
	want := append(run(1, 1, 1, 3, 5), run(1, 2, 4, 5, 5)...)
	checkEntries(t, w, 1, want)
	if w.Preads() != 5 {
		t.Errorf("%d reads; ReadAt makes 5", w.Preads())
	}
	checkEntries(t, mustOpen(t, small(m.Crash(), 2)), 1, want)
}

// TestNoPread: raft in steady state reads from memory, in bounded memory.
func TestNoPread(t *testing.T) {
	o := small(vfs.NewMem(seeded(1)), 1)
	o.TailBytes = 64 << 10
	w := mustOpen(t, o)
	for i := uint64(1); i <= 3000; i++ {
		g := i%3 + 1
		next := (i-1)/3 + 1
		mustAppend(t, w, Record{Group: g, Entries: run(g, 1, next, next, 100)})
		lo := uint64(1)
		if next > 20 {
			lo = next - 20
		}
		if got, err := w.Group(g).Entries(lo, next+1, noLimit()); err != nil || uint64(len(got)) != next+1-lo {
			t.Fatalf("entries %d-%d: %d, %v", lo, next, len(got), err)
		}
		if _, err := w.Group(g).Term(1); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.Preads(); n != 0 {
		t.Errorf("%d reads of the disk in steady state", n)
	}
	if w.tail.bytes > o.TailBytes {
		t.Errorf("the tail has %d bytes, more than its %d", w.tail.bytes, o.TailBytes)
	}
	if _, err := w.Group(1).Entries(1, 2, noLimit()); err != nil || w.Preads() != 1 {
		t.Errorf("an old entry cost %d reads, %v", w.Preads(), err)
	}
}

// TestReadsJoin: a follower that was away costs few reads.
func TestReadsJoin(t *testing.T) {
	o := small(vfs.NewMem(seeded(1)), 1)
	o.SegmentBytes, o.FirstSegmentBytes, o.TailBytes = 1<<20, 1<<20, 1
	w := mustOpen(t, o)
	want := run(1, 1, 1, 2000, 100)
	for i := range want {
		mustAppend(t, w, Record{Group: 1, Entries: want[i : i+1]})
	}
	got, err := w.Group(1).Entries(1, 2001, noLimit())
	if err != nil || len(got) != 2000 {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	for i := range got {
		sameEntry(t, 1, got[i], want[i])
	}
	if n := w.Preads(); n > 4 {
		t.Errorf("2,000 entries in one segment cost %d reads", n)
	}
}

// TestSpare: the next segment is prepared beside the appends and then used; if
// it is not there or too small, the log goes on all the same.
func TestSpare(t *testing.T) {
	m := vfs.NewMem(seeded(1))
	w := mustOpen(t, small(m, 1))
	if w.NeedsSpare() {
		t.Error("an empty log wants a spare segment")
	}
	all := run(1, 1, 1, 400, 100)
	for i := range all {
		mustAppend(t, w, Record{Group: 1, Entries: all[i : i+1]})
		if w.NeedsSpare() && i > 100 {
			if err := w.PrepareSpare(); err != nil {
				t.Fatal(err)
			}
		}
	}
	sizes := map[int64]int{}
	for _, seg := range w.segments {
		size, err := m.Size(w.path(segmentName(seg.number)))
		if err != nil {
			t.Fatal(err)
		}
		sizes[size]++
	}
	if sizes[8<<10] < 2 || sizes[16<<10] < 2 {
		t.Errorf("segments by size: %v", sizes)
	}
	if err := w.PrepareSpare(); err != nil {
		t.Fatal(err)
	}
	big := run(1, 1, 401, 401, 100_000)
	mustAppend(t, w, Record{Group: 1, Entries: big})
	all = append(all, big...)
	checkEntries(t, w, 1, all)
	c := m.Crash()
	if names, _ := c.ReadDir("wal"); names[len(names)-1] != spareName {
		t.Errorf("the spare is gone: %q", names)
	}
	w2 := mustOpen(t, small(c, 2))
	checkEntries(t, w2, 1, all)
	if w2.room != 16<<10 {
		t.Errorf("the spare that was there is not used: the segment has %d bytes", w2.room)
	}
}

// TestD3FailedWriteEndsTheLog: after a failed write or sync every call returns
// the error, and nothing of the append is visible.
func TestD3FailedWriteEndsTheLog(t *testing.T) {
	for _, rule := range []vfs.Rule{
		{Op: vfs.OpSync, Name: segmentSuffix, Err: errors.New("input/output error")},
		{Op: vfs.OpWrite, Name: segmentSuffix, Err: errors.New("no space left on device"), Torn: true},
	} {
		f := vfs.NewFault(vfs.NewMem(seeded(1)))
		w := mustOpen(t, small(f, 1))
		mustAppend(t, w, Record{Group: 1, Entries: run(1, 1, 1, 3, 5)})
		rule.Count = 1
		// The active segment was made under another name.
		rule.Name = ""
		f.Add(rule)
		err := w.Append([]Record{{Group: 1, Entries: run(1, 1, 4, 4, 5)}})
		if !errors.Is(err, rule.Err) {
			t.Fatalf("%s: %v", rule.Op, err)
		}
		for _, again := range []error{w.Append([]Record{{Group: 1, Entries: run(1, 1, 4, 4, 5)}}), w.Idle()} {
			if again != err {
				t.Fatalf("%s: the log went on: %v", rule.Op, again)
			}
		}
		checkEntries(t, w, 1, run(1, 1, 1, 3, 5))
	}
}

func TestOpenErrors(t *testing.T) {
	m := vfs.NewMem(seeded(1))
	for name, change := range map[string]func(*Options){
		"no folder":       func(o *Options) { o.Dir = "" },
		"a tiny segment":  func(o *Options) { o.SegmentBytes = 4096 },
		"an odd segment":  func(o *Options) { o.SegmentBytes = 10_000 },
		"a huge segment":  func(o *Options) { o.FirstSegmentBytes = 1 << 40 },
		"a negative tail": func(o *Options) { o.TailBytes = -1 },
	} {
		o := small(m, 1)
		change(&o)
		if _, err := Open(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	f := vfs.NewFault(vfs.NewMem(seeded(1)))
	f.ReadOnly()
	if _, err := Open(small(f, 1)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a read-only folder: %v", err)
	}
}

// Entries that were read back hold no memory of the other groups' entries that
// lie between them.
func TestReadEntriesHoldOnlyThemselves(t *testing.T) {
	const groups, rounds, size = 16, 100, 10 << 10
	fs := vfs.NewMem(seeded(1))
	w := mustOpen(t, Options{FS: fs, Dir: "wal", TailBytes: 1})
	for index := range uint64(rounds) {
		var recs []Record
		for g := range uint64(groups) {
			recs = append(recs, Record{Group: g, Entries: []*raftpb.Entry{entry(1, index+1, make([]byte, size))}})
		}
		if err := w.Append(recs); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // pools are empty after two
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	entries, err := w.Group(3).Entries(1, rounds, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	held := heap() - before
	if wanted := int64(len(entries) * size); held > 2*wanted {
		t.Errorf("%d entries of %d bytes hold %d bytes", len(entries), wanted, held)
	}
	runtime.KeepAlive(entries)
}
