package raftnode

import (
	"fmt"
	"testing"
	"time"

	"github.com/wiber/wiber/raftnode/transport"
	"go.etcd.io/raft/v3/raftpb"
)

// When a leader's process dies, the first of the others in the group's order
// leads within a few round trips, whatever the seed: they never campaign
// against each other. Where the dead leader's last entries arrive in the middle
// of it they may, and then the next turn decides, long before the timers.
func TestFailoverOnEvidenceTakesTurns(t *testing.T) {
	var worst, worstHalf time.Duration
	for seed := range uint64(200) {
		c := newCluster(t, options{nodes: 3 + 2*int(seed%2), groups: 2, seed: seed, sync: 2 * time.Millisecond,
			faults: transport.MemFaults{MinDelay: 100 * time.Microsecond, MaxDelay: 2 * time.Millisecond}})
		c.untilLeader(0)
		c.untilLeader(1)
		c.run(time.Duration(c.rnd.IntN(1000)) * time.Millisecond)
		old := c.leader(0)
		half := seed%3 == 0
		if half {
			old.propose(0, "half")
			c.run(time.Duration(c.rnd.IntN(3000)) * time.Microsecond)
		}
		old.crash()
		took := c.until(5*time.Second, "a new leader", func() bool {
			n := c.leader(0)
			return n != nil && n != old && n.states[0].Proposing
		})
		if half {
			worstHalf = max(worstHalf, took)
		} else {
			worst = max(worst, took)
		}
	}
	t.Logf("the longest took %v, and %v with entries under way", worst, worstHalf)
	if worst > 60*time.Millisecond || worstHalf > 500*time.Millisecond {
		t.Error("that is too long")
	}
}

// Without evidence the timers do it: a leader that is cut off steps down, and
// the others elect one between one and some election timeouts later.
func TestFailoverByTimerAndCheckQuorum(t *testing.T) {
	c := newCluster(t, options{nodes: 3, seed: 3})
	old := c.untilLeader(0)
	c.run(time.Second)
	c.net.Isolate(old.id)
	took := c.until(5*time.Second, "a new leader", func() bool { n := c.leader(0); return n != nil && n != old && n.states[0].Proposing })
	if took < 900*time.Millisecond {
		t.Errorf("elected after %v, while the old leader could lead", took)
	}
	c.until(2*time.Second, "the old leader steps down", func() bool { return old.states[0].Role != Leader })
	term := c.leader(0).states[0].Term
	c.run(20 * time.Second)
	c.net.HealAll()
	c.run(2 * time.Second)
	if now := c.leader(0).states[0].Term; now > term+1 {
		t.Errorf("a node that was alone raised the term from %d to %d", term, now)
	}
}

// False evidence disturbs nobody: a leader that lives stays leader.
func TestFalseEvidenceChangesNoLeader(t *testing.T) {
	c := newCluster(t, options{nodes: 3, seed: 4})
	old := c.untilLeader(0)
	c.run(time.Second)
	term := old.states[0].Term
	c.node(2).host.PeerClosed(old.id)
	c.node(2).pump()
	c.run(5 * time.Second)
	if c.leader(0) != old || old.states[0].Term != term || c.node(2).states[0].Leader != old.id {
		t.Errorf("term %d became %d, led by %v", term, old.states[0].Term, c.leader(0).id)
	}
}

// A follower that is first in turn but lacks entries does not hold the others
// up: whoever could win campaigns as soon as it is asked.
func TestAFollowerWithTheLongerLogCampaignsInItsPlace(t *testing.T) {
	c := newCluster(t, options{nodes: 3, seed: 5})
	old := c.untilLeader(0) // node 1; next in turn is 2
	c.run(time.Second)
	c.net.Cut(1, 2)
	old.propose(0, "x")
	c.untilDone("x")
	c.net.HealAll()
	old.crash()
	took := c.until(5*time.Second, "a leader", func() bool { n := c.leader(0); return n != nil && n != old && n.states[0].Proposing })
	if c.leader(0).id != 3 {
		t.Errorf("node %d leads", c.leader(0).id)
	}
	if took > 20*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

// A group goes home to its preferred voter once that is back and caught up,
// and nothing that was proposed meanwhile is lost.
func TestLeadershipGoesBackToThePreferredVoter(t *testing.T) {
	c := newCluster(t, options{nodes: 3, groups: 3, seed: 6, wal: true})
	for g := range GroupID(3) {
		c.untilLeader(g)
	}
	home := c.leader(1)
	home.crash()
	c.until(time.Second, "another leader", func() bool { n := c.leader(1); return n != nil && n.states[1].Proposing })
	for i := range 50 {
		c.leader(1).propose(1, fmt.Sprint("m", i))
		c.run(time.Millisecond)
	}
	c.run(time.Second)
	home.start()
	took := c.until(20*time.Second, "leadership at home", func() bool { return home.states[1].Proposing })
	if took < 2*time.Second {
		t.Errorf("it went back after %v already", took)
	}
	c.untilDone("m49")
	// All groups are where they belong, and stay there.
	c.run(10 * time.Second)
	elections := c.elected
	c.run(20 * time.Second)
	if c.elected != elections {
		t.Error("leadership does not come to rest")
	}
}

func TestTransferAllHandsEveryGroupOver(t *testing.T) {
	c := newCluster(t, options{nodes: 3, groups: 5, seed: 7})
	for g := range GroupID(5) {
		c.untilLeader(g)
	}
	n := c.node(1)
	n.propose(0, "before")
	n.host.TransferAll()
	n.pump()
	took := c.until(2*time.Second, "drained", func() bool { return n.drained })
	if took > 50*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	if n.host.Leads() != 0 {
		t.Error("it still leads")
	}
	for g := range GroupID(5) {
		l := c.untilLeader(g)
		l.propose(g, fmt.Sprint("after", g))
		c.untilDone(fmt.Sprint("after", g))
	}
	// Others hand groups back to it in time; it does not keep them.
	n.drained = false
	c.run(5 * time.Second)
	if n.host.Leads() != 0 {
		t.Error("a draining node leads again")
	}
}

func TestANodeAloneIsDrainedAtOnce(t *testing.T) {
	c := newCluster(t, options{nodes: 1, seed: 8})
	c.untilLeader(0)
	c.node(1).host.TransferAll()
	c.node(1).pump()
	if !c.node(1).drained {
		t.Error("it waits for somebody to hand over to")
	}
}

// When all nodes are stopped at once, each ends as soon as the others could not
// do without it any more: nobody waits for a successor that cannot be elected.
func TestAllNodesDrainTogether(t *testing.T) {
	var worst time.Duration
	for seed := range uint64(60) {
		size := 2 + int(seed%4)
		c := newCluster(t, options{nodes: size, groups: 5, seed: seed})
		for g := range GroupID(5) {
			c.untilLeader(g)
		}
		c.run(time.Duration(c.rnd.IntN(3000)) * time.Millisecond)
		for _, n := range c.nodes {
			n.host.TransferAll()
			n.pump()
		}
		took := c.until(10*time.Second, "all have ended", func() bool {
			ended := true
			for _, n := range c.nodes {
				if n.up && n.drained {
					n.crash()
				}
				ended = ended && !n.up
			}
			return ended
		})
		worst = max(worst, took)
	}
	t.Logf("the longest took %v", worst)
	if worst > 300*time.Millisecond {
		t.Error("that is too long")
	}
}

// While the others are enough for a majority, a node that drains hands over and
// does not end as a leader, even if it has heard nothing of them lately.
func TestADrainingNodeEndsNoGroupThatOthersCanLead(t *testing.T) {
	for seed := range uint64(40) {
		c := newCluster(t, options{nodes: 3, groups: 5, seed: seed})
		for g := range GroupID(5) {
			c.untilLeader(g)
		}
		c.run(time.Duration(c.rnd.IntN(5000)) * time.Millisecond)
		n := c.node(1 + seed%3)
		n.host.TransferAll()
		n.pump()
		c.until(2*time.Second, "drained", func() bool { return n.drained })
		if n.host.Leads() != 0 {
			t.Fatalf("seed %d: drained, and it leads %d groups", seed, n.host.Leads())
		}
	}
}

// A leader whose disk stands still loses its groups, in spite of its ticks, and
// the others go on; a follower whose disk stands still holds nobody up.
func TestAStuckDisk(t *testing.T) {
	c := newCluster(t, options{nodes: 3, seed: 9})
	old := c.untilLeader(0)
	c.run(time.Second)
	c.node(3).frozen = true
	old.propose(0, "a")
	if took := c.until(time.Second, "a", func() bool { return c.done["a"] }); took > 20*time.Millisecond {
		t.Errorf("a follower's disk held a proposal up for %v", took)
	}
	c.node(3).frozen = false
	c.run(time.Second)
	old.frozen = true
	old.propose(0, "b")
	c.until(5*time.Second, "a new leader", func() bool { n := c.leader(0); return n != nil && n != old && n.states[0].Proposing })
	c.leader(0).propose(0, "c")
	c.untilDone("c")
	old.frozen = false
	c.until(5*time.Second, "the old leader follows", func() bool { return old.states[0].Role == Follower && old.applied[0] == uint64(len(c.chosen[0])) })
	if c.sends[raftpb.MsgPreVote] == 0 {
		t.Error("no pre-vote was sent")
	}
}
