package v1alpha1

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestADurationIsReadStrictly(t *testing.T) {
	for text, want := range map[string]time.Duration{"10s": 10 * time.Second, "1m30s": 90 * time.Second, "250ms": 250 * time.Millisecond, "0s": 0, "2m": 2 * time.Minute, "1.5h": 90 * time.Minute} {
		if got, err := ParseDuration(text); err != nil || got.Duration() != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for text, message := range map[string]string{"10": "needs a unit, as in 10s", "0": "needs a unit", "-1s": "sign", "+1s": "sign", "": "not a duration", "1d": "not a duration",
		"1s ": "not a duration", "ten": "not a duration", "10000000h": "not a duration", "NaN": "unit"} {
		if _, err := ParseDuration(text); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%q: got error %v, want %q in it", text, err, message)
		}
	}
}

func TestAByteSizeIsReadStrictly(t *testing.T) {
	for text, want := range map[string]ByteSize{"1GiB": GiB, "512MiB": 512 * MiB, "0": 0, "1048576": MiB, "3B": 3, "7KiB": 7 * KiB, "8TiB": 8 * TiB} {
		if got, err := ParseByteSize(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "B", "1GB", "1Gi", "1 GiB", "-1", "+1", "1.5GiB", "1gib", "9999999999999TiB", "99999999999999999999", "0x10"} {
		if got, err := ParseByteSize(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestValuesAreWrittenAsPeopleWriteThem(t *testing.T) {
	for value, want := range map[Duration]string{0: "0s", Duration(2 * time.Minute): "2m", Duration(time.Hour): "1h", Duration(60 * time.Second): "1m",
		Duration(90 * time.Second): "1m30s", Duration(time.Hour + time.Second): "1h0m1s", Duration(time.Second): "1s", Duration(70 * time.Minute): "1h10m"} {
		if got := value.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if again, err := ParseDuration(want); err != nil || again != value {
			t.Errorf("%s is read back as %v, %v", want, again, err)
		}
	}
	for value, want := range map[ByteSize]string{0: "0", GiB: "1GiB", 512 * MiB: "512MiB", 1500: "1500", 1536: "1536", 2048: "2KiB", 1024 * GiB: "1TiB"} {
		if got := value.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if again, err := ParseByteSize(want); err != nil || again != value {
			t.Errorf("%s is read back as %v, %v", want, again, err)
		}
	}
}

func TestValuesGoThroughJSON(t *testing.T) {
	type values struct {
		D Duration
		B ByteSize
		N ByteSize
		T Time
		M *MicroTime
	}
	var v values
	text := `{"D":"10s","B":"1GiB","N":1048576,"T":"2026-11-22T10:00:00+01:00","M":"2026-11-22T09:00:00.000001Z"}`
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"D":"10s","B":"1GiB","N":"1MiB","T":"2026-11-22T09:00:00Z","M":"2026-11-22T09:00:00.000001Z"}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, wrong := range []string{`{"D":10}`, `{"D":"10"}`, `{"B":true}`, `{"B":1.5}`, `{"B":null}`, `{"T":"yesterday"}`, `{"T":5}`} {
		if err := json.Unmarshal([]byte(wrong), &v); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
}
