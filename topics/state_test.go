package topics

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// files is what checkpoints left on the disk: the newest value of each key.
type files map[string]string

// save adds a checkpoint; sometimes everything is merged and filtered.
func (f files) save(t *testing.T, c *Checkpoint, merge bool) {
	t.Helper()
	c.Sort()
	if c.Full {
		clear(f)
	}
	for i := range c.Len() {
		key, value, deleted := c.Record(i)
		if deleted {
			delete(f, string(key))
		} else {
			f[string(key)] = string(value)
		}
	}
	if !merge {
		return
	}
	filter := c.Filter()
	for _, key := range f.keys() {
		if !filter.Keep([]byte(key), []byte(f[key])) {
			delete(f, key)
		}
	}
}

func (f files) keys() []string {
	keys := make([]string, 0, len(f))
	for k := range f {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (f files) reader() func() (key, value []byte, err error) {
	keys := f.keys()
	return func() ([]byte, []byte, error) {
		if len(keys) == 0 {
			return nil, nil, io.EOF
		}
		k := keys[0]
		keys = keys[1:]
		return []byte(k), []byte(f[k]), nil
	}
}

// TestRestoreAndTailEqualsReplay takes checkpoints while a shard works, restarts
// it from them again and again, and compares it with one that never restarted:
// every outcome, the chain, the answers that are remembered, and every read.
func TestRestoreAndTailEqualsReplay(t *testing.T) {
	if plantedDedupInMemory {
		t.Skip("this build forgets what it must not forget")
	}
	for seed := range uint64(15) {
		restarts(t, seed)
	}
}

func restarts(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 4))
	g := newGroup(t)
	g.log.limit = 5000
	twin := NewBroker() // never restarts
	disk, catDisk := files{}, files{}
	var at int // entries up to here are applied by the twin
	names := []string{"a", "b", "c"}
	for i := range 900 {
		g.now += rng.Int64N(300_000)
		if rng.IntN(200) == 0 {
			g.now += rng.Int64N(8 * 24 * 3600 * 1e6)
		}
		name := names[rng.IntN(len(names))]
		switch rng.IntN(40) {
		case 0:
			g.catalogue(NewDelete(Delete{Name: name}))
		case 1:
			g.topic(name, func(s *Spec) { s.Partitions = 1 << 10; s.DedupWindowUS = rng.Uint64N(20e6) })
		case 2:
			g.leader.o.DedupIDs = 5 + rng.Uint64N(20)
			g.lead(g.term + 1)
		}
		tp, ok := g.cat.Lookup(name)
		if !ok {
			g.step()
			continue
		}
		s := stream(tp.UID, rng.Uint32N(2)%tp.Spec.Partitions)
		p := Publish{UID: s.UID, Partition: s.Partition, Batch: makeBatch(t, 1+rng.IntN(2), "x")}
		if rng.IntN(2) == 0 {
			p.HasID, p.ID = true, HashID(s, fmt.Sprint(rng.IntN(60)))
		}
		if rng.IntN(3) == 0 {
			p.HasProducer, p.Producer = true, HashProducer("p")
			p.Seq = 1
			if have := g.broker.producers.find(producerKey{p.Producer, s}, uint64(g.now)); have != nil {
				p.Seq = have.last + 1 - min(have.last, uint64(rng.IntN(3)))
			}
		}
		origin := Origin{RaftID: 1 + rng.Uint64N(2), Counter: 1 + uint64(i/300)}
		next, ok := g.broker.NextNumber(origin)
		if !ok {
			t.Fatal("a dead origin")
		}
		if _, nack := g.send(origin, next, NewPublish(p, 0, 0)); nack != nil {
			t.Fatalf("%+v", nack)
		}
		outs := slices.Clone(g.step())
		for ; at < len(g.log.entries); at++ {
			want, err := twin.Apply(g.log.entries[at])
			if err != nil {
				t.Fatal(err)
			}
			if len(want) > 0 && !slices.Equal(want, outs) {
				t.Fatalf("seed %d step %d: %+v\n%+v without a restart", seed, i, outs, want)
			}
		}
		if rng.IntN(50) == 0 && len(g.log.index)+1 < int(g.log.current) {
			n := uint64(len(g.log.index) + 1)
			g.log.index[n] = g.broker.Seal(n).Records(nil)
			g.broker.Unload(n)
		}
		if rng.IntN(20) == 0 {
			disk.save(t, g.broker.Checkpoint(), rng.IntN(3) == 0)
			catDisk.save(t, g.cat.Checkpoint(), rng.IntN(3) == 0)
		}
		if rng.IntN(40) == 0 && len(disk) > 0 {
			g.restart(disk, catDisk)
		}
	}
	for ; at < len(g.log.entries); at++ {
		if _, err := twin.Apply(g.log.entries[at]); err != nil {
			t.Fatal(err)
		}
	}
	if g.broker.Chain() != twin.Chain() {
		t.Fatal("chains differ")
	}
	if limit, live := g.broker.DedupIDs(); live == 0 || live != twin.ids.live() || limit != twin.dedupIDs {
		t.Fatalf("%d of %d ids live, %d of %d without a restart", live, limit, twin.ids.live(), twin.dedupIDs)
	}
	if !slices.Equal(g.broker.TopicUIDs(nil), twin.TopicUIDs(nil)) {
		t.Fatal("other topics")
	}
	for _, o := range twin.origins.list {
		for n := o.oldest(); n < o.next; n++ {
			if r, ok := g.broker.Remembered(o.Origin, n); !ok || r != o.ring[(n-1)%RememberedResults] {
				t.Fatalf("number %d of %v: %+v", n, o.Origin, r)
			}
		}
	}
	mine, theirs := NewReader(&sync.Mutex{}, g.broker, g.log), NewReader(&sync.Mutex{}, twin, newMemoryLog())
	for s := range twin.slots {
		a, err := mine.scan(s, 0, 1<<30, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := theirs.scan(s, 0, 1<<30, 1<<30); err != nil || !slices.Equal(a, b) {
			t.Fatalf("%v: %d batches, %d without a restart, %v", s, len(a), len(b), err)
		}
	}
}

// restart replaces the state machines by what their files and the log behind
// them give.
func (g *group) restart(disk, catDisk files) {
	g.t.Helper()
	b := NewBroker()
	if err := b.Restore(disk.reader()); err != nil {
		g.t.Fatal(err)
	}
	b.Unload(uint64(len(g.log.index)))
	for _, e := range g.log.entries {
		if _, err := b.Apply(e); err != nil {
			g.t.Fatal(err)
		}
	}
	if b.Chain() != g.broker.Chain() {
		g.t.Fatal("the chain differs after a restart")
	}
	c := NewCatalogue()
	if err := c.Restore(catDisk.reader()); err != nil {
		g.t.Fatal(err)
	}
	if c.Version() == g.cat.Version() {
		// The tail of the catalogue is not kept by this test.
		if c.Chain() != g.cat.Chain() || fmt.Sprint(c.Topics(), c.Nodes(), c.info, c.nextUID) != fmt.Sprint(g.cat.Topics(), g.cat.Nodes(), g.cat.info, g.cat.nextUID) {
			g.t.Fatal("the catalogue differs after a restart")
		}
		g.cat = c
	}
	l, err := NewLeader(LeaderOptions{Machine: b, View: g.cat, DedupIDs: g.leader.o.DedupIDs, Reference: g.leader.o.Reference})
	if err != nil {
		g.t.Fatal(err)
	}
	g.broker, g.leader = b, l
	g.lead(g.term + 1)
}

// TestDamagedStateIsNamed: records that are missing, foreign or cut are errors.
func TestDamagedStateIsNamed(t *testing.T) {
	g := newGroup(t)
	a := stream(g.topic("a", nil), 0)
	p := g.message(a, "x")
	p.HasID, p.ID = true, HashID(a, "i")
	p.HasProducer, p.Producer, p.Seq = true, HashProducer("p"), 1
	g.publish(p)
	disk := files{}
	disk.save(t, g.broker.Checkpoint(), false)
	if err := NewBroker().Restore(disk.reader()); err != nil {
		t.Fatal(err)
	}
	for _, key := range disk.keys() {
		value := disk[key]
		disk[key] = value + "x"
		if err := NewBroker().Restore(disk.reader()); err == nil {
			t.Errorf("a record of kind %d with a byte too many is taken", key[0])
		}
		disk[key] = value
		disk[key+"x"] = value
		if err := NewBroker().Restore(disk.reader()); err == nil {
			t.Errorf("a key of kind %d with a byte too many is taken", key[0])
		}
		delete(disk, key+"x")
		if kind := key[0]; kind == stateMeta || kind == stateResult {
			delete(disk, key)
			if err := NewBroker().Restore(disk.reader()); err == nil {
				t.Errorf("a missing record of kind %d is not noticed", kind)
			}
			disk[key] = value
		}
	}
	if err := NewBroker().Restore(files{}.reader()); err == nil {
		t.Error("an empty state is taken")
	}
}

// FuzzRestore: no record makes a restore panic.
func FuzzRestore(f *testing.F) {
	g := newGroup(f)
	a := stream(g.topic("a", nil), 0)
	p := g.message(a, "x")
	p.HasID, p.ID = true, HashID(a, "i")
	p.HasProducer, p.Producer, p.Seq = true, HashProducer("p"), 1
	g.publish(p)
	for _, c := range []*Checkpoint{g.broker.Checkpoint(), g.cat.Checkpoint()} {
		meta := c.buf[c.records[0].at : c.records[0].at+c.records[0].key+c.records[0].value]
		for i := range c.Len() {
			key, value, _ := c.Record(i)
			f.Add(meta[1:], key, value)
		}
	}
	f.Fuzz(func(t *testing.T, meta, key, value []byte) {
		if len(value) > MaxStateValueBytes {
			return
		}
		for _, restore := range []func(func() ([]byte, []byte, error)) error{NewBroker().Restore, NewCatalogue().Restore} {
			n := 0
			restore(func() ([]byte, []byte, error) {
				n++
				switch n {
				case 1:
					return []byte{stateMeta}, meta, nil
				case 2:
					return key, value, nil
				}
				return nil, nil, io.EOF
			})
		}
	})
}
