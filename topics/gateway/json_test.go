package gateway

import (
	"testing"
	"unicode/utf8"
)

// FuzzDecodeMessage shows that no body makes decoding panic, and that what it
// takes has a value.
func FuzzDecodeMessage(f *testing.F) {
	for _, s := range []string{`{"value":"v"}`, `{"valueBase64":"/w==","key":"k","id":"i","headers":{"a":"b"}}`, `{"value":null}`, `[]`, `{"value":"v"}x`, "{\"value\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err == nil && (!utf8.Valid(b) || m.Value == nil) {
			t.Errorf("%q was taken as %+v", b, m)
		}
	})
}
