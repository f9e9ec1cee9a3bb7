package controller

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/wiber/wiber/controller/apiserver"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// Watch implements apiserver.Backend.
func (c *Controller) Watch(ctx context.Context, o apiserver.WatchOptions) (apiserver.Watch, error) {
	if o.Kind == v1alpha1.KindTopic {
		return c.watchTopics(ctx, o)
	}
	if o.Kind == v1alpha1.KindNode && o.Cluster == "" && o.Name != "" {
		// One that does not exist yet may be watched; one of several may not.
		if _, _, err := c.pickNode("", o.Name); err != nil && v1alpha1.ReasonOf(err) != v1alpha1.ReasonNotFound {
			return nil, err
		}
	}
	w := &watch{o: o}
	version := o.Version
	if version == "" {
		objects, listed, err := c.listForWatch(o)
		if err != nil {
			return nil, err
		}
		if err := w.begin(objects, listed); err != nil {
			return nil, err
		}
		version = listed
	}
	var err error
	if w.follower, err = c.store.Follow(o.Kind, version); errors.Is(err, store.ErrExpired) {
		w.expired, err = err, nil
	}
	return w, err
}

// listForWatch returns what a watch begins with, and its version.
func (c *Controller) listForWatch(o apiserver.WatchOptions) (objects []v1alpha1.Object, version string, err error) {
	keep := func(object v1alpha1.Object) {
		if wanted(o, store.KeyOf(object)) {
			objects = append(objects, object)
		}
	}
	switch o.Kind {
	case v1alpha1.KindCluster:
		list, err := c.Clusters("")
		for i := range list.Items {
			keep(&list.Items[i])
		}
		return objects, list.Metadata.ResourceVersion, err
	case v1alpha1.KindNode:
		list, err := c.Nodes("")
		for i := range list.Items {
			keep(&list.Items[i])
		}
		return objects, list.Metadata.ResourceVersion, err
	default:
		list, err := c.Events("", o.Object)
		for i := range list.Items {
			keep(&list.Items[i])
		}
		return objects, list.Metadata.ResourceVersion, err
	}
}

// wanted says whether a watch is about the object of that key.
func wanted(o apiserver.WatchOptions, k store.Key) bool {
	cluster := k.Namespace
	if k.Kind == v1alpha1.KindCluster {
		cluster = k.Name
	}
	return (o.Cluster == "" || o.Cluster == cluster) && (o.Name == "" || o.Name == k.Name)
}

// watch is a watch that reads a history.
type watch struct {
	o        apiserver.WatchOptions
	first    []v1alpha1.WatchEvent // what it begins with
	follower *store.Follower
	expired  error // it never began
	close    func()
}

// begin lets the watch begin with objects, and a bookmark.
func (w *watch) begin(objects []v1alpha1.Object, version string) error {
	for _, object := range objects {
		b, err := json.Marshal(object)
		if err != nil {
			return err
		}
		w.first = append(w.first, v1alpha1.WatchEvent{Type: v1alpha1.WatchAdded, Object: b})
	}
	w.first = append(w.first, apiserver.Bookmark(w.o.Kind, version))
	return nil
}

// Next implements apiserver.Watch.
func (w *watch) Next(ctx context.Context) ([]v1alpha1.WatchEvent, error) {
	if first := w.first; len(first) > 0 {
		w.first = nil
		return first, nil
	}
	for {
		if w.expired != nil {
			return nil, expired(w.expired)
		}
		changes, err := w.follower.Next(ctx)
		if err != nil {
			return nil, expired(err)
		}
		var events []v1alpha1.WatchEvent
		for _, change := range changes {
			if wanted(w.o, change.Key) && involves(w.o.Object, change) {
				events = append(events, v1alpha1.WatchEvent{Type: change.Type, Object: change.Object})
			}
		}
		if len(events) > 0 {
			return events, nil
		}
	}
}

// expired tells a client what to do when a watch cannot go on.
func expired(err error) error {
	if errors.Is(err, store.ErrExpired) {
		return v1alpha1.NewStatus(v1alpha1.ReasonExpired, "%v; list again and watch from there", err)
	}
	return err
}

// involves says whether a change is one of an event about the object, if there is
// one.
func involves(o v1alpha1.ObjectReference, change store.Change) bool {
	if o.Kind == "" {
		return true
	}
	var e v1alpha1.Event
	return json.Unmarshal(change.Object, &e) == nil && e.InvolvedObject.Kind == o.Kind && e.InvolvedObject.Name == o.Name
}

// Version implements apiserver.Watch.
func (w *watch) Version() string { return strconv.FormatUint(w.follower.Version(), 10) }

// Close implements apiserver.Watch.
func (w *watch) Close() {
	if w.close != nil {
		w.close()
	}
}
