package member

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/wiber/wiber/member/gossip"
	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/server"
)

// This file is all that a node has to do with gossip. The Engine does not know of
// it: what gossip says is shown to people, and raft decides without it.

// runGossip takes part from when the cluster's secret is known until ctx ends. A
// node that cannot take part runs all the same.
func (n *node) runGossip(ctx context.Context, e *Engine, packets *packetPort) {
	key, err := n.key(ctx, "gossip")
	if err != nil {
		return
	}
	self, err := gossip.Advertise(n.self.Host, n.self.PeerPort)
	if err != nil {
		n.log.Warn("this node takes no part in gossip", "err", err)
		return
	}
	peers := make(map[string]string)
	for _, s := range n.o.Cluster.Spec.Nodes {
		if s.ID != n.o.Node {
			peers[s.ID] = peerAddr(s)
		}
	}
	local := localAddr(n.self.Host)
	dialling := context.WithoutCancel(ctx) // the farewell is said when ctx has ended
	g, err := gossip.New(gossip.Options{
		Node: n.o.Node, Cluster: n.identity.Member.ClusterID, Key: key, Self: self, Peers: peers,
		Meta: n.gossipMeta(e),
		Send: func(payload []byte, to netip.AddrPort) error {
			if n.gossipCut() {
				return nil
			}
			return packets.send(payload, to)
		},
		Dial: func(addr string, timeout time.Duration) (net.Conn, error) {
			if n.gossipCut() {
				return nil, syscall.ENETUNREACH
			}
			return (&net.Dialer{LocalAddr: local, Timeout: timeout}).DialContext(dialling, "tcp", addr)
		},
		Clock: n.clock, Logger: n.log,
	})
	if err != nil {
		n.log.Warn("this node takes no part in gossip", "err", err)
		return
	}
	packets.handle(gossip.FirstByte, func(p packet) {
		if !n.gossipCut() {
			g.Packet(p.payload, p.from)
		}
	})
	n.gossip.Store(g)
	g.Run(ctx)
	packets.handle(gossip.FirstByte, nil)
}

// gossipStream takes over a connection that a peer's gossip has opened.
func (n *node) gossipStream(c net.Conn) {
	if g := n.gossip.Load(); g != nil && !n.gossipCut() {
		g.Stream(c)
		return
	}
	_ = c.Close()
}

func (n *node) gossipCut() bool { return n.o.cutGossip != nil && n.o.cutGossip.Load() }

// gossipMeta is what this node says of itself.
func (n *node) gossipMeta(e *Engine) func() gossip.Meta {
	before, at := cpuTime(), n.clock.Mono()
	return func() gossip.Meta {
		m := gossip.Meta{Incarnation: n.identity.Counter, Host: n.self.Host, ClientPort: uint16(n.self.Port), HTTPPort: uint16(n.self.HTTPPort)}
		for _, g := range e.Status() {
			if g.Role == raftnode.Leader {
				m.Leader = true
				m.Leads = append(m.Leads, uint32(g.Group))
			}
		}
		if t := n.time.ref.Status(); t.State != timesvc.Unsyncd {
			m.Clock = gossip.ClockReading{Known: true, OffsetMicros: t.Offset, EpsMicros: t.Eps}
		}
		used, now := cpuTime(), n.clock.Mono()
		if d := now - at; d > 0 {
			m.CPUMillis = uint32((used - before) * 1000 / d)
		}
		before, at = used, now
		return m
	}
}

// cpuTime is the processor time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// gossipStates is what this node thinks of each node of the cluster.
func (n *node) gossipStates() []server.GossipState {
	g := n.gossip.Load()
	if g == nil {
		var all []server.GossipState
		for _, m := range n.identity.Member.Nodes {
			s := server.GossipState{Node: m.Name, State: string(gossip.Unknown), Since: n.start.UTC().Truncate(time.Microsecond)}
			if m.Name == n.o.Node {
				s.State = string(gossip.Alive)
			}
			all = append(all, s)
		}
		return all
	}
	var all []server.GossipState
	for _, m := range g.Members() {
		s := server.GossipState{Node: m.Node, State: string(m.State), Since: m.Since}
		if m.Meta.Beat > 0 {
			s.Incarnation, s.CPUMillis, s.Role = m.Meta.Incarnation, m.Meta.CPUMillis, raftnode.Follower.String()
			if m.Meta.Leader {
				s.Role = raftnode.Leader.String()
			}
			for _, id := range m.Meta.Leads {
				s.Leads = append(s.Leads, raftnode.GroupID(id).String())
			}
		}
		all = append(all, s)
	}
	return all
}
