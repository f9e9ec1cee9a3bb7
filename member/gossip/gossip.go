package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/wiber/wiber/timesvc"
)

// The times of gossip. A node that stops without a word is suspect after 3 to 4 s,
// and dead 6 s after a probe of it failed, which takes 1 to 5 s. Shorter times are
// false alarms on busy machines: a process that wants the CPU may wait for 200 ms.
const (
	beatEvery     = time.Second
	suspectAfter  = 3 * time.Second
	lookEvery     = 250 * time.Millisecond
	joinEvery     = time.Second
	streamTimeout = time.Second
	strangeEvery  = time.Minute // for what others than nodes sent
)

// Options say which node gossips with whom, and how.
type Options struct {
	Node    string            // its name
	Cluster string            // the cluster's id
	Key     [32]byte          // of the cluster, for this purpose
	Self    netip.AddrPort    // its peer port, as the others reach it
	Peers   map[string]string // the peer ports of the others: name -> host:port
	// Meta is asked for every beat, from one goroutine.
	Meta func() Meta
	// Send sends a packet, and does not wait for anybody to take it. Dial opens a
	// connection to a peer port. What they carry begins with FirstByte.
	Send   func(payload []byte, to netip.AddrPort) error
	Dial   func(addr string, timeout time.Duration) (net.Conn, error)
	Clock  timesvc.Clock
	Logger *slog.Logger
}

// Gossip is one node's part in the conversation. Members may be called at any
// time, Packet and Stream from any goroutine.
//
// memberlist has goroutines of its own, which end when Run does; that one cannot
// wait for them is memberlist's way.
type Gossip struct {
	o     Options
	view  *view
	net   *transport
	list  *memberlist.Memberlist
	peers []string

	mu   sync.Mutex // guards meta
	meta Meta
}

// New starts to take part; Run must follow.
func New(o Options) (*Gossip, error) {
	g := &Gossip{o: o, peers: slices.Sorted(maps.Keys(o.Peers))}
	g.view = newView(append(slices.Clone(g.peers), o.Node), suspectAfter, g.wall(), o.Clock.Mono())
	g.net = newTransport(&g.o)
	g.beat(false)
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.SecretKey = o.Node, o.Cluster, o.Key[:]
	c.Transport = g.net
	c.ProtocolVersion = memberlist.ProtocolVersionMax
	c.LogOutput = &logWriter{log: o.Logger, clock: o.Clock}
	c.Delegate, c.Events, c.Ping, c.Alive = delegate{g}, events{g}, pings{g}, aliveFilter{g}
	c.EnableCompression = false // a Meta is smaller than what compressing it adds
	c.TCPTimeout = streamTimeout
	// A name that comes back from another address is let in soon: the addresses are
	// those of the file, and only nodes have the key.
	c.DeadNodeReclaimTime = time.Second
	c.ProbeInterval, c.ProbeTimeout = time.Second, 500*time.Millisecond
	// A node that is itself slow stretches its probes to 3 s at most, so that it
	// still sees a death within 15 s.
	c.AwarenessMaxMultiplier = 3
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 6, 1
	c.PushPullInterval = 10 * time.Second
	c.GossipInterval, c.GossipNodes, c.RetransmitMult = 200*time.Millisecond, 3, 4
	c.GossipToTheDeadTime = time.Minute
	list, err := memberlist.Create(c)
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	g.list = list
	return g, nil
}

// Packet takes a packet of the peer port that begins with FirstByte. It keeps
// nothing of payload and does not wait.
func (g *Gossip) Packet(payload []byte, from netip.AddrPort) { g.net.packet(payload, from) }

// Stream takes over a connection to the peer port that begins with FirstByte.
func (g *Gossip) Stream(c net.Conn) { g.net.stream(c) }

// Members returns all nodes of the cluster, this one too, in the order of their
// names.
func (g *Gossip) Members() []Member { return g.view.list() }

// ErrLeave is the cause with which Run's context is ended by a node that stops in
// order.
var ErrLeave = errors.New("gossip: the node leaves")

// Dropped counts the packets for which there was no room.
func (g *Gossip) Dropped() uint64 { return g.net.dropped.Load() }

// Run takes part until ctx ends. If the cause is ErrLeave, the others are told,
// which takes up to a second where one does not answer; else they find out.
func (g *Gossip) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { g.every(ctx, beatEvery, g.say) })
	wg.Go(func() { g.every(ctx, lookEvery, g.look) })
	wg.Go(func() { g.joinLoop(ctx) })
	wg.Wait()
	if errors.Is(context.Cause(ctx), ErrLeave) {
		g.farewell()
	}
	_ = g.list.Shutdown()
}

func (g *Gossip) every(ctx context.Context, d time.Duration, f func()) {
	t := g.o.Clock.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C():
			f()
		}
	}
}

// joinLoop tells those who are not part of the conversation that this node is
// there, and hears from them what has happened: after a start, and after a cut.
func (g *Gossip) joinLoop(ctx context.Context) {
	g.join()
	g.every(ctx, joinEvery, g.join)
}

func (g *Gossip) join() {
	for _, name := range g.view.missing(g.peers) {
		// The address is the transport's business; memberlist wants one that looks
		// like one.
		_, _ = g.list.Join([]string{name + "/127.0.0.1:1"})
	}
}

// beat makes the next Meta.
func (g *Gossip) beat(leaving bool) {
	m := g.o.Meta().clone()
	g.mu.Lock()
	m.Beat, m.Leaving = g.meta.Beat+1, leaving
	g.meta = m
	g.mu.Unlock()
	g.tell(g.view.heard(g.o.Node, &m, g.wall(), g.o.Clock.Mono()))
}

// say tells the others how this node is. It waits at most half a beat for the
// packets to leave.
func (g *Gossip) say() {
	g.beat(false)
	_ = g.list.UpdateNode(beatEvery / 2) // what did not leave is replaced by the next one
}

// farewell tells each node that this one stops. memberlist's own leaving would take
// two rounds of gossip; this takes a connection.
func (g *Gossip) farewell() {
	g.beat(true)
	g.mu.Lock()
	msg := append(append([]byte{byte(len(g.o.Node))}, g.o.Node...), g.meta.encode()...)
	g.mu.Unlock()
	var wg sync.WaitGroup
	for _, n := range g.list.Members() {
		if n.Name != g.o.Node {
			wg.Go(func() {
				if err := g.list.SendReliable(n, msg); err != nil {
					g.o.Logger.Debug("a node was not told that this one stops", "peer", n.Name, "err", err)
				}
			})
		}
	}
	wg.Wait()
}

// heardFarewell takes what farewell sends.
func (g *Gossip) heardFarewell(b []byte) {
	if len(b) == 0 || len(b) <= int(b[0]) {
		return
	}
	end := 1 + int(b[0])
	name := string(b[1:end])
	m, err := decodeMeta(b[end:])
	if err != nil || !m.Leaving || name == g.o.Node {
		return
	}
	g.tell(g.view.heard(name, &m, g.wall(), g.o.Clock.Mono()))
}

func (g *Gossip) look() {
	for _, c := range g.view.tick(g.wall(), g.o.Clock.Mono()) {
		g.tell(&c)
	}
}

// tell logs a change of state.
func (g *Gossip) tell(c *change) {
	if c == nil || c.Node == g.o.Node {
		return
	}
	level := slog.LevelInfo
	if c.State == Suspect || c.State == Dead {
		level = slog.LevelWarn
	}
	g.o.Logger.Log(context.Background(), level, "a node's gossip state changed", "peer", c.Node, "state", string(c.State), "before", string(c.before))
}

func (g *Gossip) wall() time.Time { return g.o.Clock.Now().UTC().Truncate(time.Microsecond) }

// delegate gives memberlist this node's Meta.
type delegate struct{ g *Gossip }

func (d delegate) NodeMeta(int) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	return d.g.meta.encode()
}
func (d delegate) NotifyMsg(b []byte)            { d.g.heardFarewell(b) }
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

// events is called by memberlist, under its lock, when a node says something new
// or is given up.
type events struct{ g *Gossip }

func (e events) NotifyJoin(n *memberlist.Node)   { e.said(n) }
func (e events) NotifyUpdate(n *memberlist.Node) { e.said(n) }
func (e events) NotifyLeave(n *memberlist.Node) {
	if n.Name != e.g.o.Node {
		e.g.tell(e.g.view.gone(n.Name, e.g.wall()))
	}
}

func (e events) said(n *memberlist.Node) {
	if n.Name == e.g.o.Node {
		return
	}
	if m, err := decodeMeta(n.Meta); err == nil {
		e.g.tell(e.g.view.heard(n.Name, &m, e.g.wall(), e.g.o.Clock.Mono()))
	}
}

// pings is called when a probe was answered.
type pings struct{ g *Gossip }

func (pings) AckPayload() []byte { return nil }
func (p pings) NotifyPingComplete(n *memberlist.Node, _ time.Duration, _ []byte) {
	p.g.tell(p.g.view.heard(n.Name, nil, p.g.wall(), p.g.o.Clock.Mono()))
}

// aliveFilter keeps out names that are not the cluster's.
type aliveFilter struct{ g *Gossip }

var errStranger = errors.New("it is no node of this cluster")

func (f aliveFilter) NotifyAlive(n *memberlist.Node) error {
	if _, ok := f.g.o.Peers[n.Name]; !ok && n.Name != f.g.o.Node {
		return errStranger
	}
	return nil
}

// logWriter passes on what memberlist has to say. All of it is detail, but what
// somebody sent who has not the key, or another cluster's label: that is said, once
// in a while.
type logWriter struct {
	log   *slog.Logger
	clock timesvc.Clock

	mu   sync.Mutex // guards next
	next time.Duration
}

var strange = []string{"Decrypt packet failed", "unacceptable label", "failed to receive", "Conflicting address", "no node of this cluster"}

var _ io.Writer = (*logWriter)(nil)

func (w *logWriter) Write(b []byte) (int, error) {
	_, text, ok := bytes.Cut(b, []byte("memberlist: "))
	if !ok {
		text = b
	}
	line := strings.TrimSpace(string(text))
	if slices.ContainsFunc(strange, func(s string) bool { return strings.Contains(line, s) }) && w.due() {
		w.log.Warn("gossip that no node of this cluster sends", "reason", line)
	} else {
		w.log.Debug("gossip", "reason", line)
	}
	return len(b), nil
}

func (w *logWriter) due() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock.Mono()
	if now < w.next {
		return false
	}
	w.next = now + strangeEvery
	return true
}
