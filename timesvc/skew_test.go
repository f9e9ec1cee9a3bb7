package timesvc

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestParseSkew(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     Skew
		wrong    string // part of the error
	}{
		{"empty changes nothing", "", Skew{}, ""},
		{"shift and drift", "+250ms,300ppm", Skew{Shift: 250 * time.Millisecond, DriftPPM: 300}, ""},
		{"a shift alone", "-1.5s", Skew{Shift: -1500 * time.Millisecond}, ""},
		{"both negative", "-1h,-40ppm", Skew{Shift: -time.Hour, DriftPPM: -40}, ""},
		{"an explicit plus before the drift", "+0s,+7ppm", Skew{DriftPPM: 7}, ""},
		{"the largest", "+24h,100000ppm", Skew{Shift: 24 * time.Hour, DriftPPM: 100_000}, ""},
		{"a strobe behind a drift", "+0s,0ppm,strobe=3s@10Hz", Skew{Strobe: 3 * time.Second, StrobeHz: 10}, ""},
		{"a strobe behind a shift", "-1s,strobe=5ms@1000Hz", Skew{Shift: -time.Second, Strobe: 5 * time.Millisecond, StrobeHz: 1000}, ""},
		{"a strobe without a rate", "+0s,strobe=3s", Skew{}, "strobe=3s@10Hz"},
		{"a strobe without a step", "+0s,strobe=@10Hz", Skew{}, "strobe's step"},
		{"a strobe that is too fast", "+0s,strobe=3s@1001Hz", Skew{}, "strobe's rate"},
		{"a strobe before the drift", "+0s,strobe=3s@10Hz,300ppm", Skew{}, "something behind"},
		{"no sign", "250ms", Skew{}, "needs a sign"},
		{"no shift", ",300ppm", Skew{}, "needs a sign"},
		{"no unit", "+250", Skew{}, "not a duration"},
		{"a space", "+250ms, 300ppm", Skew{}, "not a whole number"},
		{"a unit that is not ppm", "+250ms,300", Skew{}, "end in ppm"},
		{"a broken number", "+250ms,3.5ppm", Skew{}, "not a whole number"},
		{"no number", "+250ms,ppm", Skew{}, "not a whole number"},
		{"a third part", "+250ms,3ppm,1ppm", Skew{}, "strobe=3s@10Hz"},
		{"a shift beyond a day", "-24h1ns", Skew{}, "exceeds 24h"},
		{"a drift beyond a tenth", "+0s,-100001ppm", Skew{}, "exceeds 100000 ppm"},
		{"a number that does not fit", "+0s,99999999999999999999ppm", Skew{}, "whole number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseSkew(c.in)
			switch {
			case c.wrong == "" && err != nil:
				t.Fatal(err)
			case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
				t.Fatalf("error %v, want one with %q", err, c.wrong)
			case got != c.want:
				t.Fatalf("got %v, want %v", got, c.want)
			}
			if again, err := ParseSkew(got.String()); err != nil || again != got {
				t.Fatalf("%q reads back as %v, %v", got.String(), again, err)
			}
		})
	}
}

func FuzzParseSkew(f *testing.F) {
	for _, s := range []string{"", "+250ms,300ppm", "-1h", "+0s,-1ppm", "+0s,0ppm,strobe=3s@10Hz", "+,ppm", "+9999999h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseSkew(in)
		if err != nil {
			if !s.IsZero() {
				t.Fatalf("%v beside error %v", s, err)
			}
			return
		}
		if again, err := ParseSkew(s.String()); err != nil || again != s {
			t.Fatalf("%q: %v reads back as %v, %v", in, s, again, err)
		}
	})
}

// A timer must not fire before its time on its own clock, and not late by more
// than the rounding.
func TestRealTimeOfASkewedDuration(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		s := Skew{DriftPPM: rng.Int64N(2*maxDriftPPM+1) - maxDriftPPM}
		d := time.Duration(rng.Int64N(int64(10*365*24*time.Hour))) >> rng.IntN(50)
		r := s.real(d)
		if got := s.local(r); got < d || got > d+4 {
			t.Fatalf("drift %d: %d ns became %d real ns, which read %d", s.DriftPPM, d, r, got)
		}
	}
	if r := (Skew{DriftPPM: -300}).real(math.MaxInt64); r <= 0 {
		t.Fatalf("the longest duration became %v", r)
	}
}
