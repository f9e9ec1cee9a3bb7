package topics

import "fmt"

// model is a dumb twin of Broker: it keeps every command that ever took effect
// and searches it from the beginning.
type model struct {
	topics   map[uint64]configure
	written  []modelBatch
	silence  map[string]uint64 // producer and stream -> stamp of its last command
	dedupIDs int
}

type modelBatch struct {
	stream Stream
	base   uint64
	count  uint32
	ts     uint64
	id     Hash
	hasID  bool
	expiry uint64
	// Of its producer; a later epoch or a long silence makes it ancient.
	producer string
	epoch    uint32
	seq      uint64
	ancient  bool
	offsets  bool // base is of this very batch
}

func newModel() *model {
	return &model{topics: map[uint64]configure{}, silence: map[string]uint64{}, dedupIDs: DefaultDedupIDs}
}

func (m *model) next(s Stream) (next uint64) {
	for _, w := range m.written {
		if w.stream == s && w.offsets {
			next = w.base + uint64(w.count)
		}
	}
	return next
}

// publish returns what Broker must decide; only the decided fields are set.
func (m *model) publish(p Publish, count uint32, ts uint64) (r Result) {
	s := stream(p.UID, p.Partition)
	r.UID, r.Partition, r.Count = s.UID, s.Partition, count
	t, ok := m.topics[p.UID]
	if !ok {
		r.Code = NoTopic
		return r
	}
	if p.Partition >= t.Partitions {
		r.Code = OutOfRange
		return r
	}
	key := ""
	if p.HasProducer {
		key = fmt.Sprint(p.Producer, s)
		last, offsets, known := m.producer(key, p.Epoch, ts)
		end := p.Seq + uint64(count) - 1
		switch {
		case !known && p.Seq != 1:
			r.Code, r.Expected = Gap, 1
			return r
		case known && last.epoch > p.Epoch, p.Seq == 0, known && p.Seq > last.seq+1, known && p.Seq <= last.seq && end > last.seq:
			r.Code, r.Expected = Gap, last.seq+1
			return r
		case known && p.Seq <= last.seq:
			m.silence[key] = ts
			r.Duplicate = true
			if p.Seq+1000 > last.seq {
				r.Base = offsets[p.Seq]
			} else {
				r.NoOffset = true
			}
			return r
		}
	}
	w := modelBatch{stream: s, base: m.next(s), count: count, ts: ts, producer: key, epoch: p.Epoch, seq: p.Seq, offsets: true}
	if p.HasID {
		live := 0
		for _, o := range m.written {
			if o.hasID && o.id == p.ID && o.expiry > ts {
				r.Duplicate, r.Base = true, o.base
				if p.HasProducer {
					w.base, w.offsets = o.base, false
					m.forget(key, p.Epoch, ts)
					m.written = append(m.written, w)
					m.silence[key] = ts
				}
				return r
			}
			if o.hasID && o.expiry/1e6 >= ts/1e6 && !m.replaced(o) {
				live++
			}
		}
		if live >= m.dedupIDs {
			r.Code = Busy
			return r
		}
		w.id, w.hasID, w.expiry = p.ID, t.DedupWindowUS > 0, ts+t.DedupWindowUS
	}
	if p.HasProducer {
		m.forget(key, p.Epoch, ts)
		m.silence[key] = ts
	}
	m.written = append(m.written, w)
	r.Base = w.base
	return r
}

// replaced reports whether a later write has the same id.
func (m *model) replaced(o modelBatch) bool {
	for _, w := range m.written {
		if w.hasID && w.id == o.id && w.ts > o.ts {
			return true
		}
	}
	return false
}

// forget makes a producer's older epochs, and what it wrote before a long
// silence, ancient.
func (m *model) forget(key string, epoch uint32, ts uint64) {
	silent := ts-m.silence[key] >= ProducerSilenceUS
	for i := range m.written {
		if w := &m.written[i]; w.producer == key && (silent || w.epoch < epoch) {
			w.ancient = true
		}
	}
}

// producer returns the last batch of a producer with seq set to its last number,
// and the offsets of all its numbers.
func (m *model) producer(key string, epoch uint32, ts uint64) (last modelBatch, offsets map[uint64]uint64, known bool) {
	if ts-m.silence[key] >= ProducerSilenceUS {
		return last, nil, false
	}
	offsets = map[uint64]uint64{}
	for _, w := range m.written {
		if w.producer == key && !w.ancient {
			last, known = w, true
			for i := range uint64(w.count) {
				offsets[w.seq+i] = w.base + i
			}
		}
	}
	last.seq += uint64(last.count) - 1
	if known && epoch > last.epoch {
		return last, nil, false
	}
	return last, offsets, known
}
