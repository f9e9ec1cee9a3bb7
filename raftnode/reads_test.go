package raftnode

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// A leader that was cut off believes for a while that it leads. It answers no
// read in that time.
func TestADeposedLeaderAnswersNoRead(t *testing.T) {
	for seed := range uint64(20) {
		c := newCluster(t, options{nodes: 3, seed: seed})
		old := c.untilLeader(0)
		c.run(time.Second)
		c.net.Isolate(old.id)
		c.run(50 * time.Millisecond) // what was under way is gone
		stale := 0
		c.until(5*time.Second, "a new leader", func() bool {
			if old.states[0].Role == Leader {
				old.read(0)
				stale++
				c.run(20 * time.Millisecond)
			}
			n := c.leader(0)
			return n != nil && n != old && n.states[0].Proposing
		})
		c.leader(0).propose(0, "new")
		c.untilDone("new")
		ctx := c.leader(0).read(0)
		c.run(5 * time.Second)
		if stale == 0 {
			t.Fatal("the old leader was not asked")
		}
		for _, r := range old.reads {
			if r.Err == nil {
				t.Fatalf("seed %d: it answered %+v", seed, r)
			}
		}
		if len(old.reads) != stale {
			t.Errorf("%d questions, %d answers", stale, len(old.reads))
		}
		if r := c.leader(0).reads[ctx]; r.Err != nil || r.Index < uint64(len(c.chosen[0])) {
			t.Errorf("the new leader answers %+v", r)
		}
	}
}

// With one voter raft answers reads with the log's commit index, which may be
// older than what was acknowledged before a crash: commits alone are not
// synced. The Host waits until all that is there is applied again.
func TestOneVoterAnswersReadsOnlyAfterItsOwnEntry(t *testing.T) {
	c := newCluster(t, options{nodes: 1, seed: 2})
	n := c.untilLeader(0)
	n.propose(0, "acknowledged")
	c.untilDone("acknowledged")
	floor := uint64(len(c.chosen[0]))
	n.crash()
	if hs := n.disk.(*sliceDisk).logs[0].hard; hs.GetCommit() >= floor {
		t.Fatalf("the log knows of commit %d, which makes this test empty", hs.GetCommit())
	}
	n.start()
	c.until(time.Second, "leading", func() bool { return n.states[0].Role == Leader })
	ctx := n.read(0)
	c.until(time.Second, "an answer", func() bool { _, ok := n.reads[ctx]; return ok })
	if r := n.reads[ctx]; r.Err != nil || r.Index < floor {
		t.Errorf("answered %+v, and index %d was acknowledged", r, floor)
	}
}

// Followers ask their leader; what gets no answer is given up within an
// election timeout, or at once when the leader changes.
func TestReadsOfFollowers(t *testing.T) {
	c := newCluster(t, options{nodes: 3, seed: 3})
	n := c.untilLeader(0)
	c.run(time.Second)
	n.propose(0, "a")
	c.untilDone("a")
	ctx := c.node(3).read(0)
	took := c.until(time.Second, "an answer", func() bool { _, ok := c.node(3).reads[ctx]; return ok })
	if r := c.node(3).reads[ctx]; r.Err != nil || r.Index < uint64(len(c.chosen[0])) || took > 10*time.Millisecond {
		t.Errorf("%+v after %v", r, took)
	}
	c.net.Cut(3, 1)
	ctx = c.node(3).read(0)
	took = c.until(2*time.Second, "it is given up", func() bool { _, ok := c.node(3).reads[ctx]; return ok })
	if r := c.node(3).reads[ctx]; !errors.Is(r.Err, ErrReadDropped) || took < 800*time.Millisecond || took > 1200*time.Millisecond {
		t.Errorf("%+v after %v", r, took)
	}
	ctx = c.node(3).read(0)
	n.crash()
	c.until(200*time.Millisecond, "it is given up at once", func() bool { _, ok := c.node(3).reads[ctx]; return ok })
	if r := c.node(3).reads[ctx]; !errors.Is(r.Err, ErrReadDropped) {
		t.Errorf("%+v", r)
	}
	ctx = c.node(3).read(7)
	if r := c.node(3).reads[ctx]; !errors.Is(r.Err, ErrNoLeader) {
		t.Errorf("of a group that is not here: %+v", r)
	}
}

// FreshReads: an answer that was under way while its asker restarted, or while
// it gave up, must not be taken for the answer to another question.
func TestFreshReads(t *testing.T) {
	c := newCluster(t, options{nodes: 3, seed: 4})
	c.untilLeader(0)
	c.run(time.Second)
	n := c.node(2)
	answer := func(incarnation, number uint64) *raftpb.Message {
		ctx := make([]byte, 16)
		ctx[0], ctx[8] = byte(incarnation), byte(number)
		return &raftpb.Message{Type: raftpb.MsgReadIndexResp.Enum(), From: new(uint64(1)), To: new(n.id), Term: new(n.states[0].Term),
			Index: new(uint64(1)), Entries: []*raftpb.Entry{{Data: ctx}}}
	}
	n.crash()
	n.start() // incarnation 2
	c.until(time.Second, "a leader", func() bool { return n.states[0].Leader != 0 })
	c.net.Cut(2, 1)
	ctx := n.read(0) // number 1 of incarnation 2
	for _, stale := range []*raftpb.Message{answer(1, 1), answer(2, 2), answer(3, 1)} {
		if err := n.host.Receive(0, stale); err != nil {
			t.Fatal(err)
		}
		n.pump()
		if r, ok := n.reads[ctx]; ok {
			t.Fatalf("a stale answer was taken: %+v", r)
		}
	}
	if err := n.host.Receive(0, answer(2, 1)); err != nil {
		t.Fatal(err)
	}
	n.pump()
	if r, ok := n.reads[ctx]; !ok || r.Err != nil || r.Index != 1 {
		t.Errorf("the right answer was not taken: %+v", r)
	}
}

// What waits is bounded, on both sides.
func TestReadsAreBounded(t *testing.T) {
	c := newCluster(t, options{nodes: 3, seed: 5})
	c.untilLeader(0)
	c.run(time.Second)
	c.net.Cut(2, 1)
	var last uint64
	for range maxReads + 1 {
		last = c.node(2).read(0)
	}
	if r := c.node(2).reads[last]; !errors.Is(r.Err, ErrBusy) {
		t.Errorf("%+v", r)
	}
	if n := len(c.node(2).reads); n != 1 {
		t.Errorf("%d answers", n)
	}
}
