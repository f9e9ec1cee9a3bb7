package topics

import (
	"encoding/binary"
	"slices"
)

// Broker is the state machine of a data shard: it gives every published batch
// its offset, or recognises it as one that was written before.
//
// What it knows of topics stands in its own log (Configure, Drop); what time it
// is is the last stamp. It is not safe for concurrent use.
type Broker struct {
	machine
	dedupIDs  uint64
	topics    map[uint64]topicState
	slots     map[Stream]uint32 // stream -> its place in parts
	parts     []partition
	free      []uint32 // places in parts of dropped streams
	ids       idTable
	producers producerTable
	hot       hotIndex
	// changed lists the topics that were configured or dropped since the last
	// checkpoint; a uid may stand in it more than once.
	changed []uint64
}

// topicState is what a shard knows of a topic.
type topicState struct {
	partitions    uint32
	generation    uint64
	dedupWindowUS uint64
}

// partition is one stream of the shard. It exists from its first batch on.
type partition struct {
	uid    uint64 // 0: a free place
	number uint32
	dirty  bool   // changed since the last checkpoint
	start  uint64 // offset of the first record that is kept
	next   uint64 // offset of the next record
}

func (p *partition) stream() Stream { return stream(p.uid, p.number) }

// DefaultDedupIDs is how many ids a shard remembers unless its log says
// otherwise.
const DefaultDedupIDs = 1_000_000

// maxWindowUS keeps the end of a window far from overflowing: 30,000 years.
const maxWindowUS = 1 << 60

// NewBroker returns the state of a shard with an empty log.
func NewBroker() *Broker {
	b := &Broker{dedupIDs: DefaultDedupIDs, topics: map[uint64]topicState{}, slots: map[Stream]uint32{}}
	b.producers.init()
	return b
}

// Apply applies one committed entry. The outcomes, one for every request of an
// origin that the entry carried in its turn, are valid until the next Apply. An
// error means that the log cannot be applied: the process must end.
func (b *Broker) Apply(e Entry) ([]Outcome, error) {
	b.hot.entry(&e)
	return b.apply(&e, b)
}

func (b *Broker) execute(e *Entry, c *Command, r *Result) error {
	b.ids.advance(c.Stamp.TS)
	b.producers.advance(c.Stamp.TS, b.gone)
	switch c.Kind {
	case KindPublish:
		b.publish(e, c, r)
	case KindConfigure:
		b.configure(c, r)
	case KindDrop:
		b.drop(c, r)
	case KindClock:
		return b.clock(e, c, r)
	case KindRefused:
		f, err := decodeRefused(c.Body)
		r.Code, r.UID, r.Partition = f.Code, f.UID, f.Partition
		if err != nil {
			r.Code = Malformed
		}
	case KindLimits:
		n, err := decodeLimits(c.Body)
		if err != nil {
			r.Code = Malformed
			return nil
		}
		b.dedupIDs = n
		r.Base = n
	default:
		r.Code = Malformed
	}
	return nil
}

// publish decides one batch: its topic, its producer's number, its id; then it
// has an offset.
func (b *Broker) publish(e *Entry, c *Command, r *Result) {
	p, err := decodePublish(c.Body)
	count, ok := batchCount(p.Batch)
	if err != nil || !ok {
		r.Code = Malformed
		return
	}
	s := stream(p.UID, p.Partition)
	r.UID, r.Partition, r.Count = s.UID, s.Partition, count
	t, ok := b.topics[s.UID]
	switch {
	case !ok:
		r.Code = NoTopic
		return
	case s.Partition >= t.partitions:
		r.Code = OutOfRange
		return
	}
	now := c.Stamp.TS
	key := producerKey{p.Producer, s}
	if p.HasProducer {
		v := b.producers.check(key, p.Epoch, p.Seq, count, now)
		switch v.kind {
		case seqKnown:
			b.producers.heard(key, now)
			r.Duplicate, r.Base, r.NoOffset = true, v.offset, !v.located
			return
		case seqRefused:
			r.Code, r.Expected = Gap, v.expected
			return
		}
	}
	if p.HasID {
		if base, known := b.ids.lookup(p.ID, now); known {
			r.Duplicate, r.Base = true, base
			if p.HasProducer {
				b.producers.add(key, p.Epoch, p.Seq, base, count, now)
			}
			return
		}
		if b.ids.live() >= b.dedupIDs {
			r.Code = Busy
			return
		}
	}
	slot := b.slot(s)
	part := &b.parts[slot]
	r.Base = part.next
	part.next += uint64(count)
	part.dirty = true
	if p.HasID {
		b.ids.insert(p.ID, r.Base, now+min(t.dedupWindowUS, maxWindowUS), b.dedupIDs)
	}
	if p.HasProducer {
		b.producers.add(key, p.Epoch, p.Seq, r.Base, count, now)
	}
	b.hot.add(e, c, slot, r.Base, count)
}

// batchCount returns how many offsets a record batch takes; false if b is not
// one whole record batch of version 2. Its checksum was checked where it came
// in, and is not again: the log has its own.
func batchCount(b []byte) (uint32, bool) {
	const header = 61
	if len(b) < header || b[16] != 2 || int64(binary.BigEndian.Uint32(b[8:])) != int64(len(b))-12 {
		return 0, false
	}
	count := binary.BigEndian.Uint32(b[57:])
	if count == 0 || count > 1<<31-1 || binary.BigEndian.Uint32(b[23:]) != count-1 {
		return 0, false
	}
	return count, true
}

func (b *Broker) slot(s Stream) uint32 {
	if slot, ok := b.slots[s]; ok {
		return slot
	}
	var slot uint32
	if n := len(b.free); n > 0 {
		slot, b.free = b.free[n-1], b.free[:n-1]
		b.parts[slot] = partition{uid: s.UID, number: s.Partition}
	} else {
		slot = uint32(len(b.parts))
		b.parts = append(b.parts, partition{uid: s.UID, number: s.Partition})
	}
	b.slots[s] = slot
	return slot
}

func (b *Broker) configure(c *Command, r *Result) {
	f, err := decodeConfigure(c.Body)
	if err != nil {
		r.Code = Malformed
		return
	}
	r.UID, r.Base, r.Count = f.UID, f.Generation, f.Partitions
	if t, ok := b.topics[f.UID]; ok && t.generation >= f.Generation {
		r.Effect = Unchanged
		return
	}
	b.topics[f.UID] = topicState{partitions: f.Partitions, generation: f.Generation, dedupWindowUS: f.DedupWindowUS}
	b.changed = append(b.changed, f.UID)
	r.Effect = Configured
}

func (b *Broker) drop(c *Command, r *Result) {
	uid, err := decodeDrop(c.Body)
	if err != nil {
		r.Code = Malformed
		return
	}
	r.UID = uid
	t, ok := b.topics[uid]
	if !ok {
		r.Code = NoTopic
		return
	}
	for p := range t.partitions {
		s := stream(uid, p)
		slot, ok := b.slots[s]
		if !ok {
			continue
		}
		b.hot.forget(slot)
		delete(b.slots, s)
		b.parts[slot] = partition{}
		b.free = append(b.free, slot)
	}
	delete(b.topics, uid)
	b.changed = append(b.changed, uid)
	r.Effect = Deleted
}

func (b *Broker) clock(e *Entry, c *Command, r *Result) error {
	f, err := decodeClock(c.Body)
	if err != nil {
		r.Code = Malformed
		return nil
	}
	r.Base = f.Index
	if ours, ok := b.ChainAt(f.Index); ok && ours != f.Chain {
		return &DivergedError{Index: f.Index, Ours: ours, Theirs: f.Chain}
	}
	return nil
}

// gone reports whether a topic was dropped.
func (b *Broker) gone(uid uint64) bool {
	_, ok := b.topics[uid]
	return !ok
}

// Generation returns the generation of the topic's settings in this shard; false
// if the shard does not know the topic.
func (b *Broker) Generation(uid uint64) (uint64, bool) {
	t, ok := b.topics[uid]
	return t.generation, ok
}

// TopicUIDs appends the uids of all topics that the shard knows, in ascending
// order.
func (b *Broker) TopicUIDs(uids []uint64) []uint64 {
	n := len(uids)
	for uid := range b.topics {
		uids = append(uids, uid)
	}
	slices.Sort(uids[n:])
	return uids
}

// DedupIDs returns how many ids the shard may remember, and how many it does.
func (b *Broker) DedupIDs() (limit, live uint64) { return b.dedupIDs, b.ids.live() }

// Offsets returns the first and the next offset of a stream; 0 and 0 for one
// that was never published to.
func (b *Broker) Offsets(s Stream) (first, next uint64) {
	slot, ok := b.slots[s]
	if !ok {
		return 0, 0
	}
	return b.parts[slot].start, b.parts[slot].next
}

// NextExpiry returns the log time at which something remembered may be
// forgotten; false if nothing waits for that.
func (b *Broker) NextExpiry() (us uint64, ok bool) {
	us, ok = b.ids.nextExpiry()
	if p, pok := b.producers.nextExpiry(); pok && (!ok || p < us) {
		us, ok = p, true
	}
	return us, ok
}
