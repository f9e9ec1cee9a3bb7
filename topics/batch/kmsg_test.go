package batch

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// An independent implementation reads what Build wrote, field by field.
func TestKmsgReadsOurBatches(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		records := some(rng, 1+rng.IntN(10))
		b, err := Build(nil, records)
		if err != nil {
			t.Fatal(err)
		}
		Batch(b).SetBase(1234, 5)
		var k kmsg.RecordBatch
		if err := k.ReadFrom(b); err != nil {
			t.Fatalf("seed %d: kmsg: %v", seed, err)
		}
		h := Batch(b)
		if k.FirstOffset != 1234 || k.PartitionLeaderEpoch != 5 || int(k.NumRecords) != len(records) || k.Magic != 2 ||
			uint32(k.CRC) != h.CRC() || k.FirstTimestamp != h.BaseTimestamp() || k.MaxTimestamp != h.MaxTimestamp() ||
			k.LastOffsetDelta != h.LastOffsetDelta() || k.ProducerID != -1 || k.ProducerEpoch != -1 || k.FirstSequence != -1 || k.Attributes != 0 {
			t.Fatalf("seed %d: kmsg reads %+v", seed, k)
		}
		rest := k.Records
		for i := range records {
			length, n := binary.Varint(rest)
			var r kmsg.Record
			if err := r.ReadFrom(rest[:n+int(length)]); err != nil {
				t.Fatalf("seed %d record %d: kmsg: %v", seed, i, err)
			}
			rest = rest[n+int(length):]
			w := records[i]
			headers := w.Headers
			if w.ID != nil {
				headers = append([]Header{{[]byte(IDHeader), w.ID}}, headers...)
			}
			if !same(r.Key, w.Key) || !same(r.Value, w.Value) || int(r.OffsetDelta) != i ||
				k.FirstTimestamp+r.TimestampDelta64 != w.Timestamp || len(r.Headers) != len(headers) {
				t.Fatalf("seed %d record %d: kmsg reads %+v, wrote %+v", seed, i, r, w)
			}
			for j, kh := range r.Headers {
				if kh.Key != string(headers[j].Name) || !same(kh.Value, headers[j].Value) {
					t.Fatalf("seed %d record %d header %d: kmsg reads %+v", seed, i, j, kh)
				}
			}
		}
		if len(rest) != 0 {
			t.Fatalf("seed %d: %d bytes left", seed, len(rest))
		}
	}
}

// And this package reads what the other one wrote, down to equal bytes.
func TestWeReadKmsgsBatches(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 3))
		records := some(rng, 1+rng.IntN(10))
		want, err := Build(nil, records)
		if err != nil {
			t.Fatal(err)
		}
		var body []byte
		for i, w := range records {
			r := kmsg.Record{TimestampDelta64: w.Timestamp - records[0].Timestamp, OffsetDelta: int32(i), Key: w.Key, Value: w.Value}
			if w.ID != nil {
				r.Headers = append(r.Headers, kmsg.Header{Key: IDHeader, Value: w.ID})
			}
			for _, h := range w.Headers {
				r.Headers = append(r.Headers, kmsg.Header{Key: string(h.Name), Value: h.Value})
			}
			r.Length = int32(len(r.AppendTo(nil)) - 1) // a length of 0 takes one byte
			body = r.AppendTo(body)
		}
		h := Batch(want)
		k := kmsg.RecordBatch{Length: int32(HeaderBytes - PrefixBytes + len(body)), PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: int32(len(records) - 1),
			FirstTimestamp: h.BaseTimestamp(), MaxTimestamp: h.MaxTimestamp(), ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
			NumRecords: int32(len(records)), Records: body}
		got := sealed(k.AppendTo(nil))
		if !bytes.Equal(got, want) {
			t.Fatalf("seed %d:\nkmsg %x\nours %x", seed, got, want)
		}
	}
}
