package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/wiber/wiber/controller/apiserver"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// Clusters implements apiserver.Backend.
func (c *Controller) Clusters(name string) (v1alpha1.ClusterList, error) {
	items, version, err := store.List[v1alpha1.Cluster](c.store, v1alpha1.KindCluster, "")
	if name != "" {
		items = slices.DeleteFunc(items, func(cl v1alpha1.Cluster) bool { return cl.Name != name })
		if err == nil && len(items) == 0 {
			err = v1alpha1.NotFound(v1alpha1.KindCluster, name)
		}
	}
	list := v1alpha1.NewList(v1alpha1.KindCluster, items)
	list.Metadata.ResourceVersion = version
	return list, err
}

// Cluster implements apiserver.Backend.
func (c *Controller) Cluster(name string) (*v1alpha1.Cluster, error) { return c.cluster(name) }

// Nodes implements apiserver.Backend.
func (c *Controller) Nodes(cluster string) (v1alpha1.NodeList, error) {
	if cluster != "" {
		if _, err := c.cluster(cluster); err != nil {
			return v1alpha1.NodeList{}, err
		}
	}
	items, version, err := store.List[v1alpha1.Node](c.store, v1alpha1.KindNode, cluster)
	list := v1alpha1.NewList(v1alpha1.KindNode, items)
	list.Metadata.ResourceVersion = version
	return list, err
}

// Node implements apiserver.Backend.
func (c *Controller) Node(cluster, name string) (*v1alpha1.Node, error) {
	cl, _, err := c.pickNode(cluster, name)
	if err != nil {
		return nil, err
	}
	n := new(v1alpha1.Node)
	err = c.store.Get(store.Key{Kind: v1alpha1.KindNode, Namespace: cl.Name, Name: name}, n)
	if errors.Is(err, store.ErrNotFound) {
		return nil, v1alpha1.NotFound(v1alpha1.KindNode, name)
	}
	return n, err
}

// PutCluster implements apiserver.Backend.
func (c *Controller) PutCluster(cl *v1alpha1.Cluster, dryRun bool) (apiserver.Put, error) {
	c.applyMu.Lock()
	defer c.applyMu.Unlock()
	c.mu.Lock()
	down := c.down
	c.mu.Unlock()
	if down != "" {
		return apiserver.Put{}, v1alpha1.NewStatus(v1alpha1.ReasonServiceUnavailable, "%s", down)
	}
	old, err := c.cluster(cl.Name)
	switch {
	case v1alpha1.ReasonOf(err) == v1alpha1.ReasonNotFound:
		old = nil
	case err != nil:
		return apiserver.Put{}, err
	case old.DeletionTimestamp != nil:
		return apiserver.Put{}, v1alpha1.Conflict(v1alpha1.KindCluster, cl.Name, "it is being deleted; try again when it is gone")
	}
	if err := c.admit(cl, old); err != nil {
		return apiserver.Put{}, c.refusedApply(cl, old, dryRun, err)
	}
	delete(cl.Annotations, purgeAnnotation)
	result, err := c.store.Put(cl, dryRun)
	if err != nil {
		return apiserver.Put{}, apiError(cl, err)
	}
	if !dryRun {
		c.applied(cl, result, nil)
		if err := c.makeNodes(cl); err != nil { // so that whoever looks next sees them
			return apiserver.Put{}, err
		}
	}
	put := apiserver.Put{Object: cl, Result: string(result)}
	if old != nil {
		put.Warnings = changes(old, cl)
	}
	if !dryRun && result != store.Unchanged {
		c.log.Info("cluster applied", "cluster", cl.Name, "action", string(result), "generation", cl.Generation)
	}
	return put, nil
}

// admit says why a cluster cannot be stored. old is the one it replaces, or nil.
func (c *Controller) admit(cl, old *v1alpha1.Cluster) error {
	errs := cl.ValidateStored()
	if old != nil {
		errs = append(errs, cl.ValidateUpdate(old)...)
	}
	others, _, err := store.List[v1alpha1.Cluster](c.store, v1alpha1.KindCluster, "")
	if err != nil {
		return err
	}
	errs = append(errs, cl.ValidateAmong(others)...)
	if len(errs) == 0 {
		errs = c.foreignPorts(cl, old)
	}
	if len(errs) > 0 {
		return v1alpha1.Invalid(v1alpha1.KindCluster, cl.Name, errs)
	}
	return nil
}

// foreignPorts says which ports, of those that the cluster did not have before,
// another program has. A process of the very same node is none.
func (c *Controller) foreignPorts(cl, old *v1alpha1.Cluster) v1alpha1.FieldErrors {
	had := map[string]bool{}
	if old != nil {
		for _, n := range old.Spec.Nodes {
			for _, port := range []int{n.Port, n.PeerPort, n.HTTPPort} {
				had[address(n, port)] = true
			}
		}
	}
	var errs v1alpha1.FieldErrors
	for i, n := range cl.Spec.Nodes {
		if had[address(n, n.Port)] && had[address(n, n.PeerPort)] && had[address(n, n.HTTPPort)] || n.Stopped {
			continue
		}
		if err := c.portsFree(c.ctx, key{cl.Name, n.ID}, &cl.Spec, n); err != nil {
			errs = append(errs, v1alpha1.FieldError{Field: fmt.Sprintf("spec.nodes[%d].port", i), Message: err.Error()})
		}
	}
	return errs
}

// changes tells what a person may not expect of replacing a spec.
func changes(old, cl *v1alpha1.Cluster) []string {
	var warnings []string
	for _, n := range cl.Spec.Nodes {
		was, ok := old.Spec.Node(n.ID)
		switch {
		case !ok:
		case was.Stopped && !n.Stopped:
			warnings = append(warnings, fmt.Sprintf("starts %s, which was stopped", n.ID))
		case !was.Stopped && n.Stopped:
			warnings = append(warnings, fmt.Sprintf("stops %s", n.ID))
		}
	}
	if settingsHash(&old.Spec) != settingsHash(&cl.Spec) {
		warnings = append(warnings, "restarts the nodes one after the other, so that they take the new settings")
	}
	return warnings
}

// DeleteCluster implements apiserver.Backend.
func (c *Controller) DeleteCluster(ctx context.Context, name string, withData, dryRun bool) error {
	c.applyMu.Lock()
	cl, err := c.cluster(name)
	if err == nil && !dryRun {
		cl.Annotations = maps.Clone(cl.Annotations)
		delete(cl.Annotations, purgeAnnotation)
		if withData {
			if cl.Annotations == nil {
				cl.Annotations = map[string]string{}
			}
			cl.Annotations[purgeAnnotation] = "true"
		}
		err = apiError(cl, c.store.MarkDeleted(cl))
	}
	c.applyMu.Unlock()
	if err != nil || dryRun {
		return err
	}
	c.log.Info("cluster is being deleted", "cluster", name, "purge", withData)
	c.normal(key{cluster: name}, v1alpha1.EventDeleting, "%s", deleting(withData))
	c.messengers.retire(name)
	return c.wait(ctx, func() (bool, error) {
		now, err := c.cluster(name)
		if v1alpha1.ReasonOf(err) == v1alpha1.ReasonNotFound {
			return true, nil
		}
		return err == nil && now.UID != cl.UID, err
	})
}

// absolute makes a path absolute against this process's working folder.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("make the data root absolute: %w", err)
	}
	return abs, nil
}
