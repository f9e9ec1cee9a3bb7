package timesvc

import (
	"math"
	"slices"
	"time"
)

// State says how a node knows the cluster's time.
type State string

const (
	// Synchronised: a majority of the voters' clocks was read lately.
	Synchronised State = "synchronised"
	// Holdover: it was, and no longer is; eps grows by RhoPPM.
	Holdover State = "holdover"
	// Unsyncd: nothing vouches for the time, or eps would exceed MaxEps.
	Unsyncd State = "unsynchronised"
)

// States of a peer's clock, as this node sees it.
const (
	PeerOK         = "ok"
	PeerUnknown    = "unknown"    // never read
	PeerSilent     = "silent"     // not read for freshFor
	PeerDistrusted = "distrusted" // its readings contradict each other
	PeerAhead      = "ahead"      // more than MaxEps ahead of the reference: not taken
)

const (
	freshFor = int64(3 * time.Second)
	maxEpsNS = MaxEps * 1000

	// Where the clocks that are known differ by more than agreeWithin, the first
	// synchronisation waits for the others', for up to settleFor: what it took for
	// the middle would be slewed to the right one at a crawl.
	agreeWithin = int64(2 * time.Millisecond)
	settleFor   = int64(time.Second)
	nsPerUS     = int64(time.Microsecond)
)

// ensemble makes the cluster's reference time of the clocks of its voters: the
// time that the middle clock shows, of an even number the mean of the middle
// two. Times are nanoseconds of this node's clock, offsets how far another clock
// is ahead of it.
//
// A clock that was not read could show anything. So the middle one is known only
// if a majority is; then as many clocks lie on either side as must, whatever the
// others show: a minority of wrong clocks moves the reference at most to the
// nearest right one.
//
// It is a pure machine with one owner.
type ensemble struct {
	peers []peerClock // by voter; that of the node itself is unused
	self  int
	ahead []bool // by voter: not taken, because more than MaxEps ahead

	// The reference is this node's clock plus corr, at the time at. It moves
	// towards the middle by at most RhoPPM.
	corr, at int64
	began    int64    // when it was made
	credit   int64    // millionths of a nanosecond that corr may move beyond whole ones
	within   interval // where the middle clock lies, at the time at; unknown before the first time
	seen     interval // the same at the time seenAt, when a majority was known last
	seenAt   int64
	state    State
	why      string // when unsynchronised
	steps    int    // times that the reference jumped, the first synchronisation not counted
	ever     bool
	fit      fit // of the middle clock against this node's

	los, his []int64 // scratch
}

func newEnsemble(voters, self int, now int64) *ensemble {
	return &ensemble{at: now, began: now, peers: make([]peerClock, voters), self: self, ahead: make([]bool, voters), within: unknown, seen: unknown, state: Unsyncd}
}

// forget drops what was read of a peer, whose clock began anew.
func (e *ensemble) forget(voter int) { e.peers[voter] = peerClock{} }

// reset drops everything that was read: this node's own clock lost its thread.
func (e *ensemble) reset() {
	for i := range e.peers {
		e.forget(i)
	}
	e.seen, e.fit = unknown, fit{}
	e.desync("its own clock stood still while the machine slept, and the others have not been read since")
}

func (e *ensemble) desync(why string) { e.state, e.why = Unsyncd, why }

// offset is where a voter's clock is, as far as it is taken.
func (e *ensemble) offset(voter int, now int64) interval {
	switch {
	case voter == e.self:
		return interval{}
	case e.peers[voter].distrusted:
		return unknown
	}
	return e.peers[voter].offset(now)
}

// middle returns where the middle clock lies at the time now. What lies more than
// MaxEps ahead of it is not taken: it counts as being anywhere above.
func (e *ensemble) middle(now int64) interval {
	clear(e.ahead)
	i := e.order(now)
	if !i.known() {
		return i
	}
	again := false
	for v := range e.peers {
		if o := e.offset(v, now); o.known() && o.lo > i.mid()+maxEpsNS {
			e.ahead[v], again = true, true
		}
	}
	if again {
		return e.order(now)
	}
	return i
}

// order sorts the ends of the intervals: the middle clock is not below the middle
// one of the lower ends, nor above that of the upper ends.
func (e *ensemble) order(now int64) interval {
	e.los, e.his = e.los[:0], e.his[:0]
	for v := range e.peers {
		o := e.offset(v, now)
		if e.ahead[v] {
			o.hi = unknown.hi // that it is ahead is known, and nothing more is taken of it
		}
		e.los, e.his = append(e.los, o.lo), append(e.his, o.hi)
	}
	if i := (interval{median(e.los), median(e.his)}); i.known() {
		return i
	}
	return unknown
}

// median returns the middle value, or the mean of the middle two; an infinite
// one makes it infinite.
func median(v []int64) int64 {
	slices.Sort(v)
	a, b := v[(len(v)-1)/2], v[len(v)/2]
	switch {
	case a == math.MinInt64 || b == math.MinInt64:
		return math.MinInt64
	case a == math.MaxInt64 || b == math.MaxInt64:
		return math.MaxInt64
	}
	return a + (b-a)/2
}

// advance brings the reference to the time now, which never lies before the one
// of the last call, and returns its distance from this node's clock and eps in
// nanoseconds, negative when unsynchronised.
func (e *ensemble) advance(now int64) (corr, eps int64) {
	now = max(now, e.at)
	passed := now - e.at
	e.at = now
	seen, guess := e.middle(now), e.corr
	switch {
	case seen.known():
		e.seen, e.seenAt, guess = seen, now, seen.mid() // where eps is least
	case e.contradicted():
		// A majority answers and cannot be trusted: it may be this node's clock.
		e.seen = unknown
	}
	e.within = e.seen.grown(rho(now - e.seenAt))
	if !e.within.known() {
		e.desync(e.unknownWhy())
		return e.corr, -1
	}
	if e.state != Unsyncd {
		e.slew(guess, passed)
		if eps = e.distance(e.corr); eps <= maxEpsNS {
			return e.synced(guess, eps)
		}
		e.desync("its time may be more than 500 ms from that of the majority's clocks")
		return e.corr, -1
	}
	return e.resync(seen.known(), guess)
}

// resync ends the state of being unsynchronised, in which nothing was promised:
// so the reference jumps ahead, and back where it is too far off to be slewed.
func (e *ensemble) resync(known bool, guess int64) (corr, eps int64) {
	switch {
	case !known:
		return e.corr, -1
	case e.distance(guess) > maxEpsNS:
		e.desync("the clocks that are known differ by more than a second, and too few others say which are right")
		return e.corr, -1
	case !e.ever && e.within.hi-e.within.lo > agreeWithin && e.at-e.began < settleFor && e.missing():
		e.desync("the clocks of the other nodes are being read")
		return e.corr, -1
	case !e.ever:
		e.ever, e.corr = true, guess
	case guess > e.corr || e.distance(e.corr) > maxEpsNS:
		e.corr = guess
		e.steps++
	}
	return e.synced(guess, e.distance(e.corr))
}

// slew moves the reference towards guess, by no more than RhoPPM of the time
// that passed: so it never stands still and never goes back.
func (e *ensemble) slew(guess, passed int64) {
	e.credit += min(passed, int64(time.Hour)) * RhoPPM
	most := e.credit / 1_000_000
	e.credit %= 1_000_000
	e.corr += min(max(guess-e.corr, -most), most)
}

func (e *ensemble) synced(guess, eps int64) (int64, int64) {
	e.state, e.why = Synchronised, ""
	if e.fresh() < len(e.peers)/2+1 {
		e.state = Holdover
	}
	if len(e.peers) > 1 {
		e.fit.add(reading{offset: guess, half: eps, at: e.at})
	}
	return e.corr, eps
}

// missing says that some voter's clock was never read.
func (e *ensemble) missing() bool {
	for v := range e.peers {
		if v != e.self && e.peers[v].readings == 0 {
			return true
		}
	}
	return false
}

// distance is how far the middle clock may be from a reference.
func (e *ensemble) distance(corr int64) int64 { return max(e.within.hi-corr, corr-e.within.lo) }

// fresh counts the clocks that were read lately and count, this node's included.
func (e *ensemble) fresh() int {
	n := 0
	for v := range e.peers {
		if e.peerState(v) == PeerOK {
			n++
		}
	}
	return n
}

func (e *ensemble) peerState(v int) string {
	p := &e.peers[v]
	switch {
	case e.ahead[v]:
		return PeerAhead
	case v == e.self:
		return PeerOK
	case p.readings == 0:
		return PeerUnknown
	case p.distrusted:
		return PeerDistrusted
	case e.at-p.last.at > freshFor:
		return PeerSilent
	}
	return PeerOK
}

// contradicted says that there would be a majority but for distrusted clocks.
func (e *ensemble) contradicted() bool {
	known, distrusted := 0, 0
	for v := range e.peers {
		switch {
		case v == e.self || e.peers[v].have && !e.peers[v].distrusted:
			known++
		case e.peers[v].distrusted:
			distrusted++
		}
	}
	majority := len(e.peers)/2 + 1
	return known < majority && known+distrusted >= majority
}

func (e *ensemble) unknownWhy() string {
	switch {
	case e.contradicted():
		return "the readings of the other nodes' clocks contradict each other, so one of the clocks runs wrong by more than 500 ppm, or jumped"
	case slices.Contains(e.ahead, true):
		return "a clock is more than 500 ms ahead of the others, and too few others say which is right"
	case e.ever:
		return e.why
	}
	return "the clocks of too few other nodes have been read"
}
