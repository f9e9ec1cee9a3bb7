package transport

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// peerNode is one end of a small real network: a listener and a TCP over it.
type peerNode struct {
	*TCP
	ln      net.Listener
	serving sync.WaitGroup
	gotc    chan Message
	statec  chan string // "up 2", "down 2"
}

// listen opens a port for a node that starts later.
func listen(t *testing.T, host string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// start runs a node on a listener until the test or stop ends it.
func start(t *testing.T, ln net.Listener, o TCPOptions) *peerNode {
	t.Helper()
	n := &peerNode{ln: ln, gotc: make(chan Message, 1000), statec: make(chan string, 1000)}
	o.Receiver = Receiver{
		OnMessage: func(_ uint64, m Message) { n.gotc <- m },
		OnUp:      func(p uint64) { n.statec <- fmt.Sprint("up ", p) },
		OnDown:    func(p uint64) { n.statec <- fmt.Sprint("down ", p) },
	}
	o.MinBackoff, o.MaxBackoff = 5*time.Millisecond, 20*time.Millisecond
	if o.Cluster == "" {
		o.Cluster = "c"
	}
	if o.Incarnation == 0 {
		o.Incarnation = 1
	}
	var err error
	if n.TCP, err = NewTCP(o); err != nil {
		t.Fatal(err)
	}
	n.serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n.serving.Go(func() { n.Serve(c) })
		}
	})
	t.Cleanup(n.stop)
	return n
}

// stop ends the node as its process's end would: all connections close.
func (n *peerNode) stop() {
	_ = n.ln.Close()
	n.Close()
	n.serving.Wait() // Close ends what Serve serves
}

func (n *peerNode) expect(t *testing.T, want string) {
	t.Helper()
	if got := await(t, n.statec, want); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	select {
	case x := <-c:
		return x
	case <-ctx.Done():
		t.Fatalf("%s: it did not come", what)
		panic("unreachable")
	}
}

func pair(t *testing.T) (a, b *peerNode) {
	la, lb := listen(t, "127.0.0.1"), listen(t, "127.0.0.1")
	peers := map[uint64]string{1: la.Addr().String(), 2: lb.Addr().String()}
	a = start(t, la, TCPOptions{ID: 1, Peers: peers})
	b = start(t, lb, TCPOptions{ID: 2, Peers: peers})
	a.expect(t, "up 2")
	b.expect(t, "up 1")
	return a, b
}

// flow sends until one message arrives, and then takes what else has come:
// what is sent while a link is being dialled may be lost.
func flow(t *testing.T, from, to *peerNode, id uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		from.Send(id, Message{Kind: KindNack, Body: []byte("hello")})
		again, stop := context.WithTimeout(ctx, 5*time.Millisecond)
		select {
		case <-to.gotc:
			stop()
			for len(to.gotc) > 0 {
				<-to.gotc
			}
			return
		case <-again.Done():
			stop()
		}
		if ctx.Err() != nil {
			t.Fatal("no message arrives")
		}
	}
}

func TestMessagesArriveInOrderBothWays(t *testing.T) {
	a, b := pair(t)
	for _, x := range []struct {
		from, to *peerNode
		f, id    uint64
	}{{a, b, 1, 2}, {b, a, 2, 1}} {
		flow(t, x.from, x.to, x.id)
		x.from.Send(x.id, Message{Kind: KindNack, Body: []byte("begin")})
		for string(await(t, x.to.gotc, "begin").Body) != "begin" {
		}
		for i := range 500 {
			x.from.Send(x.id, raftMessage(x.f, x.id, fmt.Sprint(i)))
		}
		for i := range 500 {
			if m := await(t, x.to.gotc, "message"); !same(m, raftMessage(x.f, x.id, fmt.Sprint(i))) {
				t.Fatalf("message %d is %v", i, m)
			}
		}
	}
}

func TestANodeSendsToItselfWithoutANetwork(t *testing.T) {
	a := start(t, listen(t, "127.0.0.1"), TCPOptions{ID: 1})
	a.Send(1, Message{Kind: KindRequests, Body: []byte("mine")})
	if m := await(t, a.gotc, "message"); string(m.Body) != "mine" {
		t.Error(m)
	}
	a.Send(9, Message{Kind: KindRequests}) // nobody
}

// The peers of a process that ended learn it from its connections, and when it
// is back both directions stand again at once, in spite of the back-off.
func TestADeathIsSeenAndAReturnIsGreeted(t *testing.T) {
	a, b := pair(t)
	flow(t, a, b, 2)
	b.stop()
	a.expect(t, "down 2")
	ln, err := net.Listen("tcp", b.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b = start(t, ln, TCPOptions{ID: 2, Incarnation: 2, Peers: map[uint64]string{1: a.ln.Addr().String()}})
	a.expect(t, "up 2")
	b.expect(t, "up 1")
	flow(t, a, b, 2)
	flow(t, b, a, 1)
}

func TestALaterIncarnationEndsTheEarlierOnes(t *testing.T) {
	a := start(t, listen(t, "127.0.0.1"), TCPOptions{ID: 1, Peers: map[uint64]string{2: "127.0.0.1:1"}})
	call := func(incarnation uint64) (net.Conn, verdict) {
		c, err := net.Dial("tcp", a.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		g := greeting{version: version, from: 2, to: 1, incarnation: incarnation, cluster: "c"}
		if _, err := c.Write(g.append(nil)); err != nil {
			t.Fatal(err)
		}
		v, _, err := readAnswer(c)
		if err != nil {
			t.Fatal(err)
		}
		return c, v
	}
	old, v := call(4)
	if v != welcome {
		t.Fatal(v)
	}
	a.expect(t, "up 2")
	if _, v := call(5); v != welcome {
		t.Fatal(v)
	}
	a.expect(t, "down 2")
	a.expect(t, "up 2")
	if _, err := old.Read(make([]byte, 1)); err == nil {
		t.Error("the old incarnation's connection lives")
	}
	if _, v := call(4); v != oldIncarnation {
		t.Errorf("the old incarnation was answered: %v", v)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	a := start(t, listen(t, "127.0.0.1"), TCPOptions{ID: 1, Peers: map[uint64]string{2: "127.0.0.1:1"}})
	good := greeting{version: version, from: 2, to: 1, incarnation: 1, cluster: "c"}
	for want, change := range map[verdict]func(*greeting){
		otherVersion: func(g *greeting) { g.version = version + 1 },
		otherCluster: func(g *greeting) { g.cluster = "d" },
		otherNode:    func(g *greeting) { g.to = 3 },
		unknownPeer:  func(g *greeting) { g.from = 3 },
		welcome:      func(*greeting) {},
	} {
		g := good
		change(&g)
		near, far := net.Pipe()
		served := make(chan struct{})
		go func() { a.Serve(far); close(served) }()
		if _, err := near.Write(g.append(nil)); err != nil {
			t.Fatal(err)
		}
		v, _, err := readAnswer(near)
		if v != want || err != nil {
			t.Errorf("got %v, %v; want %v", v, err, want)
		}
		_ = near.Close()
		await(t, served, "the end of Serve")
	}
}

// A node that another sends in its own name ends the link: messages may only
// come from whom they say.
func TestAMessageInAnotherNameEndsTheConnection(t *testing.T) {
	a, b := pair(t)
	flow(t, a, b, 2)
	a.Send(2, raftMessage(3, 2, "not mine"))
	b.expect(t, "down 1")
	b.expect(t, "up 1")
	if len(b.gotc) != 0 {
		t.Error("it was delivered")
	}
}

// A peer that takes nothing costs a bounded queue, and Send never waits for it.
func TestAStuckPeerLosesMessagesAndNothingElse(t *testing.T) {
	ln := listen(t, "127.0.0.1")
	greeted := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := readGreeting(c); err == nil {
				_, _ = c.Write(appendAnswer(nil, welcome, 1))
				greeted <- c // and reads no more
			}
		}
	}()
	a := start(t, listen(t, "127.0.0.1"), TCPOptions{
		ID: 1, Peers: map[uint64]string{2: ln.Addr().String()}, QueueBytes: 1 << 20, WriteTimeout: 200 * time.Millisecond,
	})
	a.expect(t, "up 2")
	await(t, greeted, "a connection")
	body := make([]byte, 100<<10)
	for a.Dropped() == 0 {
		a.Send(2, Message{Kind: KindRequests, Body: body})
	}
	a.links[2].queue.mu.Lock()
	if n := a.links[2].queue.bytes; n > 1<<20 {
		t.Errorf("%d bytes wait", n)
	}
	a.links[2].queue.mu.Unlock()
	for len(a.statec) == 0 { // the kernel's buffers take some megabytes first
		a.Send(2, Message{Kind: KindRequests, Body: body})
	}
	a.expect(t, "down 2") // the write deadline
	a.expect(t, "up 2")   // and a new try
}

func TestLinksAreDialledFromTheNodesAddress(t *testing.T) {
	ln := listen(t, "127.0.0.1")
	start(t, listen(t, "127.0.0.77"), TCPOptions{ID: 1, LocalHost: "127.0.0.77", Peers: map[uint64]string{2: ln.Addr().String()}})
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if host, _, _ := net.SplitHostPort(c.RemoteAddr().String()); host != "127.0.0.77" {
		t.Errorf("dialled from %s", host)
	}
}

func TestOptionsSayWhatIsWrong(t *testing.T) {
	good := TCPOptions{ID: 1, Incarnation: 1, Receiver: Receiver{OnMessage: func(uint64, Message) {}}}
	for _, change := range []func(*TCPOptions){
		func(o *TCPOptions) { o.ID = 0 },
		func(o *TCPOptions) { o.Incarnation = 0 },
		func(o *TCPOptions) { o.Receiver.OnMessage = nil },
		func(o *TCPOptions) { o.Cluster = string(make([]byte, 65)) },
		func(o *TCPOptions) { o.LocalHost = "no such host.invalid" },
	} {
		o := good
		change(&o)
		if _, err := NewTCP(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestQueueKeepsOrderAndLimits(t *testing.T) {
	q := newQueue(1000, 3)
	for i := range 5 {
		q.put(Message{Kind: KindNack, Group: uint64(i)})
	}
	var got []uint64
	for _, m := range q.take() {
		got = append(got, m.Group)
	}
	if !slices.Equal(got, []uint64{0, 1, 2}) || q.drops() != 2 {
		t.Errorf("%v, %d dropped", got, q.drops())
	}
	q.put(Message{Kind: KindNack, Body: make([]byte, 5000)}) // alone it may be larger
	q.put(Message{Kind: KindNack})
	if len(q.take()) != 1 {
		t.Error("a full queue took more")
	}
	q.open(false)
	q.put(Message{Kind: KindNack})
	q.open(true)
	if len(q.take()) != 0 {
		t.Error("a shut queue took a message")
	}
}

func BenchmarkTCP(b *testing.B) {
	for _, size := range []int{128, 4096, 128 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			gotc := make(chan struct{}, 1<<20)
			to, err := NewTCP(TCPOptions{ID: 2, Incarnation: 1, Peers: map[uint64]string{1: "127.0.0.1:1"}, Receiver: Receiver{OnMessage: func(uint64, Message) { gotc <- struct{}{} }}})
			if err != nil {
				b.Fatal(err)
			}
			defer to.Close()
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					go to.Serve(c)
				}
			}()
			defer ln.Close()
			upc := make(chan struct{}, 1)
			from, err := NewTCP(TCPOptions{ID: 1, Incarnation: 1, Peers: map[uint64]string{2: ln.Addr().String()}, Receiver: Receiver{
				OnMessage: func(uint64, Message) {}, OnUp: func(uint64) { upc <- struct{}{} },
			}})
			if err != nil {
				b.Fatal(err)
			}
			defer from.Close()
			<-upc
			m := raftMessage(1, 2, string(make([]byte, size)))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			under := 0
			for b.Loop() {
				from.Send(2, m)
				if under++; under >= 64 {
					<-gotc
					under--
				}
			}
		})
	}
}
