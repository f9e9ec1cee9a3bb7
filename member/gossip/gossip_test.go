package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wiber/wiber/timesvc"
)

// world is a network in memory between nodes that gossip. In a synctest bubble its
// time is free.
type world struct {
	t   *testing.T
	log *lines
	// starts counts them; it is the nodes' incarnation.
	starts uint64
	// packets and bytes count what was sent.
	packets, bytes int
	mu             sync.Mutex // guards what follows
	nodes          map[string]*host
	peers          map[string]string
	cut            func(from, to string) bool // packets and connections that are lost
}

// host is a node's place in the world; a paused one neither hears nor speaks.
type host struct {
	g      *Gossip
	stop   context.CancelCauseFunc
	done   chan struct{}
	paused bool
}

// lines collects what is logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, log: new(lines), nodes: map[string]*host{}, peers: map[string]string{}, cut: func(string, string) bool { return false }}
	for i := range n {
		w.peers[fmt.Sprintf("n%d", i+1)] = fmt.Sprintf("127.0.0.1:%d", 9201+i)
	}
	return w
}

func (w *world) others(name string) map[string]string {
	peers := map[string]string{}
	for n, addr := range w.peers {
		if n != name {
			peers[n] = addr
		}
	}
	return peers
}

func (w *world) lost(from, to string) bool { // under mu
	h := w.nodes[to]
	return h == nil || h.paused || w.nodes[from] != nil && w.nodes[from].paused || w.cut(from, to)
}

func (w *world) at(addr string) string {
	for n, a := range w.peers {
		if a == addr {
			return n
		}
	}
	return ""
}

func (w *world) start(name string, key byte) *Gossip {
	w.t.Helper()
	w.starts++
	incarnation := w.starts
	self := netip.MustParseAddrPort(w.peers[name])
	g, err := New(Options{
		Node: name, Cluster: "0123456789abcdef0123456789abcdef", Key: [32]byte{key}, Self: self, Peers: w.others(name),
		Meta: func() Meta {
			return Meta{Incarnation: incarnation, Leader: name == "n1", Leads: []uint32{0, 3}, Host: "127.0.0.1", ClientPort: 9101, CPUMillis: 12}
		},
		Send: func(b []byte, to netip.AddrPort) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.packets++
			w.bytes += len(b)
			if b[0] != FirstByte {
				w.t.Errorf("a packet begins with %d", b[0])
			}
			if target := w.at(to.String()); !w.lost(name, target) {
				w.nodes[target].g.Packet(b, self)
			}
			return nil
		},
		Dial: func(addr string, timeout time.Duration) (net.Conn, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			target := w.at(addr)
			if w.lost(name, target) {
				return nil, errors.New("no way")
			}
			a, b := net.Pipe()
			w.nodes[target].g.Stream(b)
			return a, nil
		},
		Clock: timesvc.NewSystem(timesvc.Skew{}), Logger: slog.New(slog.NewTextHandler(w.log, nil)).With("node", name),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	h := &host{g: g, stop: cancel, done: make(chan struct{})}
	w.mu.Lock()
	w.nodes[name] = h
	w.mu.Unlock()
	go func() {
		defer close(h.done)
		g.Run(ctx)
	}()
	return g
}

// end ends a node; with ErrLeave it says so.
func (w *world) end(name string, cause error) {
	h := w.nodes[name]
	if cause == nil {
		w.set(func() { h.paused = true }) // it is silent from now on
	}
	h.stop(cause)
	<-h.done
	w.set(func() { delete(w.nodes, name) })
}

func (w *world) endAll() {
	for name := range w.peers {
		if w.nodes[name] != nil {
			w.end(name, nil)
		}
	}
	time.Sleep(10 * time.Second) // memberlist's probes end by themselves
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) state(of, by string) Member {
	for _, m := range w.nodes[by].g.Members() {
		if m.Node == of {
			return m
		}
	}
	w.t.Fatalf("%s does not know %s", by, of)
	return Member{}
}

// within waits until the observers see a node in a state and returns how long that
// took.
func (w *world) within(d time.Duration, of string, want State, by ...string) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for {
		all := true
		for _, b := range by {
			all = all && w.state(of, b).State == want
		}
		took := time.Since(begin)
		if all {
			return took
		}
		if took > d {
			var saw []string
			for _, b := range by {
				saw = append(saw, b+" sees "+string(w.state(of, b).State))
			}
			w.t.Fatalf("%s is not %s within %s: %s", of, want, d, strings.Join(saw, ", "))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *world) allAlive() {
	w.t.Helper()
	for of := range w.peers {
		for by := range w.peers {
			w.within(10*time.Second, of, Alive, by)
		}
	}
}

func startWorld(t *testing.T, n int) *world {
	w := newWorld(t, n)
	for i := range n {
		w.start(fmt.Sprintf("n%d", i+1), 1)
	}
	w.allAlive()
	return w
}

// TestAStoppedNodeIsSuspectThenDeadThenAlive: the times that are promised, for a
// process that is stopped with SIGSTOP and continued.
func TestAStoppedNodeIsSuspectThenDeadThenAlive(t *testing.T) {
	for range 6 {
		synctest.Test(t, func(t *testing.T) {
			w := startWorld(t, 3)
			defer w.endAll()
			time.Sleep(rand.N(3 * time.Second))
			w.set(func() { w.nodes["n3"].paused = true })
			suspect := w.within(5*time.Second, "n3", Suspect, "n1", "n2")
			dead := w.within(15*time.Second-suspect, "n3", Dead, "n1", "n2")
			t.Logf("suspect after %s, dead after %s", suspect, suspect+dead)
			w.set(func() { w.nodes["n3"].paused = false })
			w.within(15*time.Second, "n3", Alive, "n1", "n2")
			w.allAlive()
		})
	}
}

func TestANodeThatStopsInOrderHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startWorld(t, 3)
		defer w.endAll()
		w.end("n2", ErrLeave)
		w.within(100*time.Millisecond, "n2", Left, "n1", "n3")
		time.Sleep(30 * time.Second)
		w.within(0, "n2", Left, "n1", "n3") // and stays so
		w.start("n2", 1)
		w.within(5*time.Second, "n2", Alive, "n1", "n2", "n3")
		w.within(5*time.Second, "n1", Alive, "n2")
	})
}

func TestAKilledNodeComesBackUnderItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startWorld(t, 3)
		defer w.endAll()
		w.end("n2", nil)
		time.Sleep(time.Second)
		w.start("n2", 1) // at once: nobody has noticed
		w.within(5*time.Second, "n2", Alive, "n1", "n3")
		w.end("n2", nil)
		w.within(15*time.Second, "n2", Dead, "n1", "n3")
		time.Sleep(2 * time.Minute) // memberlist has forgotten it
		w.set(func() { w.peers["n2"] = "127.0.0.1:9999" })
		w.end("n1", nil)
		w.end("n3", nil)
		for _, n := range []string{"n1", "n2", "n3"} { // from another address
			w.start(n, 1)
		}
		w.allAlive()
	})
}

func TestNobodyIsKnownBeforeFirstContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.endAll()
		w.start("n1", 1)
		time.Sleep(time.Minute)
		for of, want := range map[string]State{"n1": Alive, "n2": Unknown, "n3": Unknown} {
			if m := w.state(of, "n1"); m.State != want || m.Since.IsZero() {
				t.Errorf("%s is %s since %s, want %s", of, m.State, m.Since, want)
			}
		}
	})
}

// TestWhoHasNotTheKeyIsNotHeard: nodes with another key do not meet, and that is
// said once.
func TestWhoHasNotTheKeyIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.endAll()
		w.start("n1", 1)
		w.start("n2", 2)
		for _, garbage := range [][]byte{{FirstByte}, {FirstByte, 3, 'a', 'b', 'c', 9}, append([]byte{FirstByte, 32}, make([]byte, 900)...)} {
			w.nodes["n1"].g.Packet(garbage, netip.MustParseAddrPort("127.0.0.1:1"))
			a, b := net.Pipe()
			w.nodes["n1"].g.Stream(b)
			go func() { a.Write(garbage); a.Close() }()
		}
		time.Sleep(30 * time.Second)
		if s := w.state("n2", "n1").State; s != Unknown {
			t.Errorf("n2 is %s", s)
		}
		if !w.log.has("gossip that no node of this cluster sends") {
			t.Error("nobody says so")
		}
	})
}

// TestACutBetweenTwoNodesIsNoDeath: what n1 and n2 cannot tell each other comes
// through n3.
func TestACutBetweenTwoNodesIsNoDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startWorld(t, 3)
		defer w.endAll()
		w.set(func() {
			w.cut = func(from, to string) bool { return from+to == "n1n2" || from+to == "n2n1" }
		})
		for range 120 {
			time.Sleep(500 * time.Millisecond)
			for _, pair := range [][2]string{{"n1", "n2"}, {"n2", "n1"}} {
				if s := w.state(pair[0], pair[1]).State; s != Alive {
					t.Fatalf("%s sees %s as %s", pair[1], pair[0], s)
				}
			}
		}
	})
}

// TestLostPacketsAreNoDeath: a third of all packets is lost for five minutes.
func TestLostPacketsAreNoDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startWorld(t, 3)
		defer w.endAll()
		rng := rand.New(rand.NewPCG(1, 1))
		w.set(func() { w.cut = func(string, string) bool { return rng.IntN(3) == 0 } })
		time.Sleep(5 * time.Minute)
		w.set(func() { w.cut = func(string, string) bool { return false } })
		if w.log.has("state=dead") {
			t.Error("a node was taken for dead")
		}
		w.allAlive()
	})
}

func TestMembersSayWhatTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startWorld(t, 3)
		defer w.endAll()
		first := w.state("n1", "n2").Meta
		if !first.Leader || first.Incarnation != 1 || len(first.Leads) != 2 || first.Host != "127.0.0.1" || first.CPUMillis != 12 {
			t.Fatalf("%+v", first)
		}
		time.Sleep(5 * time.Second)
		if beats := w.state("n1", "n2").Meta.Beat - first.Beat; beats < 3 || beats > 7 {
			t.Errorf("%d beats in 5 s", beats)
		}
	})
}

// TestAPausedObserverAccusesNobody: after a pause of its own a node gives the
// others the whole time again.
func TestAPausedObserverAccusesNobody(t *testing.T) {
	v := newView([]string{"n1", "n2"}, 3*time.Second, time.Time{}, 0)
	v.heard("n2", &Meta{Beat: 1}, time.Time{}, 0)
	for at := time.Duration(0); at < 2*time.Second; at += lookEvery {
		if c := v.tick(time.Time{}, at); c != nil {
			t.Fatalf("%+v", c)
		}
	}
	if c := v.tick(time.Time{}, time.Minute); c != nil {
		t.Fatalf("after a pause: %+v", c)
	}
	for at := time.Minute; at < time.Minute+3*time.Second; at += lookEvery {
		if c := v.tick(time.Time{}, at); c != nil {
			t.Fatalf("%s after the pause: %+v", at-time.Minute, c)
		}
	}
	if c := v.tick(time.Time{}, time.Minute+3*time.Second); len(c) != 1 || c[0].State != Suspect || c[0].before != Alive {
		t.Fatalf("%+v", c)
	}
}

// TestIdleGossipIsCheap: what three nodes send that have nothing to say.
func TestIdleGossipIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startWorld(t, 3)
		defer w.endAll()
		w.set(func() { w.packets, w.bytes = 0, 0 })
		time.Sleep(time.Minute)
		w.mu.Lock()
		packets, bytes := w.packets/180, w.bytes/180
		w.mu.Unlock()
		t.Logf("%d packets and %d bytes a second and node", packets, bytes)
		if packets > 20 || bytes > 8000 {
			t.Errorf("%d packets and %d bytes a second and node", packets, bytes)
		}
	})
}

// FuzzFarewell: no message makes a node panic, or takes a stranger in.
func FuzzFarewell(f *testing.F) {
	m := fullMeta
	f.Add(append([]byte{2, 'n', '2'}, m.encode()...))
	f.Add([]byte{})
	f.Add([]byte{255, 1})
	f.Add(bytes.Repeat([]byte{255}, 257)) // a name as long as one byte can say
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, b []byte) {
		g := &Gossip{o: Options{Node: "n1", Clock: timesvc.NewSystem(timesvc.Skew{}), Logger: log}}
		g.view = newView([]string{"n1", "n2"}, suspectAfter, time.Time{}, 0)
		g.heardFarewell(b)
		for _, m := range g.view.list() {
			if m.Node == "n1" && m.State != Unknown || m.State != Unknown && m.State != Left {
				t.Fatalf("%x: %+v", b, m)
			}
		}
	})
}
