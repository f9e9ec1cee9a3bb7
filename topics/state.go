package topics

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// The records of a state file: a key, whose first byte is its kind, and a value.
// Numbers in keys are big-endian, so records sort by them; those in values are
// little-endian. docs/format/state.md has the tables.
const (
	stateMeta      = 1
	stateTopic     = 2
	statePartition = 3
	stateProducer  = 4
	stateID        = 5
	stateOrigin    = 6
	stateResult    = 7
	stateItem      = 8
	stateSecret    = 9
)

// resultKeyBytes is the size of the key of a stateResult.
const resultKeyBytes = 13

// MaxStateValueBytes bounds the value of a record.
const MaxStateValueBytes = 4 << 20

// Checkpoint is what changed in a state machine since its last checkpoint, or,
// for its first one, all of it. It shares nothing with the machine.
type Checkpoint struct {
	// Applied and Term are the last applied entry; Chain is the hash there.
	Applied, Term uint64
	Chain         Chain
	// Full: this is the whole state, and replaces what was written before.
	Full bool

	buf     []byte
	records []stateRef
	// What StateFilter needs.
	now      uint64
	unloaded uint64
	indexed  bool
}

// stateRef is one record in Checkpoint.buf: its key, then its value.
type stateRef struct {
	at, key, value int
	deleted        bool
}

// Len returns the number of records.
func (c *Checkpoint) Len() int { return len(c.records) }

// Sort puts the records into the order of their keys, each key once. Checkpoint
// leaves it to the caller, because it runs under the group's lock.
func (c *Checkpoint) Sort() {
	key := func(r stateRef) []byte { return c.buf[r.at : r.at+r.key] }
	slices.SortFunc(c.records, func(a, b stateRef) int { return bytes.Compare(key(a), key(b)) })
	// What changed more than once is there more than once, with equal values.
	c.records = slices.CompactFunc(c.records, func(a, b stateRef) bool { return bytes.Equal(key(a), key(b)) })
}

// Record returns record i; a deleted one has no value.
func (c *Checkpoint) Record(i int) (key, value []byte, deleted bool) {
	r := c.records[i]
	return c.buf[r.at : r.at+r.key], c.buf[r.at+r.key : r.at+r.key+r.value], r.deleted
}

// add begins a record of a kind; the caller appends the rest of the key to buf,
// calls split, and appends the value.
func (c *Checkpoint) add(kind byte) {
	c.done()
	c.records = append(c.records, stateRef{at: len(c.buf)})
	c.buf = append(c.buf, kind)
}

// split ends the key of the last record.
func (c *Checkpoint) split() {
	r := &c.records[len(c.records)-1]
	r.key = len(c.buf) - r.at
}

// done ends the value of the last record.
func (c *Checkpoint) done() {
	if n := len(c.records); n > 0 {
		r := &c.records[n-1]
		r.value = len(c.buf) - r.at - r.key
	}
}

func (c *Checkpoint) key64(v uint64) { c.buf = binary.BigEndian.AppendUint64(c.buf, v) }
func (c *Checkpoint) key32(v uint32) { c.buf = binary.BigEndian.AppendUint32(c.buf, v) }
func (c *Checkpoint) u64(v uint64)   { c.buf = binary.LittleEndian.AppendUint64(c.buf, v) }
func (c *Checkpoint) u32(v uint32)   { c.buf = binary.LittleEndian.AppendUint32(c.buf, v) }

// checkpoint begins a checkpoint with what both machines have: how far it is,
// and the origins with the results since the last one.
func (m *machine) checkpoint(meta func(*Checkpoint)) *Checkpoint {
	c := &Checkpoint{Applied: m.applied, Term: m.term, Chain: m.chain, Full: !m.saved, now: m.last.TS}
	results := 0
	for _, o := range m.origins.list {
		results += int(o.next - max(o.saved, o.oldest()))
	}
	c.buf = make([]byte, 0, 1<<10+results*(resultKeyBytes+resultBytes))
	c.records = make([]stateRef, 0, 16+results)
	m.saved = true
	c.add(stateMeta)
	c.split()
	c.u64(m.applied)
	c.u64(m.term)
	c.buf = append(c.buf, m.chain[:]...)
	c.u64(m.last.TS)
	c.u64(uint64(m.last.EPS))
	c.u64(m.last.Lamport)
	meta(c)
	for _, o := range m.origins.list {
		c.add(stateOrigin)
		c.key64(o.RaftID)
		c.split()
		c.u64(o.Counter)
		c.u64(o.next)
		for n := max(o.saved, o.oldest()); n < o.next; n++ {
			c.add(stateResult)
			c.key64(o.RaftID)
			c.key32(uint32((n - 1) % RememberedResults))
			c.split()
			c.buf = o.ring[(n-1)%RememberedResults].append(c.buf)
		}
		o.saved = o.next
	}
	return c
}

// oldest is the lowest number whose result is remembered.
func (o *origin) oldest() uint64 {
	if o.next <= RememberedResults {
		return 1
	}
	return o.next - RememberedResults
}

// restoring reads records into a state machine.
type restoring struct {
	next func() (key, value []byte, err error)
	kind byte
	key  reader
	val  reader
}

// step takes the next record; false at the end.
func (r *restoring) step() (bool, error) {
	key, value, err := r.next()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r.key, r.val = reader{b: key}, reader{b: value}
	r.kind = r.key.u8()
	return true, nil
}

// end checks that the record was read whole.
func (r *restoring) end() error {
	if r.key.err == nil && r.val.err == nil && len(r.key.b) == 0 && len(r.val.b) == 0 {
		return nil
	}
	return fmt.Errorf("%w: a state record of kind %d", ErrMalformed, r.kind)
}

func (r *reader) be64() uint64 {
	if v := r.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (r *reader) be32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// restore reads records in the order of their keys. After an error the machine
// is of no use. special does what the
// machine has of its own, and gets the rest of the meta record too.
func (m *machine) restore(next func() (key, value []byte, err error), special func(*restoring) error) error {
	if m.applied != 0 {
		return errors.New("topics: restore into a state that is not empty")
	}
	r := restoring{next: next}
	found := false
	for {
		ok, err := r.step()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if !found && r.kind != stateMeta {
			return fmt.Errorf("%w: state without its first record", ErrMalformed)
		}
		switch r.kind {
		case stateMeta:
			found = true
			m.restoreMeta(&r.val)
			err = special(&r)
		case stateOrigin:
			m.origins.list = append(m.origins.list, &origin{
				Origin: Origin{RaftID: r.key.be64(), Counter: r.val.u64()}, next: max(r.val.u64(), 1),
			})
		case stateResult:
			m.restoreResult(&r)
		default:
			err = special(&r)
		}
		if err == nil {
			err = r.end()
		}
		if err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%w: an empty state", ErrMalformed)
	}
	return m.restoredOrigins()
}

func (m *machine) restoreMeta(r *reader) {
	m.applied, m.term = r.u64(), r.u64()
	copy(m.chain[:], r.take(len(m.chain)))
	m.last = Stamp{TS: r.u64(), EPS: int64(r.u64()), Lamport: r.u64()}
	m.recent[m.applied%recentChains] = chainAt{m.applied, m.chain}
	m.saved = true
}

// restoreResult puts a result into its origin's ring. What an earlier
// incarnation left there lies outside the ring's numbers.
func (m *machine) restoreResult(r *restoring) {
	i, ok := m.origins.find(r.key.be64())
	place := r.key.be32()
	result := r.val.result()
	if !ok || place >= RememberedResults {
		r.key.fail()
		return
	}
	o := m.origins.list[i]
	if result.Number < o.oldest() || result.Number >= o.next {
		return
	}
	if o.ring == nil {
		o.ring = make([]Result, min(o.next-1, RememberedResults))
	}
	if (result.Number-1)%RememberedResults != uint64(place) {
		r.key.fail()
		return
	}
	o.ring[place] = result
}

// restoredOrigins checks that no result is missing.
func (m *machine) restoredOrigins() error {
	for i, o := range m.origins.list {
		if i > 0 && m.origins.list[i-1].RaftID >= o.RaftID {
			return fmt.Errorf("%w: state records out of order", ErrMalformed)
		}
		for n := o.oldest(); n < o.next; n++ {
			if at := (n - 1) % RememberedResults; at >= uint64(len(o.ring)) || o.ring[at].Number != n {
				return fmt.Errorf("%w: the result of number %d of node %d is missing", ErrMalformed, n, o.RaftID)
			}
		}
		o.saved = o.next
	}
	return nil
}

// StateFilter tells which records are worth keeping when files are merged into
// a new base: it leaves out what is forgotten by now, and what belongs to
// dropped topics. It must see every record in order.
type StateFilter struct {
	c    *Checkpoint
	uids []uint64
	at   int
	kind byte
}

// Filter returns the filter of the state at this checkpoint, for records that
// the checkpoint's own are merged into.
func (c *Checkpoint) Filter() *StateFilter { return &StateFilter{c: c} }

// Keep reports whether a record stays.
func (f *StateFilter) Keep(key, value []byte) bool {
	r, v := reader{b: key}, reader{b: value}
	kind := r.u8()
	if kind != f.kind {
		f.kind, f.at = kind, 0
	}
	switch kind {
	case stateTopic:
		f.uids = append(f.uids, r.be64())
	case statePartition:
		return f.lives(r.be64())
	case stateProducer:
		v.u32()
		v.u64()
		return f.lives(r.be64()) && f.c.now-v.u64() < ProducerSilenceUS
	case stateID:
		v.u64()
		return v.u64()/second >= f.c.now/second
	case stateItem:
		return !f.c.indexed || r.be64() > f.c.unloaded
	}
	return true
}

// lives reports whether a topic is still there. Uids come in ascending order.
func (f *StateFilter) lives(uid uint64) bool {
	for f.at < len(f.uids) && f.uids[f.at] < uid {
		f.at++
	}
	return f.at < len(f.uids) && f.uids[f.at] == uid
}
