package member

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/member/gossip"
	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/raftnode/wal"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/server"
	"github.com/wiber/wiber/topics/store"
)

// Options say which node of which cluster runs, and where.
type Options struct {
	// Node is the node's id in Cluster.
	Node string
	// Cluster is the whole cluster, with defaults filled in and validated.
	Cluster *v1alpha1.Cluster
	// DataRoot holds a folder per node; Cluster.Spec.DataRoot if empty.
	DataRoot string
	// Bootstrap, if not empty, names the nodes that form the cluster, instead of
	// all nodes that are not stopped.
	Bootstrap []string
	// AllowedHosts are further values of HTTP's Host header.
	AllowedHosts []string
	Clock        timesvc.Clock
	Logger       *slog.Logger
	Version      string

	cutGossip *atomic.Bool // tests: while it is true, the node's gossip is lost, both ways
}

// peerAddr is where a node is reached by the others.
func peerAddr(n v1alpha1.NodeSpec) string { return net.JoinHostPort(n.Host, strconv.Itoa(n.PeerPort)) }

// node is a running node: what Run's goroutines share.
type node struct {
	o     Options
	clock timesvc.Clock
	log   *slog.Logger
	self  v1alpha1.NodeSpec
	dir   string
	tick  time.Duration
	start time.Time

	meta   store.MetaStore
	secret *sharedSecret
	links  linkStates
	tcp    atomic.Pointer[transport.TCP] // the links themselves; nil until the node has joined
	gossip atomic.Pointer[gossip.Gossip] // nil until the node takes part
	inbox  *inbox
	drain  chan struct{} // closed when the node shall end
	once   sync.Once     // closes drain

	identity Identity // fixed once the engine runs; until then boot.mu guards it
	boot     struct {
		mu   sync.Mutex // guards b and wait
		b    *Bootstrap
		wait []string
	}
	time   *clock // the cluster's time; once the node has joined
	engine atomic.Pointer[Engine]
}

// Run runs one node until ctx ends or it must not go on. Ending ctx drains it:
// leadership is handed over and what was accepted is answered. An error that is
// ErrNotRestartable is not mended by starting again.
func Run(ctx context.Context, o Options) error {
	n, release, err := open(o)
	if err != nil {
		return err
	}
	defer release()
	ports, err := n.listen()
	if err != nil {
		return err
	}
	defer ports.close()
	return n.run(ctx, ports)
}

// open takes the node's folder.
func open(o Options) (n *node, release func(), err error) {
	self, ok := o.Cluster.Spec.Node(o.Node)
	if !ok {
		return nil, nil, &RefusedError{fmt.Sprintf("cluster %q has no node %q; its nodes are %s", o.Cluster.Name, o.Node, strings.Join(nodeIDs(o.Cluster, true), ", "))}
	}
	if o.DataRoot == "" {
		o.DataRoot = o.Cluster.Spec.DataRoot
	}
	root, err := filepath.Abs(o.DataRoot)
	if err != nil {
		return nil, nil, err
	}
	election := time.Duration(o.Cluster.Spec.ElectionTimeout)
	n = &node{
		o: o, clock: o.Clock, log: o.Logger.With("node", o.Node), self: self,
		dir: filepath.Join(root, o.Node), tick: election / electionTicks,
		start: o.Clock.Now(), inbox: newInbox(), drain: make(chan struct{}),
		secret: newSharedSecret(),
	}
	if err := (vfs.OS{}).MkdirAll(n.dir); err != nil {
		return nil, nil, fmt.Errorf("data folder: %w (make it writable, or set spec.dataRoot)", err)
	}
	lock, err := (vfs.OS{}).Lock(filepath.Join(n.dir, "lock"))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, nil, fmt.Errorf("data folder %s: %w: another process runs node %s there; stop it, or use another folder", n.dir, err, o.Node)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("data folder %s: %w", n.dir, err)
	}
	meta, err := store.OpenBolt(filepath.Join(n.dir, "meta.db"))
	if err != nil {
		lock.Close()
		return nil, nil, fmt.Errorf("data folder: %w", err)
	}
	n.meta = meta
	release = func() {
		if err := meta.Close(); err != nil {
			n.log.Warn("close the manifest", "err", err)
		}
		lock.Close()
	}
	if err := n.openIdentity(); err != nil {
		release()
		return nil, nil, err
	}
	return n, release, nil
}

// electionTicks is the resolution of the election timeout.
const electionTicks = 10

// openIdentity reads who this folder is, or draws a uid for an empty one, which
// is synced before the node says anything to a peer.
func (n *node) openIdentity() error {
	id, err := loadIdentity(n.meta, n.o.Node)
	if err != nil {
		return refusal(err)
	}
	if id == nil {
		id = &Identity{Node: n.o.Node, UID: UID(drawID())}
		if err := storeIdentity(n.meta, id); err != nil {
			return err
		}
	}
	if m := id.Member; m != nil {
		c := n.o.Cluster
		switch {
		case m.Cluster != c.Name:
			return &RefusedError{fmt.Sprintf("folder %s belongs to cluster %q, not to %q: use another dataRoot", n.dir, m.Cluster, c.Name)}
		case m.Shards != c.Spec.Shards:
			return &RefusedError{fmt.Sprintf("folder %s was made with shards: %d, the file says shards: %d; shards are fixed once applied", n.dir, m.Shards, c.Spec.Shards)}
		case names(m.Nodes) != strings.Join(nodeIDs(c, true), ", "):
			return &RefusedError{fmt.Sprintf("cluster %q was formed from %s, the file says %s; changing the nodes of a formed cluster is not supported yet", c.Name, names(m.Nodes), strings.Join(nodeIDs(c, true), ", "))}
		}
	}
	n.identity = *id
	if m := id.Member; m == nil {
		return nil
	} else if m.Secret.IsZero() {
		return closeFiles(n.dir)
	}
	n.secret.set(id.Member.Secret)
	return nil
}

// drawID draws 16 random bytes in hex.
func drawID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func nodeIDs(c *v1alpha1.Cluster, stoppedToo bool) []string {
	var ids []string
	for _, s := range c.Spec.Nodes {
		if stoppedToo || !s.Stopped {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// ports are a node's listeners, opened before anything else is done. The peer
// port is open for TCP and UDP.
type ports struct {
	client, peer, http net.Listener
	packets            *net.UDPConn
}

func (n *node) listen() (p ports, err error) {
	failed := func(what string) {
		err = fmt.Errorf("%s of node %s: %w; free the port, or give the node another one in the file", what, n.o.Node, err)
	}
	open := func(what string, port int) net.Listener {
		if err != nil {
			return nil
		}
		var ln net.Listener
		if ln, err = net.Listen("tcp", net.JoinHostPort(n.self.Host, strconv.Itoa(port))); err != nil {
			failed(what)
		}
		return ln
	}
	p.client = open("port", n.self.Port)
	p.peer = open("peerPort", n.self.PeerPort)
	if err == nil {
		if p.packets, err = listenPackets(n.self.Host, n.self.PeerPort); err != nil {
			failed("peerPort")
		}
	}
	p.http = open("httpPort", n.self.HTTPPort)
	if err != nil {
		p.close()
	}
	return p, err
}

func (p ports) close() {
	for _, ln := range []net.Listener{p.client, p.peer, p.http} {
		if ln != nil {
			_ = ln.Close()
		}
	}
	if p.packets != nil {
		_ = p.packets.Close()
	}
}

// run is a node's life: join the cluster, recover, serve, drain.
func (n *node) run(ctx context.Context, p ports) (err error) {
	hard, cut := context.WithCancelCause(context.WithoutCancel(ctx)) // ends everything at once
	defer cut(nil)
	defer context.AfterFunc(ctx, n.beginDrain)()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cut(nil)
	fail := func(err error) {
		if err != nil {
			cut(err)
		}
	}

	links := &lateLinks{ready: make(chan struct{})}
	pp := &peerPort{ln: p.peer, reply: n.reply, warn: func(what string, err error) { n.log.Warn(what, "err", err) }, gossip: n.gossipStream, links: func(c net.Conn) { links.serve(hard, c) }}
	wg.Go(func() { fail(pp.serve(hard)) })
	packets := newPacketPort(p.packets, n.clock, n.log.Warn, gossip.FirstByte, timesvc.ProbeByte)
	wg.Go(func() { packets.serve(hard) })
	web := newWeb(n)
	wg.Go(func() { fail(web.serve(hard, p.http)) })

	if err := n.join(hard); err != nil {
		if errors.Is(err, errDrained) {
			return nil
		}
		return err
	}
	if n.time, err = n.newClock(packets); err != nil {
		return err
	}
	wg.Go(func() { n.time.run(hard) })
	n.time.await(hard, n.drain)
	e, log, err := n.startEngine(links)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			err = log.Idle()
		}
		if cerr := log.Close(); err == nil {
			err = cerr
		}
	}()
	defer wg.Wait()
	defer links.Close()
	defer cut(nil)

	srv, err := server.New(server.Options{Backend: backend{e, n}, Clock: n.clock, Logger: n.log, AllowedHosts: n.o.AllowedHosts})
	if err != nil {
		return err
	}
	drained := make(chan struct{})
	wg.Go(func() { fail(n.runLoops(hard, e, func() { close(drained) })) })
	web.set(srv.Handler())
	if n.secret.get().IsZero() {
		wg.Go(func() { fail(n.learnSecret(hard, e)) })
	}

	talking, leave := context.WithCancelCause(hard)
	defer leave(nil)
	wg.Go(func() { n.runGossip(talking, e, packets) })

	serving, stop := context.WithCancel(hard)
	defer stop()
	served := make(chan struct{})
	wg.Go(func() {
		defer close(served)
		fail(srv.ServeTCP(serving, p.client))
	})
	n.log.Info("node runs", "cluster", n.o.Cluster.Name, "addr", p.client.Addr().String(), "incarnation", n.identity.Counter)

	select {
	case <-hard.Done():
		return context.Cause(hard)
	case <-n.drain:
	}
	leave(gossip.ErrLeave)
	return n.finish(hard, stop, served, drained)
}

// finish is the drain: new connections are refused, what was accepted is
// answered, leadership goes to the others.
func (n *node) finish(hard context.Context, stop func(), served, drained <-chan struct{}) error {
	n.log.Info("draining")
	n.inbox.put(func(i *items) { i.drain = true })
	stop()
	grace := n.clock.NewTimer(time.Duration(n.o.Cluster.Spec.TerminationGracePeriod) * 8 / 10)
	defer grace.Stop()
	for served != nil || drained != nil {
		select {
		case <-hard.Done():
			return context.Cause(hard)
		case <-grace.C():
			n.log.Warn("the time to drain is over", "leading", drained != nil, "sessions", served != nil)
			return nil
		case <-served:
			served = nil
		case <-drained:
			drained = nil
		}
	}
	n.log.Info("drained")
	return nil
}

func (n *node) beginDrain() { n.once.Do(func() { close(n.drain) }) }

func (n *node) draining() bool {
	select {
	case <-n.drain:
		return true
	default:
		return false
	}
}

// countStart makes this start an incarnation of its own, on disk before it is
// used.
func (n *node) countStart() error {
	n.boot.mu.Lock()
	defer n.boot.mu.Unlock()
	n.identity.Counter++
	return storeIdentity(n.meta, &n.identity)
}

// openLog recovers the log. A folder that had one and has it no more is an erased
// one: an empty log in its place would vote as if it had never voted.
func (n *node) openLog() (*wal.WAL, error) {
	dir := filepath.Join(n.dir, "log")
	if n.identity.Logged {
		files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
		if err == nil && len(files) == 0 {
			return nil, &RefusedError{fmt.Sprintf("node %s ran before, and its log %s is empty or gone: it must not vote again under its old id; bring the log back, or rejoin the node as a new replica (not supported yet)", n.o.Node, dir)}
		}
	}
	log, err := OpenLog(n.meta, wal.Options{FS: vfs.OS{}, Dir: dir})
	if err != nil || n.identity.Logged {
		return log, err
	}
	n.boot.mu.Lock()
	defer n.boot.mu.Unlock()
	n.identity.Logged = true
	if err := storeIdentity(n.meta, &n.identity); err != nil {
		_ = log.Close()
		return nil, err
	}
	return log, nil
}

// startEngine recovers the log and its state, and then starts the links to the
// peers: they answer the first sign of life by connecting, and are to be served.
func (n *node) startEngine(links *lateLinks) (*Engine, *wal.WAL, error) {
	if err := n.countStart(); err != nil {
		return nil, nil, err
	}
	began := n.clock.Mono()
	log, err := n.openLog()
	if err != nil {
		return nil, nil, refusal(err)
	}
	rec := log.Recovered()
	n.log.Info("log recovered", "segments", rec.Segments, "frames", rec.Frames, "torn_bytes", rec.TornBytes, "took", n.clock.Mono()-began)
	spec := n.o.Cluster.Spec
	m := n.identity.Member
	peers := make(map[uint64]string)
	for _, s := range spec.Nodes {
		if id, ok := m.ByName(s.ID); ok {
			peers[id.RaftID] = peerAddr(s)
		}
	}
	e, err := NewEngine(EngineConfig{
		Identity: n.identity, Log: log, Transport: links, Meta: n.meta, FS: vfs.OS{}, Dir: filepath.Join(n.dir, "state"),
		Reference: n.time.ref.Now,
		Mono:      n.clock.Mono, Wake: n.inbox.wake, Logger: n.log,
		ElectionTicks: electionTicks, HeartbeatTicks: 1,
		DedupIDs: uint64(spec.DedupIDs), AutoCreateTopics: spec.AutoCreateTopics,
	})
	if err != nil {
		_ = log.Close()
		return nil, nil, refusal(fmt.Errorf("start from %s: %w", n.dir, err))
	}
	relay := &relay{n: n, e: e, in: n.inbox}
	others := slices.DeleteFunc(e.voters(), func(id uint64) bool { return id == n.identity.RaftID() })
	n.links.begin(others, n.wall())
	tcp, err := transport.NewTCP(transport.TCPOptions{
		ID: n.identity.RaftID(), Cluster: m.ClusterID, Incarnation: n.identity.Counter, Peers: peers,
		LocalHost: n.self.Host, Receiver: relay.receiver(), Logger: n.log,
	})
	if err != nil {
		_ = log.Close()
		return nil, nil, err
	}
	links.open(tcp)
	n.tcp.Store(tcp)
	n.engine.Store(e)
	return e, log, nil
}

// linkPatience is how long a peer that connects waits to be served.
const linkPatience = time.Second

// lateLinks are the links to the peers, which are opened when the engine
// stands. A peer that connects before waits for a moment; what is sent before
// is lost.
type lateLinks struct {
	tcp   atomic.Pointer[transport.TCP]
	ready chan struct{} // closed by open
}

func (l *lateLinks) open(tcp *transport.TCP) {
	l.tcp.Store(tcp)
	close(l.ready)
}

func (l *lateLinks) serve(ctx context.Context, c net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, linkPatience)
	defer cancel()
	select {
	case <-l.ready:
		l.tcp.Load().Serve(c)
	case <-ctx.Done():
		_ = c.Close()
	}
}

// Send implements transport.Transport.
func (l *lateLinks) Send(to uint64, m transport.Message) {
	if tcp := l.tcp.Load(); tcp != nil {
		tcp.Send(to, m)
	}
}

// Close implements transport.Transport.
func (l *lateLinks) Close() {
	if tcp := l.tcp.Load(); tcp != nil {
		tcp.Close()
	}
}

// relay hands what comes over the links to the engine.
type relay struct {
	n  *node
	e  *Engine
	in *inbox
}

func (r *relay) receiver() transport.Receiver {
	return transport.Receiver{
		OnMessage: func(from uint64, m transport.Message) {
			if m.Kind == transport.KindRaft {
				r.in.message(m)
			} else {
				r.e.Receive(from, m)
			}
		},
		OnUp:   func(peer uint64) { r.peer(peer, true) },
		OnDown: func(peer uint64) { r.peer(peer, false) },
	}
}

func (r *relay) peer(peer uint64, up bool) {
	r.n.links.set(peer, up, r.n.wall())
	r.in.put(func(i *items) { i.peers = append(i.peers, peerItem{peer, up}) })
}

// wall is the time that is shown to people.
func (n *node) wall() time.Time { return n.clock.Now().UTC().Truncate(time.Microsecond) }

// bootID tells two boots of this machine apart; empty where there is none.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
