package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// AppendRecord appends a batch of the one record r to dst and returns the
// longer slice. The batch is uncompressed, has base offset 0, leader epoch -1
// and no producer. It allocates only if dst must grow, and keeps nothing of r.
func AppendRecord(dst []byte, r *Record) []byte {
	start := len(dst)
	dst = appendHeader(dst)
	dst = appendRecord(dst, r, 0, 0)
	finish(dst[start:], 1, r.Timestamp, r.Timestamp)
	return dst
}

// Build appends one batch of all records to dst and returns the longer slice;
// otherwise it is like AppendRecord. It returns dst unchanged and an error
// when there is no record or the batch would pass 2 GiB.
func Build(dst []byte, records []Record) ([]byte, error) {
	if len(records) == 0 {
		return dst, fmt.Errorf("%w: a batch has one record at least", ErrUnsupported)
	}
	start := len(dst)
	dst = appendHeader(dst)
	base, last := records[0].Timestamp, records[0].Timestamp
	for i := range records {
		r := &records[i]
		last = max(last, r.Timestamp)
		dst = appendRecord(dst, r, r.Timestamp-base, i)
		if len(dst)-start > math.MaxInt32 {
			return dst[:start], fmt.Errorf("%w: over %d bytes", ErrTooLarge, math.MaxInt32)
		}
	}
	finish(dst[start:], len(records), base, last)
	return dst, nil
}

func appendHeader(dst []byte) []byte {
	var h [HeaderBytes]byte
	h[atMagic] = Magic
	for _, f := range [...]struct{ at, n int }{{atLeaderEpoch, 4}, {atProducerID, 8}, {atProducerEpoch, 2}, {atBaseSequence, 4}} {
		for i := range f.n {
			h[f.at+i] = 0xff // -1: none
		}
	}
	return append(dst, h[:]...)
}

func finish(b []byte, count int, base, last int64) {
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-PrefixBytes))
	binary.BigEndian.PutUint32(b[atLastDelta:], uint32(count-1))
	binary.BigEndian.PutUint64(b[atBaseTimestamp:], uint64(base))
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(last))
	binary.BigEndian.PutUint32(b[atCount:], uint32(count))
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
}

func appendRecord(dst []byte, r *Record, timestampDelta int64, offsetDelta int) []byte {
	headers := len(r.Headers)
	if r.ID != nil {
		headers++
	}
	n := 1 + varintLen(timestampDelta) + varintLen(int64(offsetDelta)) +
		nullableLen(r.Key) + nullableLen(r.Value) + varintLen(int64(headers))
	if r.ID != nil {
		n += varintLen(int64(len(IDHeader))) + len(IDHeader) + nullableLen(r.ID)
	}
	for i := range r.Headers {
		name := r.Headers[i].Name
		n += varintLen(int64(len(name))) + len(name) + nullableLen(r.Headers[i].Value)
	}

	dst = binary.AppendVarint(dst, int64(n))
	dst = append(dst, 0)
	dst = binary.AppendVarint(dst, timestampDelta)
	dst = binary.AppendVarint(dst, int64(offsetDelta))
	dst = appendNullable(dst, r.Key)
	dst = appendNullable(dst, r.Value)
	dst = binary.AppendVarint(dst, int64(headers))
	if r.ID != nil {
		dst = binary.AppendVarint(dst, int64(len(IDHeader)))
		dst = append(dst, IDHeader...)
		dst = appendNullable(dst, r.ID)
	}
	for i := range r.Headers {
		name := r.Headers[i].Name
		dst = binary.AppendVarint(dst, int64(len(name)))
		dst = append(dst, name...)
		dst = appendNullable(dst, r.Headers[i].Value)
	}
	return dst
}

func appendNullable(dst, p []byte) []byte {
	if p == nil {
		return append(dst, 1) // -1, zigzag
	}
	dst = binary.AppendVarint(dst, int64(len(p)))
	return append(dst, p...)
}

func nullableLen(p []byte) int {
	if p == nil {
		return 1
	}
	return varintLen(int64(len(p))) + len(p)
}

func varintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}
