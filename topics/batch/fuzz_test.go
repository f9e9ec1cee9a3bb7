package batch

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzCheck seals arbitrary records, so that the walk behind the CRC is reached:
// what Check accepts can be read to the end, also by the second implementation.
func FuzzCheck(f *testing.F) {
	one := AppendRecord(nil, &Record{Key: []byte("k"), ID: []byte("i"), Value: []byte("v"), Headers: []Header{{[]byte("a"), nil}}})
	two, _ := Build(nil, []Record{{Value: []byte("a")}, {Value: []byte("b"), Timestamp: -1}})
	f.Add(one[HeaderBytes:], int32(1), uint16(0))
	f.Add(two[HeaderBytes:], int32(2), uint16(0))
	f.Add([]byte(zipped(f, two))[HeaderBytes:], int32(2), uint16(1))
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, int32(1), uint16(0))
	f.Fuzz(func(t *testing.T, body []byte, count int32, attributes uint16) {
		b := append(appendHeader(nil), body...)
		binary.BigEndian.PutUint16(b[atAttributes:], attributes)
		binary.BigEndian.PutUint32(b[atLastDelta:], uint32(count-1))
		binary.BigEndian.PutUint32(b[atCount:], uint32(count))
		sealed(b)
		err := Check(b, Limits{})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		it := Iterate(b, 1<<20)
		n := 0
		for it.Next() {
			n++
		}
		if Batch(b).Codec() != Uncompressed {
			return
		}
		if it.Err() != nil || n != int(count) {
			t.Fatalf("Check accepted, Iterate read %d of %d: %v", n, count, it.Err())
		}
		var k kmsg.RecordBatch
		if err := k.ReadFrom(b); err != nil {
			t.Fatalf("Check accepted, kmsg did not: %v", err)
		}
	})
}

// FuzzRaw gives Check and Iterate arbitrary bytes: neither may panic.
func FuzzRaw(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendRecord(nil, &Record{Value: []byte("v")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = Check(b, Limits{})
		it := Iterate(b, 1<<16)
		for it.Next() {
			_ = it.Record().Bytes()
		}
	})
}
