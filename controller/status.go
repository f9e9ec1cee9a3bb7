package controller

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/wiber/wiber/controller/plan"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// caughtUp is how many entries a node may be behind and count as caught up.
const caughtUp = 1000

// tell writes the node's status and wakes those who wait for it.
func (c *Controller) tell(n *node) error {
	m := &n.machine
	obj := new(v1alpha1.Node)
	err := c.store.Get(store.Key{Kind: v1alpha1.KindNode, Namespace: n.key.cluster, Name: n.key.node}, obj)
	if err == nil {
		cl, cerr := c.cluster(n.key.cluster)
		if cerr != nil {
			return cerr
		}
		obj.Status = c.nodeStatus(n, obj, cl)
		err = c.store.UpdateStatus(obj)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n.process = m.process
	now := shown{passes: n.shown.passes + 1, held: m.process == nil && c.heldLocked(n) != nil, attempts: m.attempts, failure: m.failure, halted: m.run.Halted, draining: m.stopping}
	if m.process != nil {
		now.pid = m.process.Identity().PID
	}
	changed := n.shown.pid != now.pid || n.seen.Alive != (m.process != nil)
	n.seen.Alive = m.process != nil
	n.acting = false
	n.shown = now
	c.publishLocked()
	if changed {
		c.queue.Add(key{cluster: n.key.cluster})
	}
	return nil
}

// nodeStatus puts together what is seen of a node.
func (c *Controller) nodeStatus(n *node, obj *v1alpha1.Node, cl *v1alpha1.Cluster) v1alpha1.NodeStatus {
	m := &n.machine
	spec, inSpec := cl.Spec.Node(n.key.node)
	st := v1alpha1.NodeStatus{
		ObservedGeneration: obj.Generation,
		Incarnation:        cmp.Or(m.status.Incarnation, m.run.Incarnation),
		Restarts:           m.run.Restarts,
		RestartedAt:        restartedAt(&m.run),
		Version:            m.status.Version,
		DataDir:            filepath.Join(cl.Spec.DataRoot, n.key.node),
		LastTermination:    m.run.LastTermination,
		Conditions:         obj.Status.Conditions,
	}
	st.Phase, st.Reason = c.phase(n, inSpec && !spec.Stopped)
	if m.process != nil {
		st.PID = m.process.Identity().PID
		st.StartedAt = &v1alpha1.MicroTime{Time: m.run.StartedAt}
	} else if at := c.nextStart(n); inSpec && !spec.Stopped && !at.IsZero() {
		st.NextStart = &v1alpha1.MicroTime{Time: at}
	}
	joined := c.raftStatus(n, &st)
	c.nodeConditions(n, obj.Generation, &st)
	c.setJoined(n, obj.Generation, &st, joined)
	c.setCaughtUp(n, obj.Generation, &st)
	return st
}

func restartedAt(run *store.Run) *v1alpha1.MicroTime {
	if run.RestartedAt.IsZero() {
		return nil
	}
	return &v1alpha1.MicroTime{Time: run.RestartedAt}
}

// phase is the node's state in a word, and why.
func (c *Controller) phase(n *node, wanted bool) (v1alpha1.NodePhase, string) {
	m := &n.machine
	if m.process != nil {
		return livePhase(m)
	}
	c.mu.Lock()
	held := c.heldLocked(n) != nil
	c.mu.Unlock()
	switch {
	case !wanted:
		return v1alpha1.NodeStopped, ""
	case held:
		return v1alpha1.NodeStopped, v1alpha1.NodeHeld
	case m.run.Halted != "":
		return v1alpha1.NodeStopped, m.run.Halted
	case m.failure != "":
		return v1alpha1.NodePending, m.failure
	case m.notUntil > c.clock.Mono():
		return v1alpha1.NodeCrashLoopBackOff, m.why
	}
	return v1alpha1.NodePending, ""
}

// nextStart is when a node without a process is started, if that is known: at the
// end of its hold and of its back-off.
func (c *Controller) nextStart(n *node) (at time.Time) {
	m := &n.machine
	if m.notUntil > c.clock.Mono() {
		at = m.run.NextStart
	}
	c.mu.Lock()
	h := c.heldLocked(n)
	c.mu.Unlock()
	switch {
	case h == nil:
		return at
	case h.Until.IsZero() || m.run.Halted != "":
		return time.Time{}
	case h.Until.After(at):
		return h.Until
	}
	return at
}

func livePhase(m *machine) (v1alpha1.NodePhase, string) {
	switch {
	case m.stopping:
		return v1alpha1.NodeDraining, ""
	case m.misses >= lostAfter && (m.everReady || m.adopted):
		return v1alpha1.NodeUnknown, m.notReady
	case m.ready || m.everReady:
		return v1alpha1.NodeRunning, ""
	}
	return v1alpha1.NodeStarting, m.notReady
}

// raftStatus fills in what the node told about its groups, and reports whether
// it knows a leader of each. The lag compares it with what any node of the
// cluster knows to be committed.
func (c *Controller) raftStatus(n *node, st *v1alpha1.NodeStatus) (joined bool) {
	m := &n.machine
	if m.process == nil || len(m.status.Groups) == 0 {
		return false
	}
	committed := map[string]uint64{}
	c.mu.Lock()
	for _, other := range c.nodesLocked(n.key.cluster) {
		for _, g := range other.groups {
			committed[g.ID] = max(committed[g.ID], g.Commit)
		}
	}
	c.mu.Unlock()
	joined = true
	st.Role = v1alpha1.RoleFollower
	for _, g := range m.status.Groups {
		joined = joined && g.Leader != ""
		if last := max(committed[g.ID], g.Commit); last > g.Applied {
			st.Lag = max(st.Lag, last-g.Applied)
		}
		if g.ID == catalogue {
			st.Term, st.Commit, st.Applied = g.Term, g.Commit, g.Applied
		}
		if g.Role == string(v1alpha1.RoleLeader) {
			st.LeaderOf = append(st.LeaderOf, g.ID)
			if g.ID != catalogue {
				st.Role = v1alpha1.RoleLeader
			}
		}
	}
	return joined
}

func (m *machine) answers() bool {
	return m.process != nil && m.misses == 0 && len(m.status.Groups) > 0
}

func (c *Controller) nodeConditions(n *node, generation int64, st *v1alpha1.NodeStatus) {
	m := &n.machine
	alive := m.process != nil
	set := func(kind string, ok, known bool, reason, message string) {
		c.setCondition(&st.Conditions, generation, kind, ok, known, reason, message)
	}
	switch {
	case !alive:
		set(v1alpha1.NodeReady, false, true, "NoProcess", "its process does not run")
		set(v1alpha1.NodeProcessRunning, false, true, string(st.Phase), st.Reason)
	case m.ready && !m.stopping:
		set(v1alpha1.NodeReady, true, true, "Ready", "")
		set(v1alpha1.NodeProcessRunning, true, true, "Running", "")
	default:
		set(v1alpha1.NodeReady, false, true, string(st.Phase), m.notReady)
		set(v1alpha1.NodeProcessRunning, true, true, "Running", "")
	}
}

// setCaughtUp sets the condition CaughtUp.
func (c *Controller) setCaughtUp(n *node, generation int64, st *v1alpha1.NodeStatus) {
	m := &n.machine
	set := func(kind string, ok, known bool, reason, message string) {
		c.setCondition(&st.Conditions, generation, kind, ok, known, reason, message)
	}
	switch {
	case m.process == nil:
		set(v1alpha1.NodeCaughtUp, false, true, "NoProcess", "its process does not run")
	case !m.answers():
		set(v1alpha1.NodeCaughtUp, false, false, "NoAnswer", m.notReady)
	case st.Lag <= caughtUp:
		set(v1alpha1.NodeCaughtUp, true, true, "CaughtUp", "")
	default:
		set(v1alpha1.NodeCaughtUp, false, true, "Behind", fmt.Sprintf("it is more than %d entries behind", caughtUp))
	}
}

// setJoined sets the condition Joined: the others do not miss the node, and it
// knows who leads. What the others say counts more: a node that hangs says
// nothing.
func (c *Controller) setJoined(n *node, generation int64, st *v1alpha1.NodeStatus, knowsLeaders bool) {
	m := &n.machine
	set := func(ok, known bool, reason, message string) {
		c.setCondition(&st.Conditions, generation, v1alpha1.NodeJoined, ok, known, reason, message)
	}
	c.mu.Lock()
	missed, by := c.observed.missedBy(n.key, c.clock.Mono())
	c.mu.Unlock()
	switch {
	case m.process == nil:
		set(false, true, "NoProcess", "its process does not run")
	case missed != "":
		set(false, true, missed, by)
	case !m.answers():
		set(false, false, "NoAnswer", m.notReady)
	case !knowsLeaders:
		set(false, true, "NoLeader", "it knows no leader of some groups")
	default:
		set(true, true, "Joined", "it knows the leader of every group")
	}
}

func (c *Controller) setCondition(conditions *[]v1alpha1.Condition, generation int64, kind string, ok, known bool, reason, message string) {
	status := v1alpha1.ConditionFalse
	switch {
	case !known:
		status = v1alpha1.ConditionUnknown
	case ok:
		status = v1alpha1.ConditionTrue
	}
	v1alpha1.SetCondition(conditions, v1alpha1.Condition{
		Type:               kind,
		Status:             status,
		ObservedGeneration: generation,
		LastTransitionTime: v1alpha1.Time{Time: c.clock.Now()},
		Reason:             reason,
		Message:            message,
	})
}

// clusterStatus sums up what is seen of a cluster's nodes.
func (c *Controller) clusterStatus(cl *v1alpha1.Cluster, state plan.State, actions []plan.Action) v1alpha1.ClusterStatus {
	st := v1alpha1.ClusterStatus{ObservedGeneration: cl.Generation, Nodes: len(cl.Spec.Nodes), Conditions: cl.Status.Conditions}
	seen := map[string]plan.Node{}
	for _, n := range state.Nodes {
		seen[n.ID] = n
	}
	wanted, wantedReady := 0, 0
	var missing, stopped string // the first of them
	for _, n := range cl.Spec.Nodes {
		ready := seen[n.ID].Ready
		if ready {
			st.ReadyNodes++ // also one that still stops: it still votes
		}
		switch {
		case n.Stopped || state.Down != "":
			stopped = cmp.Or(stopped, fmt.Sprintf("node %s is stopped", n.ID))
			continue
		case ready:
			wantedReady++
		default:
			missing = cmp.Or(missing, fmt.Sprintf("node %s is not ready", n.ID))
		}
		wanted++
	}
	set := func(kind string, ok bool, yes, no, message string) {
		reason := no
		if ok {
			reason = yes
		}
		c.setCondition(&st.Conditions, cl.Generation, kind, ok, true, reason, message)
	}
	notReady, count := "NotReady", fmt.Sprintf("%d of %d nodes are ready", st.ReadyNodes, st.Nodes)
	if wanted == 0 {
		notReady, count = v1alpha1.ClusterStopped, "every node is stopped"
	}
	progress := ""
	if len(actions) > 0 {
		a := actions[0]
		progress = fmt.Sprintf("node %s: %s: %s", a.Node, a.Kind, a.Reason)
	}
	degraded := "NodeNotReady"
	if missing == "" {
		degraded = "NodeStopped"
	}
	set(v1alpha1.ClusterReady, wanted > 0 && wantedReady == wanted, "Ready", notReady, count)
	set(v1alpha1.ClusterProgressing, progress != "" || missing != "", "Acting", "Settled", cmp.Or(progress, missing))
	set(v1alpha1.ClusterDegraded, cmp.Or(missing, stopped) != "", degraded, "Healthy", cmp.Or(missing, stopped))
	quorum := plan.Quorum(len(cl.Spec.Nodes))
	set(v1alpha1.ClusterQuorumAvailable, st.ReadyNodes >= quorum, "Quorum", "NoQuorum",
		fmt.Sprintf("a quorum is %d of %d nodes", quorum, len(cl.Spec.Nodes)))
	return st
}
