package topics

// Checkpoint copies what changed since the last one. Its records must reach the
// disk before the next one is taken, or the process must end: they are not
// handed out again.
func (c *Catalogue) Checkpoint() *Checkpoint {
	p := c.checkpoint(func(p *Checkpoint) {
		p.buf = append(p.buf, boolByte(c.formed))
		p.buf = append(p.buf, c.info.ID[:]...)
		p.u32(c.info.Shards)
		p.u64(c.nextUID)
		p.u32(uint32(len(c.nodes)))
		for _, n := range c.nodes {
			p.buf = appendNode(p.buf, n)
		}
	})
	if c.secret != (Secret{}) {
		p.add(stateSecret)
		p.split()
		p.buf = append(p.buf, c.secret[:]...)
	}
	for _, uid := range c.changed {
		p.add(stateTopic)
		p.key64(uid)
		p.split()
		i, ok := c.byUID[uid]
		if !ok {
			p.records[len(p.records)-1].deleted = true
			continue
		}
		t := &c.records[i]
		p.u64(t.generation)
		p.u64(t.created)
		p.buf = appendString(p.buf, t.name)
		p.buf = t.spec.append(p.buf)
		p.buf = appendAnnotations(p.buf, t.annotations)
	}
	c.changed = nil
	p.done()
	return p
}

// Restore reads the state that checkpoints wrote, into a new Catalogue; see
// Broker.Restore. What was deleted before is not known afterwards, so Leaders
// compare everything once.
func (c *Catalogue) Restore(next func() (key, value []byte, err error)) error {
	err := c.restore(next, c.restoreRecord)
	c.forgotten = c.applied
	return err
}

func (c *Catalogue) restoreRecord(r *restoring) error {
	switch r.kind {
	case stateMeta:
		c.formed = r.val.bool()
		copy(c.info.ID[:], r.val.take(16))
		c.info.Shards = r.val.u32()
		c.nextUID = r.val.u64()
		n := r.val.u32()
		if n > MaxNodes || c.formed && (c.info.Shards == 0 || c.info.Shards > MaxShards) {
			r.val.fail()
		}
		for i := uint32(0); i < n && r.val.err == nil; i++ {
			c.nodes = append(c.nodes, r.val.node())
		}
	case stateSecret:
		copy(c.secret[:], r.val.take(len(c.secret)))
	case stateTopic:
		t := topicRecord{uid: r.key.be64(), generation: r.val.u64(), created: r.val.u64(), name: r.val.str(MaxNameBytes)}
		t.spec = sharedSpec(r.val.spec())
		t.annotations = sharedAnnotations(r.val.annotations())
		if _, twice := c.byName[t.name]; twice || t.uid >= c.nextUID || !ValidName(t.name) {
			r.key.fail()
		}
		if r.val.err == nil && r.key.err == nil {
			c.insert(t)
		}
	default:
		r.key.fail()
	}
	return nil
}
