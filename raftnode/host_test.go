package raftnode

import (
	"fmt"
	"testing"
	"time"
)

func TestOneNodeLeadsAtOnceAndApplies(t *testing.T) {
	c := newCluster(t, options{nodes: 1, groups: 3, seed: 1})
	took := c.until(time.Second, "all groups led", func() bool {
		return c.node(1).states[0].Proposing && c.node(1).states[1].Proposing && c.node(1).states[2].Proposing
	})
	if took > 20*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	c.node(1).propose(2, "a")
	c.untilDone("a")
}

func TestClusterElectsThePreferredVotersAndReplicates(t *testing.T) {
	for _, size := range []int{3, 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			c := newCluster(t, options{nodes: size, groups: 5, seed: 2})
			for g := range GroupID(5) {
				n := c.untilLeader(g)
				if want := uint64(g)%uint64(size) + 1; n.id != want {
					t.Errorf("group %s is led by %d, and prefers %d", g, n.id, want)
				}
				for i := range 20 {
					n.propose(g, fmt.Sprintf("g%d-%d", g, i))
				}
				c.untilDone(fmt.Sprintf("g%d-19", g))
			}
			if c.now > time.Second {
				t.Errorf("it took %v, without any fault", c.now)
			}
			c.run(time.Second)
			for _, n := range c.nodes {
				for g := range GroupID(5) {
					if n.applied[g] != uint64(len(c.chosen[g])) {
						t.Errorf("node %d group %s applied %d of %d", n.id, g, n.applied[g], len(c.chosen[g]))
					}
				}
			}
		})
	}
}
