package controller

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wiber/wiber/controller/plan"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// purgeAnnotation marks a cluster that is deleted together with its data.
const purgeAnnotation = v1alpha1.Group + "/purge-data"

// reconcileCluster is one pass over a cluster: its Node objects are those of its
// spec, nodes that have something to do are woken, and the status is summed up.
func (c *Controller) reconcileCluster(k key) (again time.Duration, err error) {
	cl, err := c.cluster(k.cluster)
	if v1alpha1.ReasonOf(err) == v1alpha1.ReasonNotFound {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := c.makeNodes(cl); err != nil {
		return 0, err
	}

	c.mu.Lock()
	state := c.stateLocked(cl)
	actions := plan.Cluster(&cl.Spec, state)
	alive := 0
	stale := map[string]bool{}
	for _, n := range c.nodesLocked(cl.Name) {
		if n.lives() {
			alive++
		}
		stale[n.key.node] = n.generation != cl.Generation || n.shown.passes == 0
	}
	c.mu.Unlock()
	for _, a := range actions {
		stale[a.Node] = stale[a.Node] || a.Kind != plan.Wait
	}
	looked := true
	for id, is := range stale {
		if is {
			looked = false
			c.queue.Add(key{k.cluster, id})
		}
	}
	if cl.DeletionTimestamp != nil && alive == 0 && looked {
		return 0, c.forgetCluster(cl)
	}
	if err := c.dropNodes(cl); err != nil {
		return 0, err
	}
	cl.Status = c.clusterStatus(cl, state, actions)
	if err := c.store.UpdateStatus(cl); err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
		return 0, err
	}
	if !looked {
		return probeEvery, nil
	}
	return resync, nil
}

// lives says whether the node has a process, or may get one any moment. The
// controller's mu is held.
func (n *node) lives() bool { return n.acting || n.seen.Alive || n.shown.pid != 0 }

// makeNodes makes a Node object and a place in memory for every node of the
// spec.
func (c *Controller) makeNodes(cl *v1alpha1.Cluster) error {
	for _, spec := range cl.Spec.Nodes {
		obj := &v1alpha1.Node{
			TypeMeta:   v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindNode},
			ObjectMeta: v1alpha1.ObjectMeta{Name: spec.ID, Namespace: cl.Name, Labels: spec.Labels},
			Spec:       spec,
		}
		result, err := c.store.Put(obj, false)
		if err != nil {
			return fmt.Errorf("make node %s: %w", spec.ID, err)
		}
		if result == store.Created {
			c.normal(key{cl.Name, spec.ID}, v1alpha1.EventCreated, "on %s", address(spec, spec.Port))
		}
		c.mu.Lock()
		c.nodeLocked(key{cl.Name, spec.ID})
		c.mu.Unlock()
	}
	return nil
}

// dropNodes forgets nodes that are not in the spec and have no process.
func (c *Controller) dropNodes(cl *v1alpha1.Cluster) error {
	objects, _, err := store.List[v1alpha1.Node](c.store, v1alpha1.KindNode, cl.Name)
	if err != nil {
		return err
	}
	for _, obj := range objects {
		if _, ok := cl.Spec.Node(obj.Name); ok {
			continue
		}
		k := key{cl.Name, obj.Name}
		c.mu.Lock()
		n := c.nodeLocked(k)
		gone := n.shown.passes > 0 && !n.lives()
		if gone {
			delete(c.nodes, k)
		}
		c.mu.Unlock()
		if !gone {
			c.queue.Add(k)
			continue
		}
		if err := c.forgetNode(k); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) forgetNode(k key) error {
	if err := c.store.DeleteRun(k.cluster, k.node); err != nil {
		return err
	}
	err := c.store.Delete(store.Key{Kind: v1alpha1.KindNode, Namespace: k.cluster, Name: k.node}, "")
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil {
		c.normal(k, v1alpha1.EventDeleted, "it is not in the spec any more, and has no process")
	}
	return err
}

// forgetCluster ends the deletion of a cluster whose processes have ended.
func (c *Controller) forgetCluster(cl *v1alpha1.Cluster) error {
	if cl.Annotations[purgeAnnotation] != "" {
		if _, err := purge(cl); err != nil {
			return err
		}
	}
	objects, _, err := store.List[v1alpha1.Node](c.store, v1alpha1.KindNode, cl.Name)
	if err != nil {
		return err
	}
	for _, obj := range objects {
		if err := c.forgetNode(key{cl.Name, obj.Name}); err != nil {
			return err
		}
	}
	if err := os.Remove(c.clusterFile(cl.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err = c.store.Delete(store.KeyOf(cl), cl.UID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodesLocked(cl.Name) {
		delete(c.nodes, n.key)
	}
	c.observed.forget(cl.Name)
	c.publishLocked()
	c.log.Info("cluster deleted", "cluster", cl.Name)
	c.deleted(cl)
	return nil
}

// purge removes the folders of a cluster's nodes, and the data root if nothing
// else is in it. It returns what it removed.
func purge(cl *v1alpha1.Cluster) (removed []string, err error) {
	for _, n := range cl.Spec.Nodes {
		dir := filepath.Join(cl.Spec.DataRoot, n.ID)
		if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return removed, fmt.Errorf("remove the data of node %s: %w", n.ID, err)
		}
		removed = append(removed, dir)
	}
	_ = os.Remove(cl.Spec.DataRoot) // it stays when something else is in it
	return removed, nil
}
