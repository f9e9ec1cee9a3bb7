package raftnode

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/raftnode/wal"
	"github.com/wiber/wiber/timesvc"
)

// realNode is the thinnest shell around a Host: a raft loop, an append loop,
// real files and real connections.
type realNode struct {
	host   *Host
	log    *wal.WAL
	net    *transport.TCP
	ln     net.Listener
	inputc chan func() // the raft loop runs them; bounded
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// Owned by the raft loop.
	role    Role
	waiting [][]byte
	tell    map[uint64]chan struct{} // number of a proposal -> its waiter
	applied []uint64                 // numbers, in order
}

func (n *realNode) NextEntry(uint64) []byte {
	var joined []byte
	for _, w := range n.waiting {
		joined = append(joined, w...)
	}
	n.waiting = nil
	return joined
}

const realBytes = 128

func startReal(t testing.TB, dir string, id, incarnation uint64, ln net.Listener, peers map[uint64]string) *realNode {
	t.Helper()
	log, err := wal.Open(wal.Options{Dir: filepath.Join(dir, fmt.Sprint("n", id))})
	if err != nil {
		t.Fatal(err)
	}
	n := &realNode{log: log, ln: ln, inputc: make(chan func(), 1024), tell: make(map[uint64]chan struct{})}
	var voters []uint64
	for id := range uint64(len(peers)) {
		voters = append(voters, id+1)
	}
	n.host, err = New(Config{ID: id, Voters: voters, Groups: []GroupID{0}, Log: log, Incarnation: incarnation, Proposer: func(GroupID) Proposer { return n }})
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	give := func(f func()) {
		select {
		case n.inputc <- f:
		case <-ctx.Done():
		}
	}
	n.net, err = transport.NewTCP(transport.TCPOptions{ID: id, Cluster: "real", Incarnation: incarnation, Peers: peers, Receiver: transport.Receiver{
		OnMessage: func(from uint64, m transport.Message) {
			give(func() {
				if err := n.host.Receive(GroupID(m.Group), m.Raft); err != nil {
					t.Error(err)
				}
			})
		},
		OnDown: func(peer uint64) { give(func() { n.host.PeerClosed(peer) }) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	n.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n.wg.Go(func() { n.net.Serve(c) })
		}
	})
	workc := make(chan []wal.Record, 1)
	n.wg.Go(func() {
		for {
			select {
			case recs := <-workc:
				if err := log.Append(recs); err != nil {
					t.Error(err)
					return
				}
				give(n.host.Appended)
			case <-ctx.Done():
				return
			}
		}
	})
	n.wg.Go(func() { n.loop(ctx, workc) })
	return n
}

func (n *realNode) loop(ctx context.Context, workc chan<- []wal.Record) {
	clock := timesvc.NewSystem(timesvc.Skew{})
	tick := clock.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	release := clock.NewTimer(time.Hour)
	defer release.Stop()
	for {
		select {
		case f := <-n.inputc:
			f()
			for range len(n.inputc) {
				(<-n.inputc)()
			}
		case <-tick.C():
			n.host.Tick()
		case <-release.C():
			n.host.Release()
		case <-ctx.Done():
			return
		}
		for {
			out, ok := n.host.Next()
			if !ok {
				break
			}
			for _, m := range out.Send {
				n.net.Send(m.To, transport.Message{Kind: transport.KindRaft, Group: uint64(m.Group), Raft: m.Raft})
			}
			if out.Append != nil {
				workc <- out.Append // has room: one append is outstanding at most
			}
			for _, s := range out.States {
				n.role = s.Role
			}
			for _, a := range out.Apply {
				n.apply(a)
			}
			if out.Held {
				release.Reset(time.Millisecond)
			}
		}
	}
}

func (n *realNode) apply(a Apply) {
	for _, e := range a.Entries {
		for d := e.Data; len(d) >= realBytes; d = d[realBytes:] {
			number := binary.LittleEndian.Uint64(d)
			n.applied = append(n.applied, number)
			if c := n.tell[number]; c != nil {
				delete(n.tell, number)
				close(c)
			}
		}
	}
	n.host.Applied(a.Group, a.Entries[len(a.Entries)-1].Index)
}

// do runs f in the raft loop and waits for it.
func (n *realNode) do(f func()) {
	done := make(chan struct{})
	n.inputc <- func() { f(); close(done) }
	<-done
}

// propose returns a channel that closes when the proposal is applied here.
func (n *realNode) propose(number uint64) <-chan struct{} {
	c := make(chan struct{})
	data := make([]byte, realBytes)
	binary.LittleEndian.PutUint64(data, number)
	n.inputc <- func() {
		n.waiting, n.tell[number] = append(n.waiting, data), c
		n.host.Wake(0)
	}
	return c
}

// stop ends the process: connections close, and nothing is synced.
func (n *realNode) stop() {
	_ = n.ln.Close()
	n.cancel()
	n.net.Close()
	n.wg.Wait()
	_ = n.log.Close()
}

type realCluster struct {
	t     testing.TB
	dir   string
	peers map[uint64]string
	nodes map[uint64]*realNode
}

func newReal(t testing.TB, size int) *realCluster {
	c := &realCluster{t: t, dir: t.TempDir(), peers: make(map[uint64]string), nodes: make(map[uint64]*realNode)}
	lns := make(map[uint64]net.Listener)
	for i := range uint64(size) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		lns[i+1], c.peers[i+1] = ln, ln.Addr().String()
	}
	for id, ln := range lns {
		c.nodes[id] = startReal(t, c.dir, id, 1, ln, c.peers)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.stop()
		}
	})
	return c
}

// leader waits until one of the running nodes leads.
func (c *realCluster) leader() (uint64, *realNode) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		for id, n := range c.nodes {
			lead := false
			n.do(func() { lead = n.role == Leader })
			if lead {
				return id, n
			}
		}
	}
	c.t.Fatal("nobody leads")
	return 0, nil
}

// The same Hosts, logs and links with real goroutines, files and connections:
// nothing that was applied is lost over the ends and returns of leaders.
func TestRealClusterSurvivesItsLeaders(t *testing.T) {
	c := newReal(t, 3)
	number := uint64(0)
	var done []uint64
	for round := range 4 {
		id, n := c.leader()
		for range 5 {
			var waits []<-chan struct{}
			for range 20 {
				number++
				waits = append(waits, n.propose(number))
				done = append(done, number)
			}
			for _, w := range waits {
				<-w
			}
		}
		n.stop()
		delete(c.nodes, id)
		if round == 3 {
			break
		}
		other, _ := c.leader()
		if other == id {
			t.Fatal("it leads, and is not there")
		}
		ln, err := net.Listen("tcp", c.peers[id])
		if err != nil {
			t.Fatal(err)
		}
		c.nodes[id] = startReal(t, c.dir, id, uint64(round)+2, ln, c.peers)
	}
	_, n := c.leader()
	number++
	<-n.propose(number)
	seen := make(map[uint64]int)
	n.do(func() {
		for _, x := range n.applied {
			seen[x]++
		}
	})
	for _, x := range done {
		if seen[x] != 1 {
			t.Errorf("proposal %d is there %d times", x, seen[x])
		}
	}
}

// BenchmarkReal is three nodes in one process, on this machine's disk, each
// with its fdatasync before it acknowledges.
func BenchmarkReal(b *testing.B) {
	for _, flight := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("inflight=%d", flight), func(b *testing.B) {
			c := newReal(b, 3)
			_, n := c.leader()
			number := uint64(0)
			number++
			<-n.propose(number)
			window := make(chan (<-chan struct{}), flight-1)
			syncs := n.log.Syncs()
			b.ReportAllocs()
			b.SetBytes(realBytes)
			for b.Loop() {
				number++
				w := n.propose(number)
				if flight == 1 {
					<-w
					continue
				}
				if len(window) == cap(window) {
					<-<-window
				}
				window <- w
			}
			b.ReportMetric(float64(n.log.Syncs()-syncs)/float64(b.N), "syncs/op")
		})
	}
}
