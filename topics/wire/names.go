package wire

import (
	"strconv"
	"strings"
)

// Limits of names, in bytes after percent-decoding.
const (
	MaxTopicBytes    = 249
	MaxIDBytes       = 1024
	MaxProducerBytes = 256
	MaxTagBytes      = 256
	MaxSIDBytes      = 64

	// MaxHeaders is the largest number of headers of a message.
	MaxHeaders = 256
)

// AnyPartition is the Partition of a Topic without /partition.
const AnyPartition = -1

// Topic is a topic argument: a name, or for SUB and TOPICS a pattern, and the
// partition behind the slash.
type Topic struct {
	Name      string
	Partition int // AnyPartition when none was given
}

// ParseTopic reads `name[/partition]`. The error is BAD_TOPIC for the name and
// RANGE for the partition; whether the topic has that partition is not known here.
func ParseTopic(s string) (Topic, *Error) {
	name, partition, err := splitTopic(s)
	if err != nil {
		return Topic{}, err
	}
	if err := CheckTopicName(name); err != nil {
		return Topic{}, err
	}
	return Topic{name, partition}, nil
}

// ParsePattern reads `pattern[/partition]`: as ParseTopic, and a dot-separated
// word may be `*` (any one word), the last one `>` (one or more words).
func ParsePattern(s string) (Topic, *Error) {
	name, partition, err := splitTopic(s)
	if err != nil {
		return Topic{}, err
	}
	t := Topic{name, partition}
	if !t.Wild() {
		if err := CheckTopicName(name); err != nil {
			return Topic{}, err
		}
		return t, nil
	}
	words := strings.Split(name, ".")
	for i, w := range words {
		if w == "*" || w == ">" && i == len(words)-1 {
			continue
		}
		if w == "" {
			return Topic{}, Errorf(BadTopic, "pattern %s has an empty word", quote(name))
		}
		if strings.ContainsAny(w, "*>") {
			return Topic{}, Errorf(BadTopic, "pattern %s: * stands for a whole word, > for all words that follow", quote(name))
		}
		if err := CheckTopicName(w); err != nil {
			return Topic{}, Errorf(BadTopic, "pattern %s: a word has A-Z a-z 0-9 _ - or is * or >", quote(name))
		}
	}
	if len(name) > MaxTopicBytes {
		return Topic{}, Errorf(BadTopic, "a pattern has at most %d characters, this one %d", MaxTopicBytes, len(name))
	}
	return t, nil
}

// CheckTopicName returns BAD_TOPIC unless name is 1 to 249 of A-Z a-z 0-9 . _ -.
func CheckTopicName(name string) *Error {
	if name == "" || len(name) > MaxTopicBytes {
		return Errorf(BadTopic, "a topic name has 1 to %d characters, this one %d", MaxTopicBytes, len(name))
	}
	for i := range len(name) {
		if !topicByte(name[i]) {
			return Errorf(BadTopic, "topic name %s: allowed are A-Z a-z 0-9 . _ -", quote(name))
		}
	}
	return nil
}

func topicByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

func splitTopic(s string) (string, int, *Error) {
	name, number, ok := strings.Cut(s, "/")
	if !ok {
		return s, AnyPartition, nil
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return "", 0, Errorf(Range, "partition %s of topic %s is not a number from 0 on", quote(number), quote(name))
	}
	return name, int(n), nil
}

// Wild reports whether the name is a pattern.
func (t Topic) Wild() bool { return strings.ContainsAny(t.Name, "*>") }

// String returns `name` or `name/partition`.
func (t Topic) String() string {
	if t.Partition == AnyPartition {
		return t.Name
	}
	return t.Name + "/" + strconv.Itoa(t.Partition)
}

// MatchesName reports whether the topic name fits the argument's name or pattern.
func (t Topic) MatchesName(name string) bool {
	pattern := t.Name
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		if p == ">" && !pmore {
			return name != ""
		}
		w, nrest, nmore := strings.Cut(name, ".")
		if p != w && (p != "*" || w == "") {
			return false
		}
		if !pmore || !nmore {
			return pmore == nmore
		}
		pattern, name = prest, nrest
	}
}

// Matches reports whether partition of the topic name is asked for.
func (t Topic) Matches(name string, partition int) bool {
	return (t.Partition == AnyPartition || t.Partition == partition) && t.MatchesName(name)
}

// quote shortens and quotes what a client sent, for an error text.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "..."
	}
	return strconv.QuoteToASCII(s)
}
