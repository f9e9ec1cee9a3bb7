package member

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/server"
	"github.com/wiber/wiber/topics/wire"
)

const (
	// clockPatience is how long a node waits for the others' clocks before it takes
	// part in raft: a leader should know that its clock is wrong before it stamps.
	clockPatience = time.Second
	// lookEvery is how often what is known of the clocks is looked at, for the log.
	lookEvery    = 100 * time.Millisecond
	resolveEvery = 10 * time.Second
	// probePurpose is what the probes' key is derived for (docs/format/probe.md).
	probePurpose = "clock probe"
)

// clock joins the node's reference time to the world: it carries probes between
// the peer port and the Reference, and says in the log what became of the clocks.
//
// probeLoop owns looked and the states that were said; packets come in the peer
// port's goroutine.
type clock struct {
	ref             *timesvc.Reference
	base            timesvc.Clock
	packets         *packetPort
	asked, answered atomic.Uint64 // probes sent: of this node, and for others
	log             *slog.Logger
	test            string // WIBER_TEST_CLOCK
	voters          []NodeIdentity
	self            uint64
	addr            map[uint64]*atomic.Pointer[netip.AddrPort] // of peers; nil: the name is not resolved yet
	synced          chan struct{}                              // closed once it was synchronised
	secret          func() (key []byte, ok bool)               // the probes' key, once the cluster's secret is known
	nodes           []v1alpha1.NodeSpec
	lamport         func() uint64

	began  time.Duration // on the clock's Mono
	looked time.Duration // of the last look, on the clock's Mono
	state  timesvc.State
	peers  map[uint64]string

	// answer belongs to the goroutine that reads packets.
	answer []byte
}

// newClock reads the wall clock for the last time; who the voters are is known.
func (n *node) newClock(packets *packetPort) (*clock, error) {
	c := &clock{
		base: n.clock, packets: packets, log: n.log, voters: n.identity.Member.Nodes, self: n.identity.RaftID(),
		addr: make(map[uint64]*atomic.Pointer[netip.AddrPort]), synced: make(chan struct{}), peers: make(map[uint64]string),
		nodes: n.o.Cluster.Spec.Nodes, began: n.clock.Mono(),
		secret: func() ([]byte, bool) {
			s := n.secret.get()
			key := s.Key(n.identity.Member.ClusterID, probePurpose)
			return key[:], !s.IsZero()
		},
		lamport: func() uint64 {
			if e := n.engine.Load(); e != nil {
				return e.Lamport()
			}
			return 0
		},
	}
	o := timesvc.ReferenceOptions{Clock: n.clock, Self: c.self, Incarnation: n.identity.Counter + 1}
	for _, v := range c.voters {
		o.Voters = append(o.Voters, v.RaftID)
		if v.RaftID != c.self {
			c.addr[v.RaftID] = new(atomic.Pointer[netip.AddrPort])
		}
	}
	if s, ok := n.clock.(interface{ Skew() timesvc.Skew }); ok && !s.Skew().IsZero() {
		c.test, o.TestClock = s.Skew().String(), true
		n.log.Warn("this node's clock is shifted and drifts by order of its environment", "clock", c.test)
	}
	var err error
	c.ref, err = timesvc.NewReference(o)
	return c, err
}

// run probes the other nodes until ctx ends. One node alone has nothing to do.
func (c *clock) run(ctx context.Context) {
	if len(c.voters) > 1 {
		var wg sync.WaitGroup
		wg.Go(func() { c.resolve(ctx) })
		defer wg.Wait()
	}
	c.probeLoop(ctx)
}

// key gives the reference the probes' key as soon as this node knows the
// cluster's secret, and says whether it has it.
func (c *clock) key() bool {
	key, ok := c.secret()
	if ok {
		c.ref.SetKey(key)
	}
	return ok
}

// resolve finds the addresses of the peers, those that are names again and again.
func (c *clock) resolve(ctx context.Context) {
	again := c.base.NewTicker(resolveEvery)
	defer again.Stop()
	for names := true; names; {
		names = false
		for _, v := range c.voters {
			i := slices.IndexFunc(c.nodes, func(s v1alpha1.NodeSpec) bool { return s.ID == v.Name })
			if v.RaftID == c.self || i < 0 {
				continue
			}
			names = names || net.ParseIP(c.nodes[i].Host) == nil
			if addr, err := net.ResolveUDPAddr("udp", peerAddr(c.nodes[i])); err == nil {
				to := addr.AddrPort()
				to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
				c.addr[v.RaftID].Store(&to)
			}
		}
		if names {
			select {
			case <-ctx.Done():
				return
			case <-again.C():
			}
		}
	}
}

// probeLoop asks the peers for their time until ctx ends.
func (c *clock) probeLoop(ctx context.Context) {
	c.packets.handle(timesvc.ProbeByte, c.receive)
	defer c.packets.handle(timesvc.ProbeByte, nil)
	timer := c.base.NewTimer(0)
	defer timer.Stop()
	var buf []byte
	keyed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C():
		}
		keyed = keyed || c.key()
		for {
			to, packet, ok := c.ref.Question(buf[:0])
			if !ok {
				break
			}
			if addr := c.addr[to].Load(); addr != nil {
				_ = c.packets.send(packet, *addr) // a lost question is asked again
				c.asked.Add(1)
			}
			buf = packet
		}
		if now := c.base.Mono(); now-c.looked >= lookEvery || c.state != timesvc.Synchronised {
			c.looked = now
			c.look(c.now())
		}
		timer.Reset(max(c.ref.NextQuestion(), time.Millisecond))
	}
}

// receive takes a probe; it is called by the reader of packets.
func (c *clock) receive(p packet) {
	answer, news := c.ref.Receive(c.answer[:0], p.payload, p.came)
	if answer != nil {
		c.answer = answer
		_ = c.packets.send(answer, p.from) // whoever asked asks again
		c.answered.Add(1)
	}
	if news.Contradicts != 0 {
		c.log.Warn("the readings of a node's clock contradict each other: it jumped, or runs wrong by more than 500 ppm; its clock does not count for now",
			"peer", c.name(news.Contradicts))
	}
}

func (c *clock) name(raftID uint64) string {
	for _, v := range c.voters {
		if v.RaftID == raftID {
			return v.Name
		}
	}
	return ""
}

// look says in the log what has changed.
func (c *clock) look(s timesvc.Status) {
	if s.State != c.state {
		switch {
		case s.State == timesvc.Unsyncd && c.state == "" && c.base.Mono()-c.began < clockPatience:
			return // as every node at its start
		case s.State == timesvc.Unsyncd:
			c.log.Warn("clock unsynchronised: stamps have eps=-1", "reason", s.Why)
		case s.State == timesvc.Holdover:
			c.log.Warn("the clocks of a majority are no longer read: eps grows by 500 us a second", "eps", s.Eps)
		default:
			c.log.Info("clock synchronised", "offset", s.Offset, "eps", s.Eps)
		}
		if s.State != timesvc.Unsyncd && (c.state == timesvc.Unsyncd || c.state == "") {
			select {
			case <-c.synced:
			default:
				close(c.synced)
			}
		}
		c.state = s.State
	}
	for _, p := range s.Peers {
		if said := c.peers[p.ID]; said != p.State {
			c.peers[p.ID] = p.State
			switch {
			case p.State == timesvc.PeerAhead:
				c.log.Warn("a node's clock is more than 500 ms ahead and does not count", "peer", c.name(p.ID), "offset", p.Offset)
			case p.State == timesvc.PeerOK && (said == timesvc.PeerAhead || said == timesvc.PeerDistrusted):
				c.log.Info("a node's clock counts again", "peer", c.name(p.ID), "offset", p.Offset)
			}
		}
	}
}

// await waits for the first synchronisation, but not for long.
func (c *clock) await(ctx context.Context, drain <-chan struct{}) {
	timer := c.base.NewTimer(clockPatience)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-drain:
	case <-timer.C():
	case <-c.synced:
	}
}

// now is what is known now.
func (c *clock) now() timesvc.Status {
	c.ref.NoteLamport(c.lamport())
	return c.ref.Status()
}

// lines are the node's and the others' clocks, in the order of the cluster.
func (c *clock) lines() []wire.ClockLine {
	s := c.now()
	lines := make([]wire.ClockLine, 0, len(c.voters))
	for _, v := range c.voters {
		if v.RaftID == c.self {
			lines = append(lines, wire.ClockLine{Node: v.Name, Known: true, Offset: s.Offset, Eps: s.Eps,
				DriftKnown: s.DriftKnown, Drift: s.Drift, State: string(s.State), Lamport: s.Lamport, Test: s.TestClock})
			continue
		}
		i := slices.IndexFunc(s.Peers, func(p timesvc.PeerStatus) bool { return p.ID == v.RaftID })
		lines = append(lines, clockLine(v.Name, &s.Peers[i]))
	}
	return lines
}

// clockLine says of a peer what it says itself, where it can be reached and
// believed. Its eps covers both its own and that of the offset.
func clockLine(name string, p *timesvc.PeerStatus) wire.ClockLine {
	l := wire.ClockLine{Node: name, Known: p.Known, Offset: p.Offset, Eps: timesvc.Unsynchronised,
		DriftKnown: p.DriftKnown, Drift: p.Drift, State: p.State, Lamport: p.Lamport, Test: p.TestClock}
	if p.State == timesvc.PeerOK || p.State == timesvc.PeerAhead {
		l.State = string(p.Says)
	}
	if p.Known && p.Says != timesvc.Unsyncd {
		l.Eps = max(p.Eps, p.Bound)
	}
	return l
}

// status is the clock of /v1/status.
func (c *clock) status(ahead []server.AheadStatus) server.ClockStatus {
	s := c.now()
	out := server.ClockStatus{
		State: string(s.State), Reason: s.Why, OffsetMicros: s.Offset, Eps: s.Eps, DriftPPM: known(s.DriftKnown, s.Drift),
		Lamport: s.Lamport, Reference: s.Now, TestClock: c.test, Ahead: ahead, Peers: make([]server.PeerClock, 0, len(s.Peers)),
	}
	for i := range s.Peers {
		p := &s.Peers[i]
		pc := server.PeerClock{Node: c.name(p.ID), State: p.State, Eps: timesvc.Unsynchronised, DriftPPM: known(p.DriftKnown, p.Drift)}
		if p.Known {
			pc.OffsetMicros, pc.Eps = &p.Offset, p.Bound
			pc.BoundMicros, pc.AgeMillis = p.Reading.Microseconds(), p.Age.Milliseconds()
		}
		out.Peers = append(out.Peers, pc)
	}
	return out
}

func known(ok bool, v float64) *float64 {
	if !ok {
		return nil
	}
	return &v
}

// watchStamps follows whether the stamps of a group run ahead of the reference
// time. A stamp in the log is never refused: this is how it is noticed. It is
// called with the group's lock.
func (e *Engine) watchStampsLocked(g *group) {
	last := int64(g.sm.LastStamp().TS)
	if last <= e.recently.Load()+timesvc.MaxEps && g.ahead == 0 {
		return // the reference time has risen since
	}
	now, _ := e.c.Reference()
	e.recently.Store(now)
	was := g.ahead
	if g.ahead = last - now; g.ahead <= timesvc.MaxEps {
		g.ahead = 0
	}
	switch {
	case was == 0 && g.ahead != 0:
		e.c.Logger.Warn("stamps are more than 500 ms ahead of the cluster's time: a leader's clock was ahead; they rise by a microsecond each until the time has come as far",
			"group", g.id.String(), "micros", g.ahead)
	case was != 0 && g.ahead == 0:
		e.c.Logger.Info("stamps are no longer ahead of the cluster's time", "group", g.id.String())
	}
}

// Ahead returns by how many microseconds each group's last stamp is ahead of the
// reference time, where that is more than 500 ms.
func (e *Engine) Ahead() map[raftnode.GroupID]int64 {
	ahead := make(map[raftnode.GroupID]int64)
	for _, g := range e.groups {
		g.mu.Lock()
		if g.ahead != 0 {
			ahead[g.id] = g.ahead
		}
		g.mu.Unlock()
	}
	return ahead
}

// Lamport returns the largest Lamport value in this node's groups.
func (e *Engine) Lamport() (n uint64) {
	for _, g := range e.groups {
		g.mu.Lock()
		n = max(n, g.sm.LastStamp().Lamport)
		g.mu.Unlock()
	}
	return n
}
