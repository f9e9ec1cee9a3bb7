package wal

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wiber/wiber/raftnode/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

var (
	crashSeed  = flag.Uint64("crash.seed", 0, "run only this seed of TestDurable")
	crashSeeds = flag.Uint64("crash.seeds", 1000, "how many seeds TestDurable runs")
)

// twin is the dumb model of a group.
type twin struct {
	log []*raftpb.Entry
	hs  *raftpb.HardState
}

// model is the dumb twin of a log: the operations in order, and how many of
// them a power cut must leave. Recovery must find the state after some number
// of operations that is at least synced.
type model struct {
	ops    [][]Record
	synced int
}

// after returns the groups as they are after n operations.
func (m *model) after(n int) map[uint64]*twin {
	groups := map[uint64]*twin{}
	for _, recs := range m.ops[:n] {
		for _, r := range recs {
			g := groups[r.Group]
			if g == nil {
				g = &twin{}
				groups[r.Group] = g
			}
			if len(r.Entries) > 0 {
				g.log = append(slices.Clone(g.log[:r.Entries[0].GetIndex()-1]), r.Entries...)
			}
			if r.HardState != nil {
				g.hs = r.HardState
			}
		}
	}
	return groups
}

// matches says whether the log is the model after n operations.
func (m *model) matches(w *WAL, n int) error {
	want := m.after(n)
	for group := range uint64(4) {
		g, t := w.Group(group), want[group]
		if t == nil {
			t = &twin{}
		}
		hs, _, _ := g.InitialState()
		if hs.GetTerm() != t.hs.GetTerm() || hs.GetVote() != t.hs.GetVote() || hs.GetCommit() != t.hs.GetCommit() {
			return fmt.Errorf("group %d: hard state %v, want %v", group, hs, t.hs)
		}
		last, _ := g.LastIndex()
		if last != uint64(len(t.log)) {
			return fmt.Errorf("group %d: %d entries, want %d", group, last, len(t.log))
		}
		if last == 0 {
			continue
		}
		got, err := g.Entries(1, last+1, noLimit())
		if err != nil || len(got) != len(t.log) {
			return fmt.Errorf("group %d: %d entries, want %d: %v", group, len(got), len(t.log), err)
		}
		for i, e := range t.log {
			term, err := g.Term(e.GetIndex())
			if err != nil || term != e.GetTerm() || got[i].GetTerm() != term || got[i].GetIndex() != e.GetIndex() || string(got[i].GetData()) != string(e.GetData()) {
				return fmt.Errorf("group %d: entry %v (term %d, %v), want %v", group, got[i], term, err, e)
			}
		}
	}
	return nil
}

// TestDurable crashes logs at random moments, in random ways, some of them
// several times, and compares what Open finds with the twin: all that Append
// acknowledged is there, nothing else is, and it is a prefix of what was
// appended.
func TestDurable(t *testing.T) {
	first, n := uint64(1), *crashSeeds
	if testing.Short() {
		n = 300
	}
	if *crashSeed != 0 {
		first, n = *crashSeed, 1
	}
	seen := map[string]int{}
	for seed := first; seed < first+n; seed++ {
		if err := crashRun(seed, seen); err != nil {
			t.Fatalf("seed %d: %v\nrun again: go test ./raftnode/wal -run TestDurable -crash.seed=%d", seed, err, seed)
		}
	}
	t.Log(seen)
	if *crashSeed != 0 || testing.Short() {
		return
	}
	for _, k := range []string{"power off in Append", "power off in Idle", "power off in Open", "kill", "torn bytes", "torn frames", "lost unsynced", "kept unsynced", "indexed", "overwritten", "rolled", "failed sync"} {
		if seen[k] < 20 {
			t.Errorf("%q happened %d times: the test tests nothing", k, seen[k])
		}
	}
}

func crashRun(seed uint64, seen map[string]int) error {
	rnd := seeded(seed)
	disk := vfs.NewMem(seeded(seed + 1<<32))
	m := &model{}
	for life := range 2 + rnd.IntN(4) {
		o := small(nil, seed*10+uint64(life))
		o.TailBytes = int64(rnd.IntN(3)) * 2000
		fault := vfs.NewFault(disk)
		o.FS = fault
		if life > 0 && rnd.IntN(4) == 0 {
			disk.PowerOffAfter(1 + rnd.IntN(8))
		}
		w, err := Open(o)
		if err != nil {
			if !disk.Off() {
				return fmt.Errorf("life %d: %w", life, err)
			}
			seen["power off in Open"]++
			disk = disk.Crash()
			continue
		}
		disk.PowerOffAfter(0)
		if err := m.recovered(w, seen); err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		if err := m.live(w, fault, disk, rnd, seen); err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		if rnd.IntN(4) == 0 && !disk.Off() {
			seen["kill"]++
			disk = disk.Kill()
		} else {
			disk = disk.Crash()
		}
	}
	return nil
}

// recovered finds the number of operations that Open has kept.
func (m *model) recovered(w *WAL, seen map[string]int) error {
	var err error
	for n := len(m.ops); n >= m.synced; n-- {
		if err = m.matches(w, n); err == nil {
			if n < len(m.ops) {
				seen["lost unsynced"]++
			} else if n > m.synced {
				seen["kept unsynced"]++
			}
			m.ops, m.synced = m.ops[:n], n
			r := w.Recovered()
			if r.TornBytes > 0 {
				seen["torn bytes"]++
			}
			if r.TornFrames > 0 {
				seen["torn frames"]++
			}
			if r.Indexed > 0 {
				seen["indexed"]++
			}
			return nil
		}
	}
	return fmt.Errorf("of %d operations %d were acknowledged; the log is none of these states: %w", len(m.ops), m.synced, err)
}

// live appends until the power goes, a sync fails, or the dice say stop.
func (m *model) live(w *WAL, fault *vfs.Fault, disk *vfs.Mem, rnd *rand.Rand, seen map[string]int) error {
	steps := rnd.IntN(40)
	switch rnd.IntN(3) {
	case 0:
		disk.PowerOffAfter(1 + rnd.IntN(60))
	case 1:
		fault.Add(vfs.Rule{Op: vfs.OpSync, After: rnd.IntN(30), Count: 1, Err: fmt.Errorf("input/output error")})
	}
	segments := len(w.segments)
	defer func() {
		if len(w.segments) > segments {
			seen["rolled"]++
		}
	}()
	for range steps {
		what, err := "Append", error(nil)
		switch rnd.IntN(10) {
		case 0:
			what = "Idle"
			if err = w.Idle(); err == nil {
				m.synced = len(m.ops)
			}
		case 1:
			what = "PrepareSpare"
			err = w.PrepareSpare()
		case 2:
			what = "WriteIndex"
			err = m.index(w)
		case 3:
			err = m.commits(w, rnd)
		default:
			recs := m.next(rnd, seen)
			syncs := w.Syncs()
			m.ops = append(m.ops, recs)
			if err = w.Append(recs); err == nil && w.Syncs() > syncs {
				m.synced = len(m.ops)
			}
		}
		switch {
		case err == nil:
		case disk.Off():
			seen["power off in "+what]++
			return nil
		case what == "Append" || what == "Idle":
			seen["failed sync"]++
			return nil
		default:
			return nil
		}
		if rnd.IntN(8) == 0 {
			if err := m.matches(w, len(m.ops)); err != nil {
				return fmt.Errorf("after %s, without a crash: %w", what, err)
			}
		}
	}
	return nil
}

// next makes a random append: of some groups entries, sometimes over those
// that are not committed, and hard states.
func (m *model) next(rnd *rand.Rand, seen map[string]int) []Record {
	now := m.after(len(m.ops))
	var recs []Record
	for range 1 + rnd.IntN(3) {
		group := uint64(rnd.IntN(4))
		if slices.ContainsFunc(recs, func(r Record) bool { return r.Group == group }) {
			continue
		}
		t := now[group]
		if t == nil {
			t = &twin{}
		}
		term, commit, last := max(t.hs.GetTerm(), 1), t.hs.GetCommit(), uint64(len(t.log))
		r := Record{Group: group}
		if rnd.IntN(8) == 0 {
			term++
		}
		if rnd.IntN(3) > 0 {
			first := last + 1
			if commit < last && rnd.IntN(4) == 0 {
				first = commit + 1 + rnd.Uint64N(last-commit)
				term++
				seen["overwritten"]++
			}
			n := rnd.Uint64N(4)
			size := rnd.IntN(300)
			if rnd.IntN(20) == 0 {
				size = rnd.IntN(12000)
			}
			r.Entries = run(group, term, first, first+n, size)
			last = first + n
		}
		if term != t.hs.GetTerm() || rnd.IntN(2) == 0 {
			if commit < last && rnd.IntN(2) == 0 {
				commit += rnd.Uint64N(last - commit + 1)
			}
			r.HardState = hard(term, uint64(rnd.IntN(4)), commit)
		}
		recs = append(recs, r)
	}
	return recs
}

// commits appends a row of commits without a sync between them, so that a
// crash can keep a later frame without an earlier one.
func (m *model) commits(w *WAL, rnd *rand.Rand) error {
	for range 8 + rnd.IntN(16) {
		now := m.after(len(m.ops))
		var recs []Record
		for group := range uint64(4) {
			if t := now[group]; t != nil && t.hs != nil {
				commit := t.hs.GetCommit() + rnd.Uint64N(uint64(len(t.log))-t.hs.GetCommit()+1)
				recs = append(recs, Record{Group: group, HardState: hard(t.hs.GetTerm(), t.hs.GetVote(), commit)})
			}
		}
		syncs := w.Syncs()
		m.ops = append(m.ops, recs)
		if err := w.Append(recs); err != nil {
			return err
		}
		if w.Syncs() > syncs {
			m.synced = len(m.ops)
		}
	}
	return nil
}

// index makes the index file of the first sealed segment whose entries are
// committed, as far as the disk knows.
func (m *model) index(w *WAL) error {
	sealed := w.Sealed()
	if len(sealed) == 0 {
		return nil
	}
	for _, r := range sealed[0].Groups {
		if w.Group(r.Group).Durable().GetCommit() < r.Last {
			return nil
		}
	}
	return w.WriteIndex(sealed[0].Number, nil)
}
