package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// gossip returns how a node sees the others in its /v1/status.
func (c *cluster) gossip(node string) (map[string]string, error) {
	var status struct {
		Gossip []struct{ Node, State string } `json:"gossip"`
	}
	err := getJSON(fmt.Sprintf("http://%s/v1/status", net.JoinHostPort(c.host, strconv.Itoa(c.port[node]+200))), &status)
	states := map[string]string{}
	for _, g := range status.Gossip {
		states[g.Node] = g.State
	}
	return states, err
}

// awaitGossip waits until others see a node in one of the states, and returns how
// long that took.
func (c *cluster) awaitGossip(limit time.Duration, node string, want ...string) time.Duration {
	c.t.Helper()
	begin := clock.Mono()
	eventually(c.t, limit, fmt.Sprintf("the others see %s as %v", node, want), func() error {
		for _, by := range c.others(node) {
			states, err := c.gossip(by)
			if err != nil {
				return err
			}
			if !slices.Contains(want, states[node]) {
				return fmt.Errorf("%s sees it as %s", by, states[node])
			}
		}
		return nil
	})
	return clock.Mono() - begin
}

// A process that is stopped with SIGSTOP is suspect within 5 s and dead within
// 15 s in the status of every other node; events say who saw it; the node's
// condition Joined is False until it is continued.
func TestAStoppedProcessIsSuspectedAndSeenByWhom(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	c := newCluster(t, manifest{})
	c.start()
	c.awaitReady(c.names...)
	for _, n := range c.names {
		c.awaitGossip(30*time.Second, n, "alive")
	}
	joined := func(want bool) {
		t.Helper()
		eventually(t, 30*time.Second, fmt.Sprintf("n2 is joined: %v", want), func() error {
			nodes, err := c.nodes()
			if err != nil {
				return err
			}
			for _, cond := range nodes["n2"].Status.Conditions {
				if cond.Type == v1alpha1.NodeJoined && (cond.Status == v1alpha1.ConditionTrue) == want {
					return nil
				}
			}
			return fmt.Errorf("conditions %+v", nodes["n2"].Status.Conditions)
		})
	}
	joined(true)
	c.signal("n2", syscall.SIGSTOP)
	suspect := c.awaitGossip(30*time.Second, "n2", "suspect", "dead")
	dead := suspect + c.awaitGossip(30*time.Second, "n2", "dead")
	t.Logf("suspect after %s, dead after %s", suspect.Round(10*time.Millisecond), dead.Round(10*time.Millisecond))
	if suspect > 5*time.Second || dead > 15*time.Second {
		t.Errorf("suspect after %s, want 5 s; dead after %s, want 15 s", suspect, dead)
	}
	joined(false)
	for _, want := range []string{v1alpha1.EventSuspect, v1alpha1.EventDead} {
		eventually(t, 30*time.Second, "an event "+want+" says who saw it", func() error {
			var list v1alpha1.EventList
			if err := json.Unmarshal([]byte(c.run("events", "--for", "node/n2", "-o", "json")), &list); err != nil {
				return err
			}
			for _, e := range list.Items {
				if e.Reason == want && slices.Contains([]string{"node/n1", "node/n3"}, e.Source.Component) {
					return nil
				}
			}
			return fmt.Errorf("%d events, none of them", len(list.Items))
		})
	}
	c.signal("n2", syscall.SIGCONT)
	c.awaitGossip(30*time.Second, "n2", "alive")
	joined(true)
}
