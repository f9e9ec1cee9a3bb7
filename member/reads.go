package member

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/topics"
	"github.com/wiber/wiber/topics/server"
	"github.com/wiber/wiber/topics/wire"
)

// readRounds joins linearizable reads of a group: one read index is asked for
// at a time, and whoever comes meanwhile waits for the next, because an answer
// speaks only for those who were there when it was asked for.
type readRounds struct {
	asking  []read // of the round that is out; nil: none is
	waiting []read
	ctx     uint64 // of the round that is out; each round has a fresh one
	age     int    // ticks since it was asked for
}

// read is one that waits.
type read struct {
	done func(index uint64)
	over *atomic.Bool // nobody waits for it any more
}

// nextLocked begins a round if there is reason to, and the means.
func (r *readRounds) nextLocked(leader bool) (ctx uint64, ask bool) {
	if r.asking != nil || len(r.waiting) == 0 || !leader {
		return 0, false
	}
	r.asking, r.waiting = r.waiting, nil
	r.ctx++
	r.age = 0
	return r.ctx, true
}

// againLocked gives the round that is out up; its reads join the next one.
func (r *readRounds) againLocked() {
	if r.asking != nil {
		r.waiting = append(r.asking, r.waiting...)
		r.asking = nil
		r.ctx++ // an answer that still comes is nobody's
	}
}

// tickLocked asks again when nothing was heard for half an election timeout.
func (r *readRounds) tickLocked(electionTicks int) {
	r.waiting = slices.DeleteFunc(r.waiting, func(w read) bool { return w.over.Load() })
	if r.asking == nil {
		return
	}
	if r.age++; r.age > max(electionTicks/2, 1) {
		r.againLocked()
	}
}

// answeredLocked ends the round that ctx names and returns its reads.
func (r *readRounds) answeredLocked(ctx uint64) []read {
	if r.asking == nil || ctx != r.ctx {
		return nil
	}
	done := r.asking
	r.asking = nil
	return done
}

// onRead takes the Host's answer to a read index.
func (e *Engine) onRead(r raftnode.Read) {
	g := e.groups[r.Group]
	g.mu.Lock()
	if r.Err != nil {
		if r.Ctx == g.reads.ctx {
			g.reads.againLocked() // the next tick, or a new leader, asks again
		}
		g.mu.Unlock()
		return
	}
	done := g.reads.answeredLocked(r.Ctx)
	g.dirty.Store(true)
	g.mu.Unlock()
	for _, w := range done {
		w.done(r.Index)
	}
}

// Linearizable calls done once this node has applied everything of the group
// that anybody had acknowledged when Linearizable was called.
func (e *Engine) Linearizable(id raftnode.GroupID, done func()) {
	e.linearizable(id, new(atomic.Bool), done)
}

// linearizable is Linearizable for one who sets over when he waits no more.
func (e *Engine) linearizable(id raftnode.GroupID, over *atomic.Bool, done func()) {
	g := e.groups[id]
	g.mu.Lock()
	g.reads.waiting = append(g.reads.waiting, read{over: over, done: func(index uint64) { g.whenApplied(index, over, done) }})
	g.dirty.Store(true)
	g.mu.Unlock()
	e.c.Wake()
}

// WhenApplied calls done once this node has applied a group to index.
func (e *Engine) WhenApplied(id raftnode.GroupID, index uint64, done func()) {
	e.groups[id].whenApplied(index, new(atomic.Bool), done)
}

// Barrier implements server.Backend.
func (e *Engine) Barrier(ctx context.Context, level server.Level, floors []server.Floor) (asOf uint64, err error) {
	ref, _ := e.c.Reference()
	now := uint64(ref)
	if level == server.Local || len(floors) == 0 {
		return e.lastStamp(floors, now), nil
	}
	done := make(chan struct{}, len(floors))
	over := new(atomic.Bool) // without a leader, what nobody waits for must not pile up
	defer over.Store(true)
	for _, f := range floors {
		signal := func() { done <- struct{}{} }
		if level == server.Linearizable {
			e.linearizable(raftnode.GroupID(f.Group), over, signal)
		} else {
			e.groups[f.Group].whenApplied(f.Index, over, signal)
		}
	}
	for range floors {
		select {
		case <-done:
		case <-ctx.Done():
			return 0, wire.Errorf(wire.NoQuorum, "the shard has no leader that a majority confirms: start more of the cluster's nodes, or read with read=local")
		}
	}
	if level == server.Linearizable {
		return now, nil
	}
	return e.lastStamp(floors, now), nil
}

// lastStamp is how far this node's copy of the groups goes, in log time.
func (e *Engine) lastStamp(floors []server.Floor, now uint64) uint64 {
	asOf := now
	for _, f := range floors {
		g := e.groups[f.Group]
		g.mu.Lock()
		asOf = min(asOf, g.sm.LastStamp().TS)
		g.mu.Unlock()
	}
	return asOf
}

// Bounds implements server.Backend.
func (e *Engine) Bounds(s server.Stream) (first, next uint64, err error) {
	g, ok := e.streamGroup(topics.Stream(s))
	if !ok {
		return 0, 0, server.ErrTopicGone
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	first, next = g.broker.Offsets(topics.Stream(s))
	return first, next, nil
}

// Seek implements server.Backend.
func (e *Engine) Seek(s server.Stream, ts uint64) (uint64, error) {
	g, ok := e.streamGroup(topics.Stream(s))
	if !ok {
		return 0, server.ErrTopicGone
	}
	return g.reader.OffsetAt(topics.Stream(s), ts)
}

// Read implements server.Backend.
func (e *Engine) Read(s server.Stream, from uint64, maxBytes int) ([]server.Stored, error) {
	g, ok := e.streamGroup(topics.Stream(s))
	if !ok {
		return nil, server.ErrTopicGone
	}
	return stored(g.reader.Read(topics.Stream(s), from, maxBytes))
}

// ReadBack implements server.Backend.
func (e *Engine) ReadBack(s server.Stream, until uint64, maxBytes int) ([]server.Stored, error) {
	g, ok := e.streamGroup(topics.Stream(s))
	if !ok {
		return nil, server.ErrTopicGone
	}
	return stored(g.reader.ReadBack(topics.Stream(s), until, maxBytes))
}

func stored(batches []topics.StoredBatch, err error) ([]server.Stored, error) {
	if err != nil {
		return nil, err
	}
	out := make([]server.Stored, len(batches))
	for i := range batches {
		b := &batches[i]
		out[i] = server.Stored{Base: b.Base, Count: b.Count, TS: b.TS, Eps: b.Stamp.EPS, Lamport: b.Stamp.Lamport,
			Term: b.Term, Index: b.Index, Batch: b.Batch}
	}
	return out, nil
}

// streamGroup is the group of a stream's shard, false if its topic is gone.
func (e *Engine) streamGroup(s topics.Stream) (*group, bool) {
	t, ok := e.cat.Topic(s.UID)
	if !ok || s.Partition >= t.Spec.Partitions {
		return nil, false
	}
	return e.groups[raftnode.Shard(int(e.cat.Shard(s)))], true
}

// watch is one subscriber's wish to be told. Its own lock makes sure that wake
// is not called any more once stop has returned.
type watch struct {
	mu   sync.Mutex
	wake func()
}

func (w *watch) call() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wake != nil {
		w.wake()
	}
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wake = nil
}

// Watch calls wake after news in a stream, until stop.
func (e *Engine) Watch(s server.Stream, wake func()) (stop func()) {
	stream := topics.Stream(s)
	g := e.groups[raftnode.Shard(int(e.cat.Shard(stream)))]
	w := &watch{wake: wake}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watches[stream] = append(g.watches[stream], w)
	return func() {
		w.end()
		g.mu.Lock()
		defer g.mu.Unlock()
		left := slices.DeleteFunc(g.watches[stream], func(x *watch) bool { return x == w })
		if len(left) == 0 {
			delete(g.watches, stream)
		} else {
			g.watches[stream] = left
		}
	}
}

// wakesLocked collects who watches the streams that outcomes wrote to.
func (g *group) wakesLocked(outcomes []topics.Outcome) (wakes []func()) {
	if len(g.watches) == 0 || g.broker == nil {
		return nil
	}
	seen := make(map[topics.Stream]bool)
	for i := range outcomes {
		o := &outcomes[i]
		s := topics.Stream{UID: o.UID, Partition: o.Partition}
		if o.Code != topics.OK || o.Duplicate || seen[s] {
			continue
		}
		seen[s] = true
		for _, w := range g.watches[s] {
			wakes = append(wakes, w.call)
		}
	}
	return wakes
}

// wakesOfTopicLocked collects who watches any partition of a topic.
func (g *group) wakesOfTopicLocked(uid uint64) (wakes []func()) {
	for s, ws := range g.watches {
		if s.UID == uid {
			for _, w := range ws {
				wakes = append(wakes, w.call)
			}
		}
	}
	return wakes
}
