package timesvc

import "time"

// System is the machine's clocks, made wrong by a Skew when a test asks for it.
type System struct {
	start time.Time // with the monotonic reading that Mono counts from
	skew  Skew
}

// NewSystem returns a clock that starts now.
func NewSystem(skew Skew) *System {
	return &System{start: time.Now(), skew: skew}
}

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
	return now.Round(0).Add(s.skew.Shift + s.skew.local(elapsed) - elapsed)
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
