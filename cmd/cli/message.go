package cli

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wiber/wiber/topics/wire"
)

// messageOutputs are the values of -o of the commands that print messages.
const messageOutputs = "json value"

// outBufferBytes is how much output is gathered before it is written.
const outBufferBytes = 256 << 10

// printer writes messages and receipts, one a line, in the format of -o. It
// buffers; whoever made it calls flush before it waits and at the end.
type printer struct {
	w      *bufio.Writer
	format string // "", json or value
	line   []byte // used again for each line
}

func newPrinter(w io.Writer, format string) *printer {
	return &printer{w: bufio.NewWriterSize(w, outBufferBytes), format: format}
}

func (p *printer) flush() error { return p.w.Flush() }

// message prints one message: its bytes and nothing else, a JSON object, or a
// line for a person.
func (p *printer) message(m *wire.Message) error {
	switch p.format {
	case "value":
		if _, err := p.w.Write(m.Value); err != nil {
			return err
		}
		return p.w.WriteByte('\n')
	case "json":
		return p.json(m)
	}
	b := appendPlace(p.line[:0], m.Topic, m.Partition, m.Partitioned, m.Offset)
	b = appendStamp(b, m.TS, m.Eps)
	if m.Key != nil {
		b = appendField(b, "key", m.Key)
	}
	if m.ID != nil {
		b = appendField(b, "id", m.ID)
	}
	for _, h := range m.Headers {
		b = appendField(b, "hdr."+string(appendText(nil, h.Name)), h.Value)
	}
	if m.Late {
		b = append(b, " late"...)
	}
	b = append(b, " | "...)
	b = appendText(b, m.Value)
	p.line = append(b, '\n')
	_, err := p.w.Write(p.line)
	return err
}

// receipt prints one receipt, as a JSON object or as a line for a person.
func (p *printer) receipt(r *wire.Receipt) error {
	if p.format == "json" {
		return p.json(r)
	}
	b := appendPlace(p.line[:0], r.Topic, r.Partition, r.Partitioned, r.Offset)
	b = appendStamp(b, r.TS, r.Eps)
	b = fmt.Appendf(b, " lamport=%d term=%d index=%d synced=%d/%d", r.Lamport, r.Term, r.Index, r.Synced, r.Replicas)
	if r.Duplicate {
		b = append(b, " duplicate"...)
	}
	p.line = append(b, '\n')
	_, err := p.w.Write(p.line)
	return err
}

func (p *printer) json(v interface{ AppendJSON([]byte) []byte }) error {
	p.line = append(v.AppendJSON(p.line[:0]), '\n')
	_, err := p.w.Write(p.line)
	return err
}

// appendPlace writes topic[/partition]@offset.
func appendPlace(b []byte, topic string, partition int, partitioned bool, offset uint64) []byte {
	b = append(b, topic...)
	if partitioned {
		b = strconv.AppendInt(append(b, '/'), int64(partition), 10)
	}
	b = append(b, '@')
	if offset == wire.NoOffset {
		return append(b, '-')
	}
	return strconv.AppendUint(b, offset, 10)
}

// appendStamp writes a stamp as a time in UTC and its uncertainty.
func appendStamp(b []byte, micros uint64, eps int64) []byte {
	b = append(b, ' ')
	b = time.UnixMicro(int64(micros)).UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
	return strconv.AppendInt(append(b, " eps="...), eps, 10)
}

func appendField(b []byte, name string, value []byte) []byte {
	b = append(append(append(b, ' '), name...), '=')
	return appendText(b, value)
}

// appendText writes bytes as they are if a terminal can show them on one line,
// else as a quoted Go string.
func appendText(b, text []byte) []byte {
	if !utf8.Valid(text) {
		return strconv.AppendQuote(b, string(text))
	}
	for _, r := range string(text) {
		if !unicode.IsPrint(r) && r != '\t' {
			return strconv.AppendQuote(b, string(text))
		}
	}
	return append(b, text...)
}
