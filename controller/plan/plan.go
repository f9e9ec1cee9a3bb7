// Package plan decides what to do about a cluster's nodes. It is pure: what is
// wanted and what is seen go in, actions with their reasons come out. It has no
// clock; moments are durations on whatever clock the caller uses throughout.
//
// A start is always safe. A stop of one node while others go on is disruptive:
// there is at most one at a time, and it never takes the cluster below its
// quorum, unless nothing is lost by it (see Cluster) or a person forced it.
//
// Invariants, each with a test of the same name:
//
//	KeepsQuorum:      no action that nobody forced makes a cluster lose a quorum
//	                  that its spec still has.
//	OneDisruption:    at most one node is being disrupted, besides those that
//	                  somebody forces.
//	Converges:        carried out again and again, the actions end in what is
//	                  wanted, and then there are none.
//	SameInSameOut:    equal arguments give equal actions, in equal order.
//	AskingAgainAddsNothing: what was decided is not decided again before the
//	                  machine has changed.
//
// Not here: carrying anything out, and what was seen (controller).
// Start reading at Cluster.
package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// Kind is what is to be done with a node.
type Kind string

// The kinds of actions, in the order in which they are returned.
const (
	// Start starts the node's process.
	Start Kind = "start"
	// Kill ends a process that has used up its grace period.
	Kill Kind = "kill"
	// Stop asks the process to drain and end, and begins its grace period.
	Stop Kind = "stop"
	// Wait does nothing before the moment At; if At is 0, before something else
	// changes.
	Wait Kind = "wait"
)

var kinds = []Kind{Start, Kill, Stop, Wait}

// Action is one thing to do, and why.
type Action struct {
	Kind   Kind
	Node   string
	Reason string
	// Disruptive says that the cluster works with one node less because of it.
	Disruptive bool
	// At is when a Wait is over.
	At time.Duration
}

// Request is what a person asked for once, as opposed to what a spec wants.
type Request int

// The requests.
const (
	None Request = iota
	// Restart stops the node and starts it again if a quorum remains.
	Restart
	// ForceRestart does so whatever remains.
	ForceRestart
)

// Node is what is seen of a node.
type Node struct {
	ID string
	// Alive: a process of the node lives. Ready: it serves requests.
	Alive, Ready bool
	// Draining: it was asked to end. KillAt is when its grace period is over.
	Draining bool
	KillAt   time.Duration
	// Request is what a person asked for and has not got yet.
	Request Request
	// Outdated: the process runs with settings that are not the spec's any more.
	Outdated bool
	// Held: somebody keeps it down, until HeldUntil if that is not 0.
	Held      bool
	HeldUntil time.Duration
	// Halted says why the node is not to be started until a person acts.
	Halted string
	// NotBefore is when its back-off ends, and Why what the back-off is for.
	NotBefore time.Duration
	Why       string
}

// State is what is seen of a cluster.
type State struct {
	// Now is the present moment.
	Now time.Duration
	// Down says why all nodes are to be stopped, whatever the spec wants; empty
	// if they are not.
	Down string
	// Nodes are the nodes of the spec, and those that still have a process. A
	// node of the spec that is missing here has none.
	Nodes []Node
}

// Quorum is how many of n nodes are a majority.
func Quorum(n int) int { return n/2 + 1 }

// Cluster returns what to do now. Carrying out the same actions twice does no
// harm, so a caller may ask as often as it likes.
//
// A quorum counts the nodes of the spec, stopped ones too. Below it a stop is
// held back, but for these: the whole cluster is to be stopped; the spec itself
// leaves fewer nodes than a quorum, so somebody wanted that; the node is not
// ready, and there is no quorum to lose; settings changed and the cluster has
// fewer than three nodes, so that no restart ever keeps its quorum.
func Cluster(spec *v1alpha1.ClusterSpec, state State) []Action {
	v := newView(spec, state)
	var actions []Action
	free := !v.disrupted()
	for _, n := range v.nodes {
		if a, ok := v.node(n, free); ok {
			free = free && !a.Disruptive
			actions = append(actions, a)
		}
	}
	slices.SortStableFunc(actions, func(a, b Action) int {
		return cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind))
	})
	return actions
}

// RefuseRestart says why a node is not to be restarted now; empty when it may.
func RefuseRestart(spec *v1alpha1.ClusterSpec, state State, id string) string {
	return refuse(spec, state, id, Restart)
}

// RefuseStop says why a node whose spec says that it is stopped would go on
// running for now; empty when it would be stopped at once. The spec is the one
// that says so.
func RefuseStop(spec *v1alpha1.ClusterSpec, state State, id string) string {
	return refuse(spec, state, id, None)
}

func refuse(spec *v1alpha1.ClusterSpec, state State, id string, r Request) string {
	v := newView(spec, state)
	n := v.seen[id]
	if !n.Alive || n.Draining {
		return ""
	}
	n.Request, n.ID = r, id
	if a, ok := v.node(n, !v.disrupted()); ok && a.Kind == Wait {
		return a.Reason
	}
	return ""
}

// view is a spec and what is seen, looked up and counted.
type view struct {
	spec   *v1alpha1.ClusterSpec
	state  State
	seen   map[string]Node
	nodes  []Node // in the order of the spec, then the others by id
	wanted int    // nodes that should run
	alive  int    // nodes of the spec that have a process
	ready  int    // nodes of the spec that are ready
}

func newView(spec *v1alpha1.ClusterSpec, state State) *view {
	v := &view{spec: spec, state: state, seen: make(map[string]Node, len(state.Nodes))}
	for _, n := range state.Nodes {
		v.seen[n.ID] = n
	}
	for _, want := range spec.Nodes {
		n := v.seen[want.ID]
		n.ID = want.ID
		v.nodes = append(v.nodes, n)
		if v.want(want.ID) {
			v.wanted++
		}
		if n.Alive {
			v.alive++
		}
		if n.Alive && n.Ready {
			v.ready++
		}
	}
	rest := len(v.nodes)
	for _, n := range state.Nodes {
		if _, ok := spec.Node(n.ID); !ok {
			v.nodes = append(v.nodes, n)
		}
	}
	slices.SortFunc(v.nodes[rest:], func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	return v
}

// want says whether a node should run.
func (v *view) want(id string) bool {
	n, ok := v.spec.Node(id)
	return ok && !n.Stopped && v.state.Down == ""
}

// disrupted says whether a node is on its way down because of an action, or is
// about to be because somebody forces it.
func (v *view) disrupted() bool {
	return slices.ContainsFunc(v.nodes, func(n Node) bool {
		return n.Alive && (n.Draining || n.Request == ForceRestart)
	})
}

// node returns what to do about one node, if anything. free says that no other
// node is being disrupted.
func (v *view) node(n Node, free bool) (Action, bool) {
	switch {
	case n.Alive && n.Draining && v.state.Now >= n.KillAt:
		return Action{Kind: Kill, Node: n.ID, Reason: "its grace period is over"}, true
	case n.Alive && n.Draining:
		return Action{Kind: Wait, Node: n.ID, Reason: "it drains", At: n.KillAt}, true
	case n.Alive:
		return v.running(n, free)
	case !v.want(n.ID):
		return Action{}, false
	case n.Held && (n.HeldUntil == 0 || v.state.Now < n.HeldUntil):
		return Action{Kind: Wait, Node: n.ID, Reason: "it is held down", At: n.HeldUntil}, true
	case n.Halted != "":
		return Action{Kind: Wait, Node: n.ID, Reason: n.Halted}, true
	case n.NotBefore > v.state.Now:
		return Action{Kind: Wait, Node: n.ID, Reason: n.Why, At: n.NotBefore}, true
	}
	return Action{Kind: Start, Node: n.ID, Reason: v.startReason(n)}, true
}

func (v *view) startReason(n Node) string {
	running := fmt.Sprintf("%d of %d running", v.alive, v.wanted)
	if n.Why != "" {
		return n.Why + "; " + running
	}
	return running
}

// running returns what to do about a node that runs and was not asked to end.
func (v *view) running(n Node, free bool) (Action, bool) {
	stop := Action{Kind: Stop, Node: n.ID, Disruptive: true}
	allowed := false
	switch _, inSpec := v.spec.Node(n.ID); {
	case v.wanted == 0:
		stop.Disruptive = false // nothing is left to be disrupted
		stop.Reason = cmp.Or(v.state.Down, "no node of the cluster should run")
		return stop, true
	case n.Request == ForceRestart:
		stop.Reason = "a restart was forced"
		return stop, true
	case !inSpec:
		stop.Reason = "it is not in the spec"
		allowed = v.nothingToLose(n) || v.wanted < Quorum(len(v.spec.Nodes))
	case !v.want(n.ID):
		stop.Reason = "its spec says stopped"
		allowed = v.nothingToLose(n) || v.wanted < Quorum(len(v.spec.Nodes))
	case n.Request == Restart:
		stop.Reason = "a restart was asked for"
	case n.Outdated:
		stop.Reason = "its settings changed"
		allowed = v.nothingToLose(n) || len(v.spec.Nodes) < 3
		free = free && v.settled(n)
	default:
		return Action{}, false
	}
	hold := Action{Kind: Wait, Node: n.ID}
	if !free {
		hold.Reason = "it goes on for now: another node is being stopped or started"
		return hold, true
	}
	if after := v.readyWithout(n); !allowed && after < Quorum(len(v.spec.Nodes)) {
		hold.Reason = fmt.Sprintf("the quorum would be lost: without %s only %d of %d nodes would be ready, and a quorum is %d",
			n.ID, after, len(v.spec.Nodes), Quorum(len(v.spec.Nodes)))
		return hold, true
	}
	return stop, true
}

// nothingToLose says that the node is not ready and there is no quorum anyway.
func (v *view) nothingToLose(n Node) bool {
	return !n.Ready && v.ready < Quorum(len(v.spec.Nodes))
}

// readyWithout counts the ready nodes of the spec besides n.
func (v *view) readyWithout(n Node) int {
	if _, ok := v.spec.Node(n.ID); ok && n.Ready {
		return v.ready - 1
	}
	return v.ready
}

// settled says that every other node that should run is ready, or cannot be
// helped by waiting: it is halted, or in a back-off.
func (v *view) settled(n Node) bool {
	for _, o := range v.nodes {
		if o.ID != n.ID && v.want(o.ID) && !o.Ready && o.Alive && !o.Outdated {
			return false
		}
	}
	return true
}
