package timesvc

import "time"

// Clock is a node's view of time. All methods may be called concurrently.
type Clock interface {
	// Now returns the wall clock: for display, logs and deadlines. It may step
	// in either direction; nothing may rely on it to rise.
	Now() time.Time

	// Mono returns the time since the clock was made, from the monotonic clock.
	// It never falls.
	Mono() time.Duration

	// Raw returns the time since the clock was made, from the steadiest time base
	// that the machine has: on Linux one that no time daemon slews. Clocks are
	// compared by it, and timers do not follow it. When the machine has slept, it
	// includes the time asleep only roughly, and epoch has another value.
	Raw() (elapsed time.Duration, epoch uint32)

	// NewTimer returns a timer that sends once on its channel after d.
	NewTimer(d time.Duration) Timer

	// NewTicker returns a ticker that sends every d, dropping ticks that nobody
	// takes. It panics when d is not positive, as time.NewTicker does.
	NewTicker(d time.Duration) Ticker

	// AfterFunc calls f after d. With System, f runs in a goroutine of its own;
	// with Virtual, in the goroutine that advances the time.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a single shot in the future. After Stop or Reset has returned, no
// stale value is received from its channel.
type Timer interface {
	// C returns the timer's channel; nil for a timer made by AfterFunc.
	C() <-chan time.Time
	// Stop prevents the shot and reports whether it was still to come.
	Stop() bool
	// Reset moves the shot to d from now and reports whether it was still to come.
	Reset(d time.Duration) bool
}

// Ticker repeats until it is stopped.
type Ticker interface {
	// C returns the ticker's channel. It holds at most one tick.
	C() <-chan time.Time
	// Stop ends the ticks; it does not close the channel.
	Stop()
	// Reset starts the ticks again, with period d from now.
	Reset(d time.Duration)
}
