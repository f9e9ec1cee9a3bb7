package timesvc

import (
	"sync"
	"time"
)

// System is the machine's clocks, made wrong by a Skew when a test asks for it.
type System struct {
	start time.Time     // with the monotonic reading that Mono counts from
	raw   time.Duration // the time base at the same moment
	skew  Skew

	mu     sync.Mutex // guards what follows; a leaf
	asleep time.Duration
	epoch  uint32
	wall   time.Duration // wall clock minus monotonic time, by the last look
	most   time.Duration // no more than this was slept since the boot, by the last look
}

// NewSystem returns a clock that starts now.
func NewSystem(skew Skew) *System {
	s := &System{start: time.Now(), raw: readRaw(), skew: skew}
	s.most = s.awake()
	s.most += readBoot() // read after: the upper end
	s.wall = time.Duration(s.start.UnixNano())
	return s
}

// awake is minus the monotonic time; with readBoot it says how long the machine
// slept, but for a constant.
func (s *System) awake() time.Duration { return -time.Since(s.start) }

// RawName names the time base of Raw, for people.
func (s *System) RawName() string { return rawName }

// napAtLeast is the shortest sleep that is one: the kernel's two clocks are set
// apart with no more care than that.
const napAtLeast = 5 * time.Millisecond

// Raw implements Clock.
func (s *System) Raw() (elapsed time.Duration, epoch uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookForSleepLocked()
	return s.elapsed(readRaw()) + s.asleep, s.epoch
}

// lookForSleepLocked finds out whether the machine slept: then the wall clock
// moved against the monotonic one, which stood still. Whether it was only set,
// the boot clock tells, which costs a system call.
func (s *System) lookForSleepLocked() {
	now := time.Now()
	wall := time.Duration(now.UnixNano()) - now.Sub(s.start)
	if (wall - s.wall).Abs() < napAtLeast {
		return
	}
	s.wall = wall
	// The boot clock is read first, so that being interrupted makes the sleep look
	// shorter, never longer.
	boot := readBoot()
	if slept := boot + s.awake() - s.most; slept > napAtLeast {
		most := s.awake()
		s.most = readBoot() + most
		s.asleep += slept
		s.epoch++
	}
}

// at is what Raw returned when the time base showed raw, a moment ago.
func (s *System) at(raw time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.elapsed(raw) + s.asleep
}

// elapsed is what the skewed clock shows when the time base shows raw.
func (s *System) elapsed(raw time.Duration) time.Duration { return s.skew.local(raw - s.raw) }

// Skew returns what the clock was made with; a node logs it when it is not zero.
func (s *System) Skew() Skew { return s.skew }

// Now implements Clock.
func (s *System) Now() time.Time {
	now := time.Now()
	if s.skew.IsZero() {
		return now
	}
	elapsed := now.Sub(s.start)
	// Round strips the monotonic reading: it does not follow the skew.
	return now.Round(0).Add(s.skew.Shift + s.skew.local(elapsed) - elapsed + s.skew.strobe(elapsed))
}

// Mono implements Clock.
func (s *System) Mono() time.Duration { return s.skew.local(time.Since(s.start)) }

// NewTimer implements Clock.
func (s *System) NewTimer(d time.Duration) Timer {
	return systemTimer{time.NewTimer(s.skew.real(d)), s.skew}
}

// NewTicker implements Clock.
func (s *System) NewTicker(d time.Duration) Ticker {
	return systemTicker{time.NewTicker(s.skew.real(d)), s.skew}
}

// AfterFunc implements Clock.
func (s *System) AfterFunc(d time.Duration, f func()) Timer {
	return systemTimer{time.AfterFunc(s.skew.real(d), f), s.skew}
}

type systemTimer struct {
	t    *time.Timer
	skew Skew
}

func (t systemTimer) C() <-chan time.Time        { return t.t.C }
func (t systemTimer) Stop() bool                 { return t.t.Stop() }
func (t systemTimer) Reset(d time.Duration) bool { return t.t.Reset(t.skew.real(d)) }

type systemTicker struct {
	t    *time.Ticker
	skew Skew
}

func (t systemTicker) C() <-chan time.Time   { return t.t.C }
func (t systemTicker) Stop()                 { t.t.Stop() }
func (t systemTicker) Reset(d time.Duration) { t.t.Reset(t.skew.real(d)) }
