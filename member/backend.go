package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/server"
	"github.com/wiber/wiber/topics/wire"
)

// errDrained ends a node that was told to stop before it served.
var errDrained = errors.New("stopped before it had joined its cluster")

// backend is what sessions see: the engine, and what only the process knows.
type backend struct {
	*Engine
	n *node
}

var _ server.Backend = backend{}

// Info implements server.Backend.
func (b backend) Info() server.Info {
	return server.Info{Node: b.n.o.Node, Cluster: b.n.o.Cluster.Name, Version: b.n.o.Version,
		MaxMessageBytes: int(b.cat.largest.Load())}
}

// Now implements server.Backend.
func (b backend) Now() (us uint64, eps int64) {
	now, eps := b.c.Reference()
	return uint64(now), eps
}

// Nodes implements server.Backend.
func (b backend) Nodes() []server.Node {
	status, states := b.Engine.Status(), b.n.gossipStates()
	nodes := make([]server.Node, 0, len(b.n.identity.Member.Nodes))
	for _, m := range b.n.identity.Member.Nodes {
		line := server.Node{ID: m.Name, Role: raftnode.Follower.String(), Term: status[raftnode.Catalogue].Term}
		for _, g := range status {
			if g.Leader == m.RaftID {
				line.LeaderOf = append(line.LeaderOf, g.Group.String())
			}
		}
		if len(line.LeaderOf) > 0 {
			line.Role = raftnode.Leader.String()
		}
		for _, s := range states {
			if s.Node == m.Name {
				line.Gossip = s.State
			}
		}
		nodes = append(nodes, line)
	}
	return nodes
}

// Clocks implements server.Backend.
func (b backend) Clocks() []wire.ClockLine { return b.n.time.lines() }

// maxReadyLag is how many entries a ready node may be behind in a group.
const maxReadyLag = 1000

// NotReady implements server.Backend.
func (b backend) NotReady() (reasons []string) {
	if b.n.draining() {
		reasons = append(reasons, "the node is draining")
	}
	if s := b.n.time.ref.Status(); s.State == timesvc.Unsyncd {
		reasons = append(reasons, "the clock is unsynchronised: "+s.Why)
	}
	for _, g := range b.Engine.Status() {
		switch {
		case b.headless(g.Group):
			reasons = append(reasons, fmt.Sprintf("group %s has no leader", g.Group))
		case g.Applied+maxReadyLag < g.Commit:
			reasons = append(reasons, fmt.Sprintf("group %s is %d entries behind", g.Group, g.Commit-g.Applied))
		}
	}
	if !b.cat.isFormed() {
		reasons = append(reasons, "the catalogue does not know the cluster yet")
	}
	return reasons
}

// headless says that a group has had no leader for an election timeout, or not
// since the start. Shorter gaps are how leadership moves; requests wait for them.
func (e *Engine) headless(id raftnode.GroupID) bool {
	g := e.groups[id]
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.headless >= e.c.ElectionTicks
}

// Status implements server.Backend.
func (b backend) Status() server.Status {
	s := server.Status{Node: b.n.o.Node, Cluster: b.n.o.Cluster.Name, Version: b.n.o.Version, Incarnation: b.n.identity.Counter}
	for _, g := range b.Engine.Status() {
		chain, applied := b.Chain(g.Group)
		status := server.GroupStatus{ID: g.Group.String(), Role: g.Role.String(), Leader: b.nodeName(g.Leader),
			Term: g.Term, Commit: max(g.Commit, applied), Applied: applied, Chain: chain.String()}
		for _, p := range g.Peers {
			status.Followers = append(status.Followers, server.FollowerStatus{Node: b.nodeName(p.ID), Match: p.Match,
				Lag: g.Last - min(p.Match, g.Last), Active: p.Active})
		}
		s.Groups = append(s.Groups, status)
	}
	s.Gossip = b.n.gossipStates()
	for _, l := range b.n.links.list() {
		s.Links = append(s.Links, server.LinkState{Node: b.nodeName(l.peer), Up: l.up, Since: l.since})
	}
	ahead := b.Ahead()
	list := make([]server.AheadStatus, 0, len(ahead))
	for _, g := range b.groups {
		if by := ahead[g.id]; by != 0 {
			list = append(list, server.AheadStatus{Group: g.id.String(), Micros: by})
		}
	}
	s.Clock = b.n.time.status(list)
	return s
}

// Counters implements server.Backend.
func (b backend) Counters() server.Counters {
	log, clock, packets := b.c.Log, b.n.time, b.n.time.packets
	c := server.Counters{
		LogSyncs: log.Syncs(), LogFrames: log.Frames(), LogBytes: log.Bytes(),
		LeaderChanges:   make(map[string]uint64),
		MessagesDropped: b.n.tcp.Load().Dropped(),
		PacketsSent:     packets.sent.Load(), PacketsReceived: packets.received.Load(),
		PacketsUntaken: packets.untaken.Load(), PacketsStrange: packets.strangers.Load(),
		ProbesAsked: clock.asked.Load(), ProbesAnswered: clock.answered.Load(),
	}
	if g := b.n.gossip.Load(); g != nil {
		c.PacketsNoRoom = g.Dropped()
	}
	for _, g := range b.groups {
		g.mu.Lock()
		sent, waiting := g.forward.Pending()
		c.LeaderChanges[g.id.String()] = g.changes
		g.mu.Unlock()
		c.ForwardsSent += sent
		c.ForwardsWaiting += waiting
	}
	return c
}

// Identity implements server.Backend.
func (b backend) Identity() server.Identity { return b.n.whoami() }

func (n *node) whoami() server.Identity {
	n.boot.mu.Lock()
	defer n.boot.mu.Unlock()
	return server.Identity{Cluster: n.o.Cluster.Name, Node: n.o.Node, UID: string(n.identity.UID), Incarnation: n.identity.Counter,
		PID: os.Getpid(), BootID: bootID(), DataDir: n.dir}
}

// Drain implements server.Backend.
func (b backend) Drain(context.Context) error {
	b.n.beginDrain()
	return nil
}

// web is the node's HTTP door: until the node has joined its cluster it answers
// only who it is and what it waits for.
type web struct {
	handler atomic.Pointer[http.Handler]
}

func newWeb(n *node) *web {
	w := new(web)
	w.set(server.Starting{Identity: n.whoami, NotReady: n.notJoined, Drain: n.beginDrain, AllowedHosts: n.o.AllowedHosts}.Handler())
	return w
}

// notJoined says what a node waits for that does not serve yet.
func (n *node) notJoined() []string {
	n.boot.mu.Lock()
	defer n.boot.mu.Unlock()
	if len(n.boot.wait) > 0 {
		return []string{"waiting for " + strings.Join(n.boot.wait, ", ") + " to form or join the cluster"}
	}
	return []string{"starting"}
}

func (w *web) set(h http.Handler) { w.handler.Store(&h) }

// ServeHTTP implements http.Handler.
func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	(*w.handler.Load()).ServeHTTP(rw, r)
}

func (w *web) serve(ctx context.Context, ln net.Listener) error {
	s := &http.Server{Handler: w, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		return fmt.Errorf("http: %w", err)
	}
	return nil
}
