package timesvc

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// bench is some nodes' references over simulated clocks, and a network between
// them that a test may break.
type bench struct {
	t     *testing.T
	v     *Virtual
	rng   *rand.Rand
	clock map[uint64]*VirtualClock
	nodes map[uint64]*Reference
	cut   map[[2]uint64]bool
	sent  int
}

func newBench(t *testing.T, skews ...Skew) *bench {
	b := &bench{t: t, v: NewVirtual(epoch), rng: rand.New(rand.NewPCG(9, 35)), clock: make(map[uint64]*VirtualClock), nodes: make(map[uint64]*Reference), cut: make(map[[2]uint64]bool)}
	for i, skew := range skews {
		b.clock[uint64(i+1)] = b.v.Node(skew)
	}
	for id := range b.clock {
		b.begin(id, 1)
	}
	return b
}

// begin starts a node, or starts it again.
func (b *bench) begin(id, incarnation uint64) *Reference {
	b.t.Helper()
	var voters []uint64
	for v := range uint64(len(b.clock)) {
		voters = append(voters, v+1)
	}
	r, err := NewReference(ReferenceOptions{Clock: b.clock[id], Self: id, Voters: voters, Incarnation: incarnation, Nonce: b.rng.Uint64})
	if err != nil {
		b.t.Fatal(err)
	}
	r.SetKey(testKey("demo"))
	b.nodes[id] = r
	return r
}

// run lets the nodes probe each other for d.
func (b *bench) run(d time.Duration) {
	b.t.Helper()
	for end := b.v.Elapsed() + d; b.v.Elapsed() < end; b.v.Advance(5 * time.Millisecond) {
		for id := uint64(1); id <= uint64(len(b.nodes)); id++ {
			for {
				to, packet, ok := b.nodes[id].Question(nil)
				if !ok {
					break
				}
				b.sent++
				b.carry(id, to, packet)
			}
		}
	}
}

// carry brings a packet there, and the answer back, some 20 us each.
func (b *bench) carry(from, to uint64, packet []byte) {
	if b.cut[[2]uint64{from, to}] || b.nodes[to] == nil {
		return
	}
	b.v.Advance(time.Duration(10_000+b.rng.IntN(20_000)) * time.Nanosecond)
	at, _ := b.clock[to].Raw()
	if answer, _ := b.nodes[to].Receive(nil, packet, at); answer != nil {
		b.carry(to, from, answer)
	}
}

func (b *bench) truth() int64 { return epoch.Add(b.v.Elapsed()).UnixMicro() }

// TestThreeNodesAgree: with clocks that are seconds and parts per million apart,
// all know the same time soon after the start, and say of each other's clocks
// how far they are off.
func TestThreeNodesAgree(t *testing.T) {
	b := newBench(t, Skew{}, Skew{Shift: 250 * time.Millisecond, DriftPPM: 300}, Skew{})
	for id, r := range b.nodes {
		if us, eps := r.Now(); eps != Unsynchronised || us != b.clock[id].Now().UnixMicro() {
			t.Fatalf("node %d begins with %d, eps %d", id, us, eps)
		}
	}
	b.run(100 * time.Millisecond)
	for id, r := range b.nodes {
		if s := r.Status(); s.State != Synchronised {
			t.Fatalf("node %d is %s after 100 ms: %s", id, s.State, s.Why)
		}
	}
	b.run(30 * time.Second)
	for id, r := range b.nodes {
		us, eps := r.Now()
		if d := us - b.truth(); d > eps || -d > eps || eps > 200 {
			t.Fatalf("node %d is %d us off, eps %d", id, d, eps)
		}
	}
	off := b.clock[2].Now().UnixMicro() - b.truth()
	own := b.nodes[2].Status()
	if d := own.Offset - off; d > own.Eps || -d > own.Eps || own.Drift < 295 || own.Drift > 305 || !own.DriftKnown {
		t.Fatalf("node 2 says that its clock is %d us ahead and drifts by %.1f ppm; it is %d us", own.Offset, own.Drift, off)
	}
	p := b.nodes[1].Status().Peers[0]
	if d := p.Offset - off; p.ID != 2 || p.State != PeerOK || !p.Known || d > p.Bound || -d > p.Bound || p.Drift < 295 || p.Drift > 305 {
		t.Fatalf("node 1 says of node 2: %+v; it is %d us ahead", p, off)
	}
	if !p.Heard || p.Says != Synchronised || p.Eps < 1 {
		t.Fatalf("node 1 has heard of node 2: %+v", p)
	}
}

// TestProbesSlowDown: 50 questions a second to each peer first, then 10, and one
// to a peer that does not answer.
func TestProbesSlowDown(t *testing.T) {
	b := newBench(t, Skew{}, Skew{}, Skew{})
	b.run(time.Second)
	b.sent = 0
	b.run(10 * time.Second)
	if b.sent < 6*80 || b.sent > 6*101 {
		t.Fatalf("%d questions in 10 s over 6 directions", b.sent)
	}
	delete(b.nodes, 3)
	b.nodes[3] = nil
	alone := b.begin(3, 2)
	for id := range uint64(2) {
		b.cut[[2]uint64{3, id + 1}] = true
	}
	n := 0
	for range 4000 {
		if _, _, ok := alone.Question(nil); ok {
			n++
		}
		b.v.Advance(5 * time.Millisecond)
	}
	if n > 2*(probePatient+20) {
		t.Fatalf("%d questions to peers that do not answer", n)
	}
	for ok := true; ok; {
		_, _, ok = alone.Question(nil)
	}
	if d := alone.NextQuestion(); d <= 0 || d > time.Second {
		t.Fatalf("the next question is due in %v", d)
	}
}

// TestStartedAnew: a node that starts again has another clock; what was read of
// the old one does not count, and old answers have no effect.
func TestStartedAnew(t *testing.T) {
	b := newBench(t, Skew{}, Skew{}, Skew{})
	b.run(time.Second)
	_, old, _ := b.nodes[2].Question(nil)
	for !strings.HasPrefix(string(old[8+8:]), "\x01") { // to node 1
		b.v.Advance(100 * time.Millisecond)
		_, old, _ = b.nodes[2].Question(nil)
	}
	b.clock[2].Step(40 * time.Millisecond)
	b.begin(2, 2)
	b.run(500 * time.Millisecond)
	if p := b.nodes[1].Status().Peers[0]; p.State != PeerOK || p.Offset < 39_000 || p.Offset > 41_000 {
		t.Fatalf("node 1 says of node 2: %+v", p)
	}
	if answer, _ := b.nodes[1].Receive(nil, old, b.clock[1].Mono()); answer != nil {
		t.Fatal("a question of the start before is answered")
	}
}

// TestRepeatedAndForgedProbesHaveNoEffect: an answer counts once; one that was
// not asked for, or is for somebody else, never.
func TestRepeatedAndForgedProbesHaveNoEffect(t *testing.T) {
	b := newBench(t, Skew{}, Skew{})
	_, question, _ := b.nodes[1].Question(nil)
	at := b.clock[2].Mono()
	answer, _ := b.nodes[2].Receive(nil, question, at)
	for i := range 3 {
		b.nodes[1].Receive(nil, answer, b.clock[1].Mono())
		if n := b.nodes[1].ens.peers[1].readings; n != 1 {
			t.Fatalf("%d readings after the answer came %d times", n, i+1)
		}
	}
	if a, _ := b.nodes[1].Receive(nil, question, at); a != nil {
		t.Fatal("a node answers itself")
	}
	answer[40] ^= 1
	b.nodes[1].Receive(nil, answer, b.clock[1].Mono())
	b.nodes[1].Receive(nil, []byte("Pxyz"), b.clock[1].Mono())
	if s := b.nodes[1].Status(); s.Ignored != 3 {
		t.Fatalf("%d packets ignored", s.Ignored)
	}
}

// sleepy is a clock of a machine that can sleep.
type sleepy struct {
	*VirtualClock
	epoch uint32
	slept time.Duration
}

func (s *sleepy) Raw() (time.Duration, uint32) {
	raw, _ := s.VirtualClock.Raw()
	return raw + s.slept, s.epoch
}

// TestSleptMachineKnowsNothing: after a sleep nothing vouches for the time until
// the others are read again.
func TestSleptMachineKnowsNothing(t *testing.T) {
	b := newBench(t, Skew{}, Skew{}, Skew{})
	clock := &sleepy{VirtualClock: b.clock[1]}
	b.nodes[1].o.Clock = clock
	b.run(time.Second)
	if _, eps := b.nodes[1].Now(); eps < 0 {
		t.Fatal("not synchronised at first")
	}
	clock.epoch, clock.slept = 1, -10*time.Millisecond // it stood still for a moment
	if _, eps := b.nodes[1].Now(); eps != Unsynchronised {
		t.Fatalf("eps %d after the machine has slept", eps)
	}
	if s := b.nodes[1].Status(); !strings.Contains(s.Why, "slept") {
		t.Fatalf("it says %q", s.Why)
	}
}

func TestReferenceOfOneNodeIsCertain(t *testing.T) {
	v := NewVirtual(epoch)
	c := v.Node(Skew{Shift: 2 * time.Second})
	r, err := NewReference(ReferenceOptions{Clock: c, Self: 1, Voters: []uint64{1}})
	if err != nil {
		t.Fatal(err)
	}
	c.Step(-time.Hour)
	v.Advance(5 * time.Second)
	us, eps := r.Now()
	if want := epoch.Add(7 * time.Second).UnixMicro(); us != want || eps != 0 {
		t.Fatalf("reference %d eps %d, want %d eps 0", us, eps, want)
	}
	if s := r.Status(); s.State != Synchronised || s.Offset != 0 || !s.DriftKnown || len(s.Peers) != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestReferenceRefusesWhatItCannotDo(t *testing.T) {
	clock := NewVirtual(epoch).Node(Skew{})
	for want, o := range map[string]ReferenceOptions{
		"needs a Clock":           {Self: 1, Voters: []uint64{1}},
		"to be one of its voters": {Clock: clock, Self: 4, Voters: []uint64{1, 2, 3}},
	} {
		if _, err := NewReference(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Without the cluster's secret nobody is asked or answered.
func TestNoKeyNoProbes(t *testing.T) {
	b := newBench(t, Skew{}, Skew{})
	_, question, _ := b.nodes[1].Question(nil)
	r, err := NewReference(ReferenceOptions{Clock: b.clock[2], Self: 2, Voters: []uint64{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := r.Question(nil); ok || r.NextQuestion() != noKeyPause {
		t.Fatal("it asks")
	}
	if a, _ := r.Receive(nil, question, 0); a != nil {
		t.Fatal("it answers")
	}
	if _, eps := r.Now(); eps != Unsynchronised {
		t.Fatalf("eps %d", eps)
	}
}

func BenchmarkReferenceNow(b *testing.B) {
	for _, n := range []int{1, 3, 5} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var voters []uint64
			for i := range n {
				voters = append(voters, uint64(i+1))
			}
			r, err := NewReference(ReferenceOptions{Clock: NewSystem(Skew{}), Self: 1, Voters: voters})
			if err != nil {
				b.Fatal(err)
			}
			for v := 1; v < n; v++ {
				r.ens.read(v, 1000, r.localLocked())
			}
			for b.Loop() {
				r.Now()
			}
		})
	}
}

func BenchmarkProbe(b *testing.B) {
	b.ReportAllocs()
	c := testCodec("demo")
	p := probe{kind: probeQuestion, from: 1, to: 2}
	var buf []byte
	for b.Loop() {
		buf = c.seal(buf[:0], &p)
		if _, err := c.open(buf); err != nil {
			b.Fatal(err)
		}
	}
}
