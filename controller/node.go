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
}

// machine is what only the worker of a node's key touches.
type machine struct {
	loaded  bool
	run     store.Run
	process proc.Process
	// foreign: the process was not started by this controller; it is left alone.
	foreign bool
	// startedAt is when the process was started, on the monotonic clock; for a
	// foreign one when it was found.
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
	if err := c.seeEnd(n, cl); err != nil {
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
	if err := c.tell(n); err != nil {
		return 0, err
	}
	return c.nextLook(m, action), nil
}

// load reads the record of the node, and finds the process it names if that
// still lives. It does so once.
func (c *Controller) load(n *node) error {
	m := &n.machine
	if m.loaded {
		return nil
	}
	run, err := c.store.Run(n.key.cluster, n.key.node)
	if err != nil {
		return err
	}
	m.run = run
	if left := run.NextStart.Sub(c.clock.Now()); !run.NextStart.IsZero() && left > 0 {
		m.notUntil = c.clock.Mono() + min(left, v1alpha1.MaxBackoff.Duration())
		m.why = reasonOf(run.LastTermination)
	}
	m.loaded = true
	if run.Process == nil {
		return nil
	}
	p, err := c.procs.Find(*run.Process)
	if err == nil {
		c.attach(n, p, true)
		c.log.Warn("node of an earlier controller is left alone", "cluster", n.key.cluster, "node", n.key.node, "pid", p.Identity().PID)
		return nil
	}
	if !errors.Is(err, proc.ErrGone) {
		m.loaded = false
		return err
	}
	// It ended while no controller looked. Nobody knows how, and whoever starts a
	// controller wants its nodes back: no back-off.
	cl, err := c.cluster(n.key.cluster)
	if err != nil {
		m.loaded = false
		return err
	}
	how := plan.Ending{How: "an end that no controller saw"}
	outcome := plan.After(&cl.Spec, 0, how, 0)
	m.run.Process = nil
	m.run.Failures = 0
	m.run.Again = true
	m.run.NextStart = time.Time{}
	m.notUntil, m.why = 0, how.How
	m.run.Halted, m.run.HaltedUnder = outcome.Halted, wantedHash(&cl.Spec, n.key.node)
	m.run.LastTermination = &v1alpha1.Termination{ExitCode: -1, Reason: how.How, At: v1alpha1.MicroTime{Time: c.clock.Now()}}
	c.warning(n.key, v1alpha1.EventExited, "pid %d ended while no controller looked", run.Process.PID)
	return c.store.PutRun(m.run)
}

func reasonOf(t *v1alpha1.Termination) string {
	if t == nil {
		return ""
	}
	return t.Reason
}

// attach takes a living process as the node's, and wakes the node when it ends.
func (c *Controller) attach(n *node, p proc.Process, foreign bool) {
	m := &n.machine
	m.process, m.foreign, m.startedAt = p, foreign, c.clock.Mono()
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
	if m.foreign {
		how.Ran = c.clock.Now().Sub(m.run.StartedAt)
	}
	outcome := plan.After(&cl.Spec, m.run.Failures, how, jitter())
	run := m.run
	run.Process = nil
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
	c.exited(n.key, pid, how, run)
	if how.Asked {
		log.Info("node stopped")
	} else {
		log.Warn("node ended", "restarts", run.Restarts, "delay", outcome.Delay, "halted", outcome.Halted)
	}
	m.run = run
	m.process, m.foreign, m.stopping, m.ready, m.everReady, m.misses = nil, false, false, false, false, 0
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
	n.seen.Outdated = n.seen.Alive && !m.foreign && m.run.Settings != settingsHash(&cl.Spec)
	n.seen.Halted = m.run.Halted
	n.seen.NotBefore, n.seen.Why = m.notUntil, m.why
	for _, action := range plan.Cluster(&cl.Spec, c.stateLocked(cl)) {
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
		m.run.Failures++
		m.failure = err.Error()
		delay := c.startDelay(n)
		m.notUntil, m.why = c.clock.Mono()+delay, m.failure
		m.run.NextStart = c.clock.Now().Add(delay)
		log.Warn("node cannot be started", "err", err, "delay", delay)
		c.warning(n.key, v1alpha1.EventStartFailed, "%v", err)
	case plan.Stop:
		m.stopping = true
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

// start starts the node's process, or finds that it runs already.
//
// The record is written before the process exists, without a process, and again
// with it: a controller that dies in between leaves a node that the next one
// finds on its port.
func (c *Controller) start(ctx context.Context, n *node) error {
	file, cl, err := c.writeCluster(n.key.cluster)
	if err != nil {
		return err
	}
	spec, ok := cl.Spec.Node(n.key.node)
	if !ok {
		return errors.New("it is not in the spec any more")
	}
	if found, err := c.portsFree(ctx, n.key, &cl.Spec, spec); err != nil {
		return err
	} else if found != nil {
		c.log.Warn("node that runs already is left alone", "cluster", n.key.cluster, "node", n.key.node, "pid", found.Identity().PID)
		id := found.Identity()
		n.machine.run.Process = &id
		n.machine.run.StartedAt = c.clock.Now()
		n.machine.run.Settings = ""
		c.attach(n, found, true)
		return c.store.PutRun(n.machine.run)
	}
	run := n.machine.run
	run.Process = nil
	run.Starts++
	run.StartedAt = c.clock.Now()
	run.Executable, run.DataDir = c.exe, filepath.Join(cl.Spec.DataRoot, spec.ID)
	run.LogFile = logFile(cl.Spec.DataRoot, spec.ID)
	run.Ports = []int{spec.Port, spec.PeerPort, spec.HTTPPort}
	run.Settings = settingsHash(&cl.Spec)
	run.NextStart = time.Time{}
	if run.Again {
		run.Again = false
		run.Restarts++
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
	c.normal(n.key, v1alpha1.EventStarted, "pid %d", id.PID)
	if err := c.store.PutRun(run); err != nil {
		c.log.Error("the start of a node is not recorded", "cluster", n.key.cluster, "node", n.key.node, "pid", id.PID, "err", err)
	}
	return nil
}

// portsFree returns nil if all ports of the node are free, the node's process
// if it holds them itself, and else an error that names who does.
func (c *Controller) portsFree(ctx context.Context, k key, cluster *v1alpha1.ClusterSpec, spec v1alpha1.NodeSpec) (proc.Process, error) {
	for _, port := range []int{spec.Port, spec.PeerPort, spec.HTTPPort} {
		err := c.procs.CheckPort(address(spec, port))
		if err == nil {
			continue
		}
		id, ierr := c.o.nodes.Identity(ctx, address(spec, spec.HTTPPort))
		if ierr != nil || id.Node == "" {
			return nil, err
		}
		if id.Node != k.node || id.Cluster != k.cluster {
			return nil, fmt.Errorf("port %d is in use by node %s of cluster %s (pid %d)", port, id.Node, id.Cluster, id.PID)
		}
		if want := filepath.Join(cluster.DataRoot, spec.ID); filepath.Clean(id.DataDir) != want {
			return nil, fmt.Errorf("port %d is in use by this node with another data folder, %s instead of %s (pid %d)", port, id.DataDir, want, id.PID)
		}
		return c.findNode(id)
	}
	return nil, nil
}

// findNode finds the process of a node that told who it is.
func (c *Controller) findNode(id nodeIdentity) (proc.Process, error) {
	who, err := c.procs.Identify(id.PID)
	if err != nil {
		return nil, fmt.Errorf("node %s answers as pid %d, which cannot be found: %w", id.Node, id.PID, err)
	}
	if id.BootID != "" && who.BootID != id.BootID {
		return nil, fmt.Errorf("node %s answers as pid %d of another machine or boot", id.Node, id.PID)
	}
	return c.procs.Find(who)
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
	now := c.clock.Mono()
	for _, at := range []time.Duration{a.At, m.notUntil} {
		if at > now {
			again = min(again, at-now)
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
