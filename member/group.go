package member

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/topics"
	"github.com/wiber/wiber/topics/wire"
)

// stateMachine is a Catalogue or a Broker.
type stateMachine interface {
	topics.Machine
	Apply(topics.Entry) ([]topics.Outcome, error)
	Checkpoint() *topics.Checkpoint
	Restore(next func() (key, value []byte, err error)) error
}

// group is what a node has of one raft group above raft: its state machine, the
// leader's queue in front of it, and this node's stream of requests to whoever
// leads.
//
// Lock order: a shard's mu, then the catalogue's. No callback of a session, no
// disk read and no send waits under a mu.
type group struct {
	id    raftnode.GroupID
	dirty atomic.Bool // the forwarder or the leader has something to send or propose

	mu      sync.Mutex // guards everything below
	sm      stateMachine
	broker  *topics.Broker // sm of a data shard; nil for the catalogue
	reader  *topics.Reader // of a data shard
	leader  *topics.Leader
	forward *topics.Forwarder

	state    raftnode.State
	headless int             // ticks since a leader was known
	changes  uint64          // times that another leader was taken notice of
	early    []earlyRequests // arrived while this node was elected but not yet proposing
	nearly   int             // requests in early

	pending  map[uint64]*pending // by token
	token    uint64
	earliest time.Duration // no deadline of pending lies before it; 0: there is none
	ahead    int64         // microseconds that the last stamp is ahead of the reference time, if more than 500 ms
	forsaken int           // ticks for which a draining node waits for a leader

	safe    safeTime
	reads   readRounds
	waits   []appliedWait // for the applied index, in order of arrival
	watches map[topics.Stream][]*watch
}

// pending is a request on its way: a publish or a change of the catalogue.
type pending struct {
	ticket   uint64
	deadline time.Duration // on the engine's clock
	done     func(topics.Result, error)
}

// earlyRequests wait until their leader may propose.
type earlyRequests struct {
	from     topics.Origin
	requests []topics.Request
}

const maxEarlyRequests = 4 * 4096

// appliedWait is called once the group has applied index.
type appliedWait struct {
	index uint64
	over  *atomic.Bool // nobody waits any more
	done  func()
}

func (g *group) applied() uint64 {
	index, _ := g.sm.Applied()
	return index
}

// submitLocked queues a request; done is called without the lock, exactly once.
func (g *group) submitLocked(r topics.Request, deadline time.Duration, done func(topics.Result, error)) error {
	g.token++
	ticket, err := g.forward.Submit(r, g.token)
	if err != nil {
		return wire.Errorf(wire.Busy, "too much waits for the leader of shard %s: slow down and try again", g.id)
	}
	g.pending[g.token] = &pending{ticket: ticket, deadline: deadline, done: done}
	if g.earliest == 0 || deadline < g.earliest {
		g.earliest = deadline
	}
	g.dirty.Store(true)
	return nil
}

// completeLocked takes the waiting requests that are answered off the list; run
// what it returns without the lock.
func (g *group) completeLocked(completions []topics.Completion) []func() {
	if len(completions) == 0 {
		return nil
	}
	calls := make([]func(), 0, len(completions))
	for _, c := range completions {
		if p := g.pending[c.Token]; p != nil {
			delete(g.pending, c.Token)
			r := c.Result
			calls = append(calls, func() { p.done(r, nil) })
		}
	}
	return calls
}

// expireLocked gives up on requests whose time is over: one that never left the
// node is certainly not written, of another nobody knows.
func (g *group) expireLocked(now time.Duration) []func() {
	if g.earliest == 0 || now < g.earliest {
		return nil
	}
	var over []uint64
	g.earliest = 0
	for token, p := range g.pending {
		if p.deadline <= now {
			over = append(over, token)
		} else if g.earliest == 0 || p.deadline < g.earliest {
			g.earliest = p.deadline
		}
	}
	slices.Sort(over)
	calls := make([]func(), 0, len(over))
	for _, token := range over {
		p := g.pending[token]
		delete(g.pending, token)
		err := wire.Errorf(wire.Timeout, "no answer from shard %s in time: the outcome is unknown; retry with the same id or seq", g.id)
		if g.forward.Withdraw(p.ticket) {
			err = wire.Errorf(wire.NoQuorum, "shard %s has no leader: nothing was written; start more of the cluster's nodes, or try again", g.id)
			if g.state.Leader != 0 {
				err = wire.Errorf(wire.NoQuorum, "shard %s took nothing more in time: nothing was written; try again", g.id)
			}
		}
		calls = append(calls, func() { p.done(topics.Result{}, err) })
	}
	return calls
}

// takeWaitsLocked returns who waited for what is applied now.
func (g *group) takeWaitsLocked() []func() {
	if len(g.waits) == 0 {
		return nil
	}
	applied := g.applied()
	var calls []func()
	g.waits = slices.DeleteFunc(g.waits, func(w appliedWait) bool {
		if w.index <= applied && !w.over.Load() {
			calls = append(calls, w.done)
		}
		return w.index <= applied || w.over.Load()
	})
	return calls
}

// whenApplied calls done as soon as the group has applied index; at once, from
// this goroutine, if it has.
func (g *group) whenApplied(index uint64, over *atomic.Bool, done func()) {
	g.mu.Lock()
	if g.applied() < index {
		g.waits = append(g.waits, appliedWait{index, over, done})
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	done()
}

// byOrigin cuts outcomes into runs of one origin each, keeping their order.
func byOrigin(outcomes []topics.Outcome) map[topics.Origin][]topics.Result {
	runs := make(map[topics.Origin][]topics.Result)
	for _, o := range outcomes {
		runs[o.Origin] = append(runs[o.Origin], o.Result)
	}
	return runs
}

// sortedOrigins gives a repeatable order to byOrigin's map.
func sortedOrigins(runs map[topics.Origin][]topics.Result) []topics.Origin {
	origins := make([]topics.Origin, 0, len(runs))
	for o := range runs {
		origins = append(origins, o)
	}
	slices.SortFunc(origins, func(a, b topics.Origin) int {
		return cmp.Or(cmp.Compare(a.RaftID, b.RaftID), cmp.Compare(a.Counter, b.Counter))
	})
	return origins
}

func run(calls []func()) {
	for _, call := range calls {
		call()
	}
}
