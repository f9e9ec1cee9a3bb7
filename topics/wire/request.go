package wire

import (
	"strconv"
	"time"
)

// Verb is what a request asks for.
type Verb uint8

// The verbs of this version.
const (
	Ping Verb = iota + 1
	Pub
	Pubn
	Sub
	Unsub
	History
	Topics
	Info
	Time
	Help
	Quit
)

var verbs = [...]string{Ping: "PING", Pub: "PUB", Pubn: "PUBN", Sub: "SUB", Unsub: "UNSUB",
	History: "HISTORY", Topics: "TOPICS", Info: "INFO", Time: "TIME", Help: "HELP", Quit: "QUIT"}

// String returns the verb as it stands in a request.
func (v Verb) String() string {
	if v >= Ping && int(v) < len(verbs) {
		return verbs[v]
	}
	return "verb " + strconv.Itoa(int(v))
}

// ReadLevel is how fresh a read must be.
type ReadLevel uint8

// The read levels of read=.
const (
	ReadSession      ReadLevel = iota // at least what this connection has written or read
	ReadLinearizable                  // at least what anybody had acknowledged when it was asked
	ReadLocal                         // what this node has applied
)

var readLevels = [...]string{"session", "linearizable", "local"}

// String returns the level as read= has it.
func (l ReadLevel) String() string {
	if int(l) < len(readLevels) {
		return readLevels[l]
	}
	return "read level " + strconv.Itoa(int(l))
}

// ParseReadLevel reads a value of read=.
func ParseReadLevel(s string) (ReadLevel, *Error) {
	for i, name := range readLevels {
		if s == name {
			return ReadLevel(i), nil
		}
	}
	return 0, Errorf(Syntax, "%s is not linearizable, session or local", quote(s))
}

// Header is a named value beside a payload.
type Header struct {
	Name  []byte
	Value []byte
}

// Request is one request, with the fields that its verb uses; the others are zero.
//
// What Reader.Next filled in stays valid until the next call of Next: Text,
// Payload, Key, ID, Headers and Topics point into memory that the Reader uses
// again. Strings may be kept.
type Request struct {
	Verb Verb

	Topic  Topic   // PUB, PUBN, HISTORY
	Topics []Topic // SUB: one or more; TOPICS: none means all

	Text     []byte // PING: what PONG repeats
	SID      string // SUB ("" lets the node choose), UNSUB
	HelpVerb string // HELP

	Payload  []byte // PUB, PUBN
	Key      []byte // PUBN; nil: none given
	ID       []byte // PUBN; nil: none given
	Headers  []Header
	Producer string        // PUBN p=; "" when there is no seq=
	Seq      uint64        // PUBN seq=, from 1
	Lamport  uint64        // PUBN lam=
	Timeout  time.Duration // PUBN timeout=; 0: not given
	NoAck    bool          // PUBN noack
	Tag      string        // PUBN tag=; "": none

	From Position // HISTORY, SUB
	// Froms, if not empty, has a position for each of Topics, and From is unset.
	Froms    []Position    // SUB
	ByTime   bool          // SUB order=time
	MaxDelay time.Duration // SUB maxdelay=; 0 unless ByTime
	Until    Position      // HISTORY
	Last     uint64        // HISTORY; 0: not given
	Limit    uint64        // HISTORY, SUB; 0: no limit
	Reverse  bool          // HISTORY
	Read     ReadLevel
}

// MessageBytes returns what maxMessageBytes counts: payload, key, and names and
// values of the headers.
func (q *Request) MessageBytes() int {
	n := len(q.Payload) + len(q.Key)
	for i := range q.Headers {
		n += len(q.Headers[i].Name) + len(q.Headers[i].Value)
	}
	return n
}

func (q *Request) reset() {
	*q = Request{Headers: q.Headers[:0], Topics: q.Topics[:0], Froms: q.Froms[:0]}
}

// AppendRequest appends the request as a client sends it and returns the longer
// slice. A PUB whose payload would not survive as the rest of a line (it holds
// LF, or ends in CR) must be a PUBN; AppendRequest writes it as one.
func AppendRequest(dst []byte, q *Request) []byte {
	verb := q.Verb
	if verb == Pub && !lineSafe(q.Payload) {
		verb = Pubn
	}
	dst = append(dst, verb.String()...)
	switch verb {
	case Ping:
		if len(q.Text) > 0 {
			dst = append(append(dst, ' '), q.Text...)
		}
	case Pub:
		dst = appendTopic(append(dst, ' '), q.Topic)
		dst = append(append(dst, ' '), q.Payload...)
	case Pubn:
		return appendPubn(dst, q)
	case Sub, Topics:
		for i, t := range q.Topics {
			dst = appendTopic(append(dst, " ,"[min(i, 1)]), t)
		}
		if q.SID != "" {
			dst = append(append(dst, ' '), q.SID...)
		}
		dst = appendRange(dst, q)
	case Unsub:
		dst = append(append(dst, ' '), q.SID...)
	case History:
		dst = appendTopic(append(dst, ' '), q.Topic)
		dst = appendRange(dst, q)
		if q.Read != ReadSession {
			dst = append(append(dst, " read="...), q.Read.String()...)
		}
	case Help:
		if q.HelpVerb != "" {
			dst = append(append(dst, ' '), q.HelpVerb...)
		}
	}
	return append(dst, '\n')
}

func appendPubn(dst []byte, q *Request) []byte {
	dst = appendTopic(append(dst, ' '), q.Topic)
	dst = strconv.AppendInt(append(dst, ' '), int64(len(q.Payload)), 10)
	if q.Key != nil {
		dst = appendEscaped(append(dst, " key="...), q.Key)
	}
	if q.ID != nil {
		dst = appendEscaped(append(dst, " id="...), q.ID)
	}
	if q.Producer != "" {
		dst = appendEscaped(append(dst, " p="...), q.Producer)
		dst = strconv.AppendUint(append(dst, " seq="...), q.Seq, 10)
	}
	if q.Lamport != 0 {
		dst = strconv.AppendUint(append(dst, " lam="...), q.Lamport, 10)
	}
	for i := range q.Headers {
		dst = appendEscapedName(append(dst, " hdr."...), q.Headers[i].Name)
		dst = appendEscaped(append(dst, '='), q.Headers[i].Value)
	}
	if q.Timeout != 0 {
		dst = append(append(dst, " timeout="...), q.Timeout.String()...)
	}
	if q.NoAck {
		dst = append(dst, " noack"...)
	}
	dst = appendTag(dst, q.Tag)
	dst = append(dst, '\n')
	dst = append(dst, q.Payload...)
	return append(dst, '\n')
}

func appendRange(dst []byte, q *Request) []byte {
	if q.From.Kind != Unset {
		dst = append(append(dst, " from="...), q.From.String()...)
	}
	for i, p := range q.Froms {
		dst = append(append(dst, [...]string{" from=", ","}[min(i, 1)]...), p.String()...)
	}
	if q.ByTime {
		dst = append(append(dst, " order=time maxdelay="...), q.MaxDelay.String()...)
	}
	if q.Until.Kind != Unset {
		dst = append(append(dst, " until="...), q.Until.String()...)
	}
	if q.Last != 0 {
		dst = strconv.AppendUint(append(dst, " last="...), q.Last, 10)
	}
	if q.Limit != 0 {
		dst = strconv.AppendUint(append(dst, " limit="...), q.Limit, 10)
	}
	if q.Reverse {
		dst = append(dst, " reverse"...)
	}
	return dst
}

func appendTopic(dst []byte, t Topic) []byte {
	dst = append(dst, t.Name...)
	if t.Partition != AnyPartition {
		dst = strconv.AppendInt(append(dst, '/'), int64(t.Partition), 10)
	}
	return dst
}

func appendTag(dst []byte, tag string) []byte {
	if tag == "" {
		return dst
	}
	return appendEscaped(append(dst, " tag="...), tag)
}

func lineSafe(p []byte) bool {
	if n := len(p); n > 0 && p[n-1] == '\r' {
		return false
	}
	for _, c := range p {
		if c == '\n' {
			return false
		}
	}
	return true
}
