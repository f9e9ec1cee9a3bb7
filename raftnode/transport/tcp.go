package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// TCPOptions says who this node is and whom it talks to.
type TCPOptions struct {
	// ID is this node's raft id, Cluster its cluster's id (at most 64 bytes).
	// A connection between nodes of different clusters is refused.
	ID      uint64
	Cluster string
	// Incarnation grows each time the node starts. Connections of an earlier
	// incarnation of a peer end when a later one is seen.
	Incarnation uint64
	// Peers are the other nodes' raft ids and peer addresses (host:port). This
	// node's own id is ignored.
	Peers map[uint64]string
	// LocalHost is the address connections are dialled from, so that a fault
	// can cut the link between two nodes by their addresses. Empty lets the
	// system choose.
	LocalHost string
	// Receiver is called from the goroutines of connections: calls of one
	// connection come one after the other, and those of different ones at the
	// same time. OnUp and OnDown of one peer alternate. A callback that waits
	// slows only its peer down; none may call Close.
	Receiver Receiver
	// Logger gets changes of connections; nil keeps them silent.
	Logger *slog.Logger

	// QueueBytes and QueueMessages bound what waits for one peer: 32 MiB and
	// 4096. Larger rides out longer stalls and costs memory for each peer.
	QueueBytes, QueueMessages int
	// DialTimeout bounds dialling and greeting: 1 s. WriteTimeout is how long
	// one write, of about 1 MiB or one larger message, may take until the
	// connection is cut: 5 s.
	DialTimeout, WriteTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause after a failed dial: 50 ms,
	// doubling to 2 s, each with jitter. An incoming connection of the peer
	// ends the pause.
	MinBackoff, MaxBackoff time.Duration
}

func (o TCPOptions) withDefaults() (TCPOptions, error) {
	if o.ID == 0 || o.Incarnation == 0 {
		return o, errors.New("transport: the raft id and the incarnation must not be 0")
	}
	if len(o.Cluster) > maxClusterBytes {
		return o, fmt.Errorf("transport: a cluster id of %d bytes, at most %d", len(o.Cluster), maxClusterBytes)
	}
	if o.Receiver.OnMessage == nil {
		return o, errors.New("transport: nobody receives messages")
	}
	def(&o.QueueBytes, 32<<20)
	def(&o.QueueMessages, 4096)
	def(&o.DialTimeout, time.Second)
	def(&o.WriteTimeout, 5*time.Second)
	def(&o.MinBackoff, 50*time.Millisecond)
	def(&o.MaxBackoff, 2*time.Second)
	return o, nil
}

func def[T int | time.Duration](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// TCP is the Transport over real connections: this node dials each peer and
// sends on that connection; what peers send comes on connections that they
// dialled, through Serve.
//
// A goroutine per peer owns the connection it dials (link); Serve runs in its
// caller's goroutine. All end at Close.
type TCP struct {
	opts   TCPOptions
	local  net.Addr         // to dial from; nil: the system chooses
	links  map[uint64]*link // never changes, nor does peers
	peers  map[uint64]*peer
	self   queue
	cancel context.CancelFunc
	ctx    context.Context // ends at Close; goroutines started here live no longer
	wg     sync.WaitGroup

	mu     sync.Mutex // guards closed
	closed bool
}

// peer is what is known of a peer's connections, both ways.
type peer struct {
	mu          sync.Mutex // held during OnUp and OnDown, so that they alternate
	up          bool       // OnUp was called last
	incarnation uint64     // the latest seen
	conns       map[*peerConn]bool
}

type peerConn struct {
	net.Conn
	peer        uint64
	incarnation uint64
	dialled     bool
}

// NewTCP starts one link per peer. Close ends them.
func NewTCP(o TCPOptions) (*TCP, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &TCP{opts: o, links: make(map[uint64]*link), peers: make(map[uint64]*peer), self: newQueue(o.QueueBytes, o.QueueMessages)}
	if o.LocalHost != "" {
		ip, err := net.ResolveIPAddr("ip", o.LocalHost)
		if err != nil {
			return nil, fmt.Errorf("transport: address to dial from: %w", err)
		}
		t.local = &net.TCPAddr{IP: ip.IP, Zone: ip.Zone}
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	for id, addr := range o.Peers {
		if id == o.ID {
			continue
		}
		l := &link{t: t, peer: id, addr: addr, queue: newQueue(o.QueueBytes, o.QueueMessages), kickc: make(chan struct{}, 1)}
		t.links[id] = l
		t.peers[id] = &peer{conns: make(map[*peerConn]bool)}
	}
	for _, l := range t.links {
		t.wg.Go(func() { l.run(t.ctx) })
	}
	t.wg.Go(t.runSelf)
	return t, nil
}

// Send implements Transport.
func (t *TCP) Send(to uint64, m Message) {
	if to == t.opts.ID {
		t.self.put(m)
	} else if l := t.links[to]; l != nil {
		l.queue.put(m)
	}
}

// Dropped counts the messages that were dropped because a queue was full or a
// peer not connected.
func (t *TCP) Dropped() uint64 {
	n := t.self.drops()
	for _, l := range t.links {
		n += l.queue.drops()
	}
	return n
}

// runSelf delivers what this node sends to itself.
func (t *TCP) runSelf() {
	for {
		select {
		case <-t.ctx.Done():
			t.self.open(false)
			return
		case <-t.self.wakec:
			for _, m := range t.self.take() {
				if t.ctx.Err() != nil {
					break
				}
				t.opts.Receiver.OnMessage(t.opts.ID, m)
			}
		}
	}
}

// Serve reads the connection of a peer until it ends, and closes it. Nothing
// may have been read from it before; it begins with the byte 'R'.
func (t *TCP) Serve(conn net.Conn) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		_ = conn.Close()
		return
	}
	t.wg.Add(1)
	t.mu.Unlock()
	defer t.wg.Done()
	defer conn.Close()
	stop := context.AfterFunc(t.ctx, func() { _ = conn.Close() })
	defer stop()
	pc, err := t.greeted(conn)
	if err != nil {
		if t.ctx.Err() == nil {
			t.log(slog.LevelWarn, "connection of a peer refused", "addr", conn.RemoteAddr().String(), "err", err)
		}
		return
	}
	err = t.receive(pc)
	t.ended(pc)
	if t.ctx.Err() == nil && !errors.Is(err, io.EOF) {
		t.log(slog.LevelInfo, "connection of a peer ended", "peer", pc.peer, "err", err)
	}
}

// greeted reads the greeting and answers it.
func (t *TCP) greeted(conn net.Conn) (*peerConn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.opts.DialTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	g, err := readGreeting(conn)
	if err != nil {
		return nil, err
	}
	pc := &peerConn{Conn: conn, peer: g.from, incarnation: g.incarnation}
	v := t.judge(g)
	if v == welcome && !t.connected(pc) {
		v = oldIncarnation
	}
	_, err = conn.Write(appendAnswer(nil, v, t.opts.Incarnation))
	if v != welcome {
		return nil, &RefusedError{Peer: g.from, Reason: refusal(v)}
	}
	if err != nil {
		t.ended(pc)
		return nil, fmt.Errorf("transport: answer node %d: %w", g.from, err)
	}
	_ = conn.SetDeadline(time.Time{})
	t.links[g.from].kick()
	return pc, nil
}

func (t *TCP) judge(g greeting) verdict {
	switch {
	case g.version != version:
		return otherVersion
	case g.cluster != t.opts.Cluster:
		return otherCluster
	case g.to != t.opts.ID:
		return otherNode
	case t.links[g.from] == nil:
		return unknownPeer
	}
	return welcome
}

// refusal is the acceptor's view of a verdict.
func refusal(v verdict) string {
	switch v {
	case otherVersion:
		return "it speaks another version of the peer protocol"
	case otherCluster:
		return "it belongs to another cluster"
	case otherNode:
		return "it looks for another node"
	case unknownPeer:
		return "it is no peer of this node"
	}
	return "a later start of it, or the end of this node, came first"
}

// receive hands on what a peer sends.
func (t *TCP) receive(conn *peerConn) error {
	f := newFrameReader(conn)
	for {
		m, err := f.next()
		if err != nil {
			return err
		}
		if t.ctx.Err() != nil {
			return net.ErrClosed
		}
		if m.Kind == KindRaft && (m.Raft.GetFrom() != conn.peer || m.Raft.GetTo() != t.opts.ID) {
			return &FrameError{fmt.Sprintf("a raft message from %d to %d", m.Raft.GetFrom(), m.Raft.GetTo())}
		}
		t.opts.Receiver.OnMessage(conn.peer, m)
	}
}

// connected notes a connection whose greeting was exchanged, and says whether
// it may be used. A later incarnation of the peer ends the connections of
// earlier ones: their process is dead.
func (t *TCP) connected(c *peerConn) bool {
	p := t.peers[c.peer]
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.ctx.Err() != nil || c.incarnation < p.incarnation {
		return false
	}
	if c.incarnation > p.incarnation {
		p.incarnation = c.incarnation
		for old := range p.conns {
			_ = old.Close()
		}
		clear(p.conns)
		t.tell(c.peer, p, false)
	}
	p.conns[c] = true
	t.tell(c.peer, p, true)
	return true
}

// ended closes a connection and notes it. Its end is evidence that the peer
// died, unless this node ended it. A dead process's connections all close in
// the same moment; the accepted one counts, because its end comes behind the
// peer's last messages, and only without one the end of the dialled one.
func (t *TCP) ended(c *peerConn) {
	_ = c.Close()
	p := t.peers[c.peer]
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.conns[c] {
		return
	}
	delete(p.conns, c)
	for other := range p.conns {
		if c.dialled && !other.dialled {
			return
		}
	}
	t.tell(c.peer, p, false)
}

func (t *TCP) tell(id uint64, p *peer, up bool) {
	if p.up == up || t.ctx.Err() != nil {
		return
	}
	p.up = up
	if f := t.opts.Receiver.OnUp; up && f != nil {
		f(id)
	}
	if f := t.opts.Receiver.OnDown; !up && f != nil {
		f(id)
	}
}

func (t *TCP) log(level slog.Level, what string, args ...any) {
	if t.opts.Logger != nil {
		t.opts.Logger.Log(t.ctx, level, what, args...)
	}
}

// Close implements Transport. It also ends all connections in Serve.
func (t *TCP) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
}

// noDelay turns off the delay of small writes; what belongs together is
// written together already.
func noDelay(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true)
	}
}
