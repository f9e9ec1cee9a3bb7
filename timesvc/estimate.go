package timesvc

import (
	"math"
	"slices"
	"time"
)

// RhoPPM is the declared drift: no node's clock gains or loses more than so many
// microseconds a second against another's. Every error bound stands on it. It
// is generous (crystals differ by some 30 ppm), and it is watched: a peer whose
// readings contradict it is distrusted.
const RhoPPM = 500

// granularity, in nanoseconds, covers what the stamps of an exchange cannot
// resolve: rounding, and the mapping of kernel receive stamps.
const granularity = 2000

// rho returns how far two clocks may move apart within d nanoseconds.
func rho(d int64) int64 {
	if d < 0 {
		d = -d
	}
	return (d + 1999) / 2000
}

// Exchange is one probe: the question left at T1 and came at T2, the answer left
// at T3 and came at T4. T1 and T4 are read from this node's clock, T2 and T3
// from the peer's, in nanoseconds since 1970.
type Exchange struct{ T1, T2, T3, T4 int64 }

// sound says whether the stamps can be computed with and are in order.
func (x Exchange) sound() bool {
	const most = 1 << 62
	return 0 <= x.T1 && x.T1 <= x.T4 && x.T4 < most && 0 <= x.T2 && x.T2 <= x.T3 && x.T3 < most
}

// reading is what an exchange says: at the time at of this node's clock the
// peer's clock was ahead of it by offset, give or take half.
type reading struct{ offset, half, at int64 }

// reading returns nothing when the peer claims to have held the question for
// longer than the whole exchange took: no clock within rho does that.
//
// With q the moment of T2 and a that of T3 on this node's clock, and o the
// offset: T2 = q + o(q) and T3 = a + o(a), so the mean of T2-T1 and T3-T4 is the
// mean of o(q) and o(a), off by at most half of the time on the way,
// (T4-T1)-(a-q). a-q is the peer's T3-T2 but for rho, and o has moved by at most
// rho times the time since. Together: delay/2 + rho(age + T4-T1).
func (x Exchange) reading() (r reading, ok bool) {
	whole, held := x.T4-x.T1, x.T3-x.T2
	delay := whole - held
	if delay < -(rho(whole) + granularity) {
		return r, false
	}
	return reading{
		offset: (x.T2-x.T1)/2 + (x.T3-x.T4)/2,
		half:   max(delay, 0)/2 + rho(whole) + granularity,
		at:     x.T4,
	}, true
}

// bound is how far the offset may lie from the reading's at the time now.
func (r reading) bound(now int64) int64 { return r.half + rho(now-r.at) }

// interval is where an offset lies. unknown is everywhere.
type interval struct{ lo, hi int64 }

var unknown = interval{math.MinInt64, math.MaxInt64}

func (i interval) mid() int64 { return i.lo + (i.hi-i.lo)/2 }

func (i interval) known() bool { return i.lo != math.MinInt64 && i.hi != math.MaxInt64 }

func (i interval) grown(by int64) interval {
	if !i.known() {
		return unknown
	}
	return interval{i.lo - by, i.hi + by}
}

func (i interval) and(j interval) interval { return interval{max(i.lo, j.lo), min(i.hi, j.hi)} }
func (i interval) empty() bool             { return i.lo > i.hi }

// A peer that broke the model is trusted again when its readings have agreed
// with each other for so long, and there were so many of them.
const (
	trustAfter    = int64(10 * time.Second)
	trustReadings = 16
)

// peerClock estimates how far a peer's clock is ahead of this node's. The zero
// value knows nothing. It has one owner.
type peerClock struct {
	// best is the reading that minimises the bound, delay/2 + rho·age, of all that
	// came. All bounds grow alike, so the best of all times is the one to keep.
	best reading
	have bool

	// meet is where the offset lies by all readings together, at the time met.
	// When it is empty, the peer's clock or this one broke the model.
	meet interval
	met  int64

	distrusted bool
	broke      int64 // when it broke the model last
	agreed     int   // readings since then
	readings   int
	last       reading
	fit        fit
}

// add takes an exchange and reports whether it contradicts the earlier ones.
func (p *peerClock) add(x Exchange) (broke bool) {
	r, possible := x.reading()
	if !possible {
		p.breaks(x.T4)
		p.have = false
		return true
	}
	p.readings++
	p.last = r
	p.fit.add(r)
	now := max(r.at, p.met)
	seen := interval{r.offset - r.bound(now), r.offset + r.bound(now)}
	if p.have {
		both := p.meet.grown(rho(now - p.met)).and(seen)
		if both.empty() {
			p.breaks(now)
			p.best, p.meet, p.met = r, seen, now
			return true
		}
		seen = both
	}
	if !p.have || r.bound(now) <= p.best.bound(now) {
		p.best = r
	}
	p.have, p.meet, p.met = true, seen, now
	p.agreed++
	if p.distrusted && now-p.broke >= trustAfter && p.agreed >= trustReadings {
		p.distrusted = false
	}
	return false
}

func (p *peerClock) breaks(now int64) {
	p.distrusted, p.broke, p.agreed = true, now, 0
}

// offset returns where the peer's offset lies at the time now.
func (p *peerClock) offset(now int64) interval {
	if !p.have {
		return unknown
	}
	b := p.best.bound(now)
	return interval{p.best.offset - b, p.best.offset + b}
}

// estimate is the likeliest offset at the time now, within the bounds: the best
// reading's, carried on by the fitted drift.
func (p *peerClock) estimate(now int64) int64 {
	return p.best.offset + p.fit.moved(now-p.best.at)
}

// drift returns how much faster the peer's clock runs, in parts per million;
// false until there is enough to say so.
func (p *peerClock) drift() (ppm float64, ok bool) { return p.fit.ppm, p.fit.ok }

// fit finds the rate of change of an offset: the median of the slopes between
// all pairs of the best readings of the last seconds (Theil and Sen), which a
// few bad ones do not move. It serves the estimate of an offset that is shown; no
// bound and no reference time stands on it.
type fit struct {
	best []reading // the best of each second, oldest first
	from int64     // beginning of the last one's second
	ppm  float64
	ok   bool
}

const (
	fitSeconds = 32
	fitFrom    = int64(2 * time.Second) // least span for a slope
)

func (f *fit) add(r reading) {
	n := len(f.best)
	if n > 0 && r.at-f.from < int64(time.Second) {
		if last := &f.best[n-1]; r.half <= last.half {
			*last = r
		}
		return
	}
	f.slope()
	if n == fitSeconds {
		f.best = slices.Delete(f.best, 0, 1)
	}
	f.best, f.from = append(f.best, r), r.at
}

func (f *fit) slope() {
	n := len(f.best)
	if n < 3 || f.best[n-1].at-f.best[0].at < fitFrom {
		return
	}
	slopes := make([]float64, 0, n*(n-1)/2)
	for i, a := range f.best {
		for _, b := range f.best[i+1:] {
			slopes = append(slopes, float64(b.offset-a.offset)/float64(b.at-a.at))
		}
	}
	slices.Sort(slopes)
	f.ppm, f.ok = slopes[len(slopes)/2]*1e6, true
}

// moved is the fitted change over age, no more than rho allows.
func (f *fit) moved(age int64) int64 {
	if !f.ok {
		return 0
	}
	return int64(min(max(f.ppm, -RhoPPM), RhoPPM) * float64(age) / 1e6)
}
