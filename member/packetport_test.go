package member

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wiber/wiber/timesvc"
)

// openPackets serves a packet port on a port that nobody uses.
func openPackets(t *testing.T) (p *packetPort, warned *atomic.Int64) {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	warned = new(atomic.Int64)
	p = newPacketPort(conn, timesvc.NewSystem(timesvc.Skew{}), func(string, ...any) { warned.Add(1) }, 'g', 't')
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.serve(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return p, warned
}

func (p *packetPort) addr() netip.AddrPort { return p.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func TestPacketsAreHandedOnByTheirFirstByte(t *testing.T) {
	a, _ := openPackets(t)
	b, warned := openPackets(t)
	type got struct {
		handler byte
		text    string
		from    netip.AddrPort
		at      time.Duration
	}
	gotc := make(chan got, 10)
	for _, first := range []byte{'g', 't'} {
		b.handle(first, func(p packet) { gotc <- got{first, string(p.payload), p.from, p.at} })
	}
	before := b.clock.Mono()
	for _, text := range []string{"", "nobody", "\x00\xff", "gossip", "time"} {
		if err := a.send([]byte(text), b.addr()); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"gossip", "time"} {
		select {
		case g := <-gotc:
			if g.text != want || g.handler != want[0] || g.from != a.addr() || g.at < before {
				t.Fatalf("got %+v, want %q from %s", g, want, a.addr())
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%q did not come", want)
		}
	}
	if n := b.strangers.Load(); n != 3 {
		t.Errorf("%d packets of strangers, want 3", n)
	}
	if n := b.received.Load(); n != 2 {
		t.Errorf("%d packets handed on, want 2", n)
	}
	if n := warned.Load(); n != 1 {
		t.Errorf("warned %d times of strangers within a minute, want once", n)
	}
}

// A node that starts is sent gossip and probes before it can take them, and one
// that drains is sent them when it no longer does. That is counted, and is no
// news; a packet that no node sends is, before and after.
func TestAPacketThatIsNotTakenYetIsNoNews(t *testing.T) {
	a, _ := openPackets(t)
	b, warned := openPackets(t)
	send := func(text string, arrived *atomic.Uint64) {
		t.Helper()
		before := arrived.Load()
		if err := a.send([]byte(text), b.addr()); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, func() bool { return arrived.Load() == before+1 })
	}
	send("gossip", &b.untaken)
	send("time", &b.untaken)
	b.handle('g', func(packet) {})
	send("gossip", &b.received)
	b.handle('g', nil)
	send("gone", &b.untaken)
	if n := warned.Load(); n != 0 {
		t.Errorf("warned %d times of packets that nodes send", n)
	}
	send("nobody", &b.strangers)
	eventually(t, 10*time.Second, func() bool { return warned.Load() == 1 })
}

func TestReadingAPacketAllocatesNothing(t *testing.T) {
	a, _ := openPackets(t)
	b, _ := openPackets(t)
	came := make(chan struct{}, 1)
	b.handle('g', func(packet) { came <- struct{}{} })
	payload := []byte("gossip")
	n := testing.AllocsPerRun(1000, func() {
		_ = a.send(payload, b.addr())
		<-came
	})
	if n > 2 { // addr() makes two
		t.Errorf("a packet costs %.1f allocations", n)
	}
}

func TestATakenUDPPortIsReportedLikeATCPOne(t *testing.T) {
	c := testCluster(t, 1)
	taken, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: c.Spec.Nodes[0].PeerPort})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	n := startNode(t, c, "n1")
	select {
	case err := <-n.done:
		if err == nil || !strings.Contains(err.Error(), "peerPort of node n1: listen udp ") || !strings.Contains(err.Error(), "free the port") {
			t.Fatalf("ended with %v", err)
		}
		if errors.Is(err, ErrNotRestartable) {
			t.Fatal("a port may become free: starting again can help")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the node runs")
	}
}
