package timesvc

import (
	"container/heap"
	"sync"
	"time"
)

// Virtual is one simulated time that any number of nodes look at, each through
// a clock of its own that may be stepped and may drift.
//
// Time stands still until Advance. Timers fire in the order of their due times,
// and in the order in which they were set where those are equal, whichever node
// they belong to: the same calls give the same order, always.
//
// All methods may be called concurrently, but only one goroutine may advance.
type Virtual struct {
	mu    sync.Mutex
	start time.Time
	now   time.Duration // since start
	seq   uint64        // orders timers that are due at the same time
	due   timerHeap
}

// NewVirtual returns a simulated time that begins at start.
func NewVirtual(start time.Time) *Virtual {
	return &Virtual{start: start.Round(0)}
}

// Elapsed returns the true time since the start, which no node sees.
func (v *Virtual) Elapsed() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

// Next returns how far ahead the next timer is; ok is false when none is set.
func (v *Virtual) Next() (d time.Duration, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.due) == 0 {
		return 0, false
	}
	return max(0, v.due[0].due-v.now), true
}

// Advance moves time on by d and fires, in order, what falls due on the way,
// what those firings set included. During a firing the time is its due time.
func (v *Virtual) Advance(d time.Duration) {
	v.mu.Lock()
	end := v.now + d
	for len(v.due) > 0 && v.due[0].due <= end {
		t := v.due[0]
		v.now = max(v.now, t.due)
		f := t.fireLocked()
		if f != nil {
			v.mu.Unlock()
			f()
			v.mu.Lock()
		}
	}
	v.now = max(v.now, end)
	v.mu.Unlock()
}

// Node returns a new clock over this time, made wrong by skew.
func (v *Virtual) Node(skew Skew) *VirtualClock {
	v.mu.Lock()
	defer v.mu.Unlock()
	return &VirtualClock{v: v, born: v.now, at: v.now, skew: skew}
}

// VirtualClock is one node's clock over a Virtual.
type VirtualClock struct {
	v    *Virtual
	born time.Duration // true time at which the clock was made
	skew Skew

	// The clock is linear between changes of its drift; it last changed at the
	// true time at, when its monotonic clock showed mono. Guarded by v.mu.
	at   time.Duration
	mono time.Duration
}

// Now implements Clock.
func (c *VirtualClock) Now() time.Time {
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	return c.nowLocked()
}

// Mono implements Clock.
func (c *VirtualClock) Mono() time.Duration {
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	return c.monoLocked()
}

// Raw implements Clock: a simulated machine never sleeps, and its monotonic clock
// is the steadiest it has.
func (c *VirtualClock) Raw() (time.Duration, uint32) {
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	return c.monoLocked(), 0
}

// Step moves the wall clock by d at once; the monotonic clock and timers do not
// notice.
func (c *VirtualClock) Step(d time.Duration) {
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	c.skew.Shift += d
}

// SetDrift makes the clock run wrong by ppm from now on, its pending timers
// included.
func (c *VirtualClock) SetDrift(ppm int64) {
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	c.mono, c.at = c.monoLocked(), c.v.now
	c.skew.DriftPPM = ppm
	for _, t := range c.v.due {
		if t.clock == c {
			t.due = c.trueLocked(t.local)
		}
	}
	heap.Init(&c.v.due)
}

// NewTimer implements Clock.
func (c *VirtualClock) NewTimer(d time.Duration) Timer {
	return c.set(&virtualTimer{clock: c, c: make(chan time.Time, 1), slot: -1}, d)
}

// NewTicker implements Clock.
func (c *VirtualClock) NewTicker(d time.Duration) Ticker {
	if d <= 0 {
		panic("timesvc: non-positive interval for NewTicker")
	}
	return virtualTicker{c.set(&virtualTimer{clock: c, c: make(chan time.Time, 1), slot: -1, period: d}, d)}
}

// AfterFunc implements Clock.
func (c *VirtualClock) AfterFunc(d time.Duration, f func()) Timer {
	return c.set(&virtualTimer{clock: c, f: f, slot: -1}, d)
}

func (c *VirtualClock) nowLocked() time.Time {
	return c.v.start.Add(c.born + c.skew.Shift + c.monoLocked())
}

func (c *VirtualClock) monoLocked() time.Duration {
	return c.mono + c.skew.local(c.v.now-c.at)
}

// trueLocked is the true time at which the monotonic clock will show mono.
func (c *VirtualClock) trueLocked(mono time.Duration) time.Duration {
	return c.at + c.skew.real(mono-c.mono)
}

func (c *VirtualClock) set(t *virtualTimer, d time.Duration) *virtualTimer {
	c.v.mu.Lock()
	defer c.v.mu.Unlock()
	t.setLocked(d)
	return t
}

// virtualTimer is a timer, a ticker (period set) or a call (f set).
type virtualTimer struct {
	clock  *VirtualClock
	c      chan time.Time
	f      func()
	period time.Duration

	// Guarded by clock.v.mu.
	local time.Duration // due, on the clock's monotonic time
	due   time.Duration // due, in true time
	seq   uint64
	slot  int // in the heap; -1 when not set
}

func (t *virtualTimer) setLocked(d time.Duration) {
	v := t.clock.v
	v.seq++
	t.seq = v.seq
	t.local = t.clock.monoLocked() + max(0, d)
	t.due = t.clock.trueLocked(t.local)
	heap.Push(&v.due, t)
}

// fireLocked takes the timer off the heap, sends its tick, sets the next one of
// a ticker, and returns the call to make once the lock is released.
func (t *virtualTimer) fireLocked() func() {
	heap.Remove(&t.clock.v.due, t.slot)
	if t.period > 0 {
		t.setLocked(t.period)
	}
	if t.f != nil {
		return t.f
	}
	select {
	case t.c <- t.clock.nowLocked():
	default: // nobody took the last tick
	}
	return nil
}

func (t *virtualTimer) stopLocked() bool {
	select {
	case <-t.c: // as with the machine's timers, no stale value remains
	default:
	}
	if t.slot < 0 {
		return false
	}
	heap.Remove(&t.clock.v.due, t.slot)
	return true
}

// C implements Timer.
func (t *virtualTimer) C() <-chan time.Time { return t.c }

// Stop implements Timer.
func (t *virtualTimer) Stop() bool {
	t.clock.v.mu.Lock()
	defer t.clock.v.mu.Unlock()
	return t.stopLocked()
}

// Reset implements Timer.
func (t *virtualTimer) Reset(d time.Duration) bool {
	t.clock.v.mu.Lock()
	defer t.clock.v.mu.Unlock()
	was := t.stopLocked()
	t.setLocked(d)
	return was
}

type virtualTicker struct{ t *virtualTimer }

func (t virtualTicker) C() <-chan time.Time { return t.t.c }
func (t virtualTicker) Stop()               { t.t.Stop() }

func (t virtualTicker) Reset(d time.Duration) {
	if d <= 0 {
		panic("timesvc: non-positive interval for Ticker.Reset")
	}
	t.t.clock.v.mu.Lock()
	defer t.t.clock.v.mu.Unlock()
	t.t.stopLocked()
	t.t.period = d
	t.t.setLocked(d)
}

// timerHeap orders timers by due time, then by when they were set.
type timerHeap []*virtualTimer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	return h[i].seq < h[j].seq
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].slot, h[j].slot = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*virtualTimer)
	t.slot = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.slot = -1
	return t
}
