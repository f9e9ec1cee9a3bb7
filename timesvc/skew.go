package timesvc

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Limits of a Skew that is read from text. They keep every clock value within
// the range of its type.
const (
	maxShift    = 24 * time.Hour
	maxDriftPPM = 100_000
)

// Skew makes a clock wrong on purpose, for tests. The zero Skew changes nothing.
type Skew struct {
	// Shift is added to the wall clock, and with it to the base from which
	// monotonic time counts on.
	Shift time.Duration
	// DriftPPM makes the wall and the monotonic clock run faster (or, negative,
	// slower) by this many parts per million, from the clock's start.
	DriftPPM int64
}

// ParseSkew reads the value of WIBER_TEST_CLOCK: a signed shift, and after a
// comma an optional drift, as in "+250ms,300ppm" or "-1s". Empty is no skew.
func ParseSkew(s string) (Skew, error) {
	if s == "" {
		return Skew{}, nil
	}
	shift, drift, hasDrift := strings.Cut(s, ",")
	if shift == "" || (shift[0] != '+' && shift[0] != '-') {
		return Skew{}, skewError(s, "the shift needs a sign")
	}
	d, err := time.ParseDuration(shift)
	if err != nil {
		return Skew{}, skewError(s, "the shift is not a duration")
	}
	if d.Abs() > maxShift {
		return Skew{}, skewError(s, fmt.Sprintf("the shift exceeds %v", maxShift))
	}
	if !hasDrift {
		return Skew{Shift: d}, nil
	}
	digits, ok := strings.CutSuffix(drift, "ppm")
	if !ok {
		return Skew{}, skewError(s, "the drift does not end in ppm")
	}
	ppm, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return Skew{}, skewError(s, "the drift is not a whole number")
	}
	if ppm > maxDriftPPM || ppm < -maxDriftPPM {
		return Skew{}, skewError(s, fmt.Sprintf("the drift exceeds %d ppm", maxDriftPPM))
	}
	return Skew{Shift: d, DriftPPM: ppm}, nil
}

func skewError(s, why string) error {
	return fmt.Errorf("timesvc: test clock %q: %s; write it like +250ms,300ppm", s, why)
}

// IsZero reports whether the skew changes nothing.
func (s Skew) IsZero() bool { return s == Skew{} }

// String returns the form that ParseSkew reads.
func (s Skew) String() string {
	sign := "+"
	if s.Shift < 0 {
		sign = ""
	}
	return fmt.Sprintf("%s%v,%dppm", sign, s.Shift, s.DriftPPM)
}

// local turns true elapsed time into what the skewed clock measures.
func (s Skew) local(elapsed time.Duration) time.Duration {
	return elapsed + scalePPM(elapsed, s.DriftPPM, 1_000_000)
}

// real is the true time that passes while the skewed clock measures d, rounded
// up, so that a timer never fires before its time on its own clock.
func (s Skew) real(d time.Duration) time.Duration {
	if s.DriftPPM == 0 {
		return d
	}
	d = min(d, math.MaxInt64/2) // room for the correction
	r := d - scalePPM(d, s.DriftPPM, 1_000_000+s.DriftPPM)
	for s.local(r) < d {
		r++
	}
	return r
}

// scalePPM is d*ppm/den without overflow: whole seconds and the rest apart.
func scalePPM(d time.Duration, ppm, den int64) time.Duration {
	if ppm == 0 {
		return 0
	}
	q, r := int64(d)/den, int64(d)%den
	return time.Duration(q*ppm + r*ppm/den)
}
