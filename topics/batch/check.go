package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Attribute bits. Bits other than the codec's mean something else than plain
// data with the client's times, and Check refuses them all.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
)

// Limits bound what Check accepts. Zero fields mean the default.
type Limits struct {
	// Bytes is the largest whole batch; default 16 MiB.
	Bytes int
	// Records is the largest number of records; default 1,000,000.
	Records int
	// RecordBytes is the largest record, counted as Record.Bytes; checked only
	// when the batch is uncompressed. Default: Bytes.
	RecordBytes int
}

func (l Limits) withDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 16 << 20
	}
	if l.Records <= 0 {
		l.Records = 1_000_000
	}
	if l.RecordBytes <= 0 {
		l.RecordBytes = l.Bytes
	}
	return l
}

// Check reports whether b is exactly one record batch that Wiber may store:
// size, magic, attributes, CRC32C, and a count of lastOffsetDelta + 1. The
// records of an uncompressed batch are walked to the last byte; those of a
// compressed one are left alone. It allocates nothing and keeps nothing of b.
// The error wraps ErrCorrupt, ErrUnsupported or ErrTooLarge.
func Check(b []byte, limits Limits) error {
	l := limits.withDefaults()
	if len(b) > l.Bytes {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(b), l.Bytes)
	}
	if len(b) < HeaderBytes {
		return fmt.Errorf("%w: %d bytes are less than a header of %d", ErrCorrupt, len(b), HeaderBytes)
	}
	h := Batch(b)
	if m := b[atMagic]; m != Magic {
		return fmt.Errorf("%w: magic %d, only %d is stored", ErrUnsupported, m, Magic)
	}
	if h.Size() != len(b) {
		return fmt.Errorf("%w: header states %d bytes, there are %d", ErrCorrupt, h.Size(), len(b))
	}
	if sum := crc32.Checksum(b[atAttributes:], castagnoli); sum != h.CRC() {
		return fmt.Errorf("%w: CRC32C is %08x, header states %08x", ErrCorrupt, sum, h.CRC())
	}
	if err := checkAttributes(h.Attributes()); err != nil {
		return err
	}
	count := h.Count()
	if count < 1 || count-1 != int(h.LastOffsetDelta()) {
		return fmt.Errorf("%w: %d records with last offset delta %d", ErrCorrupt, count, h.LastOffsetDelta())
	}
	if count > l.Records {
		return fmt.Errorf("%w: %d records, the limit is %d", ErrTooLarge, count, l.Records)
	}
	if h.Codec() != Uncompressed {
		return nil
	}
	return walk(b[HeaderBytes:], count, l.RecordBytes)
}

func checkAttributes(a uint16) error {
	switch {
	case a&attrControl != 0:
		return fmt.Errorf("%w: control batch", ErrUnsupported)
	case a&attrTransactional != 0:
		return fmt.Errorf("%w: transactional batch", ErrUnsupported)
	case a&attrLogAppendTime != 0:
		return fmt.Errorf("%w: timestamps of the log's append time", ErrUnsupported)
	case a&^attrCodec != 0:
		return fmt.Errorf("%w: attributes %#04x", ErrUnsupported, a)
	case Codec(a&attrCodec) > Zstd:
		return fmt.Errorf("%w: %v", ErrUnsupported, Codec(a&attrCodec))
	}
	return nil
}

// walk reads count records and wants them to be dense, whole, and followed by nothing.
func walk(p []byte, count, recordBytes int) error {
	for i := range count {
		body, rest, err := splitRecord(p)
		if err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
		var r Record
		size, err := parseRecord(body, &r, false)
		if err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
		if int(r.OffsetDelta) != i {
			return fmt.Errorf("%w: record %d has offset delta %d", ErrCorrupt, i, r.OffsetDelta)
		}
		if size > recordBytes {
			return fmt.Errorf("%w: record %d has %d bytes, the limit is %d", ErrTooLarge, i, size, recordBytes)
		}
		p = rest
	}
	if len(p) != 0 {
		return fmt.Errorf("%w: %d bytes after the last record", ErrCorrupt, len(p))
	}
	return nil
}

// splitRecord cuts the first length-prefixed record off p.
func splitRecord(p []byte) (body, rest []byte, err error) {
	n, p, err := varint(p)
	if err != nil {
		return nil, nil, err
	}
	if n < 0 || n > int64(len(p)) {
		return nil, nil, fmt.Errorf("%w: record length %d, %d bytes are left", ErrCorrupt, n, len(p))
	}
	return p[:n], p[n:], nil
}

// parseRecord reads one record's body into r, whose slices then point into p;
// r.Timestamp gets the delta. Headers are collected only if keep is set, into
// r.Headers[:0]. It returns the record's size as Record.Bytes counts it.
func parseRecord(p []byte, r *Record, keep bool) (int, error) {
	if len(p) < 1 {
		return 0, fmt.Errorf("%w: empty record", ErrCorrupt)
	}
	p = p[1:] // attributes: no bit is in use
	var delta, n int64
	var err error
	if r.Timestamp, p, err = varint(p); err != nil {
		return 0, err
	}
	if delta, p, err = varint(p); err != nil {
		return 0, err
	}
	if delta < 0 || delta > 1<<31-1 {
		return 0, fmt.Errorf("%w: offset delta %d", ErrCorrupt, delta)
	}
	r.OffsetDelta = int32(delta)
	if r.Key, p, err = nullable(p); err != nil {
		return 0, fmt.Errorf("key: %w", err)
	}
	if r.Value, p, err = nullable(p); err != nil {
		return 0, fmt.Errorf("value: %w", err)
	}
	if n, p, err = varint(p); err != nil {
		return 0, err
	}
	if n < 0 || n > int64(len(p))/2 { // a header takes two bytes at least
		return 0, fmt.Errorf("%w: %d headers in %d bytes", ErrCorrupt, n, len(p))
	}
	r.ID, r.Headers = nil, r.Headers[:0]
	size := len(r.Key) + len(r.Value)
	for range n {
		var h Header
		if h.Name, p, err = nullable(p); err != nil {
			return 0, fmt.Errorf("header: %w", err)
		}
		if h.Name == nil {
			return 0, fmt.Errorf("%w: header without a name", ErrCorrupt)
		}
		if h.Value, p, err = nullable(p); err != nil {
			return 0, fmt.Errorf("header: %w", err)
		}
		if r.ID == nil && h.Value != nil && string(h.Name) == IDHeader {
			r.ID = h.Value
			continue
		}
		size += len(h.Name) + len(h.Value)
		if keep {
			r.Headers = append(r.Headers, h)
		}
	}
	if len(p) != 0 {
		return 0, fmt.Errorf("%w: %d bytes after the last header", ErrCorrupt, len(p))
	}
	return size, nil
}

// varint reads a zigzag number and returns what follows it.
func varint(p []byte) (int64, []byte, error) {
	v, n := binary.Varint(p)
	if n <= 0 {
		return 0, nil, fmt.Errorf("%w: bad varint", ErrCorrupt)
	}
	return v, p[n:], nil
}

// nullable reads a length and as many bytes; -1 is null and gives nil.
func nullable(p []byte) (v, rest []byte, err error) {
	n, p, err := varint(p)
	if err != nil {
		return nil, nil, err
	}
	if n == -1 {
		return nil, p, nil
	}
	if n < 0 || n > int64(len(p)) {
		return nil, nil, fmt.Errorf("%w: length %d, %d bytes are left", ErrCorrupt, n, len(p))
	}
	return p[:n:n], p[n:], nil
}
