package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wiber/wiber/controller/plan"
	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// A node that runs is adopted, whoever started it: by its record, if an earlier
// controller left one (load), else by its own answer on its port (find). From
// then on nothing distinguishes it from a node that this controller started, but
// that how it ends may stay unknown.

// load reads the record of the node, and adopts the process it names if that
// still lives. It does so once.
func (c *Controller) load(n *node) error {
	m := &n.machine
	if m.loaded {
		return nil
	}
	cl, err := c.cluster(n.key.cluster)
	if err != nil {
		return err
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
	if err := c.loadHold(n); err != nil {
		return err
	}
	if run.Process == nil {
		m.loaded = true
		return nil
	}
	p, err := c.procs.Find(*run.Process)
	switch {
	case err == nil:
		err = c.adoptRecorded(n, cl, p)
	case errors.Is(err, proc.ErrGone):
		err = c.endedUnseen(n, cl)
	}
	m.loaded = err == nil
	return err
}

func reasonOf(t *v1alpha1.Termination) string {
	if t == nil {
		return ""
	}
	return t.Reason
}

// adoptRecorded takes the process that an earlier controller wrote down: its
// pid, start time and boot id are the same. What it answers is compared with the
// first probe.
func (c *Controller) adoptRecorded(n *node, cl *v1alpha1.Cluster, p proc.Process) error {
	m := &n.machine
	c.attach(n, p, true)
	if m.run.Generation == cl.Generation {
		// Another version of this program may hash the same settings differently.
		m.run.Settings = settingsHash(&cl.Spec)
	}
	pid := p.Identity().PID
	c.log.Warn("node adopted", "cluster", n.key.cluster, "node", n.key.node, "pid", pid, "reason", "recorded by an earlier controller")
	c.normal(n.key, v1alpha1.EventAdopted, "pid %d, started by an earlier controller", pid)
	if m.run.Stopping {
		// The earlier one may have died before the signal; a second one does no harm.
		m.stopping = true
		c.mu.Lock()
		n.seen.Draining = true
		n.seen.KillAt = c.clock.Mono() + cl.Spec.TerminationGracePeriod.Duration()
		c.mu.Unlock()
		c.signal(n, syscall.SIGTERM)
	}
	return c.resumeHold(n)
}

// endedUnseen takes note that the recorded process ended while no controller
// looked. Nobody knows how, and whoever starts a controller wants its nodes back:
// no back-off.
func (c *Controller) endedUnseen(n *node, cl *v1alpha1.Cluster) error {
	m := &n.machine
	how := plan.Ending{How: "an end that no controller saw", Asked: m.run.Stopping}
	outcome := plan.After(&cl.Spec, 0, how, 0)
	run := m.run
	run.Process = nil
	run.Failures = 0
	run.Again = !how.Asked
	run.NextStart = time.Time{}
	run.Halted, run.HaltedUnder = outcome.Halted, wantedHash(&cl.Spec, n.key.node)
	run.LastTermination = &v1alpha1.Termination{ExitCode: -1, Reason: how.How, At: v1alpha1.MicroTime{Time: c.clock.Now()}}
	if err := c.store.PutRun(run); err != nil {
		return err
	}
	c.warning(n.key, v1alpha1.EventExited, "pid %d ended while no controller looked", m.run.Process.PID)
	m.run = run
	m.notUntil, m.why = 0, how.How
	return nil
}

// find adopts a process of the node that nobody wrote down: one that was started
// by hand, or by a controller that died before it could, or whose records are
// gone. The node itself says who it is, and that is compared with the system.
func (c *Controller) find(ctx context.Context, n *node, cl *v1alpha1.Cluster) error {
	m := &n.machine
	spec, ok := cl.Spec.Node(n.key.node)
	if m.process != nil || !ok {
		return nil
	}
	answer, err := c.o.nodes.Identity(ctx, address(spec, spec.HTTPPort))
	if err != nil || answer.Node == "" {
		m.refused = ""
		return nil // nobody is there, or it is no node; a start names who has the port
	}
	p, err := c.claim(ctx, n.key, &cl.Spec, spec, answer)
	if errors.Is(err, proc.ErrGone) {
		return nil // it ended between its answer and the look
	}
	if err != nil {
		if m.refused != err.Error() {
			m.refused = err.Error()
			c.log.Warn("a running process is not adopted", "cluster", n.key.cluster, "node", n.key.node, "pid", answer.PID, "err", err)
			c.warning(n.key, v1alpha1.EventRefused, "pid %d is not adopted: %v", answer.PID, err)
		}
		return nil
	}
	m.refused = ""
	id := p.Identity()
	run := m.run
	run.Process = &id
	run.StartedAt = c.clock.Now()
	if at, ok := id.StartedAt(run.StartedAt); ok {
		run.StartedAt = at
	}
	run.Executable, run.LogFile = "", logFile(cl.Spec.DataRoot, spec.ID)
	run.DataDir = filepath.Join(cl.Spec.DataRoot, spec.ID)
	run.Ports = []int{spec.Port, spec.PeerPort, spec.HTTPPort}
	// Nobody can tell what settings it was started with. They count as the spec's,
	// so that it goes on, and takes new ones like any other.
	run.Settings, run.Generation = settingsHash(&cl.Spec), cl.Generation
	run.UID, run.Incarnation = answer.UID, answer.Incarnation
	run.NextStart, run.Again, run.Stopping = time.Time{}, false, false
	run.Halted, run.Failures = "", 0
	if err := c.store.PutRun(run); err != nil {
		return err
	}
	m.run = run
	m.failure, m.notUntil, m.why = "", 0, ""
	c.attach(n, p, true)
	m.confirmed = true
	c.log.Warn("node adopted", "cluster", n.key.cluster, "node", n.key.node, "pid", id.PID, "reason", "it answers on its port")
	c.normal(n.key, v1alpha1.EventAdopted, "pid %d, which no controller has a record of", id.PID)
	return c.resumeHold(n)
}

// claim returns the process that a node's answer speaks of, if it is this very
// node: cluster, name and data folder are the wanted ones, the system knows the
// pid, and once that process is held by a handle the port still gives the same
// answer. So a pid that was given away in between is not taken for the node.
func (c *Controller) claim(ctx context.Context, k key, cluster *v1alpha1.ClusterSpec, spec v1alpha1.NodeSpec, answer nodeIdentity) (proc.Process, error) {
	if answer.Node != k.node || answer.Cluster != k.cluster {
		return nil, fmt.Errorf("port %d is in use by node %s of cluster %s (pid %d)", spec.HTTPPort, answer.Node, answer.Cluster, answer.PID)
	}
	if want := filepath.Join(cluster.DataRoot, spec.ID); !sameFolder(answer.DataDir, want) {
		return nil, fmt.Errorf("port %d is in use by this node with another data folder, %s instead of %s (pid %d)", spec.HTTPPort, answer.DataDir, want, answer.PID)
	}
	who, err := c.procs.Identify(answer.PID)
	if err != nil {
		return nil, fmt.Errorf("node %s answers as pid %d, which cannot be found: %w", answer.Node, answer.PID, err)
	}
	if answer.BootID != "" && who.BootID != answer.BootID {
		return nil, fmt.Errorf("node %s answers as pid %d of another machine or boot", answer.Node, answer.PID)
	}
	p, err := c.procs.Find(who)
	if err != nil {
		return nil, fmt.Errorf("node %s answers as pid %d, which cannot be found: %w", answer.Node, answer.PID, err)
	}
	again, err := c.o.nodes.Identity(ctx, address(spec, spec.HTTPPort))
	if err != nil || again != answer {
		return nil, fmt.Errorf("node %s answered as pid %d and does not any more: %w", answer.Node, answer.PID, proc.ErrGone)
	}
	return p, nil
}

// confirm compares what a node that was not found by its answer says about
// itself with its record, once for each process, and keeps its incarnation.
func (c *Controller) confirm(ctx context.Context, n *node, cl *v1alpha1.Cluster, spec v1alpha1.NodeSpec) error {
	m := &n.machine
	if m.confirmed {
		return nil
	}
	answer, err := c.o.nodes.Identity(ctx, address(spec, spec.HTTPPort))
	if err != nil {
		return err
	}
	id, want := m.process.Identity(), filepath.Join(cl.Spec.DataRoot, spec.ID)
	if answer.PID != id.PID || answer.BootID != "" && answer.BootID != id.BootID || !sameFolder(answer.DataDir, want) {
		err := fmt.Errorf("pid %d with the folder %s answers on its port %d, instead of pid %d with %s", answer.PID, answer.DataDir, spec.HTTPPort, id.PID, want)
		if m.refused != err.Error() {
			m.refused = err.Error()
			c.warning(n.key, v1alpha1.EventRefused, "%v", err)
		}
		return err
	}
	m.confirmed, m.refused = true, ""
	if m.run.UID != answer.UID || m.run.Incarnation != answer.Incarnation {
		m.run.UID, m.run.Incarnation = answer.UID, answer.Incarnation
		c.save(n)
	}
	return nil
}

// sameFolder says whether two paths are one folder.
func sameFolder(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// save writes the node's record. What cannot be written now is written before
// the next pass does anything.
func (c *Controller) save(n *node) {
	n.machine.unsaved = true
	if err := c.saved(n); err != nil {
		c.log.Error("the record of a node is not written", "cluster", n.key.cluster, "node", n.key.node, "err", err)
	}
}

// saved writes what a save left behind.
func (c *Controller) saved(n *node) error {
	if !n.machine.unsaved {
		return nil
	}
	err := c.store.PutRun(n.machine.run)
	n.machine.unsaved = err != nil
	return err
}

// portsFree returns nil if all ports of the node are free, or are its own
// process's; else an error that names who has them.
func (c *Controller) portsFree(ctx context.Context, k key, cluster *v1alpha1.ClusterSpec, spec v1alpha1.NodeSpec) error {
	for _, p := range []struct {
		network string
		port    int
	}{{"tcp", spec.Port}, {"tcp", spec.PeerPort}, {"udp", spec.PeerPort}, {"tcp", spec.HTTPPort}} {
		err := c.procs.CheckPort(p.network, address(spec, p.port))
		if err == nil {
			continue
		}
		answer, ierr := c.o.nodes.Identity(ctx, address(spec, spec.HTTPPort))
		if ierr != nil || answer.Node == "" {
			return err
		}
		_, err = c.claim(ctx, k, cluster, spec, answer)
		return err
	}
	return nil
}
