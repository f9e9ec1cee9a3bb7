package member

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/server"
)

// statusOf asks a node's /v1/status.
func statusOf(t *testing.T, c *v1alpha1.Cluster, id string) (s server.Status) {
	t.Helper()
	spec, _ := c.Spec.Node(id)
	r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/v1/status", spec.HTTPPort))
	if err != nil {
		return s
	}
	defer r.Body.Close()
	_ = json.NewDecoder(r.Body).Decode(&s)
	return s
}

// sees returns what a node thinks of another one.
func sees(t *testing.T, c *v1alpha1.Cluster, by, of string) server.GossipState {
	t.Helper()
	for _, g := range statusOf(t, c, by).Gossip {
		if g.Node == of {
			return g
		}
	}
	return server.GossipState{}
}

// leaders are who leads which group in which term, as a node knows it.
func leaders(s server.Status) string {
	var all []string
	for _, g := range s.Groups {
		all = append(all, fmt.Sprintf("%s: %s in %d", g.ID, g.Leader, g.Term))
	}
	return strings.Join(all, ", ")
}

// TestAFalseSuspicionMovesNoLeader cuts all gossip of a node that leads, and
// nothing else: the others take it for suspect and then for dead, and publish
// through it all the while.
func TestAFalseSuspicionMovesNoLeader(t *testing.T) {
	c := testCluster(t, 3)
	c.Spec.Shards = 3
	cut := map[string]*atomic.Bool{}
	nodes := map[string]*testNode{}
	for _, s := range c.Spec.Nodes {
		cut[s.ID] = new(atomic.Bool)
		nodes[s.ID] = startNodeWith(t, c, s.ID, func(o *Options) { o.cutGossip = cut[s.ID] })
	}
	v := dialNode(t, c, "n2")
	v.ask("PUB orders hello")
	others := []string{"n1", "n2", "n3"}
	all := func(want string, of ...string) func() bool {
		return func() bool {
			for _, by := range others {
				for _, o := range of {
					if by != o && sees(t, c, by, o).State != want {
						return false
					}
				}
			}
			return true
		}
	}
	eventually(t, 30*time.Second, all("alive", "n1", "n2", "n3"))
	victim := "n1"
	eventually(t, 60*time.Second, func() bool { // each group is led by its preferred voter, where leadership stays
		s := statusOf(t, c, "n1")
		for i, g := range s.Groups {
			if g.Leader != others[i%3] {
				return false
			}
		}
		return leaders(statusOf(t, c, "n2")) == leaders(s) && leaders(statusOf(t, c, "n3")) == leaders(s)
	})
	before := leaders(statusOf(t, c, "n1"))
	meta := sees(t, c, others[0], others[1])
	if meta.Incarnation != 1 || meta.Role == "" {
		t.Errorf("n1 knows of n2 %+v", meta)
	}
	cut[victim].Store(true)
	published := 0
	for _, want := range []string{"suspect", "dead"} {
		eventually(t, 30*time.Second, func() bool {
			if got := v.ask("PUB orders message"); !strings.HasPrefix(got, "+ACK ") {
				t.Fatalf("while %s is taken for %s: %s", victim, want, got)
			}
			published++
			return all(want, victim)()
		})
		for _, id := range others {
			if now := leaders(statusOf(t, c, id)); now != before {
				t.Errorf("%s is taken for %s, and leaders moved: %s sees %s, before %s", victim, want, id, now, before)
			}
		}
	}
	v.say("INFO")
	for found := false; ; {
		line := v.line()
		if strings.HasPrefix(line, "+END") {
			if !found {
				t.Errorf("INFO does not say gossip=dead of %s", victim)
			}
			break
		}
		found = found || strings.HasPrefix(line, "NODE "+victim+" ") && strings.Contains(line, " gossip=") &&
			(victim == "n2" || strings.Contains(line, " gossip=dead"))
	}
	cut[victim].Store(false)
	eventually(t, 30*time.Second, all("alive", "n1", "n2", "n3"))
	if now := leaders(statusOf(t, c, "n1")); now != before {
		t.Errorf("leaders moved: %s, before %s", now, before)
	}
	t.Logf("%d publishes while %s had no gossip", published, victim)
	endAll(t, nodes)
}

func TestStatusShowsLinksAndFollowersAndWhoHasLeft(t *testing.T) {
	c := testCluster(t, 3)
	nodes := startAll(t, c)
	v := dialNode(t, c, "n1")
	for range 5 {
		v.ask("PUB orders hello")
	}
	for _, s := range c.Spec.Nodes {
		eventually(t, 30*time.Second, func() bool {
			st := statusOf(t, c, s.ID)
			up, alive := 0, 0
			for _, l := range st.Links {
				if l.Up && l.Node != s.ID && !l.Since.IsZero() {
					up++
				}
			}
			for _, g := range st.Gossip {
				if g.State == "alive" {
					alive++
				}
			}
			for _, g := range st.Groups {
				if (g.Role == "leader") != (len(g.Followers) == 2) {
					return false
				}
				for _, f := range g.Followers {
					if f.Node == s.ID || f.Node == "" || !f.Active || f.Lag != 0 || f.Match != g.Commit {
						return false
					}
				}
			}
			return up == 2 && alive == 3
		})
	}
	if err := nodes["n3"].end(t); err != nil {
		t.Fatal(err)
	}
	delete(nodes, "n3")
	for _, by := range []string{"n1", "n2"} {
		eventually(t, 10*time.Second, func() bool {
			for _, l := range statusOf(t, c, by).Links {
				if l.Node == "n3" && l.Up {
					return false
				}
			}
			return sees(t, c, by, "n3").State == "left"
		})
	}
	endAll(t, nodes)
}

// TestTheEngineKnowsNoGossip: only the shell of a node may import it, so nothing
// that steps with raft can depend on it.
func TestTheEngineKnowsNoGossip(t *testing.T) {
	shell := map[string]bool{"hints.go": true, "node.go": true, "peerport.go": true}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), `member/gossip"`) && !shell[f] && !strings.HasSuffix(f, "_test.go") {
			t.Errorf("%s imports gossip: it is a hint, and this file decides", f)
		}
	}
}
