package timesvc

import (
	"math/rand/v2"
	"testing"
)

func TestStamperNext(t *testing.T) {
	for _, c := range []struct {
		name     string
		last     int64
		ref, eps int64
		want     Stamp
	}{
		{"the first stamp is the reference time", 0, 100, 7, Stamp{100, 7, 1}},
		{"a later reference time is taken as it is", 99, 100, 7, Stamp{100, 7, 1}},
		{"the same time goes one on, and eps with it", 100, 100, 7, Stamp{101, 8, 1}},
		{"a reference that lies behind makes eps cover the distance", 250, 100, 7, Stamp{251, 158, 1}},
		{"unsynchronised stays so", 250, 100, -1, Stamp{251, -1, 1}},
		{"the largest eps is still synchronised", 500_099, 100, 0, Stamp{500_100, 500_000, 1}},
		{"beyond it the stamp is unsynchronised", 500_100, 100, 0, Stamp{500_101, -1, 1}},
		{"an eps that is too large by itself is too", 0, 100, 500_001, Stamp{100, -1, 1}},
		{"one node alone is certain", 5, 100, 0, Stamp{100, 0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s Stamper
			s.Observe(Stamp{TS: c.last})
			if got := s.Next(c.ref, c.eps); got != c.want {
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// Leaders with wrong clocks take turns; each sees what is in the log.
func history(seed uint64, steps int, see func(st Stamp, ref, eps int64)) {
	rng := rand.New(rand.NewPCG(seed, 3))
	leaders := make([]Stamper, 3)
	skew := []int64{0, -40_000, 90_000}
	now := epoch.UnixMicro()
	lead := 0
	for range steps {
		now += rng.Int64N(3) * rng.Int64N(100_000)
		if rng.IntN(20) == 0 {
			lead = rng.IntN(3)
		}
		if rng.IntN(10) == 0 {
			skew[lead] += rng.Int64N(20_000) - 10_000
		}
		if rng.IntN(10) == 0 {
			leaders[lead].Merge(rng.Uint64N(1 << 20))
		}
		ref, eps := now+skew[lead], rng.Int64N(1000)-1
		st := leaders[lead].Next(ref, eps)
		for i := range leaders {
			leaders[i].Observe(st)
		}
		see(st, ref, eps)
	}
}

func TestStampsRise(t *testing.T) {
	for seed := range uint64(50) {
		last := Stamp{}
		history(seed, 500, func(st Stamp, ref, eps int64) {
			if st.TS <= last.TS || st.Lamport <= last.Lamport {
				t.Fatalf("seed %d: %+v after %+v", seed, st, last)
			}
			last = st
		})
	}
}

func TestEpsCoversAhead(t *testing.T) {
	ahead := 0
	for seed := range uint64(50) {
		history(seed, 500, func(st Stamp, ref, eps int64) {
			if st.TS < ref {
				t.Fatalf("seed %d: %+v lies behind its clock %d", seed, st, ref)
			}
			if st.TS > ref {
				ahead++
			}
			if st.Eps != Unsynchronised && (eps < 0 || st.Eps != eps+st.TS-ref || st.Eps > MaxEps) {
				t.Fatalf("seed %d: %+v from ref %d eps %d", seed, st, ref, eps)
			}
			if st.Eps == Unsynchronised && eps >= 0 && eps+st.TS-ref <= MaxEps {
				t.Fatalf("seed %d: %+v gave up on ref %d eps %d", seed, st, ref, eps)
			}
		})
	}
	if ahead == 0 {
		t.Fatal("no stamp ever ran ahead: the test shows nothing")
	}
}

func TestLamportBounded(t *testing.T) {
	var l Lamport
	l.Merge(41)
	if got := l.Tick(); got != 42 || l.Now() != 42 {
		t.Fatalf("after 41 comes %d", got)
	}
	l.Merge(7)
	if got := l.Tick(); got != 43 {
		t.Fatalf("a smaller value moved the clock to %d", got)
	}
	l.Merge(MaxLamport - 1)
	for range 3 {
		if got := l.Tick(); got != MaxLamport {
			t.Fatalf("at the end comes %d", got)
		}
	}
	l.Merge(1<<64 - 1)
	if l.Now() != MaxLamport || uint64(float64(l.Now())) != l.Now() {
		t.Fatalf("merged up to %d", l.Now())
	}
	var s Stamper
	s.Observe(Stamp{TS: 5, Lamport: 1<<64 - 1})
	if st := s.Next(1, 0); st.Lamport != MaxLamport || s.Last() != st.TS || s.Lamport() != MaxLamport {
		t.Fatalf("stamp %+v", st)
	}
}

func BenchmarkStamperNext(b *testing.B) {
	b.ReportAllocs()
	var s Stamper
	ref := int64(0)
	for b.Loop() {
		ref += 3
		s.Next(ref, 10)
	}
}
