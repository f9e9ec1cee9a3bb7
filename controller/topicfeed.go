package controller

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wiber/wiber/controller/apiserver"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

const (
	// topicsEvery is how often a watched catalogue is compared with what nodes say
	// that they have applied of it; only if that is more are they asked.
	topicsEvery = time.Second
	// topicsLinger is how long what is known of a catalogue is kept for clients
	// that list, or come back to a watch.
	topicsLinger = 5 * time.Minute
)

// topicFeed is the topics of one cluster as its nodes last told, and how they
// changed. The cluster's catalogue keeps topics, not the controller; so a watch
// of them compares lists. Changes between two lists that undo each other are not
// seen, and all of one comparison get their versions together.
//
// It exists while somebody watches or has listed not long ago. Its versions are
// of the store, so those of another feed, or another controller, are Expired.
type topicFeed struct {
	cluster, uid string
	history      *store.History
	turn         chan struct{} // holds one: who asks the nodes
	kick         chan struct{} // holds one: something changed

	mu       sync.Mutex // guards what follows; versions are taken from the store under it
	begun    bool       // there was a list
	topics   map[string]v1alpha1.Topic
	version  uint64 // of topics
	index    uint64 // of the catalogue: topics show at least all up to it
	stale    bool   // there was a change that they may not show
	watchers int
	used     time.Duration // when it was of use last, on the monotonic clock
}

// topicFeeds are the feeds of all clusters.
type topicFeeds struct {
	mu    sync.Mutex // taken before that of a feed
	feeds map[string]*topicFeed
}

// topicFeed returns the feed of a cluster, begun if there is none. It goes on for
// a watcher until it is released, for others a while.
func (c *Controller) topicFeed(cl *v1alpha1.Cluster, watch bool) (*topicFeed, error) {
	c.topicFeeds.mu.Lock()
	defer c.topicFeeds.mu.Unlock()
	f := c.topicFeeds.feeds[cl.Name]
	if f == nil || f.uid != cl.UID {
		version, err := c.store.NewVersions(v1alpha1.KindTopic, 1)
		if err != nil {
			return nil, err
		}
		f = &topicFeed{cluster: cl.Name, uid: cl.UID, history: store.NewHistory(version), version: version,
			turn: make(chan struct{}, 1), kick: make(chan struct{}, 1), topics: map[string]v1alpha1.Topic{}}
		c.topicFeeds.feeds[cl.Name] = f
		c.wg.Go(func() { c.runTopicFeed(f) })
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used = c.clock.Mono()
	if watch {
		f.watchers++
	}
	return f, nil
}

// release ends the use of a watcher.
func (f *topicFeed) release(now time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers--
	f.used = now
}

// runTopicFeed keeps a feed fresh while somebody watches, and ends it when nobody
// needs it, or its cluster is gone.
func (c *Controller) runTopicFeed(f *topicFeed) {
	ticker := c.clock.NewTicker(topicsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-f.kick:
		case <-ticker.C():
		}
		if c.endTopicFeed(f) {
			return
		}
		if f.behind(c.catalogueIndex(f.cluster)) {
			ctx, cancel := context.WithTimeout(c.ctx, 2*probeTimeout)
			_ = c.refreshTopics(ctx, f) // nodes that do not answer are asked again
			cancel()
		}
	}
}

// endTopicFeed ends a feed that nobody needs, or that has no cluster any more.
func (c *Controller) endTopicFeed(f *topicFeed) (ended bool) {
	cl, err := c.cluster(f.cluster)
	gone := v1alpha1.ReasonOf(err) == v1alpha1.ReasonNotFound || err == nil && cl.UID != f.uid
	c.topicFeeds.mu.Lock()
	defer c.topicFeeds.mu.Unlock()
	f.mu.Lock()
	idle := f.watchers == 0 && c.clock.Mono()-f.used > topicsLinger
	f.mu.Unlock()
	if !gone && !idle {
		return false
	}
	if c.topicFeeds.feeds[f.cluster] == f {
		delete(c.topicFeeds.feeds, f.cluster)
	}
	f.history.Close(v1alpha1.NotFound(v1alpha1.KindCluster, f.cluster))
	return true
}

// behind says whether somebody watches and nodes may have news. The index is how
// far they have applied the catalogue.
func (f *topicFeed) behind(index uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watchers > 0 && (f.stale || index > f.index)
}

// catalogueIndex is how far any node has applied the catalogue, as it last told.
func (c *Controller) catalogueIndex(cluster string) (index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodesLocked(cluster) {
		for _, g := range n.groups {
			if g.ID == catalogue {
				index = max(index, g.Applied)
			}
		}
	}
	return index
}

// topicsChanged lets the feed of a cluster look at once, if there is one: a
// change went through this controller.
func (c *Controller) topicsChanged(cluster string) {
	c.topicFeeds.mu.Lock()
	defer c.topicFeeds.mu.Unlock()
	f := c.topicFeeds.feeds[cluster]
	if f == nil {
		return
	}
	f.mu.Lock()
	f.stale = true
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// refreshTopics asks the nodes for all topics and notes what changed.
func (c *Controller) refreshTopics(ctx context.Context, f *topicFeed) error {
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-f.turn }()
	cl, err := c.cluster(f.cluster)
	if err != nil {
		return err
	}
	var list v1alpha1.TopicList
	if _, err := c.askNodes(ctx, cl, topicRequest{method: http.MethodGet}, &list); err != nil {
		return err
	}
	index, _ := strconv.ParseUint(list.Metadata.ResourceVersion, 10, 64) // 0: it does not say
	now := make(map[string]v1alpha1.Topic, len(list.Items))
	for _, t := range list.Items {
		t.Namespace = f.cluster
		now[t.Name] = t
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if index < f.index {
		return nil // the answer of a node that lags behind
	}
	changes, err := difference(f.topics, now)
	if err != nil {
		return err
	}
	version := f.version
	if len(changes) > 0 {
		first, err := c.store.NewVersions(v1alpha1.KindTopic, len(changes))
		if err != nil {
			return err
		}
		for i := range changes {
			changes[i].Version = first + uint64(i)
		}
		version = changes[len(changes)-1].Version
	}
	if f.begun {
		f.history.Append(changes...)
	} else { // what the feed begins with is no change
		f.history.Begin(version)
	}
	f.begun, f.topics, f.index, f.version, f.stale = true, now, index, version, false
	return nil
}

// difference returns what makes one set of topics from another: those that went,
// then those that came or changed, by name.
func difference(old, now map[string]v1alpha1.Topic) (changes []store.Change, err error) {
	change := func(kind v1alpha1.WatchType, t v1alpha1.Topic) {
		b, merr := json.Marshal(t)
		if merr != nil {
			err = merr
		}
		changes = append(changes, store.Change{Type: kind, Key: store.Key{Kind: v1alpha1.KindTopic, Namespace: t.Namespace, Name: t.Name}, Object: b})
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if was := old[name]; now[name].UID != was.UID {
			change(v1alpha1.WatchDeleted, was)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		t := now[name]
		switch was := old[name]; {
		case was.UID != t.UID:
			change(v1alpha1.WatchAdded, t)
		case was.ResourceVersion != t.ResourceVersion || was.Generation != t.Generation || !maps.Equal(was.Annotations, t.Annotations):
			change(v1alpha1.WatchModified, t)
		}
	}
	return changes, err
}

// listed returns the topics of the feed, by name, and their version.
func (f *topicFeed) listed() (items []v1alpha1.Topic, version string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.topics {
		items = append(items, t)
	}
	slices.SortFunc(items, func(a, b v1alpha1.Topic) int { return strings.Compare(a.Name, b.Name) })
	return items, strconv.FormatUint(f.version, 10)
}

// topicsOf returns the topics of a cluster as a node of it tells now, and their
// version.
func (c *Controller) topicsOf(ctx context.Context, cl *v1alpha1.Cluster) (items []v1alpha1.Topic, version string, err error) {
	f, err := c.topicFeed(cl, false)
	if err != nil {
		return nil, "", err
	}
	if err := c.refreshTopics(ctx, f); err != nil {
		return nil, "", err
	}
	items, version = f.listed()
	return items, version, nil
}

// watchTopics begins a watch of the topics of one cluster.
func (c *Controller) watchTopics(ctx context.Context, o apiserver.WatchOptions) (_ apiserver.Watch, err error) {
	cl, err := c.pick(o.Cluster)
	if err != nil {
		return nil, err
	}
	f, err := c.topicFeed(cl, true)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.release(c.clock.Mono())
		}
	}()
	if err := c.refreshTopics(ctx, f); err != nil {
		return nil, err
	}
	w := &watch{o: o, close: func() { f.release(c.clock.Mono()) }}
	items, listed := f.listed()
	version := o.Version
	if version == "" {
		var objects []v1alpha1.Object
		for i := range items {
			if wanted(o, store.KeyOf(&items[i])) {
				objects = append(objects, &items[i])
			}
		}
		if err := w.begin(objects, listed); err != nil {
			return nil, err
		}
		version = listed
	}
	w.follower, w.expired = f.history.FollowVersion(version)
	return w, nil
}
