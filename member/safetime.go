package member

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/topics"
)

// safeTime is what a node knows about the stamps that a group may still get.
// While the group is busy its log says it: stamps rise, so what comes lies above
// the last one. While it is idle its leader promises it to who asks.
type safeTime struct {
	// told is the stamp up to which watchers have been told of everything. It
	// is stored after they were, so that who reads it and then looks at what he
	// was told misses nothing.
	told    atomic.Uint64
	waiting atomic.Int32 // length of waits

	// Guarded by group.mu.
	promise topics.Promise // the last one
	proven  topics.Promise // the last one whose After is told
	heard   uint64         // the largest Safe of all, of any term
	asked   time.Duration  // on the engine's clock: when the leader was asked last
	waits   []*safeWait
}

// safeWait is called once the safe time has come to ts.
type safeWait struct {
	ts uint64
	w  watch
}

// askSafeEvery is the shortest pause between two questions of a node to the leader of
// one group.
const askSafeEvery = 5 * time.Millisecond

// safeLocked returns the group's safe time. A promise of another term counts for
// nothing: that term's leader may stamp below it.
func (g *group) safeLocked() uint64 {
	told := g.safe.told.Load()
	if p := g.safe.promise; p.Term == g.state.Term && p.After <= told {
		g.safe.proven = p
	}
	if p := g.safe.proven; p.Term == g.state.Term && p.Term != 0 {
		return max(told, p.Safe)
	}
	return told
}

// promisedLocked takes a promise note of.
func (g *group) promisedLocked(p topics.Promise) {
	if p.Term < g.safe.promise.Term || p.Term == g.safe.promise.Term && p.Safe < g.safe.promise.Safe {
		return // overtaken on its way
	}
	g.safeLocked() // the one before may be proven, and this one not yet
	g.safe.promise = p
	g.safe.heard = max(g.safe.heard, p.Safe)
}

// safeWaitsLocked takes those who waited for what is promised now off the list.
func (g *group) safeWaitsLocked() (wakes []func()) {
	safe := g.safeLocked()
	g.safe.waits = slices.DeleteFunc(g.safe.waits, func(w *safeWait) bool {
		if w.ts <= safe {
			wakes = append(wakes, w.w.call)
		}
		return w.ts <= safe
	})
	g.safe.waiting.Store(int32(len(g.safe.waits)))
	return wakes
}

// announced says that the watchers of a group have been told of everything
// stamped up to ts.
func (g *group) announced(ts uint64) {
	g.safe.told.Store(ts)
	if g.safe.waiting.Load() == 0 {
		return
	}
	g.mu.Lock()
	wakes := g.safeWaitsLocked()
	g.mu.Unlock()
	run(wakes)
}

// Safe implements server.Backend.
func (e *Engine) Safe(id uint64) uint64 {
	g := e.groups[id]
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.safeLocked()
}

// AwaitSafe implements server.Backend. It asks the leader, which answers what it
// can promise now; who still waits then calls it again.
func (e *Engine) AwaitSafe(id, ts uint64, wake func()) (stop func()) {
	g := e.groups[id]
	w := &safeWait{ts: ts, w: watch{wake: wake}}
	g.mu.Lock()
	g.safe.waits = append(g.safe.waits, w)
	g.safe.waiting.Store(int32(len(g.safe.waits)))
	ask := uint64(0)
	if g.state.Proposing {
		if p, ok := g.leader.Promise(); ok {
			g.promisedLocked(p)
		}
	} else if now := e.c.Mono(); g.state.Leader != 0 && g.state.Leader != e.id && (g.safe.asked == 0 || now-g.safe.asked >= askSafeEvery) {
		g.safe.asked = now
		ask = g.state.Leader
	}
	wakes := g.safeWaitsLocked()
	g.mu.Unlock()
	run(wakes)
	if ask != 0 {
		e.c.Transport.Send(ask, transport.Message{Kind: transport.KindAsk, Group: id, Body: topics.EncodeAsk(nil)})
	}
	return func() {
		w.w.end()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.safe.waits = slices.DeleteFunc(g.safe.waits, func(x *safeWait) bool { return x == w })
		g.safe.waiting.Store(int32(len(g.safe.waits)))
	}
}

// receiveAsk answers a node that asks for a promise, if this one leads.
func (e *Engine) receiveAsk(g *group, from uint64, body []byte) {
	if err := topics.DecodeAsk(body); err != nil {
		e.c.Logger.Warn("malformed question for a promise", "peer", from, "group", g.id.String(), "err", err)
		return
	}
	g.mu.Lock()
	p, ok := topics.Promise{}, false
	if g.state.Proposing && g.broker != nil {
		if p, ok = g.leader.Promise(); ok {
			g.safe.heard = max(g.safe.heard, p.Safe)
		}
	}
	g.mu.Unlock()
	if ok {
		e.c.Transport.Send(from, transport.Message{Kind: transport.KindPromise, Group: uint64(g.id), Body: topics.EncodePromise(nil, p)})
	}
}

// receivePromise takes a leader's promise.
func (e *Engine) receivePromise(g *group, from uint64, body []byte) {
	p, err := topics.DecodePromise(body)
	if err != nil {
		e.c.Logger.Warn("malformed promise", "peer", from, "group", g.id.String(), "err", err)
		return
	}
	g.mu.Lock()
	g.promisedLocked(p)
	wakes := g.safeWaitsLocked()
	g.mu.Unlock()
	run(wakes)
}

// keepPromisesLocked has a leader that begins stamp above what it, or others that
// it heard of, promised in earlier terms. Without that those promises would be
// broken by a clock that lags: allowed, and a message more that comes late.
func (g *group) keepPromisesLocked() { g.leader.Above(g.safe.heard) }

// toldAtStart is where a group's watchers begin: nobody watches yet.
func (e *Engine) toldAtStart() {
	for _, g := range e.groups {
		if g.id != raftnode.Catalogue {
			g.safe.told.Store(g.sm.LastStamp().TS)
		}
	}
}
