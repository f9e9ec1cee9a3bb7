package member

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/raftnode/wal"
	"github.com/wiber/wiber/topics"
	"github.com/wiber/wiber/topics/store"
)

// Engine is one node without goroutines, clock, sockets or a loop: everything
// that decides something, wired together. Node runs it with goroutines;
// member/sim steps many of them in one.
//
// Its methods belong to these callers:
//
//	raft loop:       Tick, Step, PeerDown, Appended, Applied, Release, Transfer…, Pump
//	append loop:     Append
//	apply loops:     Apply, one caller per group
//	settle loop:     Settle
//	any goroutine:   Receive, Publish, the reads, the catalogue's changes
//
// After any call that may have made work for the raft loop, Wake is called.
type Engine struct {
	c      EngineConfig
	id     uint64
	origin topics.Origin
	log    *wal.WAL
	host   *raftnode.Host
	groups []*group // by raftnode.GroupID
	cat    *catalogue
	status atomic.Pointer[[]raftnode.GroupStatus]
	// recently is a reference time that lies behind: see watchStampsLocked.
	recently atomic.Int64
	// settling belongs to the settle loop.
	settling settling
	// draining belongs to the raft loop.
	draining bool
}

// EngineConfig is what an Engine needs from the world.
type EngineConfig struct {
	Identity  Identity // formed: Member is set; Counter is synced
	Log       *wal.WAL // recovered; the engine does not close it
	Transport transport.Transport
	// Meta, FS and Dir hold the checkpoints: the manifest, and its files.
	Meta store.MetaStore
	FS   vfs.FS
	Dir  string
	// Reference is the cluster's reference time: microseconds, and half the
	// width of its uncertainty, -1 when unsynchronised.
	Reference func() (us, eps int64)
	// Mono is the clock of timeouts.
	Mono func() time.Duration
	// Wake tells the raft loop that Pump has something to do. It must not block.
	Wake   func()
	Logger *slog.Logger

	ElectionTicks, HeartbeatTicks int
	DedupIDs                      uint64
	AutoCreateTopics              bool
	// RequestTimeout is for requests that name none: 10 s.
	RequestTimeout time.Duration
	// EntryBytes softly bounds a joined entry: 1 MiB.
	EntryBytes int
}

// applyBytes bounds the entries of all groups together that wait to be applied:
// after a restart, or in a node that lags.
const applyBytes = 32 << 20

// NewEngine wires a node together from its recovered log.
func NewEngine(c EngineConfig) (*Engine, error) {
	m := c.Identity.Member
	if m == nil || c.Identity.RaftID() == 0 {
		return nil, fmt.Errorf("node %s belongs to no cluster yet", c.Identity.Node)
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = 10 * time.Second
	}
	e := &Engine{
		c: c, id: c.Identity.RaftID(), log: c.Log,
		origin: topics.Origin{RaftID: c.Identity.RaftID(), Counter: c.Identity.Counter},
	}
	if err := e.makeGroups(m.Shards); err != nil {
		return nil, err
	}
	for {
		err := e.restore()
		if err == nil {
			break
		}
		if err := e.setAside(err); err != nil {
			return nil, err
		}
		e.groups = nil // some were restored, one in part
		if err := e.makeGroups(m.Shards); err != nil {
			return nil, err
		}
	}
	ids := make([]raftnode.GroupID, len(e.groups))
	for i, g := range e.groups {
		ids[i] = g.id
	}
	host, err := raftnode.New(raftnode.Config{
		ID: e.id, Voters: e.voters(), Groups: ids, Log: c.Log,
		Proposer:    func(id raftnode.GroupID) raftnode.Proposer { return proposer{e.groups[id]} },
		Applied:     func(id raftnode.GroupID) uint64 { return e.groups[id].applied() },
		Incarnation: c.Identity.Counter, Logger: c.Logger,
		ElectionTicks: c.ElectionTicks, HeartbeatTicks: c.HeartbeatTicks,
		MaxApplyBytes: max(applyBytes/uint64(len(e.groups)), 256<<10),
	})
	if err != nil {
		return nil, err
	}
	e.host = host
	e.toldAtStart()
	e.publishStatus()
	return e, nil
}

// voters are the raft ids of all nodes, in the order of the file.
func (e *Engine) voters() []uint64 {
	var ids []uint64
	for _, n := range e.c.Identity.Member.Nodes {
		ids = append(ids, n.RaftID)
	}
	return ids
}

func (e *Engine) makeGroups(shards int) error {
	cat := topics.NewCatalogue()
	for i := range shards + 1 {
		g := &group{
			id: raftnode.GroupID(i), headless: e.c.ElectionTicks,
			pending: make(map[uint64]*pending),
			watches: make(map[topics.Stream][]*watch),
		}
		forward, err := topics.NewForwarder(topics.ForwarderOptions{Origin: e.origin, ResendTicks: max(e.c.ElectionTicks, 1)})
		if err != nil {
			return err
		}
		g.forward = forward
		o := topics.LeaderOptions{Reference: e.c.Reference, DedupIDs: e.c.DedupIDs, EntryBytes: e.c.EntryBytes}
		if g.id == raftnode.Catalogue {
			g.sm, o.Machine = cat, cat
			e.cat = newCatalogue(g, cat)
		} else {
			g.broker = topics.NewBroker()
			g.sm, o.Machine, o.View = g.broker, g.broker, e.cat
			g.reader = topics.NewReader(&g.mu, g.broker, e.log)
		}
		leader, err := topics.NewLeader(o)
		if err != nil {
			return err
		}
		g.leader = leader
		e.groups = append(e.groups, g)
	}
	return nil
}

// proposer gives the Host a group's queue, under the group's lock.
type proposer struct{ g *group }

func (p proposer) NextEntry(term uint64) []byte {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	return p.g.leader.NextEntry(term)
}

// Work is what Pump leaves to the other loops.
type Work struct {
	Append  []wal.Record     // run Engine.Append, then Appended
	Apply   []raftnode.Apply // run Engine.Apply for each, in order per group, then Applied
	Held    bool             // call Release within a millisecond
	Drained bool             // after TransferAll: no group is led any more
}

// Tick says that a tick, a tenth of the election timeout, has passed.
func (e *Engine) Tick() {
	now := e.c.Mono()
	for _, g := range e.groups {
		g.mu.Lock()
		g.forward.Tick()
		if g.state.Proposing {
			g.leader.Tick()
		}
		calls := g.expireLocked(e.deadlineLocked(g, now))
		g.reads.tickLocked(e.c.ElectionTicks)
		calls = append(calls, g.takeWaitsLocked()...)
		if g.headless++; g.state.Leader != 0 {
			g.headless = 0
		}
		if g.ahead != 0 {
			e.watchStampsLocked(g)
		}
		g.dirty.Store(true)
		g.mu.Unlock()
		run(calls)
	}
	e.host.Tick()
	e.publishStatus()
}

// deadlineLocked is the time up to which requests have expired: now, or, on a
// draining node in a group that nobody leads any more, the end of time. When
// all nodes are stopped at once, the last ones would wait for each other.
func (e *Engine) deadlineLocked(g *group, now time.Duration) time.Duration {
	if !e.draining || g.state.Leader != 0 && g.state.Leader != e.id {
		g.forsaken = 0
		return now
	}
	if g.forsaken++; g.forsaken <= (e.c.ElectionTicks+1)/2 {
		return now
	}
	return math.MaxInt64
}

// Step takes a raft message of another node. An error says that no sound node
// sends such a message; it had no effect.
func (e *Engine) Step(m transport.Message) error {
	return e.host.Receive(raftnode.GroupID(m.Group), m.Raft)
}

// Appended says that the last Append is durable.
func (e *Engine) Appended() { e.host.Appended() }

// Applied says that Apply has returned for entries up to index.
func (e *Engine) Applied(g raftnode.GroupID, index uint64) { e.host.Applied(g, index) }

// Release lets held commit messages go; see Work.Held.
func (e *Engine) Release() { e.host.Release() }

// PeerDown says that a peer's connection broke: it has probably died.
func (e *Engine) PeerDown(peer uint64) {
	e.host.PeerClosed(peer)
	e.peerBroke(peer)
}

// PeerUp says that a connection to a peer stands; what was on its way over an
// earlier one may be lost.
func (e *Engine) PeerUp(peer uint64) { e.peerBroke(peer) }

func (e *Engine) peerBroke(peer uint64) {
	for _, g := range e.groups {
		g.mu.Lock()
		if g.state.Leader == peer {
			g.forward.Broken()
			g.dirty.Store(true)
		}
		g.mu.Unlock()
	}
}

// TransferAll hands leadership of all groups over; Work.Drained reports.
func (e *Engine) TransferAll() {
	e.draining = true
	e.host.TransferAll()
}

// Pump does everything that can be done at once and returns what waits for a
// disk or an apply loop.
func (e *Engine) Pump() Work {
	var w Work
	for {
		e.flush()
		out, ok := e.host.Next()
		if !ok {
			return w
		}
		for _, r := range out.Reads {
			e.onRead(r)
		}
		// Before a message tells the others who leads: their requests may come at
		// once, and find a leader that knows it is one.
		for _, s := range out.States {
			e.onState(s)
		}
		for _, m := range out.Send {
			e.c.Transport.Send(m.To, transport.Message{Kind: transport.KindRaft, Group: uint64(m.Group), Raft: m.Raft})
		}
		if out.Append != nil {
			w.Append = out.Append
		}
		w.Apply = append(w.Apply, out.Apply...)
		if len(out.States) > 0 {
			e.publishStatus()
		}
		w.Held = w.Held || out.Held
		w.Drained = w.Drained || out.Drained
	}
}

// flush moves requests from the forwarders to their leaders, and tells the Host
// where proposals and reads wait.
func (e *Engine) flush() {
	for _, g := range e.groups {
		if !g.dirty.Swap(false) {
			continue
		}
		g.mu.Lock()
		calls := e.forwardLocked(g)
		pending := g.state.Proposing && g.leader.Pending()
		ctx, ask := g.reads.nextLocked(g.state.Leader != 0)
		g.mu.Unlock()
		run(calls)
		if pending {
			e.host.Wake(g.id)
		}
		if ask {
			e.host.ReadIndex(g.id, ctx)
		}
	}
}

func (e *Engine) forwardLocked(g *group) (calls []func()) {
	for {
		to, requests := g.forward.Outgoing()
		if len(requests) == 0 {
			return calls
		}
		if to != e.id {
			e.c.Transport.Send(to, transport.Message{Kind: transport.KindRequests, Group: uint64(g.id),
				Body: topics.EncodeRequests(nil, e.origin, requests)})
			continue
		}
		answers, nack := g.leader.Receive(e.origin, requests)
		if nack != nil {
			g.forward.Nack(e.origin, *nack)
			if nack.Busy {
				return calls // the next tick tries again
			}
		}
		calls = append(calls, e.answerLocked(g, e.origin, answers)...)
	}
}

// onState follows a change of leadership.
func (e *Engine) onState(s raftnode.State) {
	g := e.groups[s.Group]
	g.mu.Lock()
	before := g.state
	g.state = s
	var calls []func()
	if s.Proposing != before.Proposing || s.Term != before.Term {
		if s.Proposing {
			g.leader.Reset(s.Term)
			g.keepPromisesLocked()
			if g.broker != nil {
				g.leader.CatalogueApplied(e.cat.Version())
			}
		} else {
			g.leader.Reset(0)
		}
	}
	switch {
	case s.Leader == e.id && !s.Proposing:
		g.forward.SetLeader(0, s.Term) // requests wait here until they may be proposed
	default:
		g.forward.SetLeader(s.Leader, s.Term)
	}
	if s.Leader != before.Leader || s.Term != before.Term {
		g.reads.againLocked()
	}
	if s.Proposing {
		calls = e.takeEarlyLocked(g)
	} else if s.Role != raftnode.Leader {
		g.early, g.nearly = nil, 0
	}
	if s.Leader != before.Leader && s.Leader != 0 {
		g.changes++
	}
	g.dirty.Store(true)
	g.mu.Unlock()
	run(calls)
	if s.Leader != before.Leader {
		e.c.Logger.Info("leader changed", "group", g.id.String(), "term", s.Term, "leader", e.nodeName(s.Leader))
	}
	if s.Group == raftnode.Catalogue && s.Proposing {
		e.form()
	}
}

func (e *Engine) takeEarlyLocked(g *group) (calls []func()) {
	early := g.early
	g.early, g.nearly = nil, 0
	for _, r := range early {
		calls = append(calls, e.receiveLocked(g, r.from, r.requests)...)
	}
	return calls
}

// Append makes records durable. After an error the process must end.
func (e *Engine) Append(recs []wal.Record) error { return e.log.Append(recs) }

// Apply applies committed entries and answers their requests if this node leads
// the group. An error means that this replica differs from the others or its
// log cannot be read; the process must end.
func (e *Engine) Apply(a raftnode.Apply) error {
	g := e.groups[a.Group]
	var all []topics.Outcome
	g.mu.Lock()
	for _, entry := range a.Entries {
		outcomes, err := g.sm.Apply(topics.Entry(entry))
		if err != nil {
			g.mu.Unlock()
			return fmt.Errorf("group %s: %w", g.id, err)
		}
		all = append(all, outcomes...)
	}
	e.watchStampsLocked(g)
	leading := g.state.Role == raftnode.Leader
	calls := g.takeWaitsLocked()
	wakes := g.wakesLocked(all)
	last := g.sm.LastStamp().TS
	g.mu.Unlock()

	if g.id == raftnode.Catalogue {
		wakes = append(wakes, e.catalogueApplied(all)...)
	}
	if leading {
		runs := byOrigin(all)
		for _, origin := range sortedOrigins(runs) {
			results := runs[origin]
			for i := range results {
				results[i].Synced, results[i].Replicas = uint8(a.Synced), uint8(a.Replicas)
				if a.Replicas == 0 { // handed out before this node was elected
					results[i].Synced, results[i].Replicas = e.syncedAt(g.id, results[i].Index)
				}
			}
			e.deliver(g, origin, results)
		}
	}
	run(calls)
	run(wakes)
	g.announced(last)
	return nil
}

// syncedAt says how many replicas are known to have an index on disk; an
// applied one is on a majority.
func (e *Engine) syncedAt(id raftnode.GroupID, index uint64) (synced, replicas uint8) {
	s := (*e.status.Load())[id]
	n := len(e.c.Identity.Member.Nodes)
	have := 1
	for _, p := range s.Peers {
		if p.Match >= index {
			have++
		}
	}
	return uint8(max(have, n/2+1)), uint8(n)
}

func (e *Engine) publishStatus() {
	s := e.host.Status()
	e.status.Store(&s)
}

// Status is a snapshot of all groups, at most a tick old.
func (e *Engine) Status() []raftnode.GroupStatus { return *e.status.Load() }

// Chain returns a group's chain hash and the index it stands at.
func (e *Engine) Chain(id raftnode.GroupID) (chain topics.Chain, applied uint64) {
	g := e.groups[id]
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sm.Chain(), g.applied()
}

// LastStamp returns the last stamp of a group's log as far as it is applied here.
func (e *Engine) LastStamp(id raftnode.GroupID) topics.Stamp {
	g := e.groups[id]
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sm.LastStamp()
}

func (e *Engine) nodeName(id uint64) string {
	n, _ := e.c.Identity.Member.ByRaftID(id)
	return n.Name
}

// form has the catalogue repeat what the folders say (D6). Only the first one
// in the log has an effect.
func (e *Engine) form() {
	if e.cat.isFormed() {
		return
	}
	m := e.c.Identity.Member
	f := topics.Form{ClusterInfo: topics.ClusterInfo{ID: id16(m.ClusterID), Shards: uint32(m.Shards)}}
	for _, n := range m.Nodes {
		f.Nodes = append(f.Nodes, topics.Node{Name: n.Name, RaftID: n.RaftID, UID: id16(string(n.UID))})
	}
	e.Change(topics.NewForm(f), 0, func(topics.Result, error) {})
}

// id16 reads an identifier of 32 hex digits; "" is the zero id.
func id16(s string) (id [16]byte) {
	_, _ = hex.Decode(id[:], []byte(s[:min(len(s), 32)]))
	return id
}
