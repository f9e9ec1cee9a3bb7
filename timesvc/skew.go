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
	maxStrobeHz = 1000
)

// Skew makes a clock wrong on purpose, for tests. The zero Skew changes nothing.
type Skew struct {
	// Shift is added to the wall clock, and with it to the base from which
	// monotonic time counts on.
	Shift time.Duration
	// DriftPPM makes the wall and the monotonic clock run faster (or, negative,
	// slower) by this many parts per million, from the clock's start.
	DriftPPM int64
	// Strobe steps the wall clock to and fro by so much, StrobeHz times a second:
	// ahead, behind, ahead. The monotonic clock does not notice, as with any step.
	Strobe   time.Duration
	StrobeHz int64
}

// ParseSkew reads the value of WIBER_TEST_CLOCK: a signed shift, and after
// commas an optional drift and an optional strobe of the wall clock, as in
// "+250ms,300ppm", "-1s" or "+0s,0ppm,strobe=3s@10Hz". Empty is no skew.
func ParseSkew(text string) (Skew, error) {
	if text == "" {
		return Skew{}, nil
	}
	parts := strings.Split(text, ",")
	s, why := Skew{}, ""
	if s.Shift, why = parseShift(parts[0]); why != "" {
		return Skew{}, skewError(text, why)
	}
	parts = parts[1:]
	if len(parts) > 0 && !strings.HasPrefix(parts[0], strobePrefix) {
		if s.DriftPPM, why = parseDrift(parts[0]); why != "" {
			return Skew{}, skewError(text, why)
		}
		parts = parts[1:]
	}
	if len(parts) > 0 {
		if s.Strobe, s.StrobeHz, why = parseStrobe(parts[0]); why != "" {
			return Skew{}, skewError(text, why)
		}
		parts = parts[1:]
	}
	if len(parts) > 0 {
		return Skew{}, skewError(text, "there is something behind it")
	}
	return s, nil
}

func parseShift(text string) (d time.Duration, why string) {
	if text == "" || (text[0] != '+' && text[0] != '-') {
		return 0, "the shift needs a sign"
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, "the shift is not a duration"
	case d.Abs() > maxShift:
		return 0, fmt.Sprintf("the shift exceeds %v", maxShift)
	}
	return d, ""
}

func parseDrift(text string) (ppm int64, why string) {
	digits, ok := strings.CutSuffix(text, "ppm")
	if !ok {
		return 0, "the drift does not end in ppm"
	}
	ppm, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil:
		return 0, "the drift is not a whole number"
	case ppm > maxDriftPPM || ppm < -maxDriftPPM:
		return 0, fmt.Sprintf("the drift exceeds %d ppm", maxDriftPPM)
	}
	return ppm, ""
}

const strobePrefix = "strobe="

func parseStrobe(text string) (by time.Duration, hz int64, why string) {
	step, rate, ok := strings.Cut(strings.TrimPrefix(text, strobePrefix), "@")
	digits, unit := strings.CutSuffix(rate, "Hz")
	if !strings.HasPrefix(text, strobePrefix) || !ok || !unit {
		return 0, 0, "the strobe is not like strobe=3s@10Hz"
	}
	by, err := time.ParseDuration(step)
	if err != nil || by <= 0 || by > maxShift {
		return 0, 0, fmt.Sprintf("the strobe's step is not a duration above 0 and up to %v", maxShift)
	}
	hz, err = strconv.ParseInt(digits, 10, 64)
	if err != nil || hz < 1 || hz > maxStrobeHz {
		return 0, 0, fmt.Sprintf("the strobe's rate is not 1 to %dHz", maxStrobeHz)
	}
	return by, hz, ""
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
	text := fmt.Sprintf("%s%v,%dppm", sign, s.Shift, s.DriftPPM)
	if s.Strobe != 0 {
		text += fmt.Sprintf(",%s%v@%dHz", strobePrefix, s.Strobe, s.StrobeHz)
	}
	return text
}

// strobe is by how much the wall clock is stepped elapsed after the start.
func (s Skew) strobe(elapsed time.Duration) time.Duration {
	if s.Strobe == 0 {
		return 0
	}
	if elapsed/(time.Second/time.Duration(s.StrobeHz))%2 == 0 {
		return s.Strobe
	}
	return -s.Strobe
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
