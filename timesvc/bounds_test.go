package timesvc

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// wander is a clock of a node in a test: it began anywhere and drifts by at most
// ppm, by another amount every now and then. Times are nanoseconds.
type wander struct {
	rng        *rand.Rand
	most       float64
	at, shows  float64 // it showed shows at the true time at
	rate, next float64 // it runs at rate until next
}

func newWander(rng *rand.Rand, start, most float64) *wander {
	return &wander{rng: rng, most: most, shows: start, rate: 1}
}

// read returns what the clock shows at the true time t; calls go forward.
func (w *wander) read(t float64) int64 {
	for t >= w.next {
		w.shows, w.at = w.shows+(w.next-w.at)*w.rate, w.next
		w.rate = 1 + (2*w.rng.Float64()-1)*w.most/1e6
		if w.rng.IntN(3) == 0 { // often at the edge
			w.rate = 1 + w.most/1e6*float64(1-2*w.rng.IntN(2))
		}
		w.next = w.at + w.rng.Float64()*30e9
	}
	return int64(w.shows + (t-w.at)*w.rate)
}

// link delays what goes over it: differently in each direction, sometimes long,
// sometimes for ever.
type link struct {
	rng         *rand.Rand
	least, tail float64
	loss        float64
}

func randomLink(rng *rand.Rand) link {
	return link{rng: rng, least: rng.Float64() * 2e6 * float64(rng.IntN(2)), tail: rng.Float64() * 3e6, loss: 0.5 * rng.Float64()}
}

func (l link) delay() (ns float64, lost bool) {
	d := l.least + l.rng.ExpFloat64()*l.tail*l.rng.Float64()
	if l.rng.IntN(200) == 0 {
		d += l.rng.Float64() * 3e9 // a pause
	}
	return d, l.rng.Float64() < l.loss
}

const year2026 = 1.7953416e18

// TestBoundsHold: however far the clocks are apart, whatever their drift within
// the declared one, over links that are slow in one direction and lose half of
// what is sent: the true offset lies within the bound. A million times.
func TestBoundsHold(t *testing.T) {
	checks, seeds := 0, 0
	var widest int64
	for seed := uint64(1); checks < 1_000_000; seed++ {
		seeds++
		rng := rand.New(rand.NewPCG(seed, 31))
		// The declared drift is that of one clock against another: this one is true.
		mine := newWander(rng, year2026, 0)
		peer := newWander(rng, year2026+(2*rng.Float64()-1)*10e9, RhoPPM)
		there, back := randomLink(rng), randomLink(rng)
		var p peerClock
		now := 1e9 * rng.Float64()
		for range 2500 {
			now += rng.Float64() * 200e6
			x := Exchange{T1: mine.read(now)}
			d1, lost1 := there.delay()
			now += d1
			x.T2 = peer.read(now)
			now += rng.Float64() * 1e6 * float64(rng.IntN(2)) // held
			x.T3 = peer.read(now)
			d2, lost2 := back.delay()
			now += d2
			x.T4 = mine.read(now)
			if !lost1 && !lost2 && p.add(x) {
				t.Fatalf("seed %d: %+v contradicts the readings before it", seed, x)
			}
			for range 2 {
				now += rng.Float64() * 100e6
				if !p.have {
					continue
				}
				at := mine.read(now)
				truth := peer.read(now) - at
				i := p.offset(at)
				checks++
				if truth < i.lo || truth > i.hi {
					t.Fatalf("seed %d: the offset is %d, and the bounds are %d to %d", seed, truth, i.lo, i.hi)
				}
				if m := p.estimate(at); m < i.lo || m > i.hi {
					t.Fatalf("seed %d: the estimate %d is outside of %d to %d", seed, m, i.lo, i.hi)
				}
				widest = max(widest, i.hi-i.lo)
			}
		}
		if p.distrusted {
			t.Fatalf("seed %d: a sound clock is distrusted", seed)
		}
	}
	t.Logf("%d checks in %d runs, 0 violations; the widest bound was %v", checks, seeds, time.Duration(widest/2))
}

// TestReferenceWithinEps: what each node of a cluster takes for the reference
// time is within its eps of the middle clock, rises, and is slewed.
func TestReferenceWithinEps(t *testing.T) {
	checks, synced := 0, 0
	for seed := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 32))
		n := 2 + rng.IntN(4)
		clocks := make([]*wander, n)
		nodes := make([]*ensemble, n)
		for i := range n {
			spread := []float64{1e5, 2e8, 2e9}[rng.IntN(3)]
			// 249.9: two of them are apart by no more than 500 of their own ppm.
			clocks[i] = newWander(rng, year2026+(2*rng.Float64()-1)*spread, 249.9)
			nodes[i] = newEnsemble(n, i, clocks[i].read(0))
		}
		links := make([][]link, n)
		for i := range links {
			for range n {
				links[i] = append(links[i], randomLink(rng))
			}
		}
		last := make([]int64, n)
		before := make([]int64, n)
		now := 0.0
		down := -1
		for step := range 8000 {
			now += rng.ExpFloat64() * 20e6
			if step%1000 == 0 {
				down = rng.IntN(2*n) - n // sometimes nobody answers for one of them
			}
			a, b := rng.IntN(n), rng.IntN(n)
			if a != b && a != down && b != down {
				x := Exchange{T1: clocks[a].read(now)}
				d1, lost1 := links[a][b].delay()
				d2, lost2 := links[b][a].delay()
				now += d1
				x.T2 = clocks[b].read(now)
				x.T3 = clocks[b].read(now)
				now += d2
				x.T4 = clocks[a].read(now)
				if !lost1 && !lost2 && nodes[a].peers[b].add(x) {
					t.Fatalf("seed %d: a sound clock contradicts itself", seed)
				}
			}
			for i, e := range nodes {
				local := clocks[i].read(now)
				was := e.state
				corr, eps := e.advance(local)
				if eps < 0 {
					last[i] = 0
					continue
				}
				all := make([]int64, n)
				for j := range all {
					all[j] = clocks[j].read(now)
				}
				slices.Sort(all)
				truth := median(all)
				ref := local + corr
				checks++
				if d := ref - truth; d > eps || -d > eps {
					t.Fatalf("seed %d step %d: node %d of %d says %d, the middle clock shows %d: %d apart, eps is %d", seed, step, i, n, ref, truth, d, eps)
				}
				if eps > maxEpsNS {
					t.Fatalf("seed %d: eps %d and not unsynchronised", seed, eps)
				}
				if was != Unsyncd && last[i] != 0 {
					passed, moved := local-before[i], ref-last[i]
					if moved < 0 || moved < passed-rho(passed) || moved > passed+rho(passed) {
						t.Fatalf("seed %d: the reference moved by %d within %d", seed, moved, passed)
					}
				}
				last[i], before[i] = ref, local
				if e.state == Synchronised {
					synced++
				}
			}
		}
	}
	if checks < 200_000 || synced < checks/2 {
		t.Fatalf("only %d checks, %d of them synchronised", checks, synced)
	}
	t.Logf("%d checks, 0 violations", checks)
}

// The best reading is that of a list of all of them.
func TestBestReadingAgainstAList(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 33))
	for range 200 {
		mine, peer := newWander(rng, year2026, 0), newWander(rng, year2026+3e9, RhoPPM)
		there, back := randomLink(rng), randomLink(rng)
		var p peerClock
		var all []reading
		now := 0.0
		for range 300 {
			x := Exchange{T1: mine.read(now)}
			d1, _ := there.delay()
			x.T2 = peer.read(now + d1)
			x.T3 = x.T2
			d2, _ := back.delay()
			now += d1 + d2
			x.T4 = mine.read(now)
			p.add(x)
			r, _ := x.reading()
			all = append(all, r)
			now += rng.Float64() * 1e9
			at := mine.read(now)
			least := slices.MinFunc(all, func(a, b reading) int { return int(a.bound(at) - b.bound(at)) })
			if i := p.offset(at); (i.hi-i.lo)/2 > least.bound(at)+1 {
				t.Fatalf("the bound is %d, the best of all is %d", (i.hi-i.lo)/2, least.bound(at))
			}
		}
	}
}
