package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/wiber/wiber/controller/plan"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

const (
	// eventWindow is how long after it happened last an event still counts up
	// instead of being told anew.
	eventWindow = 10 * time.Minute
	// eventDelay is how long an event waits for others, so that a burst of them
	// costs one fsync.
	eventDelay = 50 * time.Millisecond
	// maxPending bounds what waits while the disk refuses to take events.
	maxPending = store.EventsPerCluster
)

// recorder writes events. Whoever records one does not wait: run writes them, in
// bursts, and flush does for who wants to read them now. A controller that is
// killed loses those of the last eventDelay.
type recorder struct {
	store *store.Store
	clock timesvc.Clock
	log   *slog.Logger
	wakec chan struct{} // holds one: something is pending

	flushMu sync.Mutex // one flush at a time; taken before mu

	mu      sync.Mutex // never held across I/O
	recent  map[happening]*noted
	pending []happening // what is to be written, in order, each once
	lost    int         // events that were dropped because maxPending were waiting
	counts  map[kindOfEvent]uint64
}

// noted is an event that still counts up.
type noted struct {
	v1alpha1.Event
	pending bool
}

// kindOfEvent is what events are counted by.
type kindOfEvent struct {
	eventType v1alpha1.EventType
	reason    string
}

// happening is what makes two events the same one.
type happening struct {
	cluster, kind, name, reason, message, source string
}

func happeningOf(e *v1alpha1.Event) happening {
	return happening{e.Namespace, e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message, e.Source.Component}
}

func newRecorder(st *store.Store, clock timesvc.Clock, log *slog.Logger) *recorder {
	return &recorder{store: st, clock: clock, log: log, wakec: make(chan struct{}, 1), recent: map[happening]*noted{}, counts: map[kindOfEvent]uint64{}}
}

// load reads the events of an earlier controller, so that they count up.
func (r *recorder) load() error {
	events, _, err := r.store.Events("")
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range events {
		if e := events[i]; r.clock.Now().Sub(e.LastTimestamp.Time) < eventWindow {
			r.recent[happeningOf(&e)] = &noted{Event: e}
		}
	}
	return nil
}

// record takes note of an event: object, type, reason, message, source, and what
// annotations it has. Its times and its count are the recorder's.
func (r *recorder) record(e v1alpha1.Event) {
	now := v1alpha1.MicroTime{Time: r.clock.Now()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[kindOfEvent{e.EventType, e.Reason}]++
	h := happeningOf(&e)
	known := r.recent[h]
	if known == nil || !known.pending {
		if len(r.pending) >= maxPending {
			r.lost++
			return
		}
		r.pending = append(r.pending, h)
	}
	if known != nil && now.Sub(known.LastTimestamp.Time) < eventWindow {
		known.Count++
		known.LastTimestamp, known.pending = now, true
	} else {
		e.Count, e.FirstTimestamp, e.LastTimestamp = 1, now, now
		r.recent[h] = &noted{e, true}
	}
	select {
	case r.wakec <- struct{}{}:
	default:
	}
}

// run writes what is recorded, until ctx ends. What is recorded while others end
// is for a flush after them.
func (r *recorder) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wakec:
		}
		timer := r.clock.NewTimer(eventDelay)
		select {
		case <-ctx.Done():
		case <-timer.C():
		}
		timer.Stop()
		r.flush()
	}
}

// flush writes what is pending. What cannot be written stays pending, and is
// tried again with the next event.
func (r *recorder) flush() {
	r.flushMu.Lock()
	defer r.flushMu.Unlock()
	events := r.take()
	if len(events) == 0 {
		return
	}
	err := r.store.PutEvents(events)
	if err != nil {
		r.log.Error("events are not written", "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var again []happening
	for _, e := range events {
		known := r.recent[happeningOf(e)]
		switch {
		case err == nil && known.FirstTimestamp == e.FirstTimestamp:
			known.ObjectMeta, known.InvolvedObject = e.ObjectMeta, e.InvolvedObject
		case err != nil && !known.pending:
			known.pending = true
			again = append(again, happeningOf(e))
		}
	}
	r.pending = append(again, r.pending...)
	for h, e := range r.recent {
		if !e.pending && r.clock.Now().Sub(e.LastTimestamp.Time) >= eventWindow {
			delete(r.recent, h)
		}
	}
}

// take returns copies of what is pending, which then is not.
func (r *recorder) take() []*v1alpha1.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost > 0 {
		r.log.Error("events are lost", "reason", "the state folder takes none", "count", r.lost)
		r.lost = 0
	}
	var events []*v1alpha1.Event
	for _, h := range r.pending {
		e := r.recent[h]
		e.pending = false
		events = append(events, e.Clone())
	}
	r.pending = nil
	return events
}

// normal records an event that nobody has to act on, about a node, or about a
// cluster if the key names no node.
func (c *Controller) normal(k key, reason, format string, args ...any) {
	c.events.record(about(k, v1alpha1.EventNormal, reason, fmt.Sprintf(format, args...)))
}

// warning records an event that somebody may have to act on.
func (c *Controller) warning(k key, reason, format string, args ...any) {
	c.events.record(about(k, v1alpha1.EventWarning, reason, fmt.Sprintf(format, args...)))
}

func about(k key, kind v1alpha1.EventType, reason, message string) v1alpha1.Event {
	e := v1alpha1.Event{EventType: kind, Reason: reason, Message: message, Source: v1alpha1.EventSource{Component: v1alpha1.SourceController}}
	e.Namespace = k.cluster
	e.InvolvedObject = v1alpha1.ObjectReference{Kind: v1alpha1.KindNode, Namespace: k.cluster, Name: k.node}
	if k.node == "" {
		e.InvolvedObject = v1alpha1.ObjectReference{Kind: v1alpha1.KindCluster, Name: k.cluster}
	}
	return e
}

// topicEvent records an event about a topic.
func (c *Controller) topicEvent(t *v1alpha1.Topic, reason, message string) {
	e := about(key{cluster: t.Namespace}, v1alpha1.EventNormal, reason, message)
	e.InvolvedObject = v1alpha1.ObjectReference{Kind: v1alpha1.KindTopic, Namespace: t.Namespace, Name: t.Name, UID: t.UID}
	c.events.record(e)
}

// refused records that something was refused, and returns the refusal. A request
// that is only tried out is no event.
func (c *Controller) refused(k key, dryRun bool, err error) error {
	if err != nil && !dryRun {
		c.warning(k, v1alpha1.EventRefused, "%v", err)
	}
	return err
}

// refusedApply records that a change of a cluster was refused. A cluster that
// does not exist has no events.
func (c *Controller) refusedApply(cl, old *v1alpha1.Cluster, dryRun bool, err error) error {
	if old == nil {
		return err
	}
	return c.refused(key{cluster: cl.Name}, dryRun, err)
}

// applied records what a Put of a cluster did.
func (c *Controller) applied(cl *v1alpha1.Cluster, result store.Result, err error) {
	switch {
	case err != nil || result == store.Unchanged:
	case result == store.Created:
		c.normal(key{cluster: cl.Name}, v1alpha1.EventCreated, "%d nodes, %d shards", len(cl.Spec.Nodes), cl.Spec.Shards)
	default:
		c.normal(key{cluster: cl.Name}, v1alpha1.EventConfigured, "generation %d", cl.Generation)
	}
}

func deleting(withData bool) string {
	if withData {
		return "its nodes are stopped and their data is removed"
	}
	return "its nodes are stopped; their data stays"
}

// deleted records that a cluster is gone. Its uid cannot be looked up any more.
func (c *Controller) deleted(cl *v1alpha1.Cluster) {
	e := about(key{cluster: cl.Name}, v1alpha1.EventNormal, v1alpha1.EventDeleted, "its nodes have ended")
	e.InvolvedObject.UID = cl.UID
	c.events.record(e)
}

// exited records the end of a process, and what follows from it. That a held
// node is not tried again is told by its Held event.
func (c *Controller) exited(k key, pid int, how plan.Ending, run store.Run, held bool) {
	if how.Asked {
		c.normal(k, v1alpha1.EventExited, "pid %d: %s, after it was asked to end", pid, how.How)
		return
	}
	c.warning(k, v1alpha1.EventExited, "pid %d: %s", pid, how.How)
	switch {
	case run.Halted != "":
		c.warning(k, v1alpha1.EventHalted, "%s", run.Halted)
	case !run.NextStart.IsZero() && !held:
		c.warning(k, v1alpha1.EventBackOff, "end %d in a row that nobody asked for; next try in %s, at %s",
			run.Failures, run.NextStart.Sub(c.clock.Now()).Round(100*time.Millisecond), run.NextStart.UTC().Format(time.RFC3339))
	}
}

// readiness records that a node became ready, or is not any more. It is called
// with the answer to a probe before that is noted; no error means ready. That an
// earlier controller's node was ready when it was found is no event.
func (c *Controller) readiness(n *node, notReady error) {
	m := &n.machine
	switch {
	case notReady == nil && !m.ready && (m.everReady || !m.adopted):
		c.normal(n.key, v1alpha1.EventReady, "pid %d serves requests", m.process.Identity().PID)
	case notReady != nil && m.ready && !m.stopping:
		c.warning(n.key, v1alpha1.EventNotReady, "%s", briefly(notReady))
	}
}

// Events implements apiserver.Backend. The events are those that happened before
// it was called, in the order in which they last happened.
func (c *Controller) Events(cluster string, object v1alpha1.ObjectReference) (v1alpha1.EventList, error) {
	c.events.flush()
	items, version, err := c.store.Events(cluster)
	if err == nil && cluster != "" && len(items) == 0 {
		_, err = c.cluster(cluster) // one that was deleted has events for a while
	}
	if object.Kind != "" {
		items = slices.DeleteFunc(items, func(e v1alpha1.Event) bool {
			return e.InvolvedObject.Kind != object.Kind || e.InvolvedObject.Name != object.Name
		})
	}
	list := v1alpha1.NewList(v1alpha1.KindEvent, items)
	list.Metadata.ResourceVersion = version
	return list, err
}

// Event implements apiserver.Backend.
func (c *Controller) Event(cluster, name string) (*v1alpha1.Event, error) {
	c.events.flush()
	if cluster != "" {
		e, err := c.store.Event(cluster, name)
		if errors.Is(err, store.ErrNotFound) {
			return nil, v1alpha1.NotFound(v1alpha1.KindEvent, name)
		}
		return e, err
	}
	items, _, err := c.store.Events("")
	if err != nil {
		return nil, err
	}
	for i := range items {
		if items[i].Name == name { // it ends in a version, which is given once
			return &items[i], nil
		}
	}
	return nil, v1alpha1.NotFound(v1alpha1.KindEvent, name)
}
