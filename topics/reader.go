package topics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"sync"
)

// HotLog is the node's log as readers need it; a *wal.WAL is one. Its lookups
// cover the segments that have an index file, and it is safe for concurrent use.
type HotLog interface {
	// ReadAt reads len(p) bytes from one segment.
	ReadAt(p []byte, pos Pos) error
	// FindTime returns a stream's first batch with TS >= ts.
	FindTime(s Stream, ts uint64) (StreamRecord, Pos, bool, error)
	// Scan returns up to max batches in order, beginning with the one that
	// holds from, or else the first above it.
	Scan(s Stream, from uint64, max int) ([]Located, error)
	// ScanBack returns up to max batches, the newest first, beginning with the
	// one that holds until-1, or else the first below it.
	ScanBack(s Stream, until uint64, max int) ([]Located, error)
}

// ErrNoBatch says that no batch holds the offset: it lies at or beyond the end,
// below the start, or its topic is gone.
var ErrNoBatch = errors.New("topics: no batch holds this offset")

// StoredBatch is one batch as it lies in the log, and what its receipt said.
type StoredBatch struct {
	Located
	Stored
}

// Next returns the offset behind the batch.
func (b *StoredBatch) Next() uint64 { return b.Base + uint64(b.Count) }

// Reader reads a shard's batches, wherever in the log they lie. It is safe for
// concurrent use: it holds the shard's lock only to look positions up, never
// while it reads the log.
type Reader struct {
	mu     sync.Locker
	broker *Broker
	log    HotLog
}

// NewReader returns a reader of b. mu is the lock that guards b.
func NewReader(mu sync.Locker, b *Broker, log HotLog) *Reader {
	return &Reader{mu: mu, broker: b, log: log}
}

// lookup is how many positions are looked up at once.
const lookup = 256

// maxSpan bounds what is read from the log at once, and maxHole what is read
// between two wanted batches rather than skipped.
const (
	maxSpan = 1 << 20
	maxHole = 16 << 10
)

// Read returns the batches of a stream from the one that holds offset from, or
// the stream's first, until their commands exceed maxBytes; at least one, if
// there is one. Nothing means that from is at the end.
func (r *Reader) Read(s Stream, from uint64, maxBytes int) ([]StoredBatch, error) {
	found, err := r.scan(s, from, maxBytes, math.MaxInt)
	if err != nil {
		return nil, err
	}
	return r.fetch(found)
}

// ReadBack returns the batches of a stream whose base is below before, the
// newest first, until their commands exceed maxBytes; at least one, if there is
// one. Nothing means that before is at the start.
func (r *Reader) ReadBack(s Stream, before uint64, maxBytes int) ([]StoredBatch, error) {
	found, err := r.scanBack(s, before, maxBytes)
	if err != nil {
		return nil, err
	}
	return r.fetch(found)
}

// At returns the batch that holds an offset: what a duplicate's first receipt
// said. The error is ErrNoBatch if there is none.
func (r *Reader) At(s Stream, offset uint64) (StoredBatch, error) {
	found, err := r.scan(s, offset, 1, 1)
	if err != nil {
		return StoredBatch{}, err
	}
	if len(found) == 0 || found[0].Base > offset {
		return StoredBatch{}, ErrNoBatch
	}
	batches, err := r.fetch(found)
	if err != nil {
		return StoredBatch{}, err
	}
	return batches[0], nil
}

// OffsetAt returns the base of the stream's first batch with a stamp of ts or
// later, or the next offset if there is none.
func (r *Reader) OffsetAt(s Stream, ts uint64) (uint64, error) {
	r.mu.Lock()
	m := r.broker.findTime(s, ts)
	r.mu.Unlock()
	if m.certain {
		return m.offset, nil
	}
	// What is older lies in index files; so does what left memory since.
	old, _, ok, err := r.log.FindTime(s, ts)
	if err != nil {
		return 0, fmt.Errorf("find stamp %d of %v: %w", ts, s, err)
	}
	if ok && old.Base < m.next {
		return max(old.Base, m.start), nil
	}
	return m.offset, nil
}

// timeLookup is what memory knows about a stamp.
type timeLookup struct {
	start, next uint64
	offset      uint64 // the answer, unless an index file has an older one
	certain     bool   // no index file can
}

func (b *Broker) findTime(s Stream, ts uint64) timeLookup {
	slot, ok := b.slots[s]
	if !ok {
		return timeLookup{certain: true}
	}
	p := &b.parts[slot]
	m := timeLookup{start: p.start, next: p.next, offset: p.next}
	oldest, ok := b.hot.oldest(slot)
	if !ok {
		m.certain = p.start == p.next
		return m
	}
	l, found := b.hot.findTime(s, slot, ts)
	if found {
		m.offset = max(l.Base, p.start)
	}
	m.certain = !found || l.Base > oldest || oldest <= p.start
	return m
}

// scan returns the positions that Read reads.
func (r *Reader) scan(s Stream, from uint64, maxBytes, most int) (found []Located, err error) {
	for bytes := 0; bytes < maxBytes && len(found) < most; {
		want := min(lookup, most-len(found))
		r.mu.Lock()
		start, next := r.broker.Offsets(s)
		from = max(from, start)
		part, covered := r.broker.scanMemory(s, from, want)
		r.mu.Unlock()
		if from >= next {
			break
		}
		if !covered {
			if part, err = r.log.Scan(s, from, want); err != nil {
				return nil, fmt.Errorf("look up offset %d of %v: %w", from, s, err)
			}
		}
		n := len(found)
		for i := range part {
			if part[i].Base >= next || bytes >= maxBytes || len(found) > n && part[i].Base != from {
				break
			}
			found = append(found, part[i])
			bytes += int(part[i].Len)
			from = part[i].Base + uint64(part[i].Count)
		}
		if len(found) == n {
			return nil, fmt.Errorf("look up offset %d of %v: neither memory nor an index file holds it, though the next offset is %d", from, s, next)
		}
	}
	return found, nil
}

// scanMemory returns batches from memory; covered says that from is not older
// than what is there.
func (b *Broker) scanMemory(s Stream, from uint64, limit int) (found []Located, covered bool) {
	slot, ok := b.slots[s]
	if !ok {
		return nil, true
	}
	oldest, ok := b.hot.oldest(slot)
	if !ok || from < oldest {
		return nil, false
	}
	return b.hot.scan(s, slot, from, limit, nil), true
}

// scanBack returns the positions that ReadBack reads.
func (r *Reader) scanBack(s Stream, before uint64, maxBytes int) (found []Located, err error) {
	for bytes := 0; bytes < maxBytes; {
		r.mu.Lock()
		start, next := r.broker.Offsets(s)
		before = min(before, next)
		var part []Located
		if slot, ok := r.broker.slots[s]; ok && before > start {
			part = r.broker.hot.scanBack(s, slot, before, lookup, nil)
		}
		r.mu.Unlock()
		if before <= start {
			break
		}
		if len(part) == 0 {
			if part, err = r.log.ScanBack(s, before, lookup); err != nil {
				return nil, fmt.Errorf("look up offset %d of %v backwards: %w", before, s, err)
			}
		}
		n := len(found)
		for i := range part {
			if end := part[i].Base + uint64(part[i].Count); bytes >= maxBytes || end <= start || part[i].Base >= before {
				break
			}
			found = append(found, part[i])
			bytes += int(part[i].Len)
			before = part[i].Base
		}
		if len(found) == n {
			return nil, fmt.Errorf("look up the batch below offset %d of %v: neither memory nor an index file holds it, though the first offset is %d", before, s, start)
		}
	}
	return found, nil
}

// fetch reads commands from the log, neighbours with one read.
func (r *Reader) fetch(found []Located) ([]StoredBatch, error) {
	batches := make([]StoredBatch, len(found))
	for i := 0; i < len(found); {
		n, lo, hi := neighbours(found[i:])
		span := make([]byte, hi-lo)
		if err := r.log.ReadAt(span, Pos{Segment: found[i].Pos.Segment, Offset: lo}); err != nil {
			return nil, fmt.Errorf("read %d bytes at segment %d offset %d: %w", len(span), found[i].Pos.Segment, lo, err)
		}
		for _, l := range found[i : i+n] {
			at := l.Pos.Offset - lo
			stored, err := DecodeStored(span[at : at+int64(l.Len) : at+int64(l.Len)])
			if err == nil && (stored.UID != l.UID || stored.Partition != l.StreamRecord.Partition || stored.Stamp.TS != l.TS) {
				err = malformed("another batch than the index says")
			}
			if err == nil && !intact(stored.Batch) {
				err = malformed("the batch's checksum is wrong: the log's file is damaged")
			}
			if err != nil {
				return nil, fmt.Errorf("offset %d of %v at segment %d offset %d: %w", l.Base, l.Stream, l.Pos.Segment, l.Pos.Offset, err)
			}
			batches[i] = StoredBatch{Located: l, Stored: stored}
			i++
		}
	}
	return batches, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// intact reports whether a batch has the checksum that it came with. A read at a
// position passes by the log's own.
func intact(b []byte) bool {
	const crc, covered = 17, 21
	return len(b) > covered && crc32.Checksum(b[covered:], castagnoli) == binary.BigEndian.Uint32(b[crc:])
}

// neighbours returns how many of the first positions are read at once, and from
// where to where in their segment.
func neighbours(found []Located) (n int, lo, hi int64) {
	lo = found[0].Pos.Offset
	hi = lo + int64(found[0].Len)
	for n = 1; n < len(found); n++ {
		l := &found[n]
		start, end := l.Pos.Offset, l.Pos.Offset+int64(l.Len)
		if l.Pos.Segment != found[0].Pos.Segment || max(end, hi)-min(start, lo) > maxSpan || start > hi+maxHole || end < lo-maxHole {
			break
		}
		lo, hi = min(lo, start), max(hi, end)
	}
	return n, lo, hi
}
