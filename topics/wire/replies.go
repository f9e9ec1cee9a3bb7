package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// ErrMalformed is wrapped by the errors of ReplyReader.Next about bytes that are
// no reply: the other side does not speak this protocol, or the stream is broken.
var ErrMalformed = errors.New("wire: malformed reply")

// Kind is what a line of a node says.
type Kind uint8

// The kinds of reply.
const (
	KindHello Kind = iota + 1
	KindPong
	KindAck
	KindSub
	KindOK
	KindMessage
	KindEnd
	KindTopic
	KindNode
	KindClock // a line of TIME
	KindHelp
	KindBye
	KindError
)

// Reply is one line of a node, with the fields of its kind; the others are
// whatever they were. What ReplyReader.Next filled in stays valid until the next
// call: Message and Text point into memory that is used again. Strings may be kept.
type Reply struct {
	Kind    Kind
	Hello   Hello
	Receipt Receipt
	Tag     string // KindAck; KindError has it in Err
	SID     string // KindSub, KindMessage ("-" in a history)
	Message Message
	End     End
	Topic   TopicLine
	Node    NodeLine
	Clock   ClockLine
	Text    []byte // KindPong, KindHelp
	Err     *Error
}

// ReplyReader reads what a node sends on one connection. It is for one goroutine.
type ReplyReader struct {
	in    lineReader
	max   int
	arena []byte
}

// NewReplyReader returns a reader. The greeting tells it how large messages can
// be, up to maxMessageBytes (default 1 GiB if 0).
func NewReplyReader(r io.Reader, maxMessageBytes int) *ReplyReader {
	if maxMessageBytes <= 0 {
		maxMessageBytes = 1 << 30
	}
	return &ReplyReader{in: newLineReader(r, replyBuffer), max: maxMessageBytes}
}

// Buffered returns how many bytes have been received and not yet read.
func (r *ReplyReader) Buffered() int { return r.in.br.Buffered() }

// Next reads the next reply into p. An -ERR line is no error of Next but a Reply
// of KindError. The error wraps ErrMalformed, or is the connection's: io.EOF
// after a whole reply, io.ErrUnexpectedEOF within one.
func (r *ReplyReader) Next(p *Reply) error {
	if r.arena = r.arena[:0]; cap(r.arena) == 0 || cap(r.arena) > keepScratch {
		r.arena = make([]byte, 0, 256) // never nil: an empty value is not a missing one
	}
	line, cut, err := r.in.line(4*min(r.max, 256<<20) + lineOverhead)
	if err != nil {
		return err
	}
	if cut {
		return fmt.Errorf("%w: a line of over %d bytes", ErrMalformed, len(line))
	}
	w, rest := word(line)
	f := fields{r: r, rest: rest}
	switch string(w) {
	case "+ACK":
		p.Kind = KindAck
		f.ack(p)
	case "MSG":
		p.Kind = KindMessage
		if err := f.message(p); err != nil {
			return err
		}
	case "+HELLO":
		p.Kind = KindHello
		f.hello(p)
		if !f.bad {
			r.max = min(r.max, p.Hello.Max)
		}
	case "PONG":
		p.Kind, p.Text = KindPong, rest
	case "+SUB":
		p.Kind, p.SID = KindSub, r.in.name(f.word())
	case "+OK":
		p.Kind = KindOK
	case "+END":
		p.Kind = KindEnd
		f.end(p)
	case "TOPIC":
		p.Kind = KindTopic
		f.topicLine(p)
	case "NODE":
		p.Kind = KindNode
		f.nodeLine(p)
	case "CLOCK":
		p.Kind = KindClock
		f.clockLine(p)
	case "HELP":
		p.Kind, p.Text = KindHelp, rest
	case "+BYE":
		p.Kind = KindBye
	case "-ERR":
		p.Kind = KindError
		p.Err = f.err()
	default:
		f.bad = true
	}
	if f.bad {
		return fmt.Errorf("%w: %s", ErrMalformed, quote(string(line)))
	}
	return nil
}

// fields reads the words of one line; bad is set once anything is malformed.
type fields struct {
	r    *ReplyReader
	rest []byte
	bad  bool
}

func (f *fields) word() []byte {
	w, rest := word(f.rest)
	f.rest = rest
	if len(w) == 0 {
		f.bad = true
	}
	return w
}

// next returns the next name=value; more is false at the end of the line, and a
// word without = comes back as name alone.
func (f *fields) next() (name, value []byte, more bool) {
	w, rest := word(f.rest)
	if len(w) == 0 {
		return nil, nil, false
	}
	f.rest = rest
	name, value, _ = bytes.Cut(w, []byte{'='})
	return name, value, true
}

func (f *fields) decode(v []byte) []byte {
	at := len(f.r.arena)
	out, ok := appendUnescaped(f.r.arena, v)
	f.r.arena = out
	if !ok {
		f.bad = true
		return nil
	}
	return out[at:len(out):len(out)]
}

func (f *fields) uint(v []byte) uint64 {
	n, ok, _ := number(v)
	if !ok {
		f.bad = true
	}
	return n
}

func (f *fields) small(v []byte) int {
	n := f.uint(v)
	if n > 1<<31-1 {
		f.bad = true
		return 0
	}
	return int(n)
}

func (f *fields) offset(v []byte) uint64 {
	if string(v) == "-" {
		return NoOffset
	}
	return f.uint(v)
}

func (f *fields) eps(v []byte) int64 {
	if string(v) == "-1" {
		return Unsynchronised
	}
	n := f.uint(v)
	if n > 1<<62 {
		f.bad = true
		return 0
	}
	return int64(n)
}

func (f *fields) stream(w []byte) (topic string, partition int, partitioned bool) {
	name, number, partitioned := bytes.Cut(w, []byte{'/'})
	if partitioned {
		partition = f.small(number)
	}
	if len(name) == 0 || len(name) > MaxTopicBytes {
		f.bad = true
	}
	for _, c := range name {
		if !topicByte(c) {
			f.bad = true
		}
	}
	return f.r.in.name(name), partition, partitioned
}

func (f *fields) ack(p *Reply) {
	c := &p.Receipt
	*c = Receipt{}
	p.Tag = ""
	c.Topic, c.Partition, c.Partitioned = f.stream(f.word())
	c.Offset = f.offset(f.word())
	for {
		name, v, more := f.next()
		if !more {
			return
		}
		switch string(name) {
		case "ts":
			c.TS = f.uint(v)
		case "eps":
			c.Eps = f.eps(v)
		case "lam":
			c.Lamport = f.uint(v)
		case "term":
			c.Term = f.uint(v)
		case "idx":
			c.Index = f.uint(v)
		case "sync":
			var ok bool
			if c.Synced, c.Replicas, ok = parseSync(v); !ok {
				f.bad = true
			}
		case "dup":
			c.Duplicate = string(v) == "1"
		case "tag":
			p.Tag = string(f.decode(v))
		}
	}
}

// message reads the fields, of which the last is the payload's length, and the payload.
func (f *fields) message(p *Reply) error {
	m := &p.Message
	*m = Message{Headers: m.Headers[:0]}
	m.Topic, m.Partition, m.Partitioned = f.stream(f.word())
	p.SID = f.r.in.name(f.word())
	m.Offset = f.uint(f.word())
	size := -1
	for {
		name, v, more := f.next()
		if !more {
			break
		}
		size = -1
		switch string(name) {
		case "ts":
			m.TS = f.uint(v)
		case "eps":
			m.Eps = f.eps(v)
		case "lam":
			m.Lamport = f.uint(v)
		case "key":
			m.Key = f.decode(v)
		case "id":
			m.ID = f.decode(v)
		case "late":
			m.Late = string(v) == "1"
		default:
			if h, ok := bytes.CutPrefix(name, []byte("hdr.")); ok {
				m.Headers = append(m.Headers, Header{f.decode(h), f.decode(v)})
			} else if n, ok, _ := number(name); ok && v == nil && n <= uint64(4*f.r.max) {
				size = int(n)
			}
		}
	}
	if len(m.Headers) == 0 {
		m.Headers = nil
	}
	if f.bad || size < 0 {
		return fmt.Errorf("%w: a MSG line", ErrMalformed)
	}
	value, ended, err := f.r.in.payloadAndEnd(size)
	if err != nil {
		return err
	}
	if !ended {
		return fmt.Errorf("%w: no line end after the %d bytes of a message", ErrMalformed, size)
	}
	m.Value = value
	return nil
}

func (f *fields) hello(p *Reply) {
	h := &p.Hello
	*h = Hello{}
	if string(f.word()) != "wiber/1" {
		f.bad = true
	}
	for {
		name, v, more := f.next()
		if !more {
			break
		}
		switch string(name) {
		case "node":
			h.Node = string(f.decode(v))
		case "cluster":
			h.Cluster = string(f.decode(v))
		case "now":
			h.Now = f.uint(v)
		case "eps":
			h.Eps = f.eps(v)
		case "max":
			h.Max = f.small(v)
		}
	}
	if h.Max <= 0 {
		f.bad = true
	}
}

func (f *fields) end(p *Reply) {
	e := &p.End
	*e = End{}
	if w, rest := word(f.rest); len(w) > 0 && bytes.IndexByte(w, '=') < 0 {
		f.rest = rest
		e.Topic, e.Partition, e.Partitioned = f.stream(w)
	}
	for {
		name, v, more := f.next()
		if !more {
			return
		}
		switch string(name) {
		case "n":
			e.N = f.uint(v)
		case "next":
			e.Next = f.offset(v)
		case "as_of":
			e.AsOf = f.uint(v)
		}
	}
}

func (f *fields) topicLine(p *Reply) {
	t := &p.Topic
	*t = TopicLine{}
	t.Topic, t.Partition, _ = f.stream(f.word())
	for {
		name, v, more := f.next()
		if !more {
			return
		}
		switch string(name) {
		case "partitions":
			t.Partitions = f.small(v)
		case "first":
			t.First = f.uint(v)
		case "next":
			t.Next = f.uint(v)
		case "leader":
			if string(v) != "-" {
				t.Leader = string(f.decode(v))
			}
		case "shard":
			t.Shard = f.small(v)
		}
	}
}

func (f *fields) nodeLine(p *Reply) {
	p.Node = NodeLine{Node: string(f.decode(f.word()))}
	for {
		name, v, more := f.next()
		if !more {
			return
		}
		p.Node.Fields = append(p.Node.Fields, Field{string(f.decode(name)), string(f.decode(v))})
	}
}

func (f *fields) clockLine(p *Reply) {
	c := &p.Clock
	*c = ClockLine{Node: string(f.decode(f.word())), Eps: Unsynchronised}
	for {
		name, v, more := f.next()
		if !more {
			return
		}
		switch string(name) {
		case "offset":
			if c.Known = string(v) != "-"; c.Known {
				c.Offset = f.signed(v)
			}
		case "eps":
			c.Eps = f.eps(v)
		case "drift":
			if c.DriftKnown = string(v) != "-"; c.DriftKnown {
				c.Drift = f.decimal(v)
			}
		case "state":
			c.State = string(f.decode(v))
		case "lam":
			c.Lamport = f.uint(v)
		case "test":
			c.Test = string(v) == "1"
		}
	}
}

func (f *fields) signed(v []byte) int64 {
	n, err := strconv.ParseInt(string(v), 10, 64)
	f.bad = f.bad || err != nil
	return n
}

func (f *fields) decimal(v []byte) float64 {
	n, err := strconv.ParseFloat(string(v), 64)
	f.bad = f.bad || err != nil || math.IsNaN(n) || math.IsInf(n, 0)
	return n
}

func (f *fields) err() *Error {
	e := &Error{Code: Code(f.word())}
	text := strings.TrimSpace(string(f.rest))
	at := strings.LastIndexByte(text, ' ') + 1
	if v, ok := strings.CutPrefix(text[at:], "tag="); ok {
		e.Tag = string(f.decode([]byte(v)))
		text = strings.TrimSpace(text[:at])
	}
	e.Text = text
	return e
}

func parseSync(v []byte) (synced, replicas int, ok bool) {
	a, b, _ := bytes.Cut(v, []byte{'/'})
	n, ok1, _ := number(a)
	of, ok2, _ := number(b)
	if !ok1 || !ok2 || n > 1<<20 || of > 1<<20 {
		return 0, 0, false
	}
	return int(n), int(of), true
}
