package controller

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/wiber/wiber/controller/apiserver"
	"github.com/wiber/wiber/controller/plan"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// killWait is how long Kill waits for an end after a signal that a node may
// answer slowly.
const killWait = 60 * time.Second

// pick returns the named cluster, or the only one if the name is empty.
func (c *Controller) pick(name string) (*v1alpha1.Cluster, error) {
	if name != "" {
		return c.cluster(name)
	}
	clusters, _, err := store.List[v1alpha1.Cluster](c.store, v1alpha1.KindCluster, "")
	switch {
	case err != nil:
		return nil, err
	case len(clusters) == 0:
		return nil, v1alpha1.NewStatus(v1alpha1.ReasonNotFound, "there is no cluster; apply one, or start the default one with wiberctl up")
	case len(clusters) > 1:
		return nil, severalClusters(clusters)
	}
	return &clusters[0], nil
}

func severalClusters(clusters []v1alpha1.Cluster) error {
	var names []string
	for _, cl := range clusters {
		names = append(names, cl.Name)
	}
	return v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "there are several clusters (%s); name one with --cluster, in a URL with ?cluster=", strings.Join(names, ", "))
}

// pickNode returns a node and its cluster. The cluster need not be named while
// only one of them has a node of that id.
func (c *Controller) pickNode(cluster, id string) (*v1alpha1.Cluster, v1alpha1.NodeSpec, error) {
	clusters, err := c.pickClusters(cluster)
	if err != nil {
		return nil, v1alpha1.NodeSpec{}, err
	}
	var with []v1alpha1.Cluster
	for _, cl := range clusters {
		if _, ok := cl.Spec.Node(id); ok {
			with = append(with, cl)
		}
	}
	switch len(with) {
	case 0:
		return nil, v1alpha1.NodeSpec{}, v1alpha1.NotFound(v1alpha1.KindNode, id)
	case 1:
		spec, _ := with[0].Spec.Node(id)
		return &with[0], spec, nil
	}
	return nil, v1alpha1.NodeSpec{}, severalClusters(with)
}

// pickClusters returns the named cluster, or all if the name is empty.
func (c *Controller) pickClusters(name string) ([]v1alpha1.Cluster, error) {
	if name == "" {
		clusters, _, err := store.List[v1alpha1.Cluster](c.store, v1alpha1.KindCluster, "")
		return clusters, err
	}
	cl, err := c.cluster(name)
	if err != nil {
		return nil, err
	}
	return []v1alpha1.Cluster{*cl}, nil
}

// NodeStates implements apiserver.Backend.
func (c *Controller) NodeStates(cluster string) ([]apiserver.NodeState, error) {
	nodes, err := c.Nodes(cluster)
	if err != nil {
		return nil, err
	}
	states := make([]apiserver.NodeState, 0, len(nodes.Items))
	for _, n := range nodes.Items {
		states = append(states, apiserver.NodeState{
			ID:       n.Name,
			Cluster:  n.Namespace,
			Running:  n.Status.PID != 0,
			PID:      n.Status.PID,
			Phase:    cmp.Or(n.Status.Phase, v1alpha1.NodePending),
			Role:     n.Status.Role,
			Restarts: n.Status.Restarts,
		})
	}
	slices.SortStableFunc(states, func(a, b apiserver.NodeState) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Cluster, b.Cluster))
	})
	return states, nil
}

// Kill implements apiserver.Backend.
func (c *Controller) Kill(ctx context.Context, cluster, id string, sig syscall.Signal) error {
	cl, _, err := c.pickNode(cluster, id)
	if err != nil {
		return err
	}
	k := key{cl.Name, id}
	c.mu.Lock()
	n := c.nodeLocked(k)
	p := n.process
	c.mu.Unlock()
	if p == nil {
		return v1alpha1.Conflict(v1alpha1.KindNode, id, "it has no process")
	}
	return c.kill(ctx, n, p, sig)
}

// Restart implements apiserver.Backend.
func (c *Controller) Restart(ctx context.Context, cluster, id string, force bool) error {
	cl, spec, err := c.pickNode(cluster, id)
	if err != nil {
		return err
	}
	if spec.Stopped {
		return v1alpha1.Conflict(v1alpha1.KindNode, id, "it is stopped; start it")
	}
	k := key{cl.Name, id}
	c.mu.Lock()
	n := c.nodeLocked(k)
	before := n.shown
	refusal := ""
	switch {
	case before.passes == 0:
		refusal = "the controller has not looked at it yet; try again"
	case n.seen.Request != plan.None || n.seen.Draining:
		refusal = "it is being stopped or restarted already"
	case !force:
		refusal = plan.RefuseRestart(&cl.Spec, c.stateLocked(cl), id)
	}
	if refusal == "" {
		n.refusal = ""
		n.clear = true // a hold is ended below
		if n.lives() {
			n.seen.Request = plan.Restart
			if force {
				n.seen.Request = plan.ForceRestart
			}
		}
	}
	c.mu.Unlock()
	if refusal != "" {
		if !force {
			refusal += "; --force (?force=true) restarts it all the same"
		}
		return c.refused(k, false, v1alpha1.Conflict(v1alpha1.KindNode, id, refusal))
	}
	if err := c.release(n); err != nil {
		return err
	}
	c.log.Info("restart of a node", "cluster", k.cluster, "node", id, "force", force)
	c.queue.Add(k)
	return c.waitRuns(ctx, n, before)
}

// waitRuns returns when the node runs in another process than before, or says
// why it does not.
func (c *Controller) waitRuns(ctx context.Context, n *node, before shown) error {
	return c.wait(ctx, func() (bool, error) {
		now := n.shown
		switch {
		case now.pid != 0 && now.pid != before.pid && !now.draining:
			return true, nil
		case n.refusal != "":
			return false, v1alpha1.Conflict(v1alpha1.KindNode, n.key.node, n.refusal)
		case now.attempts > before.attempts && now.failure != "":
			return false, v1alpha1.Conflict(v1alpha1.KindNode, n.key.node, "it cannot be started: "+now.failure)
		case now.attempts > before.attempts && now.halted != "":
			return false, v1alpha1.Conflict(v1alpha1.KindNode, n.key.node, "it ended at once: "+now.halted)
		}
		return false, nil
	})
}

// Stop implements apiserver.Backend. A stop that would be held back for the
// quorum is refused, and changes nothing.
func (c *Controller) Stop(ctx context.Context, cluster, id string) error {
	cl, _, err := c.pickNode(cluster, id)
	if err != nil {
		return err
	}
	setStopped(cl, true, id)
	c.mu.Lock()
	refusal := plan.RefuseStop(&cl.Spec, c.stateLocked(cl), id)
	n := c.nodeLocked(key{cl.Name, id})
	c.mu.Unlock()
	if refusal != "" {
		return c.refused(n.key, false, v1alpha1.Conflict(v1alpha1.KindNode, id, refusal))
	}
	if err := c.setStopped(cl.Name, true, id); err != nil {
		return err
	}
	return c.wait(ctx, func() (bool, error) { return !n.lives(), nil })
}

// Start implements apiserver.Backend.
func (c *Controller) Start(ctx context.Context, cluster, id string) error {
	cl, _, err := c.pickNode(cluster, id)
	if err != nil {
		return err
	}
	return c.startNodes(ctx, cl, id)
}

// startNodes wants some nodes to run and returns when they do.
func (c *Controller) startNodes(ctx context.Context, cl *v1alpha1.Cluster, ids ...string) error {
	type waiting struct {
		n      *node
		before shown
	}
	var nodes []waiting
	c.mu.Lock()
	for _, id := range ids {
		n := c.nodeLocked(key{cl.Name, id})
		n.clear, n.refusal = true, ""
		w := waiting{n, n.shown}
		if !n.shown.draining && !n.seen.Draining {
			w.before.pid = 0 // one that runs already will do
		}
		nodes = append(nodes, w)
	}
	c.mu.Unlock()
	if err := c.setStopped(cl.Name, false, ids...); err != nil {
		return err
	}
	for _, w := range nodes {
		if err := c.release(w.n); err != nil {
			return err
		}
		c.queue.Add(w.n.key)
	}
	for _, w := range nodes {
		if err := c.waitRuns(ctx, w.n, w.before); err != nil {
			return err // the others are being started all the same
		}
	}
	return nil
}

// StartAll implements apiserver.Backend.
func (c *Controller) StartAll(ctx context.Context, cluster string) error {
	clusters, err := c.pickClusters(cluster)
	if err != nil {
		return err
	}
	if len(clusters) == 0 {
		if clusters, err = c.applyDefault(); err != nil {
			return err
		}
	}
	for _, cl := range clusters {
		if err := c.startNodes(ctx, &cl, ids(&cl)...); err != nil {
			return err
		}
	}
	return nil
}

// applyDefault creates the default cluster.
func (c *Controller) applyDefault() ([]v1alpha1.Cluster, error) {
	if c.o.DefaultCluster == nil {
		return nil, v1alpha1.NewStatus(v1alpha1.ReasonConflict, "nothing was applied yet: apply a cluster first")
	}
	cl := c.o.DefaultCluster.Clone()
	root, err := absolute(cl.Spec.DataRoot)
	if err != nil {
		return nil, err
	}
	cl.Spec.DataRoot = root
	if _, err := c.PutCluster(cl, false); err != nil {
		return nil, err
	}
	return []v1alpha1.Cluster{*cl}, nil
}

// StopAll implements apiserver.Backend.
func (c *Controller) StopAll(ctx context.Context, cluster string) error {
	clusters, err := c.pickClusters(cluster)
	if err != nil {
		return err
	}
	for _, cl := range clusters {
		if err := c.setStopped(cl.Name, true, ids(&cl)...); err != nil {
			return err
		}
	}
	return c.wait(ctx, func() (bool, error) {
		for _, cl := range clusters {
			for _, n := range c.nodesLocked(cl.Name) {
				if n.lives() {
					return false, nil
				}
			}
		}
		return true, nil
	})
}

// Shutdown implements apiserver.Backend. It goes on when the request ends: half
// a shutdown is nothing anybody wants.
func (c *Controller) Shutdown(ctx context.Context, withData bool) (apiserver.Shutdown, error) {
	out := apiserver.Shutdown{PID: os.Getpid(), Stopped: []string{}}
	clusters, err := c.pickClusters("")
	if err != nil {
		return out, err
	}
	c.log.Info("shutdown", "purge", withData)
	c.mu.Lock()
	c.down = "the controller is shut down together with its nodes"
	for _, cl := range clusters {
		for _, spec := range cl.Spec.Nodes {
			n := c.nodeLocked(key{cl.Name, spec.ID})
			if n.lives() {
				out.Stopped = append(out.Stopped, cl.Name+"/"+spec.ID)
			}
			c.queue.Add(n.key)
		}
		c.queue.Add(key{cluster: cl.Name})
	}
	c.mu.Unlock()
	err = c.wait(context.WithoutCancel(ctx), func() (bool, error) {
		for _, n := range c.nodesLocked("") {
			if n.lives() || n.shown.passes == 0 {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return out, err
	}
	if withData {
		for _, cl := range clusters {
			removed, err := purge(&cl)
			out.Purged = append(out.Purged, removed...)
			if err != nil {
				return out, err
			}
		}
	}
	c.end()
	return out, nil
}

// setStopped changes the wanted state of some nodes. Specs are changed only
// with applyMu held, so whatever else changed the object, it was no spec.
func (c *Controller) setStopped(cluster string, stopped bool, ids ...string) error {
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	cl, err := c.cluster(cluster)
	if err != nil {
		return err
	}
	if cl.DeletionTimestamp != nil {
		return v1alpha1.Conflict(v1alpha1.KindCluster, cluster, "it is being deleted")
	}
	setStopped(cl, stopped, ids...)
	cl.ResourceVersion = ""
	result, err := c.store.Put(cl, false)
	c.applied(cl, result, err)
	return apiError(cl, err)
}

// apiError turns the store's errors into what a client is told.
func apiError(o v1alpha1.Object, err error) error {
	kind, name := o.Type().Kind, o.Meta().Name
	switch {
	case errors.Is(err, store.ErrConflict):
		return v1alpha1.Conflict(kind, name, "it was changed meanwhile; read it again and try with its new resourceVersion")
	case errors.Is(err, store.ErrNotFound):
		return v1alpha1.NotFound(kind, name)
	}
	return err
}

func ids(cl *v1alpha1.Cluster) []string {
	var ids []string
	for _, n := range cl.Spec.Nodes {
		ids = append(ids, n.ID)
	}
	return ids
}

func setStopped(cl *v1alpha1.Cluster, stopped bool, ids ...string) {
	for i := range cl.Spec.Nodes {
		if slices.Contains(ids, cl.Spec.Nodes[i].ID) {
			cl.Spec.Nodes[i].Stopped = stopped
		}
	}
}
