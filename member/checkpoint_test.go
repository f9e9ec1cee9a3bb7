package member

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/raftnode/wal"
	"github.com/wiber/wiber/topics"
	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/server"
	"github.com/wiber/wiber/topics/store"
)

// single is a cluster of one node that the test steps by hand, on a disk that
// can lose power.
type single struct {
	*Engine
	t     *testing.T
	log   *wal.WAL
	disk  *vfs.Mem
	fault *vfs.Fault // in front of disk
	meta  *witness
	inbox *inbox
}

// witness is a manifest that shows each transaction to the test before it is
// made. An error of before is one of the disk.
type witness struct {
	*store.Mem
	before func(values map[string][]byte) error
}

func (w *witness) Update(values map[string][]byte) error {
	if w.before != nil {
		if err := w.before(values); err != nil {
			return err
		}
	}
	return w.Mem.Update(values)
}

func openSmallLog(disk vfs.FS, meta store.MetaStore) (*wal.WAL, error) {
	return OpenLog(meta, wal.Options{FS: disk, Dir: "log", SegmentBytes: 64 << 10, FirstSegmentBytes: 64 << 10})
}

// newSingle returns a node that leads all of its groups, with a topic named "a".
func newSingle(t *testing.T, seed uint64) *single {
	t.Helper()
	s := &single{t: t, disk: vfs.NewMem(rand.New(rand.NewPCG(seed, 2))), meta: &witness{Mem: store.NewMem()}, inbox: newInbox()}
	s.fault = vfs.NewFault(s.disk)
	var err error
	if s.log, err = openSmallLog(s.fault, s.meta); err != nil {
		t.Fatal(err)
	}
	m := &Membership{ClusterID: "c", Cluster: "demo", Shards: 2, Nodes: []NodeIdentity{{Name: "n1", RaftID: 1, UID: "uid-n1"}}}
	s.Engine, err = NewEngine(EngineConfig{
		Identity: Identity{Node: "n1", UID: "uid-n1", Counter: 1, Member: m},
		Log:      s.log, Transport: outside(func(uint64, transport.Message) {}),
		Meta: s.meta, FS: s.fault, Dir: "state",
		Reference: func() (int64, int64) { return 1_000_000, 0 },
		Mono:      func() time.Duration { return 0 },
		Wake:      s.inbox.wake, Logger: slog.New(slog.DiscardHandler),
		ElectionTicks: 10, HeartbeatTicks: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		s.tick()
	}
	s.Change(made("a"), 0, func(topics.Result, error) {})
	s.pump()
	if _, ok := s.Topic("a"); !ok {
		t.Fatal("the node does not lead")
	}
	return s
}

// pump does all that can be done without time going on.
func (s *single) pump() {
	s.t.Helper()
	for {
		w := s.Pump()
		if w.Append == nil && len(w.Apply) == 0 {
			return
		}
		if w.Append != nil {
			if err := s.Append(w.Append); err != nil {
				s.t.Fatal(err)
			}
			s.Appended()
		}
		for _, a := range w.Apply {
			if err := s.Apply(a); err != nil {
				s.t.Fatal(err)
			}
			s.Applied(a.Group, a.Entries[len(a.Entries)-1].Index)
		}
	}
}

func (s *single) tick() {
	s.t.Helper()
	s.Tick()
	s.pump()
}

// idle is what the append loop does when nothing comes.
func (s *single) idle() {
	s.t.Helper()
	if err := s.log.Idle(); err != nil {
		s.t.Fatal(err)
	}
}

// publishUntilSealed fills the log's newest segment. What it publishes last is
// applied, and the disk does not know yet that it is committed.
func (s *single) publishUntilSealed() {
	s.t.Helper()
	topic, _ := s.Topic("a")
	for n := len(s.log.Sealed()); len(s.log.Sealed()) == n; {
		var got answered
		b := batch.AppendRecord(nil, &batch.Record{Value: make([]byte, 10<<10)})
		s.Publish(&server.Publish{Topic: "a", UID: topic.UID, Batch: b, Done: &got})
		s.pump()
		if got.err != nil {
			s.t.Fatal(got.err)
		}
	}
}

func (s *single) settle() bool {
	s.t.Helper()
	did, err := s.Settle()
	if err != nil {
		s.t.Fatal(err)
	}
	return did
}

// checkpointed is the index up to which a group is in the manifest; 0 for none.
func (s *single) checkpointed(g *group) uint64 {
	m, _ := s.settling.state.Manifest(uint64(g.id))
	return m.Applied
}

// A message is applied as soon as its majority has it on disk, and the log hears
// of that commit with the next append. A checkpoint of what was applied waits for
// it, so that the log alone proves what the checkpoint says.
func TestD2ACheckpointWaitsForTheDurableCommit(t *testing.T) {
	s := newSingle(t, 1)
	s.publishUntilSealed()
	ahead := 0
	for _, g := range s.groups {
		if !raftnode.CanCheckpoint(s.log, g.id, g.applied()) {
			ahead++
		}
	}
	if ahead == 0 {
		t.Fatal("the durable commit is not behind: this test shows nothing")
	}
	if !s.settle() {
		t.Fatal("the sealed segment was not settled")
	}
	want := make([]uint64, len(s.groups)) // the copy is of this moment
	for i, g := range s.groups {
		want[i] = g.applied()
	}
	for range 3 {
		if s.settle() {
			t.Fatal("something was saved before its commit was durable")
		}
	}
	if names, err := s.disk.ReadDir("state"); err != nil || len(names) != 0 {
		t.Fatalf("there are state files: %q, %v", names, err)
	}

	// A quiet node writes the last commits after a few ticks, and syncs them.
	for range 5 {
		s.tick()
	}
	s.idle()
	if !s.settle() {
		t.Fatal("the commit is durable, and the checkpoint still waits")
	}
	for i, g := range s.groups {
		if got := s.checkpointed(g); got != want[i] {
			t.Errorf("group %v is checkpointed at %d, the copy was of %d", g.id, got, want[i])
		}
	}
}

// Power may go at any moment around the transaction that makes a checkpoint. The
// disk then holds whole state files for the manifest before, and for the new one;
// and its log proves what the new one says.
func TestD2ACheckpointHoldsAfterAnyCrash(t *testing.T) {
	s := newSingle(t, 2)
	transactions := 0
	s.meta.before = func(values map[string][]byte) error {
		transactions++
		next := s.meta.Snapshot()
		if err := next.Update(values); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			for name, meta := range map[string]*store.Mem{"old": s.meta.Snapshot(), "new": next.Snapshot()} {
				disk := s.disk.Crash()
				log, err := openSmallLog(disk, meta)
				if err != nil {
					t.Fatalf("transaction %d, with the %s manifest: %v", transactions, name, err)
				}
				if err := holds(disk, meta, log, len(s.groups)); err != nil {
					t.Fatalf("transaction %d, with the %s manifest: %v", transactions, name, err)
				}
			}
		}
		return nil
	}
	removed := false
	for range 12 { // more than what is merged into a new base
		s.publishUntilSealed()
		for s.settle() {
		}
		for range 5 {
			s.tick()
		}
		s.idle()
		before, err := s.disk.ReadDir("state")
		if err != nil || !s.settle() {
			t.Fatalf("no checkpoint was saved: %v", err)
		}
		after, err := s.disk.ReadDir("state")
		if err != nil {
			t.Fatal(err)
		}
		removed = removed || len(after) < len(before)+len(s.groups)
	}
	if transactions != 2*12 || !removed { // of each segment that began, and of each checkpoint
		t.Errorf("%d transactions; files were merged and removed: %v", transactions, removed)
	}
}

// holds says what a start from this disk and manifest would find wrong.
func holds(disk *vfs.Mem, meta store.MetaStore, log *wal.WAL, groups int) error {
	state, err := store.OpenState(store.StateOptions{FS: disk, Dir: "state", Meta: meta})
	if err != nil {
		return err
	}
	for i := range groups {
		id := raftnode.GroupID(i)
		m, ok := state.Manifest(uint64(id))
		if !ok {
			continue
		}
		var into stateMachine = topics.NewBroker()
		if id == raftnode.Catalogue {
			into = topics.NewCatalogue()
		}
		if err := state.Restore(uint64(id), into); err != nil {
			return err
		}
		if !raftnode.CanCheckpoint(log, id, m.Applied) {
			return fmt.Errorf("group %v is checkpointed at %d, which the log on the disk does not know to be committed", id, m.Applied)
		}
	}
	return nil
}
