package topics

import "strconv"

// Code is what became of a command. It is part of the replicated state and of
// the entry format: a number is never given a new meaning.
type Code uint8

// The codes. All but OK say that the command had no effect at all.
const (
	// OK: the command took effect, or a duplicate was recognised.
	OK Code = 0
	// NoTopic: the topic is gone. Whoever resolved its name resolves it again.
	NoTopic Code = 1
	// OutOfRange: the topic has no such partition.
	OutOfRange Code = 2
	// Gap: the producer's number is not the next; Result.Expected is.
	Gap Code = 3
	// Busy: the shard remembers as many ids as it may and all are inside their
	// windows.
	Busy Code = 4
	// BadTopic: the name is not a topic's name.
	BadTopic Code = 5
	// Shrink: a topic's partitions may grow, not shrink.
	Shrink Code = 6
	// Conflict: the command contradicts what the catalogue holds already.
	Conflict Code = 7
	// Malformed: the command cannot be read or its record batch is not one.
	Malformed Code = 8
	// NotFormed: the catalogue has no cluster yet.
	NotFormed Code = 9
	// Disorder: the command's stamp does not lie above the log's last.
	Disorder Code = 10
)

// Word returns the error word of the text protocol for c, and "" for OK.
func (c Code) Word() string {
	switch c {
	case OK:
		return ""
	case NoTopic:
		return "NO_TOPIC"
	case OutOfRange, Shrink:
		return "RANGE"
	case Gap:
		return "GAP"
	case Busy, NotFormed:
		return "BUSY"
	case BadTopic:
		return "BAD_TOPIC"
	case Malformed, Conflict:
		return "SYNTAX"
	}
	return "INTERNAL"
}

// Text returns a sentence for a person: what happened and what to do. expected
// is Result.Expected.
func (c Code) Text(expected uint64) string {
	switch c {
	case OK:
		return "ok"
	case NoTopic:
		return "the topic does not exist"
	case OutOfRange:
		return "the topic has no such partition"
	case Gap:
		return "expected=" + strconv.FormatUint(expected, 10)
	case Busy:
		return "the shard remembers as many ids as dedupIds allows and all are inside their dedupWindow: use p= and seq=, a shorter dedupWindow, or a larger dedupIds"
	case BadTopic:
		return "a topic's name is 1 to 249 of A-Z a-z 0-9 . _ -"
	case Shrink:
		return "the number of partitions can grow but not shrink"
	case Conflict:
		return "contradicts what the catalogue holds"
	case Malformed:
		return "the command cannot be read"
	case NotFormed:
		return "the cluster is not formed yet: try again"
	case Disorder:
		return "the stamp does not lie above the log's last"
	}
	return "code " + strconv.Itoa(int(c))
}
