package timesvc

import (
	"math"
	"strings"
	"testing"
	"time"
)

const (
	second      = int64(time.Second)
	millisecond = int64(time.Millisecond)
)

// read gives an ensemble a perfect reading of a peer: offset ahead, at the time
// at, after a round trip of 20 us.
func (e *ensemble) read(voter int, offset, at int64) (broke bool) {
	const way = 10_000
	return e.peers[voter].add(Exchange{T1: at - 2*way, T2: at - way + offset, T3: at - way + offset, T4: at})
}

// asSeenBy makes a node's ensemble where the voters' clocks show these times
// beside a true one; math.MinInt64: never read.
func asSeenBy(self int, clocks ...int64) *ensemble {
	e := newEnsemble(len(clocks), self, 1000*second)
	e.began = 0
	for v, c := range clocks {
		if v != self && c != math.MinInt64 {
			e.read(v, c-clocks[self], e.at)
		}
	}
	return e
}

// TestWhoseTimeCounts: the middle clock is the reference, on every node, also on
// the one whose clock is off.
func TestWhoseTimeCounts(t *testing.T) {
	const no = math.MinInt64
	for _, c := range []struct {
		name   string
		clocks []int64 // as shown, beside the truth
		self   int
		want   int64 // reference beside the truth; no: unsynchronised
		eps    int64 // at most
		why    string
	}{
		{"one node alone", []int64{7}, 0, 7, 0, ""},
		{"two agree with the mean", []int64{0, 4 * millisecond}, 0, 2 * millisecond, 20_000, ""},
		{"the other of the two as well", []int64{0, 4 * millisecond}, 1, 2 * millisecond, 20_000, ""},
		{"a clock three seconds ahead moves nobody", []int64{0, 3 * second, 0}, 0, 0, 30_000, ""},
		{"and its own node takes the others' time", []int64{0, 3 * second, 0}, 1, 0, 30_000, ""},
		{"a clock three seconds behind moves nobody", []int64{0, -3 * second, 0}, 0, 0, 30_000, ""},
		{"and its own node takes the others' time, too", []int64{0, -3 * second, 0}, 1, 0, 30_000, ""},
		{"three that are seconds apart", []int64{0, 3 * second, -second}, 2, 0, 30_000, ""},
		{"three that are seconds apart, the first", []int64{0, 3 * second, -second}, 1, 0, 30_000, ""},
		{"the middle of three", []int64{0, 90 * millisecond, 250 * millisecond}, 0, 90 * millisecond, 30_000, ""},
		{"the middle of three is itself", []int64{0, 90 * millisecond, 250 * millisecond}, 1, 90 * millisecond, 30_000, ""},
		{"with one unknown it may be either", []int64{0, 90 * millisecond, no}, 0, 45 * millisecond, 45*millisecond + 30_000, ""},
		{"with two unknown it may be anything", []int64{0, no, no}, 0, no, 0, "too few other nodes"},
		{"two that differ by seconds, and nobody else", []int64{0, 3 * second, no}, 0, no, 0, "more than 500 ms ahead"},
		{"the one that is ahead does not win either", []int64{0, 3 * second, no}, 1, no, 0, "more than 500 ms ahead"},
		{"two nodes that differ by seconds", []int64{0, 3 * second}, 0, no, 0, "more than 500 ms ahead"},
		{"five with two wrong ones", []int64{0, 5 * second, -5 * second, 10_000, 20_000}, 0, 10_000, 30_000, ""},
		{"five with two unknown", []int64{0, no, no, 10_000, 20_000}, 3, 10_000, 60_000, ""},
		{"five with three unknown", []int64{0, no, no, no, 20_000}, 0, no, 0, "too few"},
		{"four take the mean of the middle two", []int64{0, 10_000, 30_000, second}, 0, 20_000, 60_000, ""},
		{"four with two unknown", []int64{0, 10_000, no, no}, 0, no, 0, "too few"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := asSeenBy(c.self, c.clocks...)
			corr, eps := e.advance(e.at)
			if c.want == no {
				if eps >= 0 || e.state != Unsyncd || !strings.Contains(e.why, c.why) {
					t.Fatalf("eps %d, state %s: %s", eps, e.state, e.why)
				}
				return
			}
			got := c.clocks[c.self] + corr
			if d := got - c.want; eps < 0 || d > eps || -d > eps || eps > c.eps || e.state != Synchronised {
				t.Fatalf("the reference is %d beside the truth with eps %d (%s %s), want %d with at most %d", got, eps, e.state, e.why, c.want, c.eps)
			}
		})
	}
}

// TestEpsGrowsByRho: without the others' clocks, until nobody vouches any more;
// when they are back, the time is known again.
func TestEpsGrowsByRho(t *testing.T) {
	e := asSeenBy(0, 0, 1000, -1000)
	_, first := e.advance(e.at)
	from := e.at
	for s := int64(1); s <= 900; s++ {
		_, eps := e.advance(from + s*second)
		if want := first + s*500_000; eps < want-10_000 || eps > want+10_000 {
			t.Fatalf("after %d s eps is %d, want about %d", s, eps, want)
		}
		if want := State(Holdover); s > 4 && e.state != want {
			t.Fatalf("after %d s the state is %s", s, e.state)
		}
	}
	if _, eps := e.advance(from + 1001*second); eps >= 0 || e.state != Unsyncd {
		t.Fatalf("eps %d, state %s", eps, e.state)
	}
	e.read(1, 0, from+1002*second)
	e.read(2, 0, from+1002*second)
	if _, eps := e.advance(from + 1002*second); eps < 0 || eps > 30_000 || e.state != Synchronised {
		t.Fatalf("eps %d, state %s", eps, e.state)
	}
}

// TestContradictionIsDistrusted: a peer whose clock jumps, or runs wrong by more
// than the declared drift, counts as unknown until it has agreed with itself
// for a while.
func TestContradictionIsDistrusted(t *testing.T) {
	for name, wrong := range map[string]func(s int64) int64{
		"a jump":    func(s int64) int64 { return 10 * millisecond },
		"a drift":   func(s int64) int64 { return s * 700_000 },
		"backwards": func(s int64) int64 { return -second },
	} {
		t.Run(name, func(t *testing.T) {
			e := asSeenBy(0, 0, 0, 0)
			e.advance(e.at)
			from, broke := e.at, false
			for s := int64(1); s <= 5; s++ {
				e.read(1, 0, from+s*second)
				broke = e.read(2, wrong(s), from+s*second) || broke
			}
			_, eps := e.advance(from + 5*second)
			if !broke || e.peerState(2) != PeerDistrusted || eps < 0 || e.state != Synchronised {
				t.Fatalf("broke %t, the peer is %s, the node %s with eps %d", broke, e.peerState(2), e.state, eps)
			}
			if name == "a drift" {
				return // it never agrees with itself
			}
			for s := int64(6); s < 40; s++ {
				e.read(2, wrong(s), from+s*second)
			}
			if e.advance(from + 40*second); e.peerState(2) != PeerOK {
				t.Fatalf("the peer is %s after it has agreed with itself for long", e.peerState(2))
			}
		})
	}
}

// TestOwnClockJumps: when all the others seem to jump, it is this node's clock
// that did, and nobody vouches for its time until they are read anew.
func TestOwnClockJumps(t *testing.T) {
	e := asSeenBy(0, 0, 0, 0)
	e.advance(e.at)
	from := e.at + second
	e.read(1, 20*millisecond, from)
	if _, eps := e.advance(from); eps < 0 {
		t.Fatal("one contradiction of three makes it unsynchronised")
	}
	e.read(2, 20*millisecond, from)
	if _, eps := e.advance(from); eps >= 0 || !strings.Contains(e.why, "contradict") {
		t.Fatalf("eps %d: %s", eps, e.why)
	}
	for s := int64(1); s < 30; s++ {
		e.read(1, 20*millisecond, from+s*second)
		e.read(2, 20*millisecond, from+s*second)
	}
	if corr, eps := e.advance(from + 30*second); eps < 0 || (corr-20*millisecond) > eps || e.steps != 1 {
		t.Fatalf("corr %d, eps %d, %d steps", corr, eps, e.steps)
	}
}

// TestSlewedNeverBack: the middle clock is another one from one moment to the
// next, far away; the reference gets there slowly, and eps covers the way.
func TestSlewedNeverBack(t *testing.T) {
	e := asSeenBy(0, 0, 100*millisecond, 200*millisecond)
	corr, _ := e.advance(e.at) // that of voter 1
	from := e.at
	e.forget(1) // it started anew, with another clock
	last := from + corr
	for s := int64(1); s <= 300; s++ {
		now := from + s*second
		e.read(1, -50*millisecond, now)
		e.read(2, 200*millisecond, now)
		corr, eps := e.advance(now)
		if ref := now + corr; ref < last+second-500_000 {
			t.Fatalf("the reference moved by %v in a second", time.Duration(ref-last))
		} else {
			last = ref
		}
		if eps < corr || eps > corr+100_000 && s > 1 {
			t.Fatalf("after %d s it is %d off, eps is %d", s, corr, eps)
		}
	}
	if corr, eps := e.advance(from + 301*second); corr > 50_000 || eps > 1_000_000 {
		t.Fatalf("after 300 s it is %d off, eps is %d", corr, eps)
	}
}

// TestJumpsOnlyUnsynchronised: where the majority's clocks are suddenly far from
// the reference, as when they were started anew with clocks that were mended,
// the node first says that it does not know the time, and then takes theirs.
func TestJumpsOnlyUnsynchronised(t *testing.T) {
	e := asSeenBy(0, 0, 1000, 2000)
	e.advance(e.at)
	for v := 1; v < 3; v++ {
		e.forget(v)
		e.read(v, -3600*second, e.at+second)
	}
	now := e.at + second
	if corr, eps := e.advance(now); eps != -1 || corr < -1_000_000 || e.state != Unsyncd {
		t.Fatalf("corr %d, eps %d, %s", corr, eps, e.state)
	}
	if corr, eps := e.advance(now + 1000); eps < 0 || corr > -3599*second || e.steps != 1 {
		t.Fatalf("corr %d, eps %d, %d steps", corr, eps, e.steps)
	}
}

// TestFirstSynchronisationWaits for a clock that may say which of two that differ
// is right, for a second.
func TestFirstSynchronisationWaits(t *testing.T) {
	e := newEnsemble(3, 0, 1000*second)
	e.read(1, 250*millisecond, e.at+1000)
	if _, eps := e.advance(e.at + 500*millisecond); eps >= 0 || !strings.Contains(e.why, "being read") {
		t.Fatalf("eps %d: %s", eps, e.why)
	}
	alone := *e
	if corr, eps := alone.advance(e.at + second); eps < 125*millisecond || corr < 120*millisecond {
		t.Fatalf("corr %d, eps %d", corr, eps)
	}
	e.read(2, 0, e.at)
	if corr, eps := e.advance(e.at); eps < 0 || eps > 30_000 || corr > 30_000 {
		t.Fatalf("corr %d, eps %d", corr, eps)
	}
}

func TestFitFindsTheDrift(t *testing.T) {
	var p peerClock
	for i := range int64(400) {
		at := 1000*second + i*100*millisecond
		offset := 250*millisecond + i*100*millisecond*300/1_000_000
		noise := i * 7919 % 11 * 3000 // a late answer, by up to 30 us
		p.add(Exchange{T1: at, T2: at + 10_000 + offset, T3: at + 10_000 + offset, T4: at + 20_000 + noise})
	}
	if ppm, ok := p.drift(); !ok || math.Abs(ppm-300) > 1 {
		t.Fatalf("drift %.2f, %t", ppm, ok)
	}
}

func TestExchangesThatCannotBe(t *testing.T) {
	for name, x := range map[string]Exchange{
		"an answer before its question": {T1: 5, T2: 1, T3: 2, T4: 4},
		"sent before it came":           {T1: 1, T2: 9, T3: 8, T4: 20},
		"before 1970":                   {T1: 1, T2: -9, T3: 8, T4: 20},
		"the end of time":               {T1: 1, T2: 9, T3: math.MaxInt64, T4: 20},
	} {
		if x.sound() {
			t.Errorf("%s is sound", name)
		}
	}
	held := Exchange{T1: 0, T2: 1000, T3: 1000 + second, T4: second / 2}
	if _, ok := held.reading(); ok || !held.sound() {
		t.Error("held for longer than it took")
	}
}
