package controller

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// A hold keeps a node down that should run: a fault that somebody injects for a
// while. It is on the disk before the process is sent its signal, so it holds
// whichever controller looks when the process ends. A start or a restart by a
// person ends it, as does a process of the node that somebody starts by hand.

// holding is a hold in memory. Controller.mu guards it.
type holding struct {
	store.Hold
	until time.Duration // on the monotonic clock; 0 if it has no end
}

// over says whether the hold has passed.
func (h *holding) over(now time.Duration) bool { return h.until != 0 && now >= h.until }

// heldLocked returns the hold that is in force, or nil.
func (c *Controller) heldLocked(n *node) *holding {
	if n.hold == nil || n.hold.over(c.clock.Mono()) {
		return nil
	}
	return n.hold
}

// Hold implements apiserver.Backend.
func (c *Controller) Hold(ctx context.Context, cluster, id string, sig syscall.Signal, d time.Duration) error {
	cl, spec, err := c.pickNode(cluster, id)
	if err != nil {
		return err
	}
	k := key{cl.Name, id}
	switch {
	case !proc.Ends(sig):
		return v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "%s does not end a process, so it cannot begin a hold", proc.SignalName(sig))
	case spec.Stopped:
		return c.refused(k, false, v1alpha1.Conflict(v1alpha1.KindNode, id, "it is stopped already; a hold is for a node that should run"))
	}
	h := &holding{Hold: store.Hold{Cluster: k.cluster, Node: id, Since: c.clock.Now(), Signal: proc.SignalName(sig)}}
	if d > 0 {
		h.Until, h.until = h.Since.Add(d), c.clock.Mono()+d
	}
	c.mu.Lock()
	n := c.nodeLocked(k)
	before := n.hold
	n.hold = h // from now on no start is decided
	c.mu.Unlock()
	c.queue.Add(k)

	// One that was decided already is waited for.
	var p proc.Process
	err = c.wait(ctx, func() (bool, error) {
		p = n.process
		return !n.acting && n.shown.passes > 0, nil
	})
	if err == nil {
		err = c.keepHold(n, h, p)
	}
	if err != nil {
		c.mu.Lock()
		if n.hold == h {
			n.hold = before
		}
		c.mu.Unlock()
		c.queue.Add(k)
		return err
	}
	c.warning(k, v1alpha1.EventHeld, "kept down %s, as somebody asked", h.end())
	c.log.Warn("node is held down", "cluster", k.cluster, "node", id, "until", h.end())
	c.queue.Add(k)
	if p != nil {
		if err := c.kill(ctx, n, p, sig); err != nil {
			return err
		}
	}
	return c.wait(ctx, func() (bool, error) { return n.shown.held || n.hold != h || h.over(c.clock.Mono()), nil })
}

// end says in words when the hold ends.
func (h *holding) end() string {
	if h.Until.IsZero() {
		return "until it is restarted or started"
	}
	return fmt.Sprintf("for %s, until %s", h.Until.Sub(h.Since), h.Until.UTC().Format(time.RFC3339))
}

// keepHold writes a hold, if it was not ended meanwhile.
func (c *Controller) keepHold(n *node, h *holding, p proc.Process) error {
	c.holdMu.Lock()
	defer c.holdMu.Unlock()
	written := h.Hold
	if p != nil {
		id := p.Identity()
		written.Process = &id
	}
	c.mu.Lock()
	mine := n.hold == h
	if mine {
		h.Hold = written
	}
	c.mu.Unlock()
	if !mine {
		return v1alpha1.Conflict(v1alpha1.KindNode, n.key.node, "it was started or held by somebody else meanwhile")
	}
	return c.store.PutHold(written)
}

// release ends the hold of a node, if there is one.
func (c *Controller) release(n *node) error {
	return c.releaseIf(n, func(*holding) bool { return true })
}

// releaseOver forgets a hold whose time is over.
func (c *Controller) releaseOver(n *node) error {
	return c.releaseIf(n, func(h *holding) bool { return h.over(c.clock.Mono()) })
}

// releaseIf asks cond with mu held.
func (c *Controller) releaseIf(n *node, cond func(*holding) bool) error {
	c.holdMu.Lock()
	defer c.holdMu.Unlock()
	c.mu.Lock()
	end := n.hold != nil && cond(n.hold)
	if end {
		n.hold = nil
	}
	c.mu.Unlock()
	if !end {
		return nil
	}
	return c.store.DeleteHold(n.key.cluster, n.key.node)
}

// loadHold reads the hold that an earlier controller left. How long it still
// lasts is counted by the wall clock, and is never more than was asked for.
func (c *Controller) loadHold(n *node) error {
	written, err := c.store.Hold(n.key.cluster, n.key.node)
	if err != nil || written == nil {
		return err
	}
	h := &holding{Hold: *written}
	if !h.Until.IsZero() {
		left := max(min(h.Until.Sub(c.clock.Now()), h.Until.Sub(h.Since)), 0)
		h.until = max(c.clock.Mono()+left, 1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n.hold = h
	return nil
}

// resumeHold is called when a process of a node was adopted. If it is the one
// that a hold was to end, the controller that had promised so died too early, and
// it gets its signal now. Any other was started by somebody: the hold is over.
func (c *Controller) resumeHold(n *node) error {
	c.mu.Lock()
	h := c.heldLocked(n)
	c.mu.Unlock()
	if h == nil {
		return nil
	}
	id := n.machine.process.Identity()
	if h.Process == nil || *h.Process != id {
		c.log.Warn("a held node was started by hand", "cluster", n.key.cluster, "node", n.key.node, "pid", id.PID)
		return c.release(n)
	}
	sig, err := proc.ParseSignal(h.Signal)
	if err != nil {
		sig = syscall.SIGKILL
	}
	c.normal(n.key, v1alpha1.EventKilling, "pid %d gets %s: it is held down", id.PID, proc.SignalName(sig))
	c.signal(n, sig)
	return nil
}

// kill sends a signal to a process of a node, and if it is one that ends
// processes returns when it has.
func (c *Controller) kill(ctx context.Context, n *node, p proc.Process, sig syscall.Signal) error {
	pid := p.Identity().PID
	c.normal(n.key, v1alpha1.EventKilling, "pid %d gets %s, as somebody asked", pid, proc.SignalName(sig))
	c.log.Warn("signal to a node", "cluster", n.key.cluster, "node", n.key.node, "pid", pid, "signal", proc.SignalName(sig))
	if err := p.Signal(sig); err != nil && !errors.Is(err, proc.ErrGone) {
		return fmt.Errorf("signal node %s: %w", n.key.node, err)
	}
	if !proc.Ends(sig) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	err := c.wait(ctx, func() (bool, error) { return n.shown.pid != pid, nil })
	if errors.Is(err, context.DeadlineExceeded) {
		return v1alpha1.NewStatus(v1alpha1.ReasonTimeout, "node %s got the signal and still runs as pid %d", n.key.node, pid)
	}
	return err
}
