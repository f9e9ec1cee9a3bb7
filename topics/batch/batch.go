// Package batch builds, checks and reads Kafka record batches, version 2.
//
// A batch is the unit that Wiber stores: it goes from the client to the log and
// on to the reader as the same bytes. Only the base offset and the leader epoch
// change, with SetBase, and they lie outside the checksum. All functions work
// on slices of the caller; Build and AppendRecord append to a buffer of the
// caller, accessors and the Iterator return slices of the batch itself.
//
// Invariants, each with a test of the same name:
//
//	RoundTrip:  what Build wrote, Check accepts and Iterator returns unchanged.
//	BaseIsFree: SetBase changes no byte that the checksum covers.
//	Bounded:    no length inside a batch makes a reader allocate before it is
//	            known to fit.
//
// Not here: which offset a batch gets, and deduplication (topics). The format
// is docs/format/batch.md. Start reading at Check.
package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Places and sizes of the header fields; docs/format/batch.md has the table.
const (
	// HeaderBytes is the length of the header, which the records follow.
	HeaderBytes = 61
	// PrefixBytes is the length of base offset and batch length: with these
	// bytes Bytes tells how long the whole batch is.
	PrefixBytes = 12
	// Magic is the version of the record batch.
	Magic = 2
	// IDHeader is the name of the record header that carries a message's id.
	IDHeader = "wiber.id"

	atBaseOffset    = 0
	atLength        = 8
	atLeaderEpoch   = 12
	atMagic         = 16
	atCRC           = 17
	atAttributes    = 21
	atLastDelta     = 23
	atBaseTimestamp = 27
	atMaxTimestamp  = 35
	atProducerID    = 43
	atProducerEpoch = 51
	atBaseSequence  = 53
	atCount         = 57
)

// Codec is the compression of a batch's records.
type Codec uint8

// The codecs of Kafka. Check accepts them all; the Iterator reads
// Uncompressed and Gzip.
const (
	Uncompressed Codec = 0
	Gzip         Codec = 1
	Snappy       Codec = 2
	LZ4          Codec = 3
	Zstd         Codec = 4
)

// String returns the codec's name in Kafka's settings.
func (c Codec) String() string {
	names := [...]string{"none", "gzip", "snappy", "lz4", "zstd"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// What can be wrong with a batch. Errors of this package wrap one of these.
var (
	// ErrCorrupt: the bytes are not a whole, intact record batch.
	ErrCorrupt = errors.New("batch: corrupt record batch")
	// ErrUnsupported: intact as far as read, but not what Wiber stores or reads:
	// another magic, a control or transactional batch, an unknown codec.
	ErrUnsupported = errors.New("batch: unsupported record batch")
	// ErrTooLarge: the batch, one of its records or their number is over a limit.
	ErrTooLarge = errors.New("batch: too large")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is one whole record batch, prefix included. Its methods read the header
// and panic on fewer than HeaderBytes bytes; call them on what Check accepted.
// A Batch may be read concurrently while nobody calls SetBase on it.
type Batch []byte

// BaseOffset returns the offset of the first record.
func (b Batch) BaseOffset() int64 { return int64(binary.BigEndian.Uint64(b[atBaseOffset:])) }

// Size returns the size of the whole batch in bytes, as its header states it.
func (b Batch) Size() int { return PrefixBytes + int(int32(binary.BigEndian.Uint32(b[atLength:]))) }

// LeaderEpoch returns the epoch that SetBase wrote.
func (b Batch) LeaderEpoch() int32 { return int32(binary.BigEndian.Uint32(b[atLeaderEpoch:])) }

// CRC returns the stored CRC32C of everything from the attributes on.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[atCRC:]) }

// Attributes returns the attribute bits.
func (b Batch) Attributes() uint16 { return binary.BigEndian.Uint16(b[atAttributes:]) }

// Codec returns the compression of the records.
func (b Batch) Codec() Codec { return Codec(b.Attributes() & attrCodec) }

// LastOffsetDelta returns the offset of the last record minus that of the first.
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[atLastDelta:])) }

// BaseTimestamp returns the client's time of the first record, in milliseconds.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[atBaseTimestamp:])) }

// MaxTimestamp returns the largest of the client's times, in milliseconds.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[atMaxTimestamp:])) }

// ProducerID returns the producer's id, or -1.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[atProducerID:])) }

// ProducerEpoch returns the producer's epoch, or -1.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[atProducerEpoch:])) }

// BaseSequence returns the producer's sequence number of the first record, or -1.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[atBaseSequence:])) }

// Count returns the number of records.
func (b Batch) Count() int { return int(int32(binary.BigEndian.Uint32(b[atCount:]))) }

// SetBase writes the offset of the first record and the leader epoch. It
// changes 12 bytes outside the checksum and allocates nothing.
func (b Batch) SetBase(offset int64, epoch int32) {
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(offset))
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(epoch))
}

// Header is a named value beside a record's payload. A nil Value is Kafka's
// null and is kept apart from an empty one.
type Header struct {
	Name  []byte
	Value []byte
}

// Record is one message of a batch.
type Record struct {
	// Key is nil when the record has none; an empty key is a key.
	Key []byte
	// ID is the value of the header IDHeader; nil when the record has none.
	ID []byte
	// Value is the payload. Nil is Kafka's null.
	Value []byte
	// Headers are the record's headers in order, without IDHeader.
	Headers []Header
	// Timestamp is the client's time in milliseconds since 1970.
	Timestamp int64
	// OffsetDelta is the record's offset minus the batch's base offset. The
	// Iterator sets it; builders number the records themselves and ignore it.
	OffsetDelta int32
}

// Bytes returns what a topic's maxMessageBytes counts: payload, key, and names
// and values of the headers.
func (r *Record) Bytes() int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Name) + len(r.Headers[i].Value)
	}
	return n
}
