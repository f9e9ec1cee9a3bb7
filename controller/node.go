package controller

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wiber/wiber/controller/plan"
	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// node is one node as the controller knows it.
//
// machine belongs to the worker that has the node's key. The other fields are
// shared and guarded by Controller.mu.
type node struct {
	key     key
	machine machine

	// seen is what plan is told. What was decided is marked here at once.
	seen plan.Node
	// process is the living process, for signals; nil if there is none.
	process proc.Process
	// groups are the node's groups as it last told, to compare nodes.
	groups []groupStatus
	// generation is the one of the spec that the last pass decided on.
	generation int64
	// clear asks the worker to forget back-off and halt. refusal says why a
	// restart that was begun is not carried out.
	clear   bool
	refusal string
	// hold keeps the node down; nil if nobody wants that. Controller.holdMu is held
	// while it is changed together with the store.
	hold *holding
	// acting: a start was decided and its outcome is not shown yet.
	acting bool
	// shown is what the last pass left behind. Those who wait for an action to be
	// done look here.
	shown shown
}

// shown is what a pass over a node left behind, after its status was written.
type shown struct {
	passes int
	pid    int
	// attempts counts the starts that were tried, and failure says why the last
	// one did not work; empty if it did.
	attempts int
	failure  string
	halted   string
	// draining: the process was asked to end.
	draining bool
	// held: it has no process because of a hold.
	held bool
}

// machine is what only the worker of a node's key touches.
type machine struct {
	loaded  bool
	run     store.Run
	process proc.Process
	// adopted: the process was not started by this controller.
	adopted bool
	// confirmed: the process said about itself what the record says.
	confirmed bool
	// refused is why a process that answers on the node's port is not taken for
	// it, as it was last told.
	refused string
	// unsaved: run is newer than what is on the disk.
	unsaved bool
	// decidedAt is when the last pass decided what to do, on the monotonic clock.
	decidedAt time.Duration
	// startedAt is when the process was started, on the monotonic clock; for an
	// adopted one when it was found.
	startedAt time.Duration
	// stopping: the process was asked to end.
	stopping bool
	notUntil time.Duration // end of the back-off, on the monotonic clock
	why      string        // what the back-off is for

	status    nodeStatus // as the node last told
	everReady bool       // since this process was found
	ready     bool       // it answered the last probe so
	notReady  string     // why not
	misses    int        // probes in a row without an answer
	attempts  int
	failure   string // why the last start did not work
}

// reconcileNode is one pass over one node: see how it is, decide, act, tell.
func (c *Controller) reconcileNode(ctx context.Context, k key) (again time.Duration, err error) {
	c.mu.Lock()
	n, known := c.nodes[k]
	c.mu.Unlock()
	if !known {
		return 0, nil // its cluster was deleted meanwhile
	}
	m := &n.machine
	cl, err := c.cluster(k.cluster)
	if v1alpha1.ReasonOf(err) == v1alpha1.ReasonNotFound {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := c.load(n); err != nil {
		return 0, err
	}
	if err := c.saved(n); err != nil {
		return 0, err
	}
	if err := c.seeEnd(n, cl); err != nil {
		return 0, err
	}
	if err := c.find(ctx, n, cl); err != nil {
		return 0, err
	}
	c.probe(ctx, n, cl)

	action, ok, err := c.decide(n, cl.Name)
	if err != nil {
		return 0, err
	}
	if ok {
		c.act(ctx, n, action)
	}
	if err := c.saved(n); err != nil {
		return 0, err // nobody is told of a process that is not recorded
	}
	if action.Kind == plan.Start && m.process != nil {
		c.normal(n.key, v1alpha1.EventStarted, "pid %d", m.process.Identity().PID)
	}
	if err := c.tell(n); err != nil {
		return 0, err
	}
	return c.nextLook(m, action), nil
}

// attach takes a living process as the node's, and wakes the node when it ends.
func (c *Controller) attach(n *node, p proc.Process, adopted bool) {
	m := &n.machine
	m.process, m.adopted, m.confirmed, m.startedAt = p, adopted, false, c.clock.Mono()
	m.stopping, m.everReady, m.ready, m.misses = false, false, false, 0
	m.notReady = "it does not answer yet"
	m.status = nodeStatus{}
	c.wg.Go(func() {
		select {
		case <-p.Done():
			c.queue.Add(n.key)
		case <-c.ctx.Done():
		}
	})
}

// seeEnd takes note of the end of the process, if it has ended.
func (c *Controller) seeEnd(n *node, cl *v1alpha1.Cluster) error {
	m := &n.machine
	if m.process == nil {
		return nil
	}
	select {
	case <-m.process.Done():
	default:
		return nil
	}
	exit, pid := m.process.Exit(), m.process.Identity().PID
	how := plan.Ending{Asked: m.stopping, Known: exit.Known, Code: exit.Code, How: exit.String(), Ran: c.clock.Mono() - m.startedAt}
	if m.adopted {
		how.Ran = c.clock.Now().Sub(m.run.StartedAt)
	}
	outcome := plan.After(&cl.Spec, m.run.Failures, how, jitter())
	run := m.run
	run.Process = nil
	run.Stopping = false
	run.Failures = outcome.Failures
	run.Again = !how.Asked
	run.Halted, run.HaltedUnder = outcome.Halted, wantedHash(&cl.Spec, n.key.node)
	run.NextStart = time.Time{}
	if outcome.Delay > 0 && outcome.Halted == "" {
		run.NextStart = c.clock.Now().Add(outcome.Delay)
	}
	run.LastTermination = &v1alpha1.Termination{ExitCode: exit.Code, Signal: exit.Signal, Reason: how.How, At: v1alpha1.MicroTime{Time: c.clock.Now()}}
	if how.Asked {
		run.LastTermination.Reason = how.How + " after it was asked to end"
	}
	if err := c.store.PutRun(run); err != nil {
		return err // nothing is forgotten: the next pass sees the end again
	}
	log := c.log.With("cluster", n.key.cluster, "node", n.key.node, "pid", pid, "reason", how.How)
	c.mu.Lock()
	held := c.heldLocked(n) != nil
	c.mu.Unlock()
	c.exited(n.key, pid, how, run, held)
	if how.Asked {
		log.Info("node stopped")
	} else {
		log.Warn("node ended", "restarts", run.Restarts, "delay", outcome.Delay, "halted", outcome.Halted)
	}
	m.run = run
	m.process, m.adopted, m.stopping, m.ready, m.everReady, m.misses = nil, false, false, false, false, 0
	m.status = nodeStatus{Incarnation: m.status.Incarnation, Version: m.status.Version}
	m.failure = ""
	m.notUntil, m.why = c.clock.Mono()+outcome.Delay, how.How
	if how.Asked {
		m.why = ""
	}
	return nil
}

// probe asks a living node how it is.
func (c *Controller) probe(ctx context.Context, n *node, cl *v1alpha1.Cluster) {
	m := &n.machine
	spec, ok := cl.Spec.Node(n.key.node)
	if m.process == nil || !ok {
		return
	}
	addr := address(spec, spec.HTTPPort)
	ready := c.o.nodes.Ready(ctx, addr)
	st, err := c.o.nodes.Status(ctx, addr)
	if err == nil && (st.Node != n.key.node || st.Cluster != n.key.cluster) {
		err = fmt.Errorf("node %s of cluster %s answers on its port %d", st.Node, st.Cluster, spec.HTTPPort)
	}
	if err == nil {
		err = c.confirm(ctx, n, cl, spec)
	}
	if err != nil {
		m.misses++
		c.readiness(n, err)
		m.ready = false
		m.notReady = "it does not answer: " + briefly(err)
		return
	}
	m.misses = 0
	m.status = st
	c.observe(n)
	c.readiness(n, ready)
	m.ready = ready == nil
	m.notReady = ""
	var nr *notReadyError
	switch {
	case ready == nil:
		if !m.everReady {
			c.log.Info("node ready", "cluster", n.key.cluster, "node", n.key.node, "pid", m.process.Identity().PID)
		}
		m.everReady = true
	case errors.As(ready, &nr):
		m.notReady = nr.why
	default:
		m.notReady = briefly(ready)
	}
}

// briefly is the part of a network error that says something to a person.
func briefly(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer within " + probeTimeout.String()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	}
	return err.Error()
}

// decide asks plan what to do with the node, and marks it as done, so that no
// other decision is made as if it were not.
func (c *Controller) decide(n *node, cluster string) (a plan.Action, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl, err := c.cluster(cluster) // the newest, so that no decision is older than another's
	if err != nil {
		return a, false, err
	}
	m := &n.machine
	if n.clear || m.run.Halted != "" && m.run.HaltedUnder != wantedHash(&cl.Spec, n.key.node) {
		n.clear = false
		c.forget(n)
	}
	if m.process == nil && n.seen.Request != plan.None {
		n.seen.Request = plan.None // it has ended, and is started like any other
		c.forget(n)
	}
	n.process = m.process
	n.groups = m.status.Groups
	n.seen.Alive = m.process != nil
	n.seen.Ready = n.seen.Alive && m.ready && !m.stopping
	n.seen.Draining = n.seen.Alive && m.stopping
	n.seen.Outdated = n.seen.Alive && m.run.Settings != settingsHash(&cl.Spec)
	n.seen.Halted = m.run.Halted
	n.seen.Held, n.seen.HeldUntil = false, 0
	if h := c.heldLocked(n); h != nil {
		n.seen.Held, n.seen.HeldUntil = true, h.until
	}
	n.seen.NotBefore, n.seen.Why = m.notUntil, m.why
	state := c.stateLocked(cl)
	m.decidedAt = state.Now
	for _, action := range plan.Cluster(&cl.Spec, state) {
		if action.Node == n.key.node {
			a, ok = action, true
		}
	}
	n.generation = cl.Generation
	n.acting = ok && a.Kind == plan.Start
	if ok && a.Kind == plan.Wait && n.seen.Request == plan.Restart && !n.seen.Draining {
		// It was allowed when it was asked for, and is not any more.
		n.seen.Request, n.refusal = plan.None, a.Reason
	}
	if ok && a.Kind == plan.Stop {
		n.seen.Draining = true
		n.seen.KillAt = c.clock.Mono() + cl.Spec.TerminationGracePeriod.Duration()
	}
	return a, ok, nil
}

// forget lets a node be started at once, whatever happened before.
func (c *Controller) forget(n *node) {
	m := &n.machine
	m.run.Halted, m.run.Failures, m.run.NextStart = "", 0, time.Time{}
	m.notUntil, m.why = 0, ""
}

// act carries out one action on one node. What goes wrong becomes part of what
// is seen, and is tried again.
func (c *Controller) act(ctx context.Context, n *node, a plan.Action) {
	m := &n.machine
	log := c.log.With("cluster", n.key.cluster, "node", n.key.node, "action", string(a.Kind), "reason", a.Reason)
	switch a.Kind {
	case plan.Start:
		m.attempts++
		c.normal(n.key, v1alpha1.EventStarting, "%s", a.Reason)
		err := c.start(ctx, n)
		if err == nil {
			m.failure = ""
			log.Info("node started", "pid", m.process.Identity().PID)
			return
		}
		m.failure = err.Error()
		delay := logInUseDelay
		if !errors.Is(err, proc.ErrLogInUse) { // it runs already, and will answer
			m.run.Failures++
			delay = c.startDelay(n)
		}
		m.notUntil, m.why = c.clock.Mono()+delay, m.failure
		m.run.NextStart = c.clock.Now().Add(delay)
		log.Warn("node cannot be started", "err", err, "delay", delay)
		c.warning(n.key, v1alpha1.EventStartFailed, "%v", err)
	case plan.Stop:
		m.stopping, m.run.Stopping = true, true
		c.save(n)
		log.Info("node is asked to end", "pid", m.process.Identity().PID)
		c.normal(n.key, v1alpha1.EventDraining, "pid %d is asked to end: %s", m.process.Identity().PID, a.Reason)
		c.signal(n, syscall.SIGTERM)
	case plan.Kill:
		log.Warn("node is killed", "pid", m.process.Identity().PID)
		c.warning(n.key, v1alpha1.EventKilling, "pid %d gets SIGKILL: %s", m.process.Identity().PID, a.Reason)
		c.signal(n, syscall.SIGKILL)
	case plan.Wait:
	}
}

// signal sends a signal; a process that is gone is seen by the next pass.
func (c *Controller) signal(n *node, sig syscall.Signal) {
	p := n.machine.process
	if err := p.Signal(sig); err != nil && !errors.Is(err, proc.ErrGone) {
		c.log.Error("signal a node", "cluster", n.key.cluster, "node", n.key.node, "pid", p.Identity().PID, "err", err)
	}
}

func (c *Controller) startDelay(n *node) time.Duration {
	backoff := v1alpha1.Backoff{Initial: v1alpha1.DefaultBackoffInitial, Max: v1alpha1.DefaultBackoffMax}
	if cl, err := c.cluster(n.key.cluster); err == nil {
		backoff = cl.Spec.Backoff
	}
	return plan.Delay(backoff, n.machine.run.Failures, jitter())
}

// start starts the node's process.
//
// The record is written before the process exists, without a process, and again
// with it before anybody is told. A controller that dies in between leaves a node
// that the next one finds by its answer; until it answers, the lock of its log
// keeps a second process away.
func (c *Controller) start(ctx context.Context, n *node) error {
	file, cl, err := c.writeCluster(n.key.cluster)
	if err != nil {
		return err
	}
	spec, ok := cl.Spec.Node(n.key.node)
	if !ok {
		return errors.New("it is not in the spec any more")
	}
	if err := c.portsFree(ctx, n.key, &cl.Spec, spec); err != nil {
		return err
	}
	if err := c.releaseOver(n); err != nil {
		return err
	}
	run := n.machine.run
	run.Process = nil
	run.Starts++
	run.StartedAt = c.clock.Now()
	run.Executable, run.DataDir = c.exe, filepath.Join(cl.Spec.DataRoot, spec.ID)
	run.LogFile = logFile(cl.Spec.DataRoot, spec.ID)
	run.Ports = []int{spec.Port, spec.PeerPort, spec.HTTPPort}
	run.Settings, run.Generation = settingsHash(&cl.Spec), cl.Generation
	run.NextStart = time.Time{}
	run.Stopping, run.Incarnation = false, 0
	if run.Again {
		run.Again = false
		run.Restarts++
		run.RestartedAt = run.StartedAt
	}
	if err := c.store.PutRun(run); err != nil {
		return err
	}
	p, err := c.procs.Start(proc.Spec{
		Node:       n.key.node,
		Executable: run.Executable,
		Args:       []string{"node", "--id", spec.ID, "--config", file, "--data-root", cl.Spec.DataRoot},
		LogFile:    run.LogFile,
	})
	if err != nil {
		return err
	}
	id := p.Identity()
	run.Process = &id
	n.machine.run = run
	c.attach(n, p, false)
	n.machine.unsaved = true // until the pass has written it, nobody is told
	return nil
}

// writeCluster writes the newest spec of a cluster to the file that its nodes
// read, and returns both.
func (c *Controller) writeCluster(name string) (file string, cl *v1alpha1.Cluster, err error) {
	c.fileMu.Lock()
	defer c.fileMu.Unlock()
	if cl, err = c.cluster(name); err != nil {
		return "", nil, err
	}
	var b bytes.Buffer
	err = manifests.EncodeYAML(&b, &v1alpha1.Cluster{TypeMeta: cl.TypeMeta, ObjectMeta: v1alpha1.ObjectMeta{Name: cl.Name}, Spec: cl.Spec})
	if err != nil {
		return "", nil, err
	}
	file = c.clusterFile(name)
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, b.Bytes()) {
		return file, cl, nil
	}
	return file, cl, writeFile(file, b.Bytes())
}

func (c *Controller) clusterFile(name string) string {
	return filepath.Join(c.o.State, "clusters", name+".yaml")
}

// nextLook says when the node is to be looked at again at the latest.
func (c *Controller) nextLook(m *machine, a plan.Action) time.Duration {
	again := resync
	if m.process != nil {
		again = probeEvery
		if !m.everReady && c.clock.Mono()-m.startedAt < startingFor {
			again = probeStarting
		}
	}
	// What was still to come when it was decided to wait may have come since.
	for _, at := range []time.Duration{a.At, m.notUntil} {
		if at > m.decidedAt {
			again = min(again, at-c.clock.Mono())
		}
	}
	return max(again, time.Millisecond)
}

// settingsHash is a hash of what a node's process is started with. What only
// the controller acts on does not count.
func settingsHash(spec *v1alpha1.ClusterSpec) string {
	s := (&v1alpha1.Cluster{Spec: *spec}).Clone().Spec
	s.RestartPolicy, s.Backoff, s.TerminationGracePeriod = "", v1alpha1.Backoff{}, 0
	for i := range s.Nodes {
		s.Nodes[i].Stopped, s.Nodes[i].Labels = false, nil
	}
	return hash(s)
}

// wantedHash is a hash of everything that a person said about a node: when it
// changes, a node that was given up is tried again.
func wantedHash(spec *v1alpha1.ClusterSpec, id string) string {
	s := (&v1alpha1.Cluster{Spec: *spec}).Clone().Spec
	for i := range s.Nodes {
		if s.Nodes[i].ID != id {
			s.Nodes[i].Stopped, s.Nodes[i].Labels = false, nil
		}
	}
	return hash(s)
}

func hash(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("controller: encode a spec: %v", err)) // specs are made of plain values
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
