package raftnode

import (
	"fmt"
	"testing"
	"time"

	"github.com/wiber/wiber/raftnode/transport"
	"go.etcd.io/raft/v3/raftpb"
)

// D1: nothing that depends on a write leaves before the write is durable. The
// cluster checks each message that leaves against the sender's disk, and each
// entry that is applied against all disks. Here the disks are slow, so that
// there is much to leave too early, and nodes crash amid appends.
func TestD1(t *testing.T) {
	for seed := range uint64(6) {
		c := newCluster(t, options{nodes: 3, groups: 2, seed: seed, sync: 80 * time.Millisecond, wal: seed%2 == 1})
		x := &chaos{cluster: c, asked: make(map[*node]map[uint64]question)}
		for range 12 {
			x.play(500 * time.Millisecond)
			n := c.nodes[c.rnd.IntN(3)]
			if n.up {
				n.crash()
			}
			c.run(300 * time.Millisecond)
			n.start()
		}
		x.recover()
		for _, kind := range []raftpb.MessageType{raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgApp, raftpb.MsgHeartbeat} {
			if c.sends[kind] == 0 {
				t.Errorf("seed %d: no %s was sent", seed, kind)
			}
		}
	}
}

// Under crashes, cuts, loss, duplicates and late messages nothing that is
// checked at every step breaks, reads are linearizable, and when all is healed
// the cluster works again. That the faults really happened is asserted too.
func TestChaos(t *testing.T) {
	seeds := 24
	if testing.Short() {
		seeds = 6
	}
	var elections, crashes, reads, drops int
	var net transport.MemStats
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			size := []int{1, 3, 3, 5}[seed%4]
			c := newCluster(t, options{nodes: size, groups: 1 + int(seed%3), seed: seed, sync: 5 * time.Millisecond, wal: seed/4%2 == 1})
			x := &chaos{cluster: c, asked: make(map[*node]map[uint64]question)}
			x.play(20 * time.Second)
			x.recover()
			elections += c.elected
			crashes += x.crashes
			reads += x.answered
			drops += x.dropped
			s := c.net.Stats()
			net.Lost += s.Lost
			net.Cut += s.Cut
			net.Down += s.Down
			net.Duplicated += s.Duplicated
			net.Late += s.Late
			net.Overtaken += s.Overtaken
		})
	}
	t.Logf("%d elections, %d crashes, %d reads answered, %d dropped, network %+v", elections, crashes, reads, drops, net)
	for what, n := range map[string]int{
		"elections": elections, "crashes": crashes, "reads": reads, "dropped reads": drops,
		"lost": int(net.Lost), "cut": int(net.Cut), "down": int(net.Down), "duplicated": int(net.Duplicated), "late": int(net.Late), "overtaken": int(net.Overtaken),
	} {
		if n == 0 {
			t.Errorf("no %s happened", what)
		}
	}
}

// chaos makes faults and work, and checks reads: an answer's index is at least
// what was applied anywhere when the question was asked.
type chaos struct {
	*cluster
	crashes, answered, dropped int
	proposals                  int
	asked                      map[*node]map[uint64]question
}

type question struct {
	group GroupID
	floor uint64
}

func (x *chaos) play(d time.Duration) {
	for end := x.now + d; x.now < end; {
		x.run(time.Duration(x.rnd.IntN(40)) * time.Millisecond)
		x.work()
		if x.rnd.IntN(12) == 0 {
			x.fault()
		}
	}
}

// work proposes at one node and reads at another; leaders and others alike.
func (x *chaos) work() {
	g := GroupID(x.rnd.IntN(x.o.groups))
	if n := x.nodes[x.rnd.IntN(len(x.nodes))]; n.up {
		x.proposals++
		n.propose(g, fmt.Sprint("p", x.proposals))
	}
	if n := x.nodes[x.rnd.IntN(len(x.nodes))]; n.up {
		floor := uint64(len(x.chosen[g]))
		ctx := n.read(g)
		if x.asked[n] == nil {
			x.asked[n] = make(map[uint64]question)
		}
		x.asked[n][ctx] = question{g, floor}
	}
	for _, n := range x.nodes {
		for _, ctx := range sortedKeys(n.reads) {
			r, q := n.reads[ctx], x.asked[n][ctx]
			delete(n.reads, ctx)
			delete(x.asked[n], ctx)
			if r.Err != nil {
				x.dropped++
				continue
			}
			x.answered++
			if r.Index < q.floor {
				x.t.Fatalf("node %d group %s: a read was answered with index %d, and %d was applied before it was asked (seed %d)", n.id, r.Group, r.Index, q.floor, x.o.seed)
			}
		}
	}
}

func (x *chaos) fault() {
	n := x.nodes[x.rnd.IntN(len(x.nodes))]
	o := x.nodes[x.rnd.IntN(len(x.nodes))]
	switch x.rnd.IntN(9) {
	case 0, 1:
		if n.up {
			n.crash()
			x.crashes++
		}
	case 2, 3:
		if !n.up {
			n.start()
		}
	case 4:
		for _, n := range x.nodes {
			if n.up {
				n.crash()
				x.crashes++
			}
		}
		for _, n := range x.nodes {
			n.start()
		}
	case 5:
		x.net.Cut(n.id, o.id)
	case 6:
		x.net.Isolate(n.id)
	case 7:
		x.net.HealAll()
		x.net.SetFaults(transport.MemFaults{})
	case 8:
		x.net.SetFaults(transport.MemFaults{
			MinDelay: 100 * time.Microsecond, MaxDelay: 20 * time.Millisecond,
			Loss: x.rnd.Float64() * 0.2, Duplicate: 0.1, Late: 0.05, LateBy: 3 * time.Second,
		})
	}
	if n.up && x.rnd.IntN(4) == 0 {
		n.frozen = !n.frozen
	}
	if n.up && x.rnd.IntN(3) == 0 {
		n.host.Transfer(GroupID(x.rnd.IntN(x.o.groups)), o.id)
		n.pump()
	}
}

// recover heals everything: now it must work.
func (x *chaos) recover() {
	x.net.HealAll()
	x.net.SetFaults(transport.MemFaults{})
	for _, n := range x.nodes {
		n.frozen = false
		if !n.up {
			n.start()
		}
	}
	x.run(10 * time.Second)
	for g := range GroupID(x.o.groups) {
		n := x.untilLeader(g)
		n.propose(g, fmt.Sprintf("last-%d", g))
		x.untilDone(fmt.Sprintf("last-%d", g))
		x.until(5*time.Second, "everybody has applied", func() bool {
			for _, n := range x.nodes {
				if n.applied[g] != uint64(len(x.chosen[g])) {
					return false
				}
			}
			return true
		})
	}
	if x.o.nodes > 1 && x.sends[raftpb.MsgVoteResp] == 0 {
		x.t.Error("nobody voted")
	}
}
