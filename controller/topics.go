package controller

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/wiber/wiber/controller/apiserver"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// resultHeader is where a node says what a PUT did.
const resultHeader = "Wiber-Result"

// noTopic is the code by which a node says that there is no such topic.
const noTopic = "NO_TOPIC"

// Topics implements apiserver.Backend: the topics of one cluster, or of all.
func (c *Controller) Topics(ctx context.Context, cluster string) (v1alpha1.TopicList, error) {
	clusters, err := c.pickClusters(cluster)
	if err != nil {
		return v1alpha1.TopicList{}, err
	}
	var items []v1alpha1.Topic
	var version string
	for _, cl := range clusters {
		of, v, err := c.topicsOf(ctx, &cl)
		if err != nil {
			return v1alpha1.TopicList{}, err
		}
		items, version = append(items, of...), v
	}
	list := v1alpha1.NewList(v1alpha1.KindTopic, items)
	if len(clusters) == 1 { // several are not watched together
		list.Metadata.ResourceVersion = version
	}
	return list, nil
}

// Topic implements apiserver.Backend.
func (c *Controller) Topic(ctx context.Context, cluster, name string) (*v1alpha1.Topic, error) {
	cl, err := c.pick(cluster)
	if err != nil {
		return nil, err
	}
	return c.topic(ctx, cl, name)
}

func (c *Controller) topic(ctx context.Context, cl *v1alpha1.Cluster, name string) (*v1alpha1.Topic, error) {
	t := new(v1alpha1.Topic)
	if _, err := c.askNodes(ctx, cl, topicRequest{method: http.MethodGet, name: name}, t); err != nil {
		return nil, err
	}
	t.TypeMeta = v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindTopic}
	t.Namespace = cl.Name
	return t, nil
}

// PutTopic implements apiserver.Backend. The namespace of the topic, if it has
// one, says which cluster is meant.
func (c *Controller) PutTopic(ctx context.Context, cluster string, t *v1alpha1.Topic, dryRun bool) (apiserver.Put, error) {
	if t.Namespace != "" {
		if cluster != "" && cluster != t.Namespace {
			return apiserver.Put{}, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "the topic's namespace is %q and the request is about cluster %q", t.Namespace, cluster)
		}
		cluster = t.Namespace
	}
	cl, err := c.pick(cluster)
	if err != nil {
		return apiserver.Put{}, err
	}
	t.Namespace = cl.Name
	old, err := c.topic(ctx, cl, t.Name)
	if v1alpha1.ReasonOf(err) == v1alpha1.ReasonNotFound {
		old, err = nil, nil
	}
	if err != nil {
		return apiserver.Put{}, err
	}
	if err := agrees(t, old); err != nil {
		return apiserver.Put{}, err
	}
	if old != nil {
		if errs := t.ValidateUpdate(old); len(errs) > 0 {
			return apiserver.Put{}, v1alpha1.Invalid(v1alpha1.KindTopic, t.Name, errs)
		}
	}
	result := topicResult(old, t)
	if dryRun {
		return apiserver.Put{Object: t, Result: string(result)}, nil
	}
	// A whole object, so that the catalogue keeps the annotations; without what
	// the catalogue gives itself.
	body := &v1alpha1.Topic{TypeMeta: t.TypeMeta, ObjectMeta: v1alpha1.ObjectMeta{Name: t.Name, Annotations: t.Annotations}, Spec: t.Spec}
	now := new(v1alpha1.Topic)
	header, err := c.askNodes(ctx, cl, topicRequest{method: http.MethodPut, name: t.Name, body: body}, now)
	if err != nil {
		return apiserver.Put{}, err
	}
	now.Namespace = cl.Name
	if said := store.Result(header.Get(resultHeader)); slices.Contains([]store.Result{store.Created, store.Configured, store.Unchanged}, said) {
		result = said
	}
	c.topicsChanged(cl.Name)
	switch result {
	case store.Created:
		c.topicEvent(now, v1alpha1.EventCreated, "somebody applied it")
	case store.Configured:
		c.topicEvent(now, v1alpha1.EventConfigured, "somebody changed it")
	case store.Unchanged:
	}
	return apiserver.Put{Object: now, Result: string(result)}, nil
}

// agrees checks what a writer says it has read.
func agrees(t, old *v1alpha1.Topic) error {
	var have v1alpha1.ObjectMeta
	if old != nil {
		have = old.ObjectMeta
	}
	if t.UID != "" && t.UID != have.UID || t.ResourceVersion != "" && t.ResourceVersion != have.ResourceVersion {
		return apiError(t, store.ErrConflict)
	}
	return nil
}

func topicResult(old, t *v1alpha1.Topic) store.Result {
	switch {
	case old == nil:
		return store.Created
	case old.Spec != t.Spec || t.Annotations != nil && !maps.Equal(old.Annotations, t.Annotations):
		return store.Configured
	}
	return store.Unchanged
}

// DeleteTopic implements apiserver.Backend.
func (c *Controller) DeleteTopic(ctx context.Context, cluster, name string, allowDataLoss, dryRun bool) error {
	cl, err := c.pick(cluster)
	if err != nil {
		return err
	}
	if dryRun {
		t, err := c.topic(ctx, cl, name)
		if err == nil && t.Spec.DeletionPolicy != v1alpha1.DeletionDelete && !allowDataLoss {
			err = v1alpha1.Conflict(v1alpha1.KindTopic, name, "its deletionPolicy is Retain; --allow-data-loss (?allow-data-loss=true) deletes its messages all the same")
		}
		return err
	}
	r := topicRequest{method: http.MethodDelete, name: name}
	if allowDataLoss {
		r.query = url.Values{"allow-data-loss": {"true"}}
	}
	_, err = c.askNodes(ctx, cl, r, nil)
	if err == nil {
		c.topicsChanged(cl.Name)
		c.topicEvent(&v1alpha1.Topic{ObjectMeta: v1alpha1.ObjectMeta{Name: name, Namespace: cl.Name}}, v1alpha1.EventDeleted, "somebody deleted it, with its messages")
	}
	return err
}

// askNodes sends a request to one node after the other until one answers: those
// that are ready first. Every such request may be sent twice without harm.
func (c *Controller) askNodes(ctx context.Context, cl *v1alpha1.Cluster, r topicRequest, into any) (http.Header, error) {
	var ready, others []string
	c.mu.Lock()
	for _, spec := range cl.Spec.Nodes {
		n := c.nodeLocked(key{cl.Name, spec.ID})
		switch {
		case n.seen.Ready:
			ready = append(ready, address(spec, spec.HTTPPort))
		case n.seen.Alive:
			others = append(others, address(spec, spec.HTTPPort))
		}
	}
	c.mu.Unlock()
	why := "no node of it runs"
	for _, addr := range append(ready, others...) {
		header, err := c.o.nodes.Topic(ctx, addr, r, into)
		if err == nil {
			return header, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var ne *nodeError
		if errors.As(err, &ne) && ne.tells() {
			return nil, topicError(r.name, ne)
		}
		why = briefly(err)
	}
	return nil, v1alpha1.NewStatus(v1alpha1.ReasonServiceUnavailable, "no node of cluster %q answers: %s", cl.Name, why)
}

// tells says whether the answer is about the topic, so that no other node would
// know better. A node whose cluster is still forming does not know the path.
func (e *nodeError) tells() bool {
	switch e.status {
	case http.StatusServiceUnavailable:
		return false
	case http.StatusNotFound:
		return e.code == noTopic
	}
	return true
}

// topicError turns a node's refusal into what a client is told.
func topicError(name string, ne *nodeError) error {
	switch ne.status {
	case http.StatusNotFound:
		return v1alpha1.NotFound(v1alpha1.KindTopic, name)
	case http.StatusConflict:
		return v1alpha1.Conflict(v1alpha1.KindTopic, name, strings.TrimSpace(ne.message))
	case http.StatusBadRequest:
		return v1alpha1.NewStatus(v1alpha1.ReasonInvalid, "topic %q: %s", name, ne.message)
	case http.StatusRequestEntityTooLarge:
		return v1alpha1.NewStatus(v1alpha1.ReasonTooLarge, "topic %q: %s", name, ne.message)
	case http.StatusGatewayTimeout:
		return v1alpha1.NewStatus(v1alpha1.ReasonTimeout, "topic %q: %s", name, ne.message)
	}
	return v1alpha1.NewStatus(v1alpha1.ReasonInternalError, "topic %q: %s", name, ne.message)
}
