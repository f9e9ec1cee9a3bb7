package v1alpha1

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time that is written as in 10s, 1m30s or 250ms. A
// number without a unit is refused. It is never negative.
type Duration time.Duration

// Duration returns the value as the standard library's type.
func (d Duration) Duration() time.Duration { return time.Duration(d) }

// String writes the duration without parts that are zero: 2m, not 2m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ParseDuration reads a duration. It refuses a sign, a missing unit, and what
// does not fit.
func ParseDuration(s string) (Duration, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("duration %q needs a unit, as in %ss", s, strings.TrimLeft(s, "+-"))
	}
	if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "+") {
		return 0, fmt.Errorf("duration %q has a sign; write a length such as 10s", s)
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 10s, 1m30s or 250ms", s)
	}
	return Duration(d), nil
}

// MarshalText writes the duration as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the duration as ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// ByteSize is a number of bytes that is written as in 1GiB or 512MiB, or as a
// plain number of bytes.
type ByteSize int64

// The units of a ByteSize.
const (
	KiB ByteSize = 1 << 10
	MiB ByteSize = 1 << 20
	GiB ByteSize = 1 << 30
	TiB ByteSize = 1 << 40
)

var byteUnits = []struct {
	name string
	size ByteSize
}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}

// String writes the size with the largest unit that divides it.
func (b ByteSize) String() string {
	for _, u := range byteUnits {
		if b != 0 && b%u.size == 0 && u.size > 1 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// ParseByteSize reads a size: digits, and B, KiB, MiB, GiB, TiB or nothing.
func ParseByteSize(s string) (ByteSize, error) {
	digits, unit := s, ByteSize(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			digits, unit = rest, u.size
			break
		}
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a size such as 1GiB, 512MiB or 1048576 (units B, KiB, MiB, GiB, TiB)", s)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/int64(unit) {
		return 0, fmt.Errorf("size %q is too large", s)
	}
	return ByteSize(n) * unit, nil
}

// MarshalText writes the size as String does.
func (b ByteSize) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads the size as ParseByteSize does.
func (b *ByteSize) UnmarshalText(text []byte) error {
	v, err := ParseByteSize(string(text))
	if err != nil {
		return err
	}
	*b = v
	return nil
}

// UnmarshalJSON reads a size from a string or from a number of bytes.
func (b *ByteSize) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		return b.UnmarshalText([]byte(s))
	}
	return b.UnmarshalText(data)
}

// Time is a moment to the second, as metav1.Time: RFC 3339 in UTC, or null.
type Time struct{ time.Time }

// MarshalJSON writes RFC 3339 in UTC without a fraction; a zero time is null.
func (t Time) MarshalJSON() ([]byte, error) { return marshalTime(t.Time, time.RFC3339) }

// UnmarshalJSON reads RFC 3339, with or without a fraction, or null.
func (t *Time) UnmarshalJSON(data []byte) error { return unmarshalTime(&t.Time, data) }

// UnmarshalText reads RFC 3339, with or without a fraction.
func (t *Time) UnmarshalText(text []byte) error { return parseTime(&t.Time, string(text)) }

// MicroTime is a moment to the microsecond, as metav1.MicroTime.
type MicroTime struct{ time.Time }

// MarshalJSON writes RFC 3339 in UTC with six digits of fraction; a zero time is
// null.
func (t MicroTime) MarshalJSON() ([]byte, error) {
	return marshalTime(t.Time, "2006-01-02T15:04:05.000000Z07:00")
}

// UnmarshalJSON reads RFC 3339, with or without a fraction, or null.
func (t *MicroTime) UnmarshalJSON(data []byte) error { return unmarshalTime(&t.Time, data) }

// UnmarshalText reads RFC 3339, with or without a fraction.
func (t *MicroTime) UnmarshalText(text []byte) error { return parseTime(&t.Time, string(text)) }

func marshalTime(t time.Time, layout string) ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + t.UTC().Format(layout) + `"`), nil
}

func unmarshalTime(t *time.Time, data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		*t = time.Time{}
		return nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return errors.New("a time is a string such as 2026-11-22T10:00:00Z")
	}
	return parseTime(t, s)
}

func parseTime(t *time.Time, s string) error {
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return fmt.Errorf("%q is not a time such as 2026-11-22T10:00:00Z", s)
	}
	*t = v.UTC()
	return nil
}
