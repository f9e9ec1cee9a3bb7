package batch

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
)

// Iterator returns the records of a batch one after the other:
//
//	it := batch.Iterate(b, maxBytes)
//	for it.Next() {
//		use(it.Record())
//	}
//	return it.Err()
//
// It does not check the CRC; Check does. An Iterator is for one goroutine.
type Iterator struct {
	rest  []byte
	base  int64
	left  int
	count int
	rec   Record
	err   error
}

// Iterate starts reading the records of b, a batch that Check accepted.
// Uncompressed records are read in place; those of a gzip batch are unpacked
// first, into at most maxBytes (ErrTooLarge otherwise). Other codecs give an
// error that wraps ErrUnsupported and names the codec.
func Iterate(b Batch, maxBytes int) Iterator {
	if len(b) < HeaderBytes {
		return Iterator{err: fmt.Errorf("%w: %d bytes are less than a header of %d", ErrCorrupt, len(b), HeaderBytes)}
	}
	it := Iterator{base: b.BaseTimestamp(), left: b.Count(), count: b.Count()}
	switch c := b.Codec(); c {
	case Uncompressed:
		it.rest = b[HeaderBytes:]
	case Gzip:
		it.rest, it.err = unpack(b[HeaderBytes:], maxBytes)
	default:
		it.err = fmt.Errorf("%w: its records are compressed with %v, which is not unpacked here", ErrUnsupported, c)
	}
	return it
}

// Next moves to the next record and reports whether there is one.
func (it *Iterator) Next() bool {
	if it.err != nil || it.left <= 0 {
		return false
	}
	body, rest, err := splitRecord(it.rest)
	if err == nil {
		_, err = parseRecord(body, &it.rec, true)
	}
	if err != nil {
		it.err = fmt.Errorf("record %d: %w", it.count-it.left, err)
		return false
	}
	it.rec.Timestamp += it.base
	it.rest = rest
	it.left--
	return true
}

// Record returns the current record. It is overwritten by Next, its Headers
// too; Key, ID, Value and the headers' bytes point into the batch, or into the
// unpacked copy of a compressed one, and stay valid as long as that does.
func (it *Iterator) Record() *Record { return &it.rec }

// Err returns why Next stopped early, or nil.
func (it *Iterator) Err() error { return it.err }

func unpack(p []byte, maxBytes int) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(p))
	if err != nil {
		return nil, fmt.Errorf("%w: gzip: %w", ErrCorrupt, err)
	}
	out, err := io.ReadAll(io.LimitReader(z, int64(maxBytes)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: gzip: %w", ErrCorrupt, err)
	}
	if len(out) > maxBytes {
		return nil, fmt.Errorf("%w: over %d bytes when unpacked", ErrTooLarge, maxBytes)
	}
	return out, nil
}
