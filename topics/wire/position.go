package wire

import (
	"strconv"
	"strings"
	"time"
)

// PositionKind says how a Position names a place in a topic.
type PositionKind uint8

// The kinds of position.
const (
	Unset      PositionKind = iota // the option was not given
	Earliest                       // the first message kept
	Latest                         // behind the newest message
	AtOffset                       // Position.Offset
	AtTime                         // Position.Micros
	BackInTime                     // Position.Back before now
)

// Position is the value of from= and until=. The zero value means not given.
type Position struct {
	Kind   PositionKind
	Offset uint64        // for AtOffset
	Micros uint64        // for AtTime: microseconds since 1970
	Back   time.Duration // for BackInTime; not negative
}

// OffsetPosition returns the position of an offset.
func OffsetPosition(offset uint64) Position { return Position{Kind: AtOffset, Offset: offset} }

// ParsePosition reads `earliest`, `latest`, an offset, a time (RFC 3339) or a
// duration back (`-10m`, as Go writes durations). The error's text names no option.
func ParsePosition(s string) (Position, *Error) {
	switch {
	case s == "earliest":
		return Position{Kind: Earliest}, nil
	case s == "latest":
		return Position{Kind: Latest}, nil
	case strings.HasPrefix(s, "-"):
		d, err := time.ParseDuration(s)
		if err != nil {
			return Position{}, Errorf(Syntax, "%s is not a duration back such as -90s, -10m or -1h30m", quote(s))
		}
		return Position{Kind: BackInTime, Back: -d}, nil
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return OffsetPosition(n), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return Position{}, Errorf(Syntax, "%s is not earliest, latest, an offset, a time such as 2026-11-22T07:00:00Z, or a duration back such as -10m", quote(s))
	}
	return Position{Kind: AtTime, Micros: uint64(max(0, t.UnixMicro()))}, nil
}

// String returns the position as ParsePosition reads it; "" when unset.
func (p Position) String() string {
	switch p.Kind {
	case Earliest:
		return "earliest"
	case Latest:
		return "latest"
	case AtOffset:
		return strconv.FormatUint(p.Offset, 10)
	case AtTime:
		return time.UnixMicro(int64(p.Micros)).UTC().Format(time.RFC3339Nano)
	case BackInTime:
		if p.Back == 0 {
			return "-0s"
		}
		return (-p.Back).String()
	default:
		return ""
	}
}

// Time returns the stamp that an AtTime or BackInTime position means when the
// time is now, in microseconds; ok is false for the other kinds.
func (p Position) Time(now uint64) (micros uint64, ok bool) {
	switch p.Kind {
	case AtTime:
		return p.Micros, true
	case BackInTime:
		back := uint64(p.Back.Microseconds())
		return now - min(now, back), true
	default:
		return 0, false
	}
}
