package timesvc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var epoch = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// clockCase makes a clock, and moves its time on.
type clockCase struct {
	name string
	run  func(t *testing.T, story func(t *testing.T, c Clock, advance func(time.Duration)))
}

// The same stories hold for the machine's clocks (with synctest's time) and for
// simulated ones.
var clocks = []clockCase{
	{"system", func(t *testing.T, story func(*testing.T, Clock, func(time.Duration))) {
		synctest.Test(t, func(t *testing.T) {
			story(t, NewSystem(Skew{}), func(d time.Duration) { time.Sleep(d); synctest.Wait() })
		})
	}},
	{"virtual", func(t *testing.T, story func(*testing.T, Clock, func(time.Duration))) {
		v := NewVirtual(epoch)
		story(t, v.Node(Skew{}), v.Advance)
	}},
}

func TestEveryClock(t *testing.T) {
	stories := map[string]func(*testing.T, Clock, func(time.Duration)){
		"wall and monotonic time go on together": func(t *testing.T, c Clock, advance func(time.Duration)) {
			wall, mono := c.Now(), c.Mono()
			advance(3 * time.Second)
			if d, m := c.Now().Sub(wall), c.Mono()-mono; d != 3*time.Second || m != d {
				t.Fatalf("wall moved by %v, monotonic by %v", d, m)
			}
		},
		"a timer fires once, at its time": func(t *testing.T, c Clock, advance func(time.Duration)) {
			tm := c.NewTimer(time.Second)
			advance(time.Second - 1)
			expectTicks(t, tm.C(), 0)
			advance(1)
			expectTicks(t, tm.C(), 1)
			advance(time.Hour)
			expectTicks(t, tm.C(), 0)
			if tm.Stop() {
				t.Fatal("Stop says that a timer that fired was still to come")
			}
		},
		"a stopped timer stays silent": func(t *testing.T, c Clock, advance func(time.Duration)) {
			tm := c.NewTimer(time.Second)
			if !tm.Stop() || tm.Stop() {
				t.Fatal("only the first Stop stops")
			}
			advance(time.Hour)
			expectTicks(t, tm.C(), 0)
		},
		"stop and reset leave no stale value": func(t *testing.T, c Clock, advance func(time.Duration)) {
			tm := c.NewTimer(time.Second)
			advance(time.Second)
			tm.Reset(time.Minute)
			expectTicks(t, tm.C(), 0)
			advance(time.Minute)
			expectTicks(t, tm.C(), 1)
		},
		"a ticker drops ticks that nobody takes": func(t *testing.T, c Clock, advance func(time.Duration)) {
			tk := c.NewTicker(time.Second)
			advance(3 * time.Second)
			expectTicks(t, tk.C(), 1)
			advance(time.Second)
			expectTicks(t, tk.C(), 1)
			tk.Reset(10 * time.Second)
			advance(9 * time.Second)
			expectTicks(t, tk.C(), 0)
			advance(time.Second)
			expectTicks(t, tk.C(), 1)
			tk.Stop()
			advance(time.Hour)
			expectTicks(t, tk.C(), 0)
		},
		"a call happens at its time and can be stopped": func(t *testing.T, c Clock, advance func(time.Duration)) {
			var at []time.Duration
			start := c.Mono()
			c.AfterFunc(2*time.Second, func() { at = append(at, c.Mono()-start) })
			stopped := c.AfterFunc(time.Second, func() { t.Error("a stopped call happened") })
			if stopped.C() != nil {
				t.Error("a call has a channel")
			}
			stopped.Stop()
			advance(5 * time.Second)
			if !slices.Equal(at, []time.Duration{2 * time.Second}) {
				t.Fatalf("called at %v", at)
			}
		},
	}
	for _, c := range clocks {
		for name, story := range stories {
			t.Run(c.name+"/"+name, func(t *testing.T) { c.run(t, story) })
		}
	}
}

func expectTicks(t *testing.T, c <-chan time.Time, want int) {
	t.Helper()
	got := 0
	for {
		select {
		case <-c:
			got++
			continue
		default:
		}
		break
	}
	if got != want {
		t.Fatalf("%d ticks, want %d", got, want)
	}
}

func TestSystemSkewMovesEveryClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		skew := Skew{Shift: 250 * time.Millisecond, DriftPPM: 300}
		c := NewSystem(skew)
		if c.Skew() != skew {
			t.Fatalf("Skew returns %v", c.Skew())
		}
		start := time.Now()
		time.Sleep(1000 * time.Second)
		if got, want := c.Now().Sub(start), 1000*time.Second+550*time.Millisecond; got != want {
			t.Errorf("the wall clock shows %v after the start, want %v", got, want)
		}
		if got, want := c.Mono(), 1000*time.Second+300*time.Millisecond; got != want {
			t.Errorf("the monotonic clock shows %v, want %v", got, want)
		}
		before, mono := time.Now(), c.Mono()
		<-c.NewTimer(1000 * time.Second).C()
		if got := time.Since(before); got >= 1000*time.Second || c.Mono()-mono < 1000*time.Second {
			t.Errorf("a timer of 1000s took %v, %v on its clock", got, c.Mono()-mono)
		}
	})
}

func TestVirtualFiresInOneOrder(t *testing.T) {
	v := NewVirtual(epoch)
	a, b := v.Node(Skew{}), v.Node(Skew{DriftPPM: 100_000}) // b is a tenth faster
	var log []string
	note := func(name string) func() {
		return func() { log = append(log, fmt.Sprintf("%s@%v", name, v.Elapsed())) }
	}
	a.AfterFunc(1100*time.Millisecond, note("a1.1"))
	a.AfterFunc(time.Second, note("a1"))
	b.AfterFunc(1100*time.Millisecond, note("b1.1")) // true time 1s: after a1, set later
	a.AfterFunc(time.Second, func() {
		note("chain")()
		a.AfterFunc(0, note("now"))
		a.AfterFunc(time.Second, note("later"))
	})
	if d, ok := v.Next(); !ok || d != time.Second {
		t.Fatalf("Next says %v, %v", d, ok)
	}
	v.Advance(1500 * time.Millisecond)
	want := "a1@1s b1.1@1s chain@1s now@1s a1.1@1.1s"
	if got := strings.Join(log, " "); got != want {
		t.Fatalf("fired\n%s, want\n%s", got, want)
	}
	if v.Elapsed() != 1500*time.Millisecond {
		t.Fatalf("elapsed %v", v.Elapsed())
	}
	if d, ok := v.Next(); !ok || d != 500*time.Millisecond {
		t.Fatalf("Next says %v, %v", d, ok)
	}
}

func TestVirtualStepMovesOnlyTheWall(t *testing.T) {
	v := NewVirtual(epoch)
	a, b := v.Node(Skew{Shift: time.Second}), v.Node(Skew{})
	tm := a.NewTimer(10 * time.Second)
	a.Step(-time.Hour)
	if got, want := a.Now(), epoch.Add(time.Second-time.Hour); !got.Equal(want) {
		t.Fatalf("stepped to %v, want %v", got, want)
	}
	if a.Mono() != 0 || !b.Now().Equal(epoch) {
		t.Fatal("the step moved the monotonic clock or another node")
	}
	v.Advance(10 * time.Second)
	expectTicks(t, tm.C(), 1)
}

func TestVirtualDriftMovesPendingTimers(t *testing.T) {
	v := NewVirtual(epoch)
	c := v.Node(Skew{})
	tm := c.NewTimer(20 * time.Second)
	v.Advance(10 * time.Second)
	c.SetDrift(-100_000) // 10 s are left; at nine tenths speed they take 11.1 s
	v.Advance(11 * time.Second)
	expectTicks(t, tm.C(), 0)
	v.Advance(112 * time.Millisecond)
	expectTicks(t, tm.C(), 1)
	if c.Mono() < 20*time.Second {
		t.Fatalf("fired at %v on its own clock", c.Mono())
	}
}

// A dumb twin: whatever is set, stopped and drifted, timers fire at their time,
// in order, exactly once.
func TestVirtualAgainstASortedList(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 7))
		v := NewVirtual(epoch)
		c := v.Node(Skew{})
		type planned struct {
			due time.Duration
			id  int
		}
		var fired []int
		var twin []planned
		timers := map[int]Timer{}
		for id := range 200 {
			d := time.Duration(rng.IntN(1000))
			timers[id] = c.AfterFunc(d, func() { fired = append(fired, id) })
			twin = append(twin, planned{v.Elapsed() + d, id})
			if rng.IntN(3) == 0 {
				k := rng.IntN(id + 1)
				if timers[k].Stop() {
					twin = slices.DeleteFunc(twin, func(p planned) bool { return p.id == k })
				}
			}
			if rng.IntN(4) == 0 {
				v.Advance(time.Duration(rng.IntN(200)))
			}
		}
		v.Advance(time.Second)
		slices.SortStableFunc(twin, func(a, b planned) int { return int(a.due - b.due) })
		var want []int
		for _, p := range twin {
			want = append(want, p.id)
		}
		if !slices.Equal(fired, want) {
			t.Fatalf("seed %d: fired %v, want %v", seed, fired, want)
		}
	}
}
