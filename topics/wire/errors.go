package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// Code is the error word of an -ERR line. Its Class tells a client whether the
// request can have had an effect.
type Code string

// The codes of protocol version 1.
const (
	Syntax      Code = "SYNTAX"       // the request is malformed: mend it
	UnknownVerb Code = "UNKNOWN_VERB" // no such verb on this node
	BadTopic    Code = "BAD_TOPIC"    // the topic's name is not allowed
	NoTopic     Code = "NO_TOPIC"     // the topic does not exist
	TooLarge    Code = "TOO_LARGE"    // the message is over the maximum
	Range       Code = "RANGE"        // no such partition, or an offset outside the topic
	Gap         Code = "GAP"          // seq is above the producer's next; expected= has it
	NoQuorum    Code = "NO_QUORUM"    // no leader within the timeout: try later
	Busy        Code = "BUSY"         // a limit is reached: try later
	Timeout     Code = "TIMEOUT"      // the outcome is unknown: retry with the same id or seq
	Auth        Code = "AUTH"         // reserved
	Denied      Code = "DENIED"       // reserved
	Internal    Code = "INTERNAL"     // a fault of the node; the outcome is unknown
)

// Class is what a client may conclude from an error.
type Class int

// The retry classes.
const (
	// NotWritten: the request certainly had no effect.
	NotWritten Class = iota
	// Unknown: the request may have had its effect. Retry it under the same
	// identity (id=, or p= and seq=) only.
	Unknown
	// Fault: the node failed in a way it did not expect. The outcome is as
	// unknown as with Unknown, and someone should read the node's log.
	Fault
)

// String returns the class in words.
func (c Class) String() string {
	switch c {
	case NotWritten:
		return "not written"
	case Unknown:
		return "unknown outcome"
	default:
		return "internal fault"
	}
}

// Class returns the code's retry class. A code that this version does not know
// counts as Unknown, the safe side.
func (c Code) Class() Class {
	switch c {
	case Syntax, UnknownVerb, BadTopic, NoTopic, TooLarge, Range, Gap, NoQuorum, Busy, Auth, Denied:
		return NotWritten
	case Internal:
		return Fault
	default:
		return Unknown
	}
}

// Later reports whether the same request may succeed at another time or on
// another node, without being changed.
func (c Code) Later() bool {
	return c == NoQuorum || c == Busy || c.Class() != NotWritten
}

// Error is a refused request: the content of an -ERR line.
type Error struct {
	Code Code
	// Text is one line for a person. It says what to do, and may hold fields
	// (name=value) that Field finds.
	Text string
	// Tag is the request's tag=, or "".
	Tag string
	// Close tells the node's side that the connection cannot be read any further
	// and must be closed once the error is sent. It is not on the wire.
	Close bool
}

// Error returns code and text.
func (e *Error) Error() string {
	if e.Text == "" {
		return string(e.Code)
	}
	return string(e.Code) + " " + e.Text
}

// Field returns the value of the first word `name=value` of the text.
func (e *Error) Field(name string) (string, bool) {
	for word := range strings.FieldsSeq(e.Text) {
		if n, v, ok := strings.Cut(word, "="); ok && n == name {
			return v, true
		}
	}
	return "", false
}

// Errorf makes an Error with a formatted text.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// GapError is the answer to a seq above the producer's next number.
func GapError(expected uint64) *Error {
	return &Error{Code: Gap, Text: "expected=" + strconv.FormatUint(expected, 10)}
}

// Expected returns the next number that a GAP error asks for.
func (e *Error) Expected() (uint64, bool) {
	v, ok := e.Field("expected")
	if !ok || e.Code != Gap {
		return 0, false
	}
	n, err := strconv.ParseUint(v, 10, 64)
	return n, err == nil
}

// PastEndError is the answer to an offset above end, the topic's next offset.
func PastEndError(offset, end uint64) *Error {
	return Errorf(Range, "offset %d is past the end: end=%d", offset, end)
}

// BelowStartError is the answer to an offset that is no longer kept.
func BelowStartError(offset, first uint64) *Error {
	return Errorf(Range, "offset %d is below the start: first=%d", offset, first)
}

// SlowError ends a subscription that fell too far behind. Next is the offset to
// subscribe from, as text ("-" for a merged subscription).
func SlowError(sid, next string, behind uint64) *Error {
	return Errorf(Busy, "sub=%s next=%s behind=%d", sid, next, behind)
}
