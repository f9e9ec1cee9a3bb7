package server

import (
	"container/heap"
	"fmt"

	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/wire"
)

// maxUnpacked bounds the records of one compressed batch.
const maxUnpacked = 64 << 20

// reader returns the messages of a part of one partition, one at a time, up or
// down. It holds one chunk of batches.
type reader struct {
	b      Backend
	stream Stream
	lo, hi uint64 // what is left to read: [lo, hi)
	down   bool
	chunk  int    // bytes to read at once
	since  uint64 // messages stamped before are left out
	whole  bool   // the log has all of [lo, hi): less is an error

	held    int // bytes that were read at once and are not let go of
	batches []Stored
	open    bool // it is inside the batch cur
	cur     Stored
	it      batch.Iterator
	left    []batch.Record // of cur, when reading down: what is left

	msg wire.Message // the current one; its bytes are the batch's
}

func newReader(b Backend, t *Topic, partition uint32, lo, hi uint64, down bool, chunk int) *reader {
	r := &reader{b: b, stream: Stream{t.UID, partition}, lo: lo, hi: hi, down: down, chunk: chunk}
	r.msg = wire.Message{Topic: t.Name, Partition: int(partition), Partitioned: t.Partitions > 1}
	return r
}

// next moves to the next message. It returns nil at the end of the part, and
// where the log has no more yet.
func (r *reader) next() (*wire.Message, error) {
	for {
		if r.open {
			record, err := r.record()
			if err != nil {
				return nil, fmt.Errorf("batch at offset %d of topic %s/%d: %w", r.cur.Base, r.msg.Topic, r.msg.Partition, err)
			}
			if record != nil {
				return r.message(record), nil
			}
			r.open = false
		}
		if r.lo >= r.hi {
			return nil, nil
		}
		if len(r.batches) == 0 {
			var err error
			if r.down {
				r.batches, err = r.b.ReadBack(r.stream, r.hi, r.chunk)
			} else {
				r.batches, err = r.b.Read(r.stream, r.lo, r.chunk)
			}
			r.held = 0
			for i := range r.batches {
				r.held += len(r.batches[i].Batch)
			}
			switch {
			case err != nil:
				return nil, err
			case len(r.batches) == 0 && r.whole:
				return nil, fmt.Errorf("topic %s/%d: the log has nothing of offsets %d to %d", r.msg.Topic, r.msg.Partition, r.lo, r.hi)
			case len(r.batches) == 0:
				return nil, nil
			}
		}
		r.cur, r.batches = r.batches[0], r.batches[1:]
		if err := r.enter(); err != nil {
			return nil, err
		}
	}
}

// rest lets go of what was read ahead; next goes on where it was.
func (r *reader) rest() {
	r.held = 0
	r.batches, r.open, r.cur, r.it, r.left = nil, false, Stored{}, batch.Iterator{}, nil
	r.msg.Key, r.msg.ID, r.msg.Value, r.msg.Headers = nil, nil, nil, nil
}

// enter begins with the batch cur.
func (r *reader) enter() error {
	end := r.cur.Base + uint64(r.cur.Count)
	if r.cur.TS < r.since {
		r.lo = max(r.lo, end)
		return nil
	}
	r.it = batch.Iterate(batch.Batch(r.cur.Batch), maxUnpacked)
	r.open = true
	if !r.down {
		return nil
	}
	r.left = r.left[:0]
	for r.it.Next() {
		record := *r.it.Record()
		record.Headers = append([]batch.Header(nil), record.Headers...)
		r.left = append(r.left, record)
	}
	return r.it.Err()
}

// record returns the next record of cur inside the part, nil if there is none.
func (r *reader) record() (*batch.Record, error) {
	if r.down {
		for len(r.left) > 0 {
			record := &r.left[len(r.left)-1]
			r.left = r.left[:len(r.left)-1]
			if offset := r.offset(record); offset < r.hi {
				r.hi = max(offset, r.lo)
				if offset >= r.lo {
					return record, nil
				}
				r.left = r.left[:0]
			}
		}
		return nil, nil
	}
	for r.it.Next() {
		record := r.it.Record()
		switch offset := r.offset(record); {
		case offset >= r.hi:
			r.lo = r.hi
			return nil, nil
		case offset >= r.lo:
			r.lo = offset + 1
			return record, nil
		}
	}
	return nil, r.it.Err()
}

func (r *reader) offset(record *batch.Record) uint64 {
	return r.cur.Base + uint64(record.OffsetDelta)
}

func (r *reader) message(record *batch.Record) *wire.Message {
	m := &r.msg
	m.Offset, m.TS, m.Eps, m.Lamport = r.offset(record), r.cur.TS, r.cur.Eps, r.cur.Lamport
	m.Key, m.ID, m.Value = record.Key, record.ID, record.Value
	m.Headers = m.Headers[:0]
	for _, h := range record.Headers {
		m.Headers = append(m.Headers, wire.Header{Name: h.Name, Value: h.Value})
	}
	return m
}

// merge returns the messages of several readers in the order of their stamps,
// those of one stamp in the order of their partitions; down, both backwards.
type merge struct {
	down    bool
	readers []*reader // each with a current message; a heap
	begun   bool
}

// next moves to the next message, nil at the end.
func (m *merge) next() (*wire.Message, error) {
	if !m.begun {
		m.begun = true
		left := m.readers[:0]
		for _, r := range m.readers {
			msg, err := r.next()
			if err != nil {
				return nil, err
			}
			if msg != nil {
				left = append(left, r)
			}
		}
		m.readers = left
		heap.Init(m)
	} else if len(m.readers) > 0 {
		msg, err := m.readers[0].next()
		switch {
		case err != nil:
			return nil, err
		case msg == nil:
			heap.Pop(m)
		default:
			heap.Fix(m, 0)
		}
	}
	if len(m.readers) == 0 {
		return nil, nil
	}
	return &m.readers[0].msg, nil
}

// Len implements heap.Interface, as the next four methods.
func (m *merge) Len() int { return len(m.readers) }

// Less orders by stamp and partition, upwards or downwards.
func (m *merge) Less(i, j int) bool {
	a, b := &m.readers[i].msg, &m.readers[j].msg
	if m.down {
		a, b = b, a
	}
	if a.TS != b.TS {
		return a.TS < b.TS
	}
	return a.Partition < b.Partition
}

// Swap swaps two readers.
func (m *merge) Swap(i, j int) { m.readers[i], m.readers[j] = m.readers[j], m.readers[i] }

// Push is never used.
func (m *merge) Push(any) { panic("server: a merge does not grow") }

// Pop removes the last reader.
func (m *merge) Pop() any {
	n := len(m.readers) - 1
	r := m.readers[n]
	m.readers[n] = nil
	m.readers = m.readers[:n]
	return r
}
