package timesvc

import "time"

// LocalReference is a node's own clock as reference time: its wall clock, read
// once, carried on by its monotonic clock. It may be read concurrently.
type LocalReference struct {
	clock Clock
	base  int64         // wall clock at the start, microseconds since 1970
	mono  time.Duration // monotonic clock at the same moment
	eps   int64
}

// NewLocalReference reads the wall clock for the last time. In a cluster of one
// node that node's time is the reference and certain; with more, nothing vouches
// for it and its eps is Unsynchronised.
func NewLocalReference(clock Clock, nodes int) *LocalReference {
	r := &LocalReference{clock: clock, base: clock.Now().UnixMicro(), mono: clock.Mono()}
	if nodes != 1 {
		r.eps = Unsynchronised
	}
	return r
}

// Now returns the reference time in microseconds since 1970, and its eps.
func (r *LocalReference) Now() (us, eps int64) {
	return r.base + int64((r.clock.Mono()-r.mono)/time.Microsecond), r.eps
}
