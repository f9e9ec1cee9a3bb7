package timesvc

import (
	"syscall"
	"time"
)

// Arrivals says when packets came on a socket: by the kernel's stamp where there
// is one, else when they were read. The kernel's is better by what a busy machine
// lets a reader wait. It belongs to the socket's reader.
type Arrivals struct {
	clock  Clock
	system *System // nil: no kernel stamps
	before pair
	last   time.Duration // when the packet before came; they are read in that order
}

// ArrivalBytes is room enough for the control message with a packet's stamp.
const ArrivalBytes = 64

// NewArrivals turns kernel stamps on for a socket, if there is one, clock is the
// machine's and the system has them.
func NewArrivals(clock Clock, socket syscall.RawConn) *Arrivals {
	a := &Arrivals{clock: clock}
	if s, ok := clock.(*System); ok && socket != nil && stampArrivals(socket) == nil {
		a.system = s
		a.before, _ = s.pair()
	}
	return a
}

// Kernel says whether the kernel stamps packets.
func (a *Arrivals) Kernel() bool { return a.system != nil }

// mostShift is how far the kernel's clock may move against the time base between
// two packets, for its stamp to count.
const mostShift = time.Microsecond

// At returns when a packet came that was just read together with the control
// message oob, on Clock.Raw.
func (a *Arrivals) At(oob []byte) time.Duration {
	now, _ := a.clock.Raw()
	if a.system != nil {
		if at, ok := a.stamped(oob); ok && at <= now && at >= a.last-mostShift {
			now = at
		}
	}
	a.last = now
	return now
}

// stamped is when the packet came by the kernel's stamp; false when the wall
// clock was set meanwhile, so that nobody knows what the stamp means.
func (a *Arrivals) stamped(oob []byte) (at time.Duration, ok bool) {
	stamp, stamped := arrivalStamp(oob)
	after, narrow := a.system.pair()
	before := a.before
	a.before = after
	if !stamped || !narrow || (after.ahead()-before.ahead()).Abs() > mostShift+(after.width+before.width)/2 {
		return 0, false
	}
	return a.system.at(after.raw - (after.wall - a.system.strobed(stamp, after))), true
}

// pair are the two clocks at one moment, as well as it can be told: the time
// base, unskewed, and the wall clock since 1970. width is how long reading them took.
type pair struct{ raw, wall, width time.Duration }

func (p pair) ahead() time.Duration { return p.wall - p.raw }

// pair reads both clocks together; narrow is false when it was interrupted.
func (s *System) pair() (p pair, narrow bool) {
	for range 3 {
		first := readRaw()
		wall := time.Duration(time.Now().UnixNano())
		p = pair{width: readRaw() - first, wall: wall}
		p.raw = first + p.width/2
		p.wall += s.skew.strobe(p.raw - s.raw)
		if p.width <= 2*time.Microsecond {
			return p, true
		}
	}
	return p, false
}

// strobed is what a kernel would have stamped whose clock is strobed like this one.
func (s *System) strobed(stamp time.Duration, now pair) time.Duration {
	if s.skew.Strobe == 0 {
		return stamp
	}
	wall := now.wall - s.skew.strobe(now.raw-s.raw)
	return stamp + s.skew.strobe(now.raw-(wall-stamp)-s.raw)
}
