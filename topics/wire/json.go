package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends the receipt as one JSON object without a line end.
func (r *Receipt) AppendJSON(dst []byte) []byte {
	dst = appendString(append(dst, `{"topic":`...), r.Topic)
	dst = strconv.AppendInt(append(dst, `,"partition":`...), int64(r.Partition), 10)
	dst = append(dst, `,"offset":`...)
	if r.Offset == NoOffset {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendUint(dst, r.Offset, 10)
	}
	dst = appendStampJSON(dst, r.TS, r.Eps, r.Lamport)
	dst = strconv.AppendUint(append(dst, `,"term":`...), r.Term, 10)
	dst = strconv.AppendUint(append(dst, `,"index":`...), r.Index, 10)
	dst = strconv.AppendInt(append(dst, `,"synced":"`...), int64(r.Synced), 10)
	dst = strconv.AppendInt(append(dst, '/'), int64(r.Replicas), 10)
	dst = strconv.AppendBool(append(dst, `","duplicate":`...), r.Duplicate)
	return append(dst, '}')
}

// MarshalJSON returns the object of AppendJSON.
func (r Receipt) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// UnmarshalJSON reads the object of AppendJSON.
func (r *Receipt) UnmarshalJSON(p []byte) error {
	var j struct {
		Topic       string
		Partition   int
		Offset      *uint64
		TS          uint64
		Eps         int64
		Lamport     uint64
		Term, Index uint64
		Synced      string
		Duplicate   bool
	}
	if err := json.Unmarshal(p, &j); err != nil {
		return err
	}
	*r = Receipt{Topic: j.Topic, Partition: j.Partition, Offset: NoOffset, TS: j.TS, Eps: j.Eps, Lamport: j.Lamport,
		Term: j.Term, Index: j.Index, Duplicate: j.Duplicate}
	if j.Offset != nil {
		r.Offset = *j.Offset
	}
	var ok bool
	if r.Synced, r.Replicas, ok = parseSync([]byte(j.Synced)); !ok {
		return fmt.Errorf("wire: receipt: synced %q is not of the form 2/3", j.Synced)
	}
	return nil
}

// AppendJSON appends the message as one JSON object without a line end. A value
// that is not UTF-8 becomes valueBase64, such a key or id keyBase64 or idBase64;
// in headers bytes that are not UTF-8 are replaced. Of several headers of one
// name the last counts.
func (m *Message) AppendJSON(dst []byte) []byte {
	dst = appendString(append(dst, `{"topic":`...), m.Topic)
	dst = strconv.AppendInt(append(dst, `,"partition":`...), int64(m.Partition), 10)
	dst = strconv.AppendUint(append(dst, `,"offset":`...), m.Offset, 10)
	dst = appendStampJSON(dst, m.TS, m.Eps, m.Lamport)
	if m.Key != nil {
		dst = appendText(dst, "key", m.Key)
	}
	if m.ID != nil {
		dst = appendText(dst, "id", m.ID)
	}
	if len(m.Headers) > 0 {
		dst = append(dst, `,"headers":{`...)
		comma := false
		for i := range m.Headers {
			if m.hidden(i) {
				continue
			}
			if comma {
				dst = append(dst, ',')
			}
			comma = true
			dst = appendString(dst, m.Headers[i].Name)
			dst = appendString(append(dst, ':'), m.Headers[i].Value)
		}
		dst = append(dst, '}')
	}
	if m.Late {
		dst = append(dst, `,"late":true`...)
	}
	return append(appendText(dst, "value", m.Value), '}')
}

// hidden reports whether a later header has the name of header i.
func (m *Message) hidden(i int) bool {
	for _, h := range m.Headers[i+1:] {
		if string(h.Name) == string(m.Headers[i].Name) {
			return true
		}
	}
	return false
}

// MarshalJSON returns the object of AppendJSON.
func (m Message) MarshalJSON() ([]byte, error) { return m.AppendJSON(nil), nil }

func appendStampJSON(dst []byte, ts uint64, eps int64, lamport uint64) []byte {
	dst = strconv.AppendUint(append(dst, `,"ts":`...), ts, 10)
	dst = strconv.AppendInt(append(dst, `,"eps":`...), eps, 10)
	return strconv.AppendUint(append(dst, `,"lamport":`...), lamport, 10)
}

// appendText appends `,"name":"…"`, or `,"nameBase64":"…"` for bytes that are not UTF-8.
func appendText(dst []byte, name string, v []byte) []byte {
	dst = append(append(dst, `,"`...), name...)
	if utf8.Valid(v) {
		return appendString(append(dst, `":`...), v)
	}
	dst = append(dst, `Base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, v)
	return append(dst, '"')
}

// appendString appends a JSON string; bytes that are not UTF-8 become U+FFFD.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			r, size = utf8.DecodeRune([]byte(s[i:min(i+utf8.UTFMax, len(s))]))
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[from:i]...)
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, "\ufffd"...)
		}
		i += size
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}
