package timesvc

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// node is a Reference with a real socket, probing others in this process.
type node struct {
	ref   *Reference
	clock *System
	conn  *net.UDPConn
}

// openNodes makes nodes whose clocks are wrong by these skews.
func openNodes(tb testing.TB, skews ...Skew) []*node {
	tb.Helper()
	var voters []uint64
	for i := range skews {
		voters = append(voters, uint64(i+1))
	}
	nodes := make([]*node, len(skews))
	for i, skew := range skews {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { conn.Close() })
		clock := NewSystem(skew)
		ref, err := NewReference(ReferenceOptions{Clock: clock, Self: voters[i], Voters: voters, Incarnation: 1})
		if err != nil {
			tb.Fatal(err)
		}
		ref.SetKey(testKey("demo"))
		nodes[i] = &node{ref, clock, conn}
	}
	return nodes
}

// run lets the nodes probe each other until the returned function is called.
func run(nodes []*node) (stop func()) {
	var wg sync.WaitGroup
	done := make(chan struct{})
	for _, n := range nodes {
		wg.Go(func() {
			timer := n.clock.NewTimer(0)
			defer timer.Stop()
			var buf []byte
			for {
				select {
				case <-done:
					return
				case <-timer.C():
				}
				for {
					to, packet, ok := n.ref.Question(buf[:0])
					if !ok {
						break
					}
					_, _ = n.conn.WriteTo(packet, nodes[to-1].conn.LocalAddr())
					buf = packet
				}
				timer.Reset(max(n.ref.NextQuestion(), time.Millisecond))
			}
		})
		wg.Go(func() {
			socket, err := n.conn.SyscallConn()
			if err != nil {
				return
			}
			a := NewArrivals(n.clock, socket)
			buf, oob := make([]byte, 256), make([]byte, ArrivalBytes)
			for {
				k, controls, _, from, err := n.conn.ReadMsgUDPAddrPort(buf, oob)
				if err != nil {
					return
				}
				if answer, _ := n.ref.Receive(nil, buf[:k], a.At(oob[:controls])); answer != nil {
					_, _ = n.conn.WriteToUDPAddrPort(answer, from)
				}
			}
		})
	}
	return func() {
		close(done)
		for _, n := range nodes {
			n.conn.Close()
		}
		wg.Wait()
	}
}

// look compares each node's reference with what the middle clock shows at that
// very moment, which is known: they are all made of the same time base.
func look(nodes []*node, see func(node int, off, eps int64)) {
	raw := readRaw()
	local := make([]int64, len(nodes))
	for i, n := range nodes {
		local[i] = n.ref.base + int64(n.clock.elapsed(raw)-n.ref.raw)
	}
	truth := median(slices.Clone(local))
	for i, n := range nodes {
		n.ref.mu.Lock()
		corr, eps := n.ref.ens.advance(local[i])
		at := n.ref.ens.at
		n.ref.mu.Unlock()
		if at == local[i] { // else somebody asked meanwhile
			see(i, local[i]+corr-truth, eps)
		}
	}
}

// TestRealClocksWithinEps: real clocks, sockets and kernel stamps, on a machine
// that may be busy.
func TestRealClocksWithinEps(t *testing.T) {
	nodes := openNodes(t, Skew{}, Skew{Shift: 3 * time.Second, DriftPPM: 249}, Skew{Shift: -time.Second, DriftPPM: -249})
	defer run(nodes)()
	seen := 0
	for deadline := time.Now().Add(30 * time.Second); seen < 1000 && time.Now().Before(deadline); {
		look(nodes, func(node int, off, eps int64) {
			if eps < 0 {
				return
			}
			seen++
			if off > eps || -off > eps {
				t.Fatalf("node %d is %d ns off, eps %d", node, off, eps)
			}
		})
		pause := nodes[0].clock.NewTimer(time.Millisecond)
		<-pause.C()
	}
	if seen < 1000 {
		t.Fatalf("synchronised at %d looks only", seen)
	}
}

// BenchmarkClockError measures how far three nodes' reference times are off and
// what they say of it. docs/measurements.md says what that means.
func BenchmarkClockError(b *testing.B) {
	for _, c := range []struct {
		name  string
		busy  int
		skews []Skew
	}{
		{"idle", 0, []Skew{{}, {}, {}}},
		{"idle/one=+250ms,300ppm", 0, []Skew{{}, {Shift: 250 * time.Millisecond, DriftPPM: 300}, {}}},
		{"idle/apart=500ppm", 0, []Skew{{DriftPPM: 249}, {}, {DriftPPM: -249}}},
		{"busy", runtime.NumCPU(), []Skew{{}, {}, {}}},
		{"busy/apart=500ppm", runtime.NumCPU(), []Skew{{DriftPPM: 249}, {}, {DriftPPM: -249}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				measureError(b, c.busy, c.skews)
			}
		})
	}
}

func measureError(b *testing.B, busy int, skews []Skew) {
	nodes := openNodes(b, skews...)
	defer run(nodes)()
	var over atomic.Bool
	var wg sync.WaitGroup
	for range busy {
		wg.Go(func() {
			for n := 0; !over.Load(); n++ {
			}
		})
	}
	defer wg.Wait()
	defer over.Store(true)
	pause := nodes[0].clock.NewTicker(time.Millisecond)
	defer pause.Stop()
	var off, eps []int64
	wrong := 0
	for begun := nodes[0].clock.Mono(); nodes[0].clock.Mono()-begun < 11*time.Second; {
		<-pause.C()
		warm := nodes[0].clock.Mono()-begun > time.Second
		look(nodes, func(_ int, o, e int64) {
			if e < 0 || !warm {
				return // it has just begun
			}
			off, eps = append(off, max(o, -o)), append(eps, e)
			if o > e || -o > e {
				wrong++
			}
		})
	}
	slices.Sort(off)
	slices.Sort(eps)
	at := func(v []int64, part float64) float64 { return float64(v[int(part*float64(len(v)-1))]) / 1000 }
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("\n%s: %d looks, %d violations; error us p50 %.1f p99 %.1f max %.1f; eps us p50 %.1f p99 %.1f max %.1f; load %s\n", b.Name(), len(off), wrong,
		at(off, .5), at(off, .99), at(off, 1), at(eps, .5), at(eps, .99), at(eps, 1), strings.Join(strings.Fields(string(load))[:1], ""))
	b.ReportMetric(at(off, .5), "error-p50-us")
	b.ReportMetric(at(off, .99), "error-p99-us")
	b.ReportMetric(at(eps, .5), "eps-p50-us")
	b.ReportMetric(at(eps, .99), "eps-p99-us")
	b.ReportMetric(float64(wrong), "violations")
}
