package wire

import (
	"bytes"
	"io"
	"strings"
	"time"
)

// MaxTimeout is the largest timeout= that is taken.
const MaxTimeout = 24 * time.Hour

// A SUB in order of time holds messages back for MaxMaxDelay at most, and for
// DefaultMaxDelay where it does not say how long.
const (
	MaxMaxDelay     = time.Minute
	DefaultMaxDelay = 200 * time.Millisecond
)

// Reader reads the requests of one connection. It is for one goroutine.
type Reader struct {
	in    lineReader
	max   int
	arena []byte // decoded options of the current request
}

// NewReader returns a Reader that takes messages of at most maxMessageBytes
// (payload, key and headers), the max= of the greeting.
func NewReader(r io.Reader, maxMessageBytes int) *Reader {
	return &Reader{in: newLineReader(r, requestBuffer), max: maxMessageBytes}
}

// Buffered returns how many bytes have been received and not yet read: while it
// is not 0, a node may wait with flushing replies.
func (r *Reader) Buffered() int { return r.in.br.Buffered() }

// Next reads the next request into q, which is reset first, skipping empty
// lines. An *Error is the client's fault: send it, and close the connection
// only if its Close is set; q holds what was understood. Any other error is the
// connection's: io.EOF after a whole request, io.ErrUnexpectedEOF within one.
func (r *Reader) Next(q *Request) error {
	if r.arena = r.arena[:0]; cap(r.arena) == 0 || cap(r.arena) > keepScratch {
		r.arena = make([]byte, 0, 256) // never nil: an empty value is not a missing one
	}
	q.reset()
	lineMax := 4*r.max + lineOverhead // every byte of key and headers may be encoded as three
	for {
		line, cut, err := r.in.line(lineMax)
		if err != nil {
			return err
		}
		verb, rest := word(line)
		if len(verb) == 0 && !cut {
			continue
		}
		p := parser{r: r, q: q}
		if cut {
			p.fail(TooLarge, "a request line has at most %d bytes here; PUBN sends a payload beside the line", lineMax)
		}
		if err := p.request(verb, rest); err != nil {
			return err
		}
		if p.err != nil {
			if q.Tag == "" && q.Verb == 0 {
				p.findTag(rest)
			}
			p.err.Tag = q.Tag
			return p.err
		}
		return nil
	}
}

// parser reads one request. It goes on after an error, so that the tag is found
// and the payload consumed, and keeps the first one.
type parser struct {
	r    *Reader
	q    *Request
	err  *Error
	seen uint32
}

// fail keeps the first error; format is a constant.
func (p *parser) fail(code Code, format string, args ...any) {
	if p.err == nil {
		p.err = Errorf(code, format, args...)
	}
}

func (p *parser) take(err *Error) {
	if p.err == nil {
		p.err = err
	}
}

// request reads what follows the verb, payload included. The error is the
// connection's; the client's faults are left in p.err.
func (p *parser) request(verb, rest []byte) error {
	q := p.q
	q.Verb = parseVerb(verb)
	switch q.Verb {
	case Pubn:
		return p.pubn(rest)
	case Pub:
		p.pub(rest)
	case Ping:
		q.Text = p.keep(rest)
	case Sub:
		p.sub(rest)
	case Unsub:
		q.SID = p.sid(p.one(rest, "UNSUB <sid>"))
	case History:
		w, rest := word(rest)
		q.Topic = p.topic(w, "HISTORY <topic>")
		p.options(rest, optFrom|optUntil|optLast|optLimit|optReverse|optRead)
	case Topics:
		p.topics(rest)
	case Help:
		w, rest := word(rest)
		q.HelpVerb = strings.ToUpper(string(w))
		p.nothing(rest)
	case Info, Time, Quit:
		p.nothing(rest)
	default:
		p.fail(UnknownVerb, "%s: HELP lists the verbs", quote(string(verb)))
	}
	return nil
}

// pubn reads `<topic> <nbytes> [options]` and the payload. Once nbytes is known
// the payload is consumed whatever else is wrong.
func (p *parser) pubn(rest []byte) error {
	topic, rest := word(rest)
	count, rest := word(rest)
	n, ok, over := number(count)
	if over || ok && n > uint64(4*p.r.max) {
		p.err = nil
		p.fail(TooLarge, "a message has at most %d bytes, this one %s; closing", p.r.max, quote(string(count)))
		p.err.Close = true
	} else if !ok {
		p.err = nil
		p.fail(Syntax, "PUBN <topic> <nbytes>: %s is not a number of bytes; closing", quote(string(count)))
		p.err.Close = true
	}
	p.q.Topic = p.topic(topic, "PUBN <topic> <nbytes>")
	p.options(rest, optKey|optID|optProducer|optSeq|optLam|optHeader|optTimeout|optNoAck|optTag)
	if p.err != nil && p.err.Close {
		return nil
	}
	if (p.q.Producer != "") != (p.seen&optSeq != 0) {
		p.fail(Syntax, "p= and seq= belong together")
	}

	var ended bool
	var err error
	if n > uint64(p.r.max) {
		p.fail(TooLarge, "a message has at most %d bytes (payload, key and headers), this payload has %d", p.r.max, n)
	}
	if p.err != nil {
		ended, err = p.r.in.skip(int(n))
	} else {
		p.q.Payload, ended, err = p.r.in.payloadAndEnd(int(n))
	}
	if err != nil {
		return err
	}
	if !ended {
		p.err = Errorf(Syntax, "LF or CRLF must follow the %d bytes of the payload; closing", n)
		p.err.Close = true
	}
	if size := p.q.MessageBytes(); size > p.r.max {
		p.fail(TooLarge, "a message has at most %d bytes (payload, key and headers), this one %d", p.r.max, size)
	}
	return nil
}

func (p *parser) pub(rest []byte) {
	topic, text := word(rest)
	p.q.Topic = p.topic(topic, "PUB <topic> <text>")
	p.q.Payload = text // the line stays until the next one is read
	if text == nil {
		p.q.Payload = []byte{}
	}
	if len(text) > p.r.max {
		p.fail(TooLarge, "a message has at most %d bytes, this one %d", p.r.max, len(text))
	}
}

func (p *parser) sub(rest []byte) {
	list, rest := word(rest)
	p.patterns(list, "SUB <topic>[,<topic>...]")
	if w, after := word(rest); len(w) > 0 && bytes.IndexByte(w, '=') < 0 {
		p.q.SID = p.sid(w)
		rest = after
	}
	p.options(rest, optFrom|optLimit|optOrder|optMaxDelay)
	p.order()
}

func (p *parser) topics(rest []byte) {
	list, rest := word(rest)
	if len(list) > 0 {
		p.patterns(list, "TOPICS [<topic>[,<topic>...]]")
	}
	p.nothing(rest)
}

func (p *parser) patterns(list []byte, usage string) {
	if len(list) == 0 {
		p.fail(Syntax, "%s: the topic is missing", usage)
		return
	}
	for s := range bytes.SplitSeq(list, []byte{','}) {
		t, err := ParsePattern(p.r.in.name(s))
		if err != nil {
			p.take(err)
			return
		}
		p.q.Topics = append(p.q.Topics, t)
	}
}

func (p *parser) topic(w []byte, usage string) Topic {
	if len(w) == 0 {
		p.fail(Syntax, "%s: the topic is missing", usage)
		return Topic{}
	}
	t, err := ParseTopic(p.r.in.name(w))
	if err != nil {
		p.take(err)
	}
	return t
}

func (p *parser) sid(w []byte) string {
	if len(w) > MaxSIDBytes || string(w) == "-" {
		p.fail(Syntax, "a sid has 1 to %d characters and is not -", MaxSIDBytes)
	}
	for _, c := range w {
		if !plain(c) {
			p.fail(Syntax, "a sid has visible ASCII characters except %%")
		}
	}
	return string(w)
}

// one returns the only word of rest.
func (p *parser) one(rest []byte, usage string) []byte {
	w, rest := word(rest)
	if len(w) == 0 {
		p.fail(Syntax, "%s: the argument is missing", usage)
	}
	p.nothing(rest)
	return w
}

func (p *parser) nothing(rest []byte) {
	if w, _ := word(rest); len(w) > 0 {
		p.fail(Syntax, "%s: %s takes nothing more", quote(string(w)), p.q.Verb)
	}
}

// keep copies s to memory that lives as long as the request.
func (p *parser) keep(s []byte) []byte {
	at := len(p.r.arena)
	p.r.arena = append(p.r.arena, s...)
	return p.r.arena[at:len(p.r.arena):len(p.r.arena)]
}

// findTag looks for tag= in a line that is not understood otherwise.
func (p *parser) findTag(rest []byte) {
	for {
		w, after := word(rest)
		if len(w) == 0 {
			return
		}
		if v, ok := bytes.CutPrefix(w, []byte("tag=")); ok {
			if tag, ok := appendUnescaped(nil, v); ok && len(tag) <= MaxTagBytes {
				p.q.Tag = string(tag)
			}
			return
		}
		rest = after
	}
}

func parseVerb(w []byte) Verb {
	if string(w) == "PUBN" {
		return Pubn
	}
	for v := Ping; int(v) < len(verbs); v++ {
		if len(w) == len(verbs[v]) && strings.EqualFold(string(w), verbs[v]) {
			return v
		}
	}
	return 0
}
