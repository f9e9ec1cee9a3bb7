package topics

import "slices"

// Checkpoint copies what changed since the last one. Its records must reach the
// disk before the next one is taken, or the process must end: they are not
// handed out again.
func (b *Broker) Checkpoint() *Checkpoint {
	c := b.checkpoint(func(c *Checkpoint) { c.u64(b.dedupIDs) })
	c.unloaded, c.indexed = b.hot.unloaded, b.hot.indexed
	for _, uid := range b.changed {
		c.add(stateTopic)
		c.key64(uid)
		c.split()
		t, ok := b.topics[uid]
		if !ok {
			c.records[len(c.records)-1].deleted = true
			continue
		}
		c.u32(t.partitions)
		c.u64(t.generation)
		c.u64(t.dedupWindowUS)
	}
	b.changed = nil
	for i := range b.parts {
		p := &b.parts[i]
		if !p.dirty {
			continue
		}
		p.dirty = false
		c.add(statePartition)
		c.key64(p.uid)
		c.key32(p.number)
		c.split()
		c.u64(p.start)
		c.u64(p.next)
	}
	if !plantedDedupInMemory {
		b.producers.checkpoint(c)
		b.ids.checkpoint(c)
	}
	b.hot.checkpoint(c, b.parts)
	c.done()
	return c
}

func (t *producerTable) checkpoint(c *Checkpoint) {
	for i := range t.list {
		p := &t.list[i]
		if !p.dirty {
			continue
		}
		p.dirty = false
		c.add(stateProducer)
		c.key64(p.key.stream.UID)
		c.key32(p.key.stream.Partition)
		c.buf = append(c.buf, p.key.producer[:]...)
		c.split()
		c.u32(p.epoch)
		c.u64(p.last)
		c.u64(p.heard)
		for _, r := range p.runs {
			c.u64(r.seq)
			c.u64(r.offset)
			c.u32(r.count)
		}
	}
}

func (t *idTable) checkpoint(c *Checkpoint) {
	put := func(s *idSlot) {
		if s.expiry == 0 || s.expiry/second < t.now/second {
			return
		}
		c.add(stateID)
		c.buf = append(c.buf, s.hash[:]...)
		c.split()
		c.u64(s.offset)
		c.u64(s.expiry)
	}
	const record = 1 + 16 + 16
	n := len(t.fresh)
	if t.manyFresh {
		n = int(t.liveIDs)
	}
	c.buf, c.records = slices.Grow(c.buf, n*record), slices.Grow(c.records, n)
	if t.manyFresh {
		for i := range t.slots {
			put(&t.slots[i])
		}
	} else {
		for i := range t.fresh {
			put(&t.slots[t.find(&t.fresh[i])])
		}
	}
	t.fresh, t.manyFresh = nil, false
}

func (h *hotIndex) checkpoint(c *Checkpoint, parts []partition) {
	for _, g := range h.segments {
		for slot, head := range g.heads {
			p := &parts[slot]
			for i := head.last; int(i) >= g.saved; i = g.items[i].prev {
				it := &g.items[i]
				e := g.entries[it.entry]
				c.add(stateItem)
				c.key64(g.number)
				c.key64(p.uid)
				c.key32(p.number)
				c.key64(it.base)
				c.split()
				c.u64(it.ts)
				c.u64(e.term)
				c.u64(e.index)
				c.u32(it.count)
				c.u32(it.offset)
				c.u32(it.length)
				if i == head.first {
					break
				}
			}
		}
		g.saved = len(g.items)
	}
}

// Restore reads the state that checkpoints wrote, into a new Broker: all records
// in the order of their keys, of several with the same key the newest, until
// next returns io.EOF. Key and value are not kept. After an error the Broker is
// of no use.
func (b *Broker) Restore(next func() (key, value []byte, err error)) error {
	err := b.restore(next, b.restoreRecord)
	b.producers.sweepAt = 0
	return err
}

func (b *Broker) restoreRecord(r *restoring) error {
	switch r.kind {
	case stateMeta:
		b.dedupIDs = r.val.u64()
		b.ids.advance(b.last.TS)
	case stateTopic:
		b.topics[r.key.be64()] = topicState{partitions: r.val.u32(), generation: r.val.u64(), dedupWindowUS: r.val.u64()}
	case statePartition:
		s := Stream{UID: r.key.be64(), Partition: r.key.be32()}
		start, next := r.val.u64(), r.val.u64()
		if !b.gone(s.UID) {
			p := &b.parts[b.slot(s)]
			p.start, p.next = start, next
		}
	case stateProducer:
		b.restoreProducer(r)
	case stateID:
		b.restoreID(r)
	case stateItem:
		b.restoreItem(r)
	default:
		r.key.fail()
	}
	return nil
}

func (b *Broker) restoreProducer(r *restoring) {
	var k producerKey
	k.stream = Stream{UID: r.key.be64(), Partition: r.key.be32()}
	copy(k.producer[:], r.key.take(16))
	p := producer{key: k, epoch: r.val.u32(), last: r.val.u64(), heard: r.val.u64()}
	const runBytes = 20
	if n := len(r.val.b) / runBytes; n > 0 {
		p.runs = make([]run, 0, n)
	}
	for r.val.err == nil && len(r.val.b) > 0 {
		p.runs = append(p.runs, run{seq: r.val.u64(), offset: r.val.u64(), count: r.val.u32()})
	}
	if r.val.err == nil && !b.gone(k.stream.UID) && b.last.TS-p.heard < ProducerSilenceUS {
		*b.producers.fresh(k) = p
	}
}

func (b *Broker) restoreID(r *restoring) {
	var s idSlot
	copy(s.hash[:], r.key.take(16))
	s.offset, s.expiry = r.val.u64(), r.val.u64()
	t := &b.ids
	if s.expiry == 0 || s.expiry/second < b.last.TS/second {
		return
	}
	t.room(max(b.dedupIDs, t.liveIDs+1))
	at := t.find(&s.hash)
	if t.slots[at].expiry != 0 {
		r.key.fail() // twice
		return
	}
	t.slots[at] = s
	t.used++
	t.liveIDs++
	t.bucket(s.expiry/second).count++
}

func (b *Broker) restoreItem(r *restoring) {
	segment := r.key.be64()
	s := Stream{UID: r.key.be64(), Partition: r.key.be32()}
	it := hotItem{base: r.key.be64(), ts: r.val.u64()}
	e := hotEntry{term: r.val.u64(), index: r.val.u64()}
	it.count, it.offset, it.length = r.val.u32(), r.val.u32(), r.val.u32()
	slot, ok := b.slots[s]
	if !ok || r.key.err != nil || r.val.err != nil || b.hot.has(segment) {
		return
	}
	g := b.hot.segment(segment)
	if n := len(g.entries); n == 0 || g.entries[n-1] != e {
		g.entries = append(g.entries, e)
	}
	it.slot, it.entry = slot, uint32(len(g.entries)-1)
	g.add(it)
	g.saved = len(g.items)
}
