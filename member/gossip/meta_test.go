package gossip

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

var fullMeta = Meta{Beat: 3, Incarnation: 9, Leaving: true, Leader: true, Leads: []uint32{0, 1, 4}, Host: "127.0.0.1", ClientPort: 9101, HTTPPort: 9301,
	CPUMillis: 250, Clock: ClockReading{Known: true, OffsetMicros: -5, EpsMicros: 180}}

func TestMetaRoundTrip(t *testing.T) {
	for _, m := range []Meta{{}, fullMeta, {Clock: ClockReading{Known: true, EpsMicros: -1}}} {
		got, err := decodeMeta(m.encode())
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v comes back as %+v, %v", m, got, err)
		}
	}
	const golden = "010703000000000000000900000000000000fa0000008d235524fbffffffffffffffb400000000000000093132372e302e302e3103000000000100000004000000"
	if got := hex.EncodeToString(fullMeta.encode()); got != golden {
		t.Errorf("the format has changed: raise metaVersion\n%s", got)
	}
}

func TestMetaFitsWhateverItHolds(t *testing.T) {
	m := fullMeta
	m.Host, m.Leads = strings.Repeat("h", maxHostBytes), make([]uint32, 5000)
	b := m.encode()
	if got, err := decodeMeta(b); err != nil || len(b) > MetaBytes || len(got.Leads) != maxLeads || got.Host != m.Host {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	m.Host += "h"
	if got, err := decodeMeta(m.encode()); err != nil || got.Host != "" {
		t.Fatalf("%q, %v", got.Host, err)
	}
	later := append(fullMeta.encode(), 1, 2, 3)
	later[0]++
	if got, err := decodeMeta(later); err != nil || got.Beat != 3 {
		t.Fatalf("a later version: %+v, %v", got, err)
	}
}

// FuzzMeta: no metadata makes the decoder panic, and what decodes encodes to the
// same bytes.
func FuzzMeta(f *testing.F) {
	f.Add(fullMeta.encode())
	f.Add((&Meta{}).encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again := m.encode()
		if len(again) > MetaBytes || len(again) > len(b) || b[0] == metaVersion && !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("%x encodes to %x", b, again)
		}
	})
}
