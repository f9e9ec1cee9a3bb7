package timesvc

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMergeStory follows one merge by hand: three shards, of which one falls
// silent and comes back.
func TestMergeStory(t *testing.T) {
	const ms = time.Millisecond
	m := NewMerge(200 * ms)
	a, b, c := m.Add(1, "a", 0), m.Add(2, "b", 0), m.Add(3, "c", 0)
	takes := func(now time.Duration, want ...string) {
		t.Helper()
		var got []string
		for {
			r, ok := m.Next(now)
			if !ok {
				break
			}
			s := fmt.Sprint(r.Source.Name, " ", r.Source.ts)
			if r.Late {
				s += " late"
			}
			if r.Forced {
				s += " forced"
			}
			got = append(got, s)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("at %v: %q, want %q", now, got, want)
		}
	}
	missing := func(want string) {
		t.Helper()
		var got []string
		m.Missing(func(origin, safe, ts uint64) { got = append(got, fmt.Sprintf("%d:%d<%d", origin, safe, ts)) })
		slices.Sort(got)
		if s := strings.Join(got, " "); s != want {
			t.Fatalf("missing %q, want %q", s, want)
		}
	}

	// A message waits until the others promise.
	m.Offer(a, 100, 0)
	m.Promise(1, 100)
	takes(0)
	missing("2:0<100 3:0<100")
	m.Promise(2, 150)
	missing("3:0<100")
	m.Promise(3, 99)
	takes(1 * ms)
	m.Promise(3, 100) // nothing that is stamped 100 comes either
	takes(2*ms, "a 100")

	// Older ones that come meanwhile go first; one stamp, by name.
	m.Offer(b, 160, 3*ms)
	m.Promise(2, 160)
	m.Offer(c, 150, 4*ms)
	m.Offer(a, 160, 4*ms)
	m.Promise(1, 160)
	m.Promise(3, 155)
	takes(5*ms, "c 150")
	m.Promise(3, 170)
	takes(6*ms, "a 160", "b 160")

	// Shard 3 is silent: what came is kept for 200 ms, then what is at hand goes,
	// and the next ones do not wait longer than from when they came.
	m.Offer(a, 300, 1000*ms)
	m.Promise(1, 300)
	m.Offer(b, 290, 1100*ms)
	m.Promise(2, 310)
	if until, ok := m.Until(); !ok || until != 1200*ms {
		t.Fatal(until, ok)
	}
	takes(1199 * ms)
	takes(1200*ms, "b 290 forced", "a 300 forced")
	m.Offer(a, 305, 1001*ms)
	takes(1201*ms, "a 305 forced")

	// It is back: what is older than what was released is late, and goes at once.
	m.Offer(c, 250, 1300*ms)
	takes(1300*ms, "c 250 late")
	m.Offer(c, 400, 1301*ms)
	takes(1301 * ms)
	m.Promise(3, 400)
	m.Promise(1, 500)
	missing("2:310<400")

	// A source that goes is not waited for.
	m.Remove(b)
	takes(1302*ms, "c 400")
	missing("")
}

// twinMerge is Merge done without thought: sorted lists, everything looked at
// each time.
type twinMerge struct {
	delay time.Duration
	heads map[*MergeSource]mergeHead
	safe  map[uint64]uint64
	high  uint64
}

type mergeHead struct {
	ts      uint64
	arrived time.Duration
}

func (w *twinMerge) next(now time.Duration) (Released, bool) {
	var sources []*MergeSource
	overdue := false
	for s, h := range w.heads {
		sources = append(sources, s)
		overdue = overdue || now >= h.arrived+w.delay
	}
	if len(sources) == 0 {
		return Released{}, false
	}
	slices.SortFunc(sources, func(a, b *MergeSource) int {
		return cmp.Or(cmp.Compare(w.heads[a].ts, w.heads[b].ts), strings.Compare(a.Name, b.Name), cmp.Compare(a.Part, b.Part))
	})
	first := sources[0]
	ts := w.heads[first].ts
	promised := true
	for _, safe := range w.safe {
		promised = promised && safe >= ts
	}
	r := Released{Source: first, TS: ts, Late: ts < w.high, Forced: !promised && ts >= w.high}
	if !promised && !overdue && !r.Late {
		return Released{}, false
	}
	delete(w.heads, first)
	w.high = max(w.high, ts)
	return r, true
}

// TestMergeIsAsItsTwin: random sources, silences, promises that are kept. Merge
// does what the twin does; it loses nothing and repeats nothing; what is not late
// is in order; while promises come in time nothing is late; nothing at hand waits
// longer than the delay.
func TestMergeIsAsItsTwin(t *testing.T) {
	released, late, forced := 0, 0, 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const delay = 50
		m := NewMerge(delay)
		w := &twinMerge{delay: delay, heads: map[*MergeSource]mergeHead{}, safe: map[uint64]uint64{}}
		origins := 1 + rng.Uint64N(4)
		silence := seed%3 == 0 // else promises never wait long
		clock := make([]uint64, origins)
		type queued struct {
			s           *MergeSource
			held, queue []mergeHead // on the way; at hand
		}
		var all []*queued
		for o := range origins {
			clock[o] = 1 + rng.Uint64N(20)
			w.safe[o] = 0
			for p := range 1 + rng.IntN(3) {
				all = append(all, &queued{s: m.Add(o, fmt.Sprint("t", rng.IntN(3)), p*10+int(o))})
			}
		}
		offered, got, last := 0, 0, mergeHead{}
		var order []uint64
		for now := time.Duration(1); now < 400 || got < offered; now++ {
			for o := range origins { // a shard's stamps rise over all of its sources
				if now < 400 && rng.IntN(3) == 0 {
					q := all[rng.IntN(len(all))]
					if q.s.origin.id == o {
						clock[o] = max(clock[o]+1, uint64(now)*10)
						q.held = append(q.held, mergeHead{clock[o], now})
						offered++
					}
				}
				if !silence || o > 0 && rng.IntN(60) == 0 {
					clock[o] = max(clock[o], uint64(now)*10-5)
					m.Promise(o, clock[o])
					w.safe[o] = max(w.safe[o], clock[o])
				}
			}
			for _, q := range all { // what a silent shard says comes in bursts
				if !silence || q.s.origin.id > 0 || now%97 == 0 {
					for _, h := range q.held {
						q.queue = append(q.queue, mergeHead{h.ts, now})
					}
					q.held = nil
				}
			}
			for {
				for _, q := range all {
					if !q.s.Waiting() && len(q.queue) > 0 {
						m.Offer(q.s, q.queue[0].ts, q.queue[0].arrived)
						w.heads[q.s] = q.queue[0]
						q.queue = q.queue[1:]
					}
				}
				r, ok := m.Next(now)
				want, wok := w.next(now)
				if ok != wok || r != want {
					t.Fatalf("seed %d at %d: %+v %v, the twin says %+v %v", seed, now, r, ok, want, wok)
				}
				if !ok {
					break
				}
				got++
				h := mergeHead{r.Source.ts, r.Source.arrived}
				if (h.ts < last.ts) != r.Late {
					t.Fatalf("seed %d: %d after %d, late=%v", seed, h.ts, last.ts, r.Late)
				}
				if now > h.arrived+delay {
					t.Fatalf("seed %d: stamp %d came at %d and goes at %d", seed, h.ts, h.arrived, now)
				}
				if r.Late {
					late++
				} else {
					last = h
				}
				if r.Forced {
					forced++
				}
				order = append(order, h.ts)
			}
			if now > 1000 {
				t.Fatalf("seed %d: %d of %d came", seed, got, offered)
			}
		}
		if !silence && !slices.IsSorted(order) {
			t.Fatalf("seed %d: promises were kept and the order was not: %v", seed, order)
		}
		released += got
	}
	if released == 0 || late == 0 || forced == 0 {
		t.Fatalf("too little happened: %d released, %d late, %d forced", released, late, forced)
	}
}
