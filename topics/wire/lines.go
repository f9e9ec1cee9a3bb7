package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

const (
	requestBuffer = 16 << 10 // a node has many connections, most of them idle
	replyBuffer   = 64 << 10
	growBytes     = 64 << 10
	keepScratch   = 1 << 20 // a larger scratch buffer is given back after use
	lineOverhead  = 64 << 10
)

// lineReader reads lines and counted payloads of one connection. Line and
// payload stay valid until the next call of line.
type lineReader struct {
	br      *bufio.Reader
	scratch []byte // a line longer than br's buffer, or a payload longer than that
	names   map[string]string
}

func newLineReader(r io.Reader, bufferBytes int) lineReader {
	return lineReader{br: bufio.NewReaderSize(r, bufferBytes), names: make(map[string]string)}
}

// line returns the next line without LF or CRLF. A line of more than most bytes
// is read to its end, but only its first most bytes are kept and cut is set.
// At the end of the stream the error is io.EOF, or io.ErrUnexpectedEOF in a line.
func (l *lineReader) line(most int) (line []byte, cut bool, err error) {
	if cap(l.scratch) > keepScratch {
		l.scratch = nil
	}
	part, err := l.br.ReadSlice('\n')
	if err == nil && len(part) <= most {
		return trimEOL(part), false, nil
	}
	l.scratch = l.scratch[:0]
	for {
		if room := most - len(l.scratch); len(part) > room {
			// A line end does not count, so a line of exactly most bytes is whole.
			over := part[room:]
			cut = cut || len(trimEOL(over)) > 0
			part = part[:room]
		}
		l.scratch = append(l.scratch, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			break
		}
		part, err = l.br.ReadSlice('\n')
	}
	if err == nil {
		if cut {
			return l.scratch, true, nil
		}
		return trimEOL(l.scratch), false, nil
	}
	if errors.Is(err, io.EOF) && len(l.scratch)+len(part) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return nil, cut, err
}

// copied returns the next n bytes, which may be more than br holds.
func (l *lineReader) copied(n int) ([]byte, error) {
	l.scratch = l.scratch[:0]
	for len(l.scratch) < n { // grows with what has come, not with what was announced
		step := min(n-len(l.scratch), max(growBytes, len(l.scratch)))
		at := len(l.scratch)
		l.scratch = append(l.scratch, make([]byte, step)...)
		if _, err := io.ReadFull(l.br, l.scratch[at:]); err != nil {
			return nil, cutShort(err)
		}
	}
	return l.scratch, nil
}

// payloadAndEnd returns the next n bytes and takes the LF or CRLF behind them;
// ended is false when something else follows.
func (l *lineReader) payloadAndEnd(n int) (p []byte, ended bool, err error) {
	if n+2 > l.br.Size() {
		if p, err = l.copied(n); err != nil {
			return nil, false, err
		}
		ended, err = l.end()
		return p, ended, err
	}
	// One byte more at a time: a client that sent LF may be waiting for the answer.
	if p, err = l.br.Peek(n + 1); err != nil {
		return nil, false, cutShort(err)
	}
	if p[n] == '\r' {
		if p, err = l.br.Peek(n + 2); err != nil {
			return nil, false, cutShort(err)
		}
	}
	ended = p[len(p)-1] == '\n'
	_, err = l.br.Discard(len(p))
	return p[:n], ended, err
}

// skip drops n bytes and the line end behind them.
func (l *lineReader) skip(n int) (ended bool, err error) {
	if _, err := l.br.Discard(n); err != nil {
		return false, cutShort(err)
	}
	return l.end()
}

func (l *lineReader) end() (bool, error) {
	c, err := l.br.ReadByte()
	if err == nil && c == '\r' {
		c, err = l.br.ReadByte()
	}
	return c == '\n', cutShort(err)
}

// name returns s as a string, the same one for a name seen before.
func (l *lineReader) name(s []byte) string {
	if v, ok := l.names[string(s)]; ok {
		return v
	}
	if len(l.names) >= 1024 {
		clear(l.names)
	}
	v := string(s)
	if len(v) <= MaxTopicBytes {
		l.names[v] = v
	}
	return v
}

func trimEOL(p []byte) []byte {
	p = bytes.TrimSuffix(p, []byte{'\n'})
	return bytes.TrimSuffix(p, []byte{'\r'})
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// word cuts the first space-separated word off p.
func word(p []byte) (w, rest []byte) {
	for len(p) > 0 && p[0] == ' ' {
		p = p[1:]
	}
	if i := bytes.IndexByte(p, ' '); i >= 0 {
		return p[:i], p[i+1:]
	}
	return p, nil
}

// number reads decimal digits and nothing else. over tells a number that is
// well-formed but beyond 64 bits from a malformed one.
func number(p []byte) (n uint64, ok, over bool) {
	if len(p) == 0 {
		return 0, false, false
	}
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false, false
		}
		d := uint64(c - '0')
		if n > (^uint64(0)-d)/10 {
			over = true
			continue
		}
		n = n*10 + d
	}
	return n, !over, over
}
