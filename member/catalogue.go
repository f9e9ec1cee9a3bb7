package member

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/topics"
	"github.com/wiber/wiber/topics/server"
	"github.com/wiber/wiber/topics/wire"
)

// The annotation of topics that a first publish made.
const (
	createdByKey   = "wiber.dev/created-by"
	createdByValue = "publish"
)

// catalogue is this node's copy of the catalogue, for readers in any goroutine.
// Its own group's lock is the last in the lock order, so a shard may read it
// under its lock.
type catalogue struct {
	g      *group
	cat    *topics.Catalogue
	formed chan struct{} // closed once the catalogue knows its cluster
	// largest is the largest maxMessageBytes that any topic has had since the
	// start, at least the default: what a connection must be able to carry.
	largest atomic.Int64

	mu      sync.Mutex // guards what follows
	changes []topicChange
	cut     uint64          // changes up to here are no longer in changes
	noted   uint64          // changes up to here are in changes; cat may be a moment ahead
	refused map[uint64]bool // uids that a leader called gone and this copy still has
	watches []*watch
}

// topicChange says that a topic was made, configured or deleted by an entry.
type topicChange struct {
	index uint64
	uid   uint64
	name  string
}

const maxTopicChanges = 16 << 10

func newCatalogue(g *group, cat *topics.Catalogue) *catalogue {
	c := &catalogue{g: g, cat: cat, formed: make(chan struct{})}
	c.largest.Store(int64(topics.DefaultSpec.MaxMessageBytes))
	return c
}

// Version, NextUID, Topic and DeletedSince make it a topics.CatalogueView.
func (c *catalogue) Version() uint64 {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return c.cat.Version()
}

func (c *catalogue) NextUID() uint64 {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return c.cat.NextUID()
}

func (c *catalogue) Topic(uid uint64) (topics.Topic, bool) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return c.cat.Topic(uid)
}

func (c *catalogue) DeletedSince(index uint64, uids []uint64) ([]uint64, bool) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return c.cat.DeletedSince(index, uids)
}

// Shard is the data shard of a stream.
func (c *catalogue) Shard(s topics.Stream) uint32 {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return c.cat.Shard(s)
}

func (c *catalogue) lookup(name string) (topics.Topic, bool) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	return c.cat.Lookup(name)
}

func (c *catalogue) isFormed() bool {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	_, ok := c.cat.Cluster()
	return ok
}

// catalogueApplied tells the shards and the watchers what the catalogue has
// applied, and returns who is to be woken.
func (e *Engine) catalogueApplied(outcomes []topics.Outcome) (wakes []func()) {
	version := e.cat.Version()
	select {
	case <-e.cat.formed:
	default:
		if e.cat.isFormed() {
			close(e.cat.formed)
		}
	}
	var deleted []uint64
	changed := false
	for i := range outcomes {
		if o := &outcomes[i]; o.Code == topics.OK && o.Effect != topics.Unchanged && o.UID != 0 {
			changed = true
			if o.Effect == topics.Deleted {
				deleted = append(deleted, o.UID)
			}
			e.cat.note(o.Index, o.UID)
		}
	}
	e.cat.noteAll(version, deleted)
	for _, g := range e.groups[1:] {
		g.mu.Lock()
		if g.state.Proposing {
			g.leader.CatalogueApplied(version)
			g.dirty.Store(true)
		}
		for _, uid := range deleted {
			wakes = append(wakes, g.wakesOfTopicLocked(uid)...)
		}
		g.mu.Unlock()
	}
	if changed {
		e.cat.mu.Lock()
		for _, w := range e.cat.watches {
			wakes = append(wakes, w.call)
		}
		e.cat.mu.Unlock()
	}
	e.c.Wake()
	return wakes
}

// note remembers a change for TopicChanges.
func (c *catalogue) note(index, uid uint64) {
	t, ok := c.Topic(uid)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.largest.Store(max(c.largest.Load(), int64(t.Spec.MaxMessageBytes)))
	name := t.Name
	if !ok {
		for i := len(c.changes) - 1; i >= 0 && name == ""; i-- {
			if c.changes[i].uid == uid {
				name = c.changes[i].name
			}
		}
	}
	if len(c.changes) >= maxTopicChanges {
		half := len(c.changes) / 2
		c.cut = c.changes[half-1].index
		c.changes = slices.Clone(c.changes[half:])
	}
	c.changes = append(c.changes, topicChange{index, uid, name})
}

// noteAll says that all changes up to an index have been noted.
func (c *catalogue) noteAll(index uint64, deleted []uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noted = index
	for _, uid := range deleted {
		delete(c.refused, uid)
	}
}

// refuse notes that a leader, whose copy is newer, no longer has a topic.
func (c *catalogue) refuse(uid uint64) {
	c.mu.Lock()
	if c.refused == nil {
		c.refused = make(map[uint64]bool)
	}
	c.refused[uid] = true
	c.mu.Unlock()
	if _, ok := c.Topic(uid); !ok { // this copy knows it too, perhaps since just now
		c.mu.Lock()
		delete(c.refused, uid)
		c.mu.Unlock()
	}
}

func (c *catalogue) isRefused(uid uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused[uid]
}

// Topic implements server.Backend.
func (e *Engine) Topic(name string) (*server.Topic, bool) {
	t, ok := e.cat.lookup(name)
	if !ok {
		return nil, false
	}
	return serverTopic(t), true
}

func serverTopic(t topics.Topic) *server.Topic {
	return &server.Topic{Name: t.Name, UID: t.UID, Generation: t.Generation,
		Partitions: t.Spec.Partitions, MaxMessageBytes: int(t.Spec.MaxMessageBytes)}
}

// Topics implements server.Backend.
func (e *Engine) Topics(after string, limit int) []*server.Topic {
	e.cat.g.mu.Lock()
	defer e.cat.g.mu.Unlock()
	names := e.cat.cat.Names()
	at, found := slices.BinarySearch(names, after)
	if found {
		at++
	}
	names = names[at:min(len(names), at+limit)]
	out := make([]*server.Topic, 0, len(names))
	for _, name := range names {
		if t, ok := e.cat.cat.Lookup(name); ok {
			out = append(out, serverTopic(t))
		}
	}
	return out
}

func (e *Engine) sortedTopics() []topics.Topic {
	e.cat.g.mu.Lock()
	defer e.cat.g.mu.Unlock()
	return e.cat.cat.Topics()
}

// TopicChanges implements server.Backend.
func (e *Engine) TopicChanges(since uint64) (changes []server.TopicChange, version uint64) {
	e.cat.mu.Lock()
	version = e.cat.noted
	known := since != 0 && since >= e.cat.cut
	var news []topicChange
	if known {
		for _, c := range e.cat.changes {
			if c.index > since {
				news = append(news, c)
			}
		}
	}
	e.cat.mu.Unlock()
	if !known {
		for _, t := range e.sortedTopics() {
			changes = append(changes, server.TopicChange{Name: t.Name, Topic: serverTopic(t)})
		}
		return changes, version
	}
	for _, c := range news {
		if t, ok := e.cat.Topic(c.uid); ok {
			changes = append(changes, server.TopicChange{Name: t.Name, Topic: serverTopic(t)})
		} else if c.name != "" {
			changes = append(changes, server.TopicChange{Name: c.name})
		}
	}
	return changes, version
}

// CatalogueVersion implements server.Backend.
func (e *Engine) CatalogueVersion() uint64 {
	e.cat.mu.Lock()
	defer e.cat.mu.Unlock()
	return e.cat.noted
}

// WatchTopics implements server.Backend.
func (e *Engine) WatchTopics(wake func()) (stop func()) {
	w := &watch{wake: wake}
	e.cat.mu.Lock()
	defer e.cat.mu.Unlock()
	e.cat.watches = append(e.cat.watches, w)
	return func() {
		w.end()
		e.cat.mu.Lock()
		defer e.cat.mu.Unlock()
		e.cat.watches = slices.DeleteFunc(e.cat.watches, func(x *watch) bool { return x == w })
	}
}

// Shard implements server.Backend.
func (e *Engine) Shard(uid uint64, partition uint32) uint32 {
	return e.cat.Shard(topics.Stream{UID: uid, Partition: partition})
}

// Leader implements server.Backend.
func (e *Engine) Leader(group uint64) string {
	if group >= uint64(len(e.groups)) {
		return ""
	}
	return e.nodeName(e.Status()[group].Leader)
}

// commit submits a change of the catalogue and waits until this node's copy
// shows it.
func (e *Engine) commit(ctx context.Context, r topics.Request) (topics.Result, error) {
	type answer struct {
		r   topics.Result
		err error
	}
	select {
	case <-e.cat.formed:
	case <-ctx.Done():
		return topics.Result{}, wire.Errorf(wire.NoQuorum, "the cluster is not formed yet: nothing was written; start more of the cluster's nodes, or try again")
	}
	answered := make(chan answer, 1)
	e.Change(r, 0, func(r topics.Result, err error) {
		if err != nil {
			answered <- answer{r, err}
			return
		}
		e.WhenApplied(raftnode.Catalogue, r.Index, func() { answered <- answer{r, nil} })
	})
	select {
	case a := <-answered:
		return a.r, a.err
	case <-ctx.Done():
		return topics.Result{}, wire.Errorf(wire.Timeout, "the catalogue did not answer in time: the outcome is unknown; look at the topic, or try again")
	}
}

// EnsureTopic implements server.Backend.
func (e *Engine) EnsureTopic(ctx context.Context, name string) (*server.Topic, error) {
	if !topics.ValidName(name) {
		return nil, wire.Errorf(wire.BadTopic, "%s", topics.BadTopic.Text(0))
	}
	if t, ok := e.Topic(name); ok && !e.cat.isRefused(t.UID) {
		return t, nil
	}
	if !e.c.AutoCreateTopics {
		if err := e.catalogueBarrier(ctx); err != nil {
			return nil, err
		}
		if t, ok := e.Topic(name); ok {
			return t, nil
		}
		return nil, wire.Errorf(wire.NoTopic, "topic %s does not exist and autoCreateTopics is false: make it with wiberctl apply", name)
	}
	r, err := e.commit(ctx, topics.NewCreate(topics.TopicChange{Name: name, Spec: topics.DefaultSpec, SetAnnotations: true,
		Annotations: []topics.Annotation{{Key: createdByKey, Value: createdByValue}}}))
	if err == nil {
		err = resultError(r)
	}
	if err != nil {
		return nil, err
	}
	if t, ok := e.Topic(name); ok {
		return t, nil
	}
	return nil, server.ErrTopicGone // deleted at once by somebody
}

// catalogueBarrier returns when this node's copy of the catalogue shows all that
// anybody was told of before.
func (e *Engine) catalogueBarrier(ctx context.Context) error {
	if _, err := e.Barrier(ctx, server.Linearizable, []server.Floor{{Group: server.Catalogue}}); err != nil {
		return wire.Errorf(wire.NoQuorum, "the catalogue has no leader that a majority confirms: nothing was written; start more of the cluster's nodes, or try again")
	}
	return nil
}

// TopicObject implements server.Backend.
func (e *Engine) TopicObject(name string) (*v1alpha1.Topic, bool) {
	t, ok := e.cat.lookup(name)
	if !ok {
		return nil, false
	}
	return e.topicObject(t), true
}

// PutTopic implements server.Backend.
func (e *Engine) PutTopic(ctx context.Context, t *v1alpha1.Topic) (*v1alpha1.Topic, server.Effect, error) {
	change := topics.TopicChange{Name: t.Name, Spec: topicSpec(t.Spec)}
	if t.Annotations != nil {
		change.SetAnnotations = true
		for k, v := range t.Annotations {
			change.Annotations = append(change.Annotations, topics.Annotation{Key: k, Value: v})
		}
		slices.SortFunc(change.Annotations, func(a, b topics.Annotation) int { return strings.Compare(a.Key, b.Key) })
	}
	r, err := e.commit(ctx, topics.NewPut(change))
	if err == nil && r.Code == topics.Shrink {
		err = &server.RefusedError{Reason: "spec.partitions: " + topics.Shrink.Text(0)}
	}
	if err == nil {
		err = resultError(r)
	}
	if err != nil {
		return nil, "", err
	}
	after, ok := e.TopicObject(t.Name)
	if !ok {
		return nil, "", server.ErrTopicGone
	}
	return after, effect(r.Effect), nil
}

// DeleteTopic implements server.Backend. Whether the data may go is asked of the
// newest catalogue, not of what this node happens to have applied.
func (e *Engine) DeleteTopic(ctx context.Context, name string, allowDataLoss bool) error {
	if err := e.catalogueBarrier(ctx); err != nil {
		return err
	}
	t, ok := e.cat.lookup(name)
	if !ok {
		return wire.Errorf(wire.NoTopic, "topic %s does not exist", name)
	}
	if !t.Spec.DeleteData && !allowDataLoss {
		return &server.RefusedError{Reason: "topic " + name + " has deletionPolicy Retain: deleting it would lose its messages; set deletionPolicy: Delete, or allow the data loss"}
	}
	r, err := e.commit(ctx, topics.NewDelete(topics.Delete{Name: name, UID: t.UID}))
	if err == nil {
		err = resultError(r)
	}
	return err
}

func effect(f topics.Effect) server.Effect {
	switch f {
	case topics.Created:
		return server.Created
	case topics.Configured:
		return server.Configured
	}
	return server.Unchanged
}

// Enter has the catalogue note the uid of a node that was absent when the
// cluster formed; see Bootstrap.
func (e *Engine) Enter(name string, uid UID) {
	e.Change(topics.NewEnter(topics.Enter{Name: name, UID: id16(string(uid))}), 0, func(topics.Result, error) {})
}

// Secret is the cluster's secret, if it was drawn in the catalogue and this node
// has applied that.
func (e *Engine) Secret() (Secret, bool) {
	e.cat.g.mu.Lock()
	defer e.cat.g.mu.Unlock()
	s, ok := e.cat.cat.Secret()
	return Secret(s), ok
}

// Membership is the folder's list with the uids that were entered since.
func (e *Engine) Membership() *Membership {
	m := e.c.Identity.Member.clone()
	e.cat.g.mu.Lock()
	defer e.cat.g.mu.Unlock()
	for _, n := range e.cat.cat.Nodes() {
		for i := range m.Nodes {
			if m.Nodes[i].Name == n.Name && m.Nodes[i].UID == "" && n.UID != [16]byte{} {
				m.Nodes[i].UID = UID(hex.EncodeToString(n.UID[:]))
			}
		}
	}
	return m
}

func topicSpec(s v1alpha1.TopicSpec) topics.Spec {
	return topics.Spec{
		Partitions:      uint32(s.Partitions),
		DedupWindowUS:   uint64(time.Duration(s.DedupWindow) / time.Microsecond),
		MaxMessageBytes: uint32(s.MaxMessageBytes),
		DeleteData:      s.DeletionPolicy == v1alpha1.DeletionDelete,
	}
}

func (e *Engine) topicObject(t topics.Topic) *v1alpha1.Topic {
	o := v1alpha1.NewTopic()
	o.Name, o.Namespace = t.Name, e.c.Identity.Member.Cluster
	o.UID = strconv.FormatUint(t.UID, 10)
	o.Generation = int64(t.Generation)
	o.CreationTimestamp = v1alpha1.Time{Time: time.UnixMicro(int64(t.CreatedTS)).UTC()}
	for _, a := range t.Annotations {
		if o.Annotations == nil {
			o.Annotations = make(map[string]string)
		}
		o.Annotations[a.Key] = a.Value
	}
	o.Spec.Partitions = int(t.Spec.Partitions)
	o.Spec.DedupWindow = v1alpha1.Duration(time.Duration(t.Spec.DedupWindowUS) * time.Microsecond)
	o.Spec.MaxMessageBytes = int(t.Spec.MaxMessageBytes)
	o.Spec.DeletionPolicy = v1alpha1.DeletionRetain
	if t.Spec.DeleteData {
		o.Spec.DeletionPolicy = v1alpha1.DeletionDelete
	}
	o.ResourceVersion = topicVersion(&t)
	return o
}

// topicVersion stands for all that can change of a topic: it is the same on every
// node and after every restart, and another one after a change. It has no order,
// because the catalogue does not keep at which index a topic changed.
func topicVersion(t *topics.Topic) string {
	h := fnv.New64a()
	put := func(s string) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		h.Write([]byte(s))
	}
	h.Write(binary.BigEndian.AppendUint64(nil, t.UID))
	h.Write(binary.BigEndian.AppendUint64(nil, t.Generation))
	for _, a := range t.Annotations {
		put(a.Key)
		put(a.Value)
	}
	return strconv.FormatUint(h.Sum64(), 10)
}
