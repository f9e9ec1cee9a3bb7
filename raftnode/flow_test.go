package raftnode

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/raftnode/transport"
	"go.etcd.io/raft/v3/raftpb"
)

// OneAppend: at most one append is outstanding (the cluster checks it at every
// step), one entry per group is proposed between two, and what waits meanwhile
// is joined: group commit over groups, and no sync for commits alone.
func TestOneAppend(t *testing.T) {
	c := newCluster(t, options{nodes: 3, groups: 4, seed: 1, sync: 10 * time.Millisecond, change: func(c *Config) { c.SpreadTicks = 1 << 30 }})
	n := c.untilLeader(0)
	for g := range GroupID(4) {
		c.untilLeader(g)
	}
	for g := range GroupID(4) {
		if l := c.leader(g); l != n {
			l.host.Transfer(g, n.id)
			l.pump()
		}
	}
	c.until(5*time.Second, "all groups at one node", func() bool {
		for g := range GroupID(4) {
			if !n.states[g].Proposing {
				return false
			}
		}
		return true
	})
	c.run(500 * time.Millisecond)
	appends, entries := n.appends, n.entries
	const each = 200
	for i := range each {
		for g := range GroupID(4) {
			n.propose(g, fmt.Sprintf("g%d-%d", g, i))
		}
		c.run(100 * time.Microsecond)
	}
	for g := range GroupID(4) {
		c.untilDone(fmt.Sprintf("g%d-%d", g, each-1))
	}
	appends, entries = n.appends-appends, n.entries-entries
	t.Logf("%d proposals: %d entries in %d appends", 4*each, entries, appends)
	if appends > 40 || entries > 4*appends {
		t.Errorf("%d proposals: %d entries in %d appends", 4*each, entries, appends)
	}
	// Silence, even with ticks, needs the disk once more: for the last commit.
	c.run(time.Second)
	appends = n.appends
	c.run(5 * time.Second)
	if n.appends != appends {
		t.Errorf("%d appends in silence", n.appends-appends)
	}
	for g := range GroupID(4) {
		if hs, _, _ := n.disk.group(g).InitialState(); hs.GetCommit() != n.applied[g] {
			t.Errorf("group %s: the log has commit %d and %d is applied: no checkpoint could be made", g, hs.GetCommit(), n.applied[g])
		}
	}
}

// Bounded: what was handed out and is not applied stays below the limit, the
// rest waits in the log, and heartbeats and acknowledgements go on.
func TestBounded(t *testing.T) {
	const limit = 64 << 10
	c := newCluster(t, options{nodes: 3, seed: 2, wal: true, change: func(c *Config) { c.MaxApplyBytes, c.MaxMessageBytes = limit, 16<<10 }})
	n := c.untilLeader(0)
	slow := c.node(3)
	slow.lazy = true
	for i := range 400 {
		n.propose(0, fmt.Sprintf("m%d-%s", i, strings.Repeat("x", 2000)))
		c.run(2 * time.Millisecond)
	}
	out := uint64(0)
	for _, a := range slow.applies {
		for _, e := range a.Entries {
			out += uint64(len(e.Data))
		}
	}
	if out > limit+16<<10 {
		t.Errorf("%d bytes were handed out", out)
	}
	if last, _ := slow.disk.group(0).LastIndex(); last < n.applied[0]-2 {
		t.Errorf("its log has %d of %d entries", last, n.applied[0])
	}
	if slow.states[0].Leader != n.id {
		t.Error("it lost its leader")
	}
	slow.lazy = false
	slow.host.Applied(0, slow.applied[0])
	slow.pump()
	c.until(time.Second, "it has applied all", func() bool { return slow.applied[0] == n.applied[0] })
	if slow.host.cores[0].outBytes != 0 {
		c.run(time.Second)
		if b := slow.host.cores[0].outBytes; b != 0 {
			t.Errorf("%d bytes are still counted", b)
		}
	}
}

// A follower that was away gets what it lacks in steps: messages are bounded,
// and so is what is under way to it. In steady state raft reads no file.
func TestAFollowerCatchesUpInSteps(t *testing.T) {
	const message, inflight = 8 << 10, 32 << 10
	c := newCluster(t, options{nodes: 3, seed: 3, wal: true, change: func(c *Config) { c.MaxMessageBytes, c.MaxInflightBytes = message, inflight }})
	n := c.untilLeader(0)
	c.run(time.Second)
	reads := n.disk.(*walDisk).w.Preads()
	write := func(from, to int) {
		for i := from; i < to; i++ {
			n.propose(0, fmt.Sprintf("m%d-%s", i, strings.Repeat("x", 1000)))
			c.run(3 * time.Millisecond)
		}
	}
	write(0, 100)
	if now := n.disk.(*walDisk).w.Preads(); now-reads > 100 { // the test itself reads each entry back
		t.Errorf("%d reads of files for 100 entries", now-reads)
	}
	away := c.node(3)
	away.crash()
	write(100, 600)
	largest := 0
	c.spy = func(m Message) {
		if m.To == away.id && m.Raft.GetType() == raftpb.MsgApp {
			size := 0
			for _, e := range m.Raft.GetEntries() {
				size += len(e.GetData())
			}
			largest = max(largest, size)
		}
	}
	away.start()
	took := c.until(10*time.Second, "it caught up", func() bool { return away.applied[0] == n.applied[0] })
	if largest == 0 || largest > message {
		t.Errorf("the largest message had %d bytes of entries", largest)
	}
	if n.disk.(*walDisk).w.Preads() == reads {
		t.Error("nothing was read from files: the test is too small")
	}
	t.Logf("caught up in %v", took)
}

// A message that tells nothing but a new commit is kept back a moment, and
// dropped when one with entries follows; in silence it goes.
func TestCommitsRideAlong(t *testing.T) {
	count := func(gap time.Duration) (empty int) {
		c := newCluster(t, options{nodes: 3, seed: 4, sync: 200 * time.Microsecond})
		n := c.untilLeader(0)
		c.run(time.Second)
		c.spy = func(m Message) {
			if m.Raft.GetType() == raftpb.MsgApp && len(m.Raft.GetEntries()) == 0 {
				empty++
			}
		}
		for i := range 100 {
			n.propose(0, fmt.Sprint("m", i))
			c.run(gap)
		}
		c.run(50 * time.Millisecond)
		for _, o := range c.nodes {
			if o.applied[0] != n.applied[0] {
				t.Errorf("node %d applied %d of %d", o.id, o.applied[0], n.applied[0])
			}
		}
		return empty
	}
	if busy := count(1200 * time.Microsecond); busy > 10 {
		t.Errorf("%d messages with nothing but a commit, with the next entry close behind", busy)
	}
	if quiet := count(10 * time.Millisecond); quiet < 150 {
		t.Errorf("%d messages with nothing but a commit, in a quiet cluster: followers wait for heartbeats", quiet)
	}
}

// What raft drops is offered again in the same term, and forgotten with it:
// by then whoever asked for it asks the next leader.
func TestADroppedProposalIsKeptForItsTerm(t *testing.T) {
	c := newCluster(t, options{nodes: 3, seed: 5, change: func(c *Config) { c.MaxUncommittedBytes = 1000 }})
	n := c.untilLeader(0)
	c.run(time.Second)
	c.net.Isolate(n.id)
	n.propose(0, "a"+strings.Repeat("a", 900))
	c.run(10 * time.Millisecond)
	n.propose(0, "b"+strings.Repeat("b", 900))
	core := n.host.cores[0]
	if core.kept == nil {
		t.Fatal("raft took more than its limit")
	}
	calls := n.work[0].calls
	c.run(300 * time.Millisecond)
	if n.work[0].calls != calls {
		t.Error("it asked for more, with something in hand")
	}
	c.net.HealAll()
	c.untilDone("b" + strings.Repeat("b", 900))
	if core.kept != nil {
		t.Error("it still has it")
	}
	c.net.Isolate(n.id)
	n.propose(0, "c"+strings.Repeat("c", 900))
	c.run(10 * time.Millisecond)
	n.propose(0, "d"+strings.Repeat("d", 900))
	c.run(5 * time.Second)
	if core.kept != nil {
		t.Error("it was kept beyond its term")
	}
	c.net.HealAll()
	c.run(5 * time.Second)
	if c.done["d"+strings.Repeat("d", 900)] {
		t.Error("it was proposed in another term")
	}
	if terms := n.work[0].terms; !slices.IsSorted(terms) {
		t.Errorf("asked in terms %v", terms)
	}
}

// Leaders tell how many replicas have an entry on disk; nobody else knows.
func TestAppliesSayOnHowManyDisks(t *testing.T) {
	c := newCluster(t, options{nodes: 3, seed: 6})
	n := c.untilLeader(0)
	c.run(time.Second)
	c.node(3).crash()
	n.propose(0, "a")
	c.untilDone("a")
	if a := n.applies[len(n.applies)-1]; a.Synced != 2 || a.Replicas != 3 {
		t.Errorf("synced %d of %d", a.Synced, a.Replicas)
	}
	c.run(10 * time.Millisecond)
	if a := c.node(2).applies[len(c.node(2).applies)-1]; a.Synced != 0 || a.Replicas != 0 {
		t.Errorf("a follower says synced %d of %d", a.Synced, a.Replicas)
	}
}

// The same seed makes the same run, to the byte; raft's own randomness is
// under the seed as well.
func TestRunsRepeatExactly(t *testing.T) {
	trace := func(seed uint64) string {
		c := newCluster(t, options{nodes: 3, groups: 2, seed: seed, wal: true, faults: transport.MemFaults{MaxDelay: 5 * time.Millisecond, Loss: 0.1, Duplicate: 0.1}})
		var b bytes.Buffer
		c.spy = func(m Message) { fmt.Fprintln(&b, c.now, describe(m)) }
		x := &chaos{cluster: c, asked: make(map[*node]map[uint64]question)}
		x.play(5 * time.Second)
		return b.String()
	}
	a, b, other := trace(7), trace(7), trace(8)
	if a != b {
		t.Error("the same seed made two runs")
	}
	if a == other || len(a) < 10_000 {
		t.Errorf("two seeds made the same run, of %d bytes", len(a))
	}
}

func TestRaftsWordsGoToTheLogger(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := newCluster(t, options{nodes: 1, seed: 1, change: func(c *Config) { c.Logger = log }})
	c.untilLeader(0)
	if !strings.Contains(b.String(), "group=catalogue") || !strings.Contains(b.String(), "became leader") {
		t.Errorf("it says %q", b.String())
	}
	defer func() {
		if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "group 3") || !strings.Contains(fmt.Sprint(r), "index 9") {
			t.Errorf("the panic says %v", r)
		}
	}()
	raftLogger{log, 4}.Panicf("entry at index %d is gone", 9)
}
