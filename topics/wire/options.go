package wire

import (
	"bytes"
	"time"
)

// Options, as bits: which a verb takes, and which were seen.
const (
	optKey = 1 << iota
	optID
	optProducer
	optSeq
	optLam
	optHeader
	optTimeout
	optNoAck
	optTag
	optFrom
	optUntil
	optLast
	optLimit
	optReverse
	optRead
	optOrder
	optMaxDelay
)

// optionBit returns the option called name, 0 for none.
func optionBit(name []byte) uint32 {
	switch string(name) {
	case "key":
		return optKey
	case "id":
		return optID
	case "p":
		return optProducer
	case "seq":
		return optSeq
	case "lam":
		return optLam
	case "timeout":
		return optTimeout
	case "noack":
		return optNoAck
	case "tag":
		return optTag
	case "from":
		return optFrom
	case "until":
		return optUntil
	case "last":
		return optLast
	case "limit":
		return optLimit
	case "reverse":
		return optReverse
	case "read":
		return optRead
	case "order":
		return optOrder
	case "maxdelay":
		return optMaxDelay
	}
	if bytes.HasPrefix(name, []byte("hdr.")) {
		return optHeader
	}
	return 0
}

// options reads the rest of a line: options of the set allowed, each once.
func (p *parser) options(rest []byte, allowed uint32) {
	for {
		var w []byte
		if w, rest = word(rest); len(w) == 0 {
			return
		}
		name, value, valued := bytes.Cut(w, []byte{'='})
		bit := optionBit(name)
		if bit&allowed == 0 {
			p.fail(Syntax, "%s has no option %s", p.q.Verb, quote(string(name)))
			continue
		}
		if bit != optHeader && p.seen&bit != 0 {
			p.fail(Syntax, "option %s is given twice", quote(string(name)))
			continue
		}
		p.seen |= bit
		if flag := bit&(optNoAck|optReverse) != 0; flag == valued {
			if flag {
				p.fail(Syntax, "option %s takes no value", quote(string(name)))
			} else {
				p.fail(Syntax, "option %s needs a value: %s=...", quote(string(name)), name)
			}
			continue
		}
		p.option(bit, name, value)
	}
}

func (p *parser) option(bit uint32, name, value []byte) {
	q := p.q
	v, ok := p.decode(value)
	if !ok {
		p.fail(Syntax, "%s=: write space, %%, control and non-ASCII bytes as %%XX", name)
		return
	}
	switch bit {
	case optKey:
		q.Key = v
	case optID:
		p.bounded(name, v, MaxIDBytes)
		q.ID = v
	case optProducer:
		p.bounded(name, v, MaxProducerBytes)
		q.Producer = p.r.in.name(v)
	case optTag:
		p.bounded(name, v, MaxTagBytes)
		if len(v) <= MaxTagBytes {
			q.Tag = string(v)
		}
	case optSeq:
		q.Seq = p.count(name, v)
	case optLam:
		q.Lamport = p.uint(name, v)
	case optHeader:
		p.header(name, v)
	case optTimeout:
		d, err := time.ParseDuration(string(v))
		if err != nil || d <= 0 || d > MaxTimeout {
			p.fail(Syntax, "timeout=%s is not a duration above 0 and up to %v, such as 10s", quote(string(v)), MaxTimeout)
		}
		q.Timeout = d
	case optNoAck:
		q.NoAck = true
	case optReverse:
		q.Reverse = true
	case optFrom:
		if q.Verb == Sub && bytes.IndexByte(v, ',') >= 0 {
			p.positions(name, v)
		} else {
			q.From = p.position(name, v)
		}
	case optUntil:
		q.Until = p.position(name, v)
	case optLast:
		q.Last = p.count(name, v)
	case optLimit:
		q.Limit = p.count(name, v)
	case optRead:
		level, err := ParseReadLevel(string(v))
		p.named(name, err)
		q.Read = level
	case optOrder:
		switch string(v) {
		case "offset":
		case "time":
			q.ByTime = true
		default:
			p.fail(Syntax, "order=%s is not offset or time", quote(string(v)))
		}
	case optMaxDelay:
		d, err := time.ParseDuration(string(v))
		if err != nil || d <= 0 || d > MaxMaxDelay {
			p.fail(Syntax, "maxdelay=%s is not a duration above 0 and up to %v, such as 200ms", quote(string(v)), MaxMaxDelay)
		}
		q.MaxDelay = d
	}
}

// order completes the options of a SUB.
func (p *parser) order() {
	q := p.q
	switch {
	case !q.ByTime && p.seen&optMaxDelay != 0:
		p.fail(Syntax, "maxdelay= belongs to order=time")
	case q.ByTime && p.seen&optMaxDelay == 0:
		q.MaxDelay = DefaultMaxDelay
	}
	if n := len(q.Froms); n > 0 && n != len(q.Topics) {
		p.fail(Syntax, "from= has %d positions for %d topics: give one for all, or one for each", n, len(q.Topics))
	}
}

// positions reads a list, one for each topic that was named.
func (p *parser) positions(name, value []byte) {
	if n := bytes.Count(value, []byte{','}) + 1; n > len(p.q.Topics) {
		p.fail(Syntax, "from= has %d positions for %d topics: give one for all, or one for each", n, len(p.q.Topics))
		return
	}
	for v := range bytes.SplitSeq(value, []byte{','}) {
		p.q.Froms = append(p.q.Froms, p.position(name, v))
	}
}

func (p *parser) decode(value []byte) ([]byte, bool) {
	at := len(p.r.arena)
	out, ok := appendUnescaped(p.r.arena, value)
	p.r.arena = out
	if !ok {
		return nil, false
	}
	return out[at:len(out):len(out)], true
}

func (p *parser) header(name, value []byte) {
	n, ok := p.decode(name[len("hdr."):])
	if !ok || len(n) == 0 {
		p.fail(Syntax, "%s=: a header is hdr.<name>=<value>, in both space, %%, =, control and non-ASCII bytes as %%XX", quote(string(name)))
		return
	}
	if string(n) == "wiber.id" {
		p.fail(Syntax, "the header wiber.id is kept for id=")
		return
	}
	for i := range p.q.Headers {
		if bytes.Equal(p.q.Headers[i].Name, n) {
			p.fail(Syntax, "option %s is given twice", quote(string(name)))
			return
		}
	}
	if len(p.q.Headers) >= MaxHeaders {
		p.fail(TooLarge, "a message has at most %d headers", MaxHeaders)
		return
	}
	p.q.Headers = append(p.q.Headers, Header{n, value})
}

func (p *parser) position(name, value []byte) Position {
	pos, err := ParsePosition(string(value))
	p.named(name, err)
	return pos
}

// named puts the option's name before an error about its value.
func (p *parser) named(name []byte, err *Error) {
	if err != nil {
		p.fail(err.Code, "%s=%s", name, err.Text)
	}
}

func (p *parser) bounded(name, value []byte, most int) {
	if len(value) == 0 || len(value) > most {
		p.fail(Syntax, "%s= has 1 to %d bytes, this one %d", name, most, len(value))
	}
}

func (p *parser) uint(name, value []byte) uint64 {
	n, ok, _ := number(value)
	if !ok {
		p.fail(Syntax, "%s=%s is not a number", name, quote(string(value)))
	}
	return n
}

// count reads a number from 1 on.
func (p *parser) count(name, value []byte) uint64 {
	n := p.uint(name, value)
	if n == 0 {
		p.fail(Syntax, "%s=%s is not a number from 1 on", name, quote(string(value)))
	}
	return n
}
