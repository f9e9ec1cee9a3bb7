package plan

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// spec returns a cluster of n1..nN of which the named ones are stopped.
func spec(n int, stopped ...string) *v1alpha1.ClusterSpec {
	c := v1alpha1.NewCluster()
	c.Spec.Replicas = n
	c.Default()
	for i := range c.Spec.Nodes {
		c.Spec.Nodes[i].Stopped = slices.Contains(stopped, c.Spec.Nodes[i].ID)
	}
	return &c.Spec
}

func up(id string) Node { return Node{ID: id, Alive: true, Ready: true} }

func with(n Node, change func(*Node)) Node {
	change(&n)
	return n
}

func TestCluster(t *testing.T) {
	unready := func(n *Node) { n.Ready = false }
	asked := func(n *Node) { n.Request = Restart }
	forced := func(n *Node) { n.Request = ForceRestart }
	outdated := func(n *Node) { n.Outdated = true }
	for _, c := range []struct {
		name  string
		spec  *v1alpha1.ClusterSpec
		state State
		want  []string // "kind node reason-part", "!" marks disruptive
	}{
		{"all is well", spec(3), State{Nodes: []Node{up("n1"), up("n2"), up("n3")}}, nil},
		{"nothing runs yet", spec(3), State{}, []string{
			"start n1 0 of 3 running", "start n2 0 of 3 running", "start n3 0 of 3 running"}},
		{"one is missing", spec(3), State{Nodes: []Node{up("n1"), up("n2")}}, []string{"start n3 2 of 3 running"}},
		{"a node that ended waits for its back-off", spec(3),
			State{Now: 5, Nodes: []Node{up("n1"), up("n2"), {ID: "n3", NotBefore: 9, Why: "exit code 1"}}},
			[]string{"wait n3 exit code 1"}},
		{"and is started when it is over", spec(3),
			State{Now: 9, Nodes: []Node{up("n1"), up("n2"), {ID: "n3", NotBefore: 9, Why: "exit code 1"}}},
			[]string{"start n3 exit code 1; 2 of 3 running"}},
		{"a held node is not started, whatever else is", spec(3),
			State{Now: 5, Nodes: []Node{up("n1"), {ID: "n2", Held: true}, {ID: "n3", Held: true, HeldUntil: 9, NotBefore: 7, Halted: "exit code 78"}}},
			[]string{"wait n2 held", "wait n3 held"}},
		{"before its hold is over", spec(3),
			State{Now: 9, Nodes: []Node{up("n1"), up("n2"), {ID: "n3", Held: true, HeldUntil: 9, NotBefore: 7, Why: "signal SIGKILL"}}},
			[]string{"start n3 signal SIGKILL"}},
		{"and its back-off too", spec(3),
			State{Now: 9, Nodes: []Node{up("n1"), up("n2"), {ID: "n3", Held: true, HeldUntil: 9, NotBefore: 10, Why: "signal SIGKILL"}}},
			[]string{"wait n3 signal SIGKILL"}},
		{"a hold is a quorum's loss like any other", spec(3),
			State{Nodes: []Node{with(up("n1"), asked), up("n2"), {ID: "n3", Held: true}}},
			[]string{"wait n1 quorum would be lost", "wait n3 held"}},
		{"a held node that still runs is not stopped for it", spec(3),
			State{Nodes: []Node{up("n1"), up("n2"), with(up("n3"), func(n *Node) { n.Held = true })}}, nil},
		{"a halted node is not started", spec(3),
			State{Nodes: []Node{up("n1"), up("n2"), {ID: "n3", Halted: "exit code 78"}}}, []string{"wait n3 exit code 78"}},
		{"a stopped node is stopped", spec(3, "n2"), State{Nodes: []Node{up("n1"), up("n2"), up("n3")}},
			[]string{"stop n2 ! stopped"}},
		{"a stopped node stays stopped", spec(3, "n2"), State{Nodes: []Node{up("n1"), up("n3")}}, nil},
		{"a stop that loses the quorum is held back", spec(3, "n2"), State{Nodes: []Node{up("n1"), up("n2")}},
			[]string{"start n3 2 of 2 running", "wait n2 without n2 only 1 of 3"}},
		{"a node that is not ready is no quorum to lose", spec(3, "n2"),
			State{Nodes: []Node{up("n1"), with(up("n2"), unready), with(up("n3"), unready)}}, []string{"stop n2 ! stopped"}},
		{"a spec below the quorum is somebody's wish", spec(3, "n2", "n3"),
			State{Nodes: []Node{up("n1"), up("n2")}}, []string{"stop n2 ! stopped"}},
		{"but even then one after the other", spec(3, "n2", "n3"), State{Nodes: []Node{up("n1"), up("n2"), up("n3")}},
			[]string{"stop n2 ! stopped", "wait n3 another node"}},
		{"a whole cluster is stopped at once", spec(3, "n1", "n2", "n3"), State{Nodes: []Node{up("n1"), up("n2"), up("n3")}},
			[]string{"stop n1 no node", "stop n2 no node", "stop n3 no node"}},
		{"so is one that goes down whatever its spec says", spec(3), State{Down: "deleted", Nodes: []Node{up("n1"), up("n3")}},
			[]string{"stop n1 deleted", "stop n3 deleted"}},
		{"a draining node has its grace period", spec(3),
			State{Now: 5, Nodes: []Node{with(up("n1"), func(n *Node) { n.Draining, n.KillAt = true, 6 }), up("n2"), up("n3")}},
			[]string{"wait n1 drains"}},
		{"and no longer", spec(3),
			State{Now: 6, Nodes: []Node{with(up("n1"), func(n *Node) { n.Draining, n.KillAt = true, 6 }), up("n2"), up("n3")}},
			[]string{"kill n1 grace period"}},
		{"a restart with a quorum left", spec(3), State{Nodes: []Node{with(up("n1"), asked), up("n2"), up("n3")}},
			[]string{"stop n1 ! asked for"}},
		{"a restart without", spec(3), State{Nodes: []Node{with(up("n1"), asked), up("n2"), with(up("n3"), unready)}},
			[]string{"wait n1 quorum would be lost"}},
		{"a restart of the only node", spec(1), State{Nodes: []Node{with(up("n1"), asked)}}, []string{"wait n1 quorum would be lost"}},
		{"a forced restart", spec(1), State{Nodes: []Node{with(up("n1"), forced)}}, []string{"stop n1 ! forced"}},
		{"new settings, one node at a time", spec(3),
			State{Nodes: []Node{with(up("n1"), outdated), with(up("n2"), outdated), with(up("n3"), outdated)}},
			[]string{"stop n1 ! settings", "wait n2 another node", "wait n3 another node"}},
		{"new settings wait until the node before is ready", spec(5),
			State{Nodes: []Node{with(up("n1"), unready), with(up("n2"), outdated), up("n3"), up("n4"), up("n5")}},
			[]string{"wait n2 another node"}},
		{"new settings reach the only node", spec(1), State{Nodes: []Node{with(up("n1"), outdated)}}, []string{"stop n1 ! settings"}},
		{"new settings reach nodes that never got ready", spec(3),
			State{Nodes: []Node{with(with(up("n1"), outdated), unready), with(with(up("n2"), outdated), unready)}},
			[]string{"start n3 2 of 3", "stop n1 ! settings", "wait n2 another node"}},
		{"a node that is not in the spec is stopped last", spec(3), State{Nodes: []Node{up("n9"), up("n1"), up("n2"), up("n3")}},
			[]string{"stop n9 ! not in the spec"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Cluster(c.spec, c.state)
			ok := len(got) == len(c.want)
			for i := 0; ok && i < len(got); i++ {
				f := strings.SplitN(c.want[i], " ", 3)
				reason, disruptive := strings.CutPrefix(f[2], "! ")
				ok = string(got[i].Kind) == f[0] && got[i].Node == f[1] && strings.Contains(got[i].Reason, reason) && got[i].Disruptive == disruptive
			}
			if !ok {
				t.Errorf("got %+v\nwant %v", got, c.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	healthy := State{Nodes: []Node{up("n1"), up("n2"), up("n3")}}
	two := State{Nodes: []Node{up("n1"), up("n2"), {ID: "n3", NotBefore: 9}}}
	draining := State{Nodes: []Node{up("n1"), with(up("n2"), func(n *Node) { n.Draining = true }), up("n3")}}
	for _, c := range []struct {
		name, got, want string
	}{
		{"restart, healthy", RefuseRestart(spec(3), healthy, "n1"), ""},
		{"restart, two left", RefuseRestart(spec(3), two, "n1"), "quorum would be lost"},
		{"restart of a dead node", RefuseRestart(spec(3), two, "n3"), ""},
		{"restart while another drains", RefuseRestart(spec(3), draining, "n1"), "another node"},
		{"restart of the one that drains", RefuseRestart(spec(3), draining, "n2"), ""},
		{"stop, healthy", RefuseStop(spec(3, "n1"), healthy, "n1"), ""},
		{"stop, two left", RefuseStop(spec(3, "n1"), two, "n1"), "quorum would be lost"},
		{"stop of the second", RefuseStop(spec(3, "n1", "n3"), two, "n1"), ""},
		{"stop of the last", RefuseStop(spec(3, "n1", "n2", "n3"), two, "n1"), ""},
	} {
		if c.want == "" && c.got != "" || !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
}

func TestAfter(t *testing.T) {
	s := spec(3)
	crash := Ending{Known: true, Code: 1, How: "exit code 1"}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		o := After(s, i, crash, 0)
		if o.Delay != want*time.Second || o.Failures != i+1 || o.Halted != "" {
			t.Errorf("failure %d: %+v, want %ds", i+1, o, want)
		}
	}
	if d := After(s, 99, crash, 1).Delay; d != 66*time.Second {
		t.Errorf("jitter 1: %v", d)
	}
	if d := After(s, 99, crash, -7).Delay; d != 54*time.Second {
		t.Errorf("jitter -7 counts as -1: %v", d)
	}
	long := crash
	long.Ran = 2 * time.Minute
	if o := After(s, 7, long, 0); o.Failures != 1 || o.Delay != time.Second {
		t.Errorf("after a good run: %+v", o)
	}
	long.Ran--
	if o := After(s, 7, long, 0); o.Failures != 8 {
		t.Errorf("after a run that was not long enough: %+v", o)
	}
	if o := After(s, 7, Ending{Asked: true, Known: true, Code: v1alpha1.ExitNoRestart}, 0); o != (Outcome{}) {
		t.Errorf("after an end that was asked for: %+v", o)
	}
}

func TestRestartPolicy(t *testing.T) {
	ok := Ending{Known: true, How: "exit code 0"}
	bad := Ending{Known: true, Code: 1, How: "exit code 1"}
	killed := Ending{Known: true, Code: -1, How: "signal SIGKILL"}
	unknown := Ending{Code: -1, How: "unknown exit code"}
	never := Ending{Known: true, Code: v1alpha1.ExitNoRestart, How: "exit code 78"}
	for _, c := range []struct {
		policy v1alpha1.RestartPolicy
		e      Ending
		again  bool
	}{
		{v1alpha1.RestartAlways, ok, true}, {v1alpha1.RestartAlways, bad, true}, {v1alpha1.RestartAlways, killed, true},
		{v1alpha1.RestartAlways, unknown, true}, {v1alpha1.RestartAlways, never, false},
		{v1alpha1.RestartOnFailure, ok, false}, {v1alpha1.RestartOnFailure, bad, true}, {v1alpha1.RestartOnFailure, killed, true},
		{v1alpha1.RestartOnFailure, unknown, true}, {v1alpha1.RestartOnFailure, never, false},
		{v1alpha1.RestartNever, ok, false}, {v1alpha1.RestartNever, bad, false}, {v1alpha1.RestartNever, killed, false},
		{v1alpha1.RestartNever, unknown, false}, {v1alpha1.RestartNever, never, false},
	} {
		s := spec(3)
		s.RestartPolicy = c.policy
		if o := After(s, 0, c.e, 0); (o.Halted == "") != c.again {
			t.Errorf("%s after %s: %+v, want again=%v", c.policy, c.e.How, o, c.again)
		}
	}
}

// random draws a cluster in any state that a controller may meet.
func random(r *rand.Rand) (*v1alpha1.ClusterSpec, State) {
	s := spec(1 + r.IntN(7))
	st := State{Now: time.Duration(r.IntN(100))}
	if r.IntN(10) == 0 {
		st.Down = "the cluster goes down"
	}
	coin := func(p int) bool { return r.IntN(100) < p }
	for i := range s.Nodes {
		s.Nodes[i].Stopped = coin(20)
		if coin(5) {
			continue // nothing is known of it
		}
		n := Node{ID: s.Nodes[i].ID, Alive: coin(75), Outdated: coin(20)}
		n.Ready = n.Alive && coin(80)
		n.Draining = n.Alive && coin(10)
		n.KillAt = time.Duration(r.IntN(200))
		n.NotBefore = time.Duration(r.IntN(200))
		if n.Alive && coin(10) {
			n.Request = Request(1 + r.IntN(2))
		}
		if !n.Alive && coin(10) {
			n.Halted = "halted"
		}
		if coin(15) {
			n.Held, n.HeldUntil = true, time.Duration(r.IntN(200))
		}
		st.Nodes = append(st.Nodes, n)
	}
	if coin(10) {
		st.Nodes = append(st.Nodes, up("n99"))
	}
	return s, st
}

// step carries the actions out on a machine on which all works at once: what is
// stopped ends, what is started gets ready in the step after.
func step(st State, actions []Action, starting map[string]bool) State {
	next := State{Now: st.Now + 1, Down: st.Down, Nodes: slices.Clone(st.Nodes)}
	node := func(id string) *Node {
		for i := range next.Nodes {
			if next.Nodes[i].ID == id {
				return &next.Nodes[i]
			}
		}
		next.Nodes = append(next.Nodes, Node{ID: id})
		return &next.Nodes[len(next.Nodes)-1]
	}
	for i := range next.Nodes {
		n := &next.Nodes[i]
		if n.Draining || n.Alive && !n.Ready && !starting[n.ID] && n.Request == None && !n.Outdated {
			starting[n.ID] = true // it will get ready, or end, in the next step
			continue
		}
		if starting[n.ID] {
			delete(starting, n.ID)
			n.Ready = n.Alive
		}
	}
	for _, a := range actions {
		n := node(a.Node)
		switch a.Kind {
		case Start:
			*n = Node{ID: n.ID, Alive: true}
		case Stop:
			n.Draining, n.KillAt = true, next.Now+2
		case Kill:
			*n = Node{ID: n.ID}
		}
	}
	return next
}

func forEachRandom(t *testing.T, cases int, f func(t *testing.T, s *v1alpha1.ClusterSpec, st State)) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range cases {
		s, st := random(r)
		f(t, s, st)
		if t.Failed() {
			t.Fatalf("seed %d, case %d: %+v\n%+v", seed, i, s.Nodes, st)
		}
	}
}

func TestKeepsQuorum(t *testing.T) {
	checked := 0
	forEachRandom(t, 3000, func(t *testing.T, s *v1alpha1.ClusterSpec, st State) {
		quorum := Quorum(len(s.Nodes))
		wanted, ready := 0, 0
		for _, n := range s.Nodes {
			if !n.Stopped && st.Down == "" {
				wanted++
			}
		}
		byID := map[string]Node{}
		for _, n := range st.Nodes {
			byID[n.ID] = n
			if _, ok := s.Node(n.ID); ok && n.Ready {
				ready++
			}
		}
		for _, a := range Cluster(s, st) {
			n := byID[a.Node]
			_, inSpec := s.Node(a.Node)
			if a.Kind != Stop || n.Request == ForceRestart || !n.Ready || !inSpec || wanted < quorum || len(s.Nodes) < 3 {
				continue
			}
			checked++
			if ready-1 < quorum {
				t.Errorf("%+v leaves %d of %d ready", a, ready-1, len(s.Nodes))
			}
		}
	})
	if checked < 100 {
		t.Errorf("only %d stops were judged: the random states do not reach what they should", checked)
	}
}

func TestOneDisruption(t *testing.T) {
	forEachRandom(t, 3000, func(t *testing.T, s *v1alpha1.ClusterSpec, st State) {
		busy := 0 // nodes that drain or are forced
		forced := map[string]bool{}
		for _, n := range st.Nodes {
			forced[n.ID] = n.Request == ForceRestart
			if n.Draining || forced[n.ID] {
				busy++
			}
		}
		disruptive := 0
		for _, a := range Cluster(s, st) {
			if a.Disruptive && !forced[a.Node] {
				disruptive++
			}
		}
		if disruptive > 1 || busy > 0 && disruptive > 0 {
			t.Errorf("%d disruptive actions that nobody forced while %d nodes are on their way down", disruptive, busy)
		}
	})
}

func TestConverges(t *testing.T) {
	forEachRandom(t, 400, func(t *testing.T, s *v1alpha1.ClusterSpec, st State) {
		for i := range st.Nodes {
			if st.Nodes[i].Request == Restart {
				st.Nodes[i].Request = None // a refused one is dropped by who asked
			}
		}
		starting := map[string]bool{}
		for range 400 {
			st = step(st, Cluster(s, st), starting)
		}
		for _, a := range Cluster(s, st) {
			if a.Reason != "halted" && a.Reason != "it is held down" && !strings.Contains(a.Reason, "quorum would be lost") {
				t.Errorf("after 400 steps there is still %+v", a)
			}
		}
	})
}

func TestSameInSameOut(t *testing.T) {
	forEachRandom(t, 3000, func(t *testing.T, s *v1alpha1.ClusterSpec, st State) {
		first := Cluster(s, st)
		slices.Reverse(st.Nodes) // the order of what is seen means nothing
		if second := Cluster(s, st); !reflect.DeepEqual(first, second) {
			t.Errorf("%s\n%s", fmt.Sprint(first), fmt.Sprint(second))
		}
	})
}

// Carrying out what was decided, and asking again before anything has changed on
// the machine, adds nothing: no node is told twice, no second one is disrupted.
func TestAskingAgainAddsNothing(t *testing.T) {
	forEachRandom(t, 3000, func(t *testing.T, s *v1alpha1.ClusterSpec, st State) {
		told := map[string]Kind{}
		for range 3 {
			for _, a := range Cluster(s, st) {
				if a.Kind == Wait || a.Kind == Kill { // a second SIGKILL is no second action
					continue
				}
				if _, before := told[a.Node]; before {
					t.Errorf("%s %s again: %s", a.Kind, a.Node, a.Reason)
				}
				told[a.Node] = a.Kind
			}
			// What was decided counts as seen at once.
			for i := range st.Nodes {
				switch n := &st.Nodes[i]; told[n.ID] {
				case Stop:
					if !n.Draining {
						n.Draining, n.KillAt = true, st.Now+10
					}
				case Start:
					*n = Node{ID: n.ID, Alive: true}
				}
			}
			for id, kind := range told {
				if kind == Start && !slices.ContainsFunc(st.Nodes, func(n Node) bool { return n.ID == id }) {
					st.Nodes = append(st.Nodes, Node{ID: id, Alive: true})
				}
			}
		}
	})
}
