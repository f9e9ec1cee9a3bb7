package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// maxBodyBytes bounds the body of a publish. It is above the largest message of
// any topic in base64; whether a message is too large for its topic is for the
// node to say.
const maxBodyBytes = 24 << 20

// reservedHeader is where a message's id is stored.
const reservedHeader = "wiber.id"

// readMessage reads what a POST publishes, but for its topic.
func readMessage(w http.ResponseWriter, r *http.Request, q url.Values) (client.Message, error) {
	var m client.Message
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return m, wire.Errorf(wire.TooLarge, "the body has more than %d bytes", large.Limit)
	case err != nil:
		return m, wire.Errorf(wire.Syntax, "the body ended early")
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "application/json" {
		if m, err = decodeMessage(body); err != nil {
			return m, err
		}
	} else {
		m.Value = body
	}
	for name, field := range map[string]*[]byte{"key": &m.Key, "id": &m.ID} {
		if !q.Has(name) {
			continue
		}
		if *field != nil {
			return m, wire.Errorf(wire.Syntax, "%s is given in the query and in the body", name)
		}
		*field = []byte(q.Get(name))
	}
	return m, nil
}

// decodeMessage reads the JSON of a message:
//
//	{"value": "…" or "valueBase64": "…", "key": "…", "id": "…", "headers": {"…": "…"}}
//
// Every field is checked: names to the letter and once, types, and that no text
// would be stored otherwise than it was sent.
func decodeMessage(body []byte) (client.Message, error) {
	var m client.Message
	if !utf8.Valid(body) {
		return m, syntax("the body is not UTF-8; valueBase64 carries other bytes")
	}
	valued := ""
	err := object(body, "the body", func(name string, raw json.RawMessage) *wire.Error {
		var err *wire.Error
		switch name {
		case "value", "valueBase64":
			if valued != "" {
				return syntax("%s and %s exclude each other", valued, name)
			}
			valued = name
			if m.Value, err = text(name, raw); err != nil || name == "value" {
				return err
			}
			decoded, bad := base64.StdEncoding.DecodeString(string(m.Value))
			if bad != nil {
				return syntax("valueBase64 is not base64: %v", bad)
			}
			m.Value = decoded
		case "key":
			m.Key, err = text(name, raw)
		case "id":
			m.ID, err = text(name, raw)
		case "headers":
			err = object(raw, name, func(name string, raw json.RawMessage) *wire.Error {
				switch {
				case name == "":
					return syntax("a header has an empty name")
				case name == reservedHeader:
					return syntax("the header %s is kept for id", reservedHeader)
				case len(m.Headers) == wire.MaxHeaders:
					return wire.Errorf(wire.TooLarge, "a message has at most %d headers", wire.MaxHeaders)
				}
				value, err := text("headers."+name, raw)
				m.Headers = append(m.Headers, wire.Header{Name: []byte(name), Value: value})
				return err
			})
		default:
			return syntax("%s is no field of a message; value, valueBase64, key, id and headers are", short(name))
		}
		return err
	})
	switch {
	case err != nil:
		return m, err
	case valued == "":
		return m, syntax("the body has neither value nor valueBase64")
	}
	return m, nil
}

// object hands each field of a JSON object on, in order, and refuses one that
// comes twice and anything behind the object.
func object(b []byte, what string, field func(name string, raw json.RawMessage) *wire.Error) *wire.Error {
	d := json.NewDecoder(bytes.NewReader(b))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return syntax("%s is not a JSON object", what)
	}
	seen := make(map[string]bool)
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		var raw json.RawMessage
		if err == nil && ok {
			err = d.Decode(&raw)
		}
		switch {
		case err != nil || !ok:
			return syntax("%s is not JSON: %v", what, err)
		case seen[name]:
			return syntax("%s is given twice", short(name))
		}
		seen[name] = true
		if err := field(name, raw); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return syntax("%s is not JSON: %v", what, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return syntax("something follows the JSON object")
	}
	return nil
}

// text reads a JSON string. One that JSON can write and UTF-8 cannot (half of a
// surrogate pair) is refused, because it would be stored as something else.
func text(name string, raw json.RawMessage) ([]byte, *wire.Error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return nil, syntax("%s is not a string", short(name))
	}
	const replaced = "\uFFFD"
	if strings.Contains(s, replaced) {
		meant := strings.Count(string(raw), replaced) + strings.Count(strings.ToLower(string(raw)), `\ufffd`)
		if strings.Count(s, replaced) != meant {
			return nil, syntax("%s has half of a surrogate pair", short(name))
		}
	}
	return []byte(s), nil
}

// short quotes what a client sent, for an error text.
func short(s string) string {
	const most = 60
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.Quote(strings.ToValidUTF8(s, "�"))
}

func syntax(format string, args ...any) *wire.Error { return wire.Errorf(wire.Syntax, format, args...) }

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{"error": map[string]string{"code": code, "message": message}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // of strings and numbers
	head(w)
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client left
}

func head(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}
