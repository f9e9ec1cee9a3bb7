package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"unicode/utf8"

	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// maxBodyBytes bounds the body of a publish. It is above the largest message of
// any topic in base64; whether a message is too large for its topic is for the
// node to say.
const maxBodyBytes = 24 << 20

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

// decodeMessage reads a message as JSON: an object with value or valueBase64,
// and possibly key, id and headers. Anything else in it is an error.
func decodeMessage(body []byte) (client.Message, error) {
	var m client.Message
	if !utf8.Valid(body) {
		return m, wire.Errorf(wire.Syntax, "the body is not UTF-8: send bytes as valueBase64, or raw under another Content-Type")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return m, wire.Errorf(wire.Syntax, `the body is not a JSON object such as {"value":"hello"}: %v`, err)
	}
	var headers map[string]string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		var err error
		switch name {
		case "value":
			m.Value, err = text(fields[name])
		case "valueBase64":
			if _, both := fields["value"]; both {
				return m, wire.Errorf(wire.Syntax, "the body has value and valueBase64: it is one of them")
			}
			if m.Value, err = text(fields[name]); err == nil {
				m.Value, err = base64.StdEncoding.AppendDecode(nil, m.Value)
			}
		case "key":
			m.Key, err = text(fields[name])
		case "id":
			m.ID, err = text(fields[name])
		case "headers":
			if bytes.Equal(fields[name], []byte("null")) {
				err = errNull
			} else {
				err = json.Unmarshal(fields[name], &headers)
			}
		default:
			return m, wire.Errorf(wire.Syntax, "the body has a field %q; known are value, valueBase64, key, id and headers", name)
		}
		if err != nil {
			return m, wire.Errorf(wire.Syntax, "the body's field %s: %v", name, err)
		}
	}
	if fields["value"] == nil && fields["valueBase64"] == nil {
		return m, wire.Errorf(wire.Syntax, "the body has neither value nor valueBase64")
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		m.Headers = append(m.Headers, wire.Header{Name: []byte(name), Value: []byte(headers[name])})
	}
	return m, nil
}

var errNull = errors.New("it is null; leave it out")

func text(raw json.RawMessage) ([]byte, error) {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, errors.New("it is not a string")
	}
	if s == nil {
		return nil, errNull
	}
	return []byte(*s), nil
}

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
