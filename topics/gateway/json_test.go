package gateway

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzDecodeMessage shows that no body makes decoding panic, and that what it
// takes has a value.
func FuzzDecodeMessage(f *testing.F) {
	for _, s := range []string{`{"value":"v"}`, `{"valueBase64":"/w==","key":"k","id":"i","headers":{"a":"b"}}`, `{"value":null}`, `[]`, `{"value":"v"}x`, `{"value":"\ud800"}`, `{"value":"a","value":"b"}`, "{\"value\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err == nil && (!utf8.Valid(b) || m.Value == nil) {
			t.Errorf("%q was taken as %+v", b, m)
		}
	})
}

func TestABodyIsReadStrictly(t *testing.T) {
	for body, want := range map[string]string{
		`{"value":"x"}`:                                      "value=x",
		` {"value" : "" , "key" : "" } `:                     "value= key=",
		`{"valueBase64":"AAE="}`:                             "value=\x00\x01",
		`{"value":"x","id":"i","headers":{"b":"2","a":"1"}}`: "value=x id=i b=2 a=1",
		`{"value":"\ufffd�\ud834\udd1e"}`:                    "value=��𝄞",
		`{}`:                                                 "neither value nor valueBase64",
		``:                                                   "not a JSON object",
		`[]`:                                                 "not a JSON object",
		`"x"`:                                                "not a JSON object",
		`{"value":"x"`:                                       "not JSON",
		`{"value":"x"} {}`:                                   "something follows",
		`{"value":"x",}`:                                     "not JSON",
		`{"value":1}`:                                        "value\" is not a string",
		`{"value":null}`:                                     "not a string",
		`{"value":["x"]}`:                                    "not a string",
		`{"value":"x","value":"y"}`:                          "given twice",
		`{"value":"x","valueBase64":""}`:                     "exclude",
		`{"valueBase64":"AAE"}`:                              "not base64",
		`{"valueBase64":"A A="}`:                             "not base64",
		`{"value":"x","Value":"y"}`:                          "is no field",
		`{"value":"x","ts":1}`:                               "is no field",
		`{"value":"x","key":1}`:                              "not a string",
		`{"value":"x","key":"a","key":"b"}`:                  "given twice",
		`{"value":"x","headers":[]}`:                         "not a JSON object",
		`{"value":"x","headers":null}`:                       "not a JSON object",
		`{"value":"x","headers":{"a":1}}`:                    "not a string",
		`{"value":"x","headers":{"a":"1","a":"2"}}`:          "given twice",
		`{"value":"x","headers":{"":"1"}}`:                   "empty name",
		`{"value":"x","headers":{"wiber.id":"1"}}`:           "kept for id",
		"{\"value\":\"\xff\"}":                               "not UTF-8",
		`{"value":"\ud800"}`:                                 "surrogate",
		`{"value":"x","headers":{` + manyHeaders(257) + `}}`: "at most 256 headers",
	} {
		m, err := decodeMessage([]byte(body))
		got := "value=" + string(m.Value)
		if m.Key != nil {
			got += " key=" + string(m.Key)
		}
		if m.ID != nil {
			got += " id=" + string(m.ID)
		}
		for _, h := range m.Headers {
			got += " " + string(h.Name) + "=" + string(h.Value)
		}
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != want || err != nil && !strings.Contains(got, want) {
			t.Errorf("%.80s: %s; want %s", body, got, want)
		}
	}
}

func manyHeaders(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"h%d":""`, i))
	}
	return strings.Join(all, ",")
}
