package topics

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// busy lets a shard work for a while: several topics, leaders whose clocks
// disagree, ids, numbers, drops.
func busy(t *testing.T, seed uint64) *group {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 9))
	g := newGroup(t)
	for i := range 400 {
		g.now += rng.Int64N(100_000) - 40_000 // a reference that also goes back
		if rng.IntN(20) == 0 {
			g.now += rng.Int64N(20_000_000) - 10_000_000
			g.lead(g.term + 1)
		}
		name := fmt.Sprint("t", rng.IntN(5))
		if rng.IntN(40) == 0 {
			g.catalogue(NewDelete(Delete{Name: name}))
		}
		s := stream(g.topic(name, func(s *Spec) { s.Partitions = 2; s.DedupWindowUS = 1e6 }), rng.Uint32N(2))
		p := Publish{UID: s.UID, Partition: s.Partition, Batch: makeBatch(t, 1+rng.IntN(4), "x")}
		if rng.IntN(2) == 0 {
			p.HasID, p.ID = true, HashID(s, fmt.Sprint(rng.IntN(20)))
		}
		from := Origin{RaftID: 1 + rng.Uint64N(3), Counter: 1}
		next, _ := g.broker.NextNumber(from)
		g.send(from, next, NewPublish(p, rng.Uint64N(uint64(i+1)), 0))
		g.step()
	}
	return g
}

// TestD5Deterministic: brokers that apply the same log elsewhere on their disks, in
// one go or through a restart, are equal at every index.
func TestD5Deterministic(t *testing.T) {
	g := busy(t, 1)
	var chains []Chain
	for try := range 5 {
		b := NewBroker()
		for i, e := range g.log.entries {
			e.Pos = Pos{Segment: uint64(1 + i/(try+10)), Offset: int64(1000*try + i)}
			if _, err := b.Apply(e); err != nil {
				t.Fatal(err)
			}
			if try == 0 {
				chains = append(chains, b.Chain())
			} else if b.Chain() != chains[i] {
				t.Fatalf("other chain at entry %d", e.Index)
			}
		}
	}
}

// TestDense: the batches of every partition follow each other without a hole,
// from 0 to the next offset.
func TestDense(t *testing.T) {
	g := busy(t, 2)
	r := NewReader(&sync.Mutex{}, g.broker, g.log)
	batches := 0
	for s := range g.broker.slots {
		all, err := r.Read(s, 0, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		at := uint64(0)
		for _, b := range all {
			if b.Base != at {
				t.Fatalf("%v: offset %d follows %d", s, b.Base, at)
			}
			at = b.Next()
			batches++
		}
		if _, next := g.broker.Offsets(s); next != at {
			t.Fatalf("%v ends at %d, next is %d", s, at, next)
		}
	}
	if batches < 100 {
		t.Fatalf("only %d batches", batches)
	}
}

// TestRising: stamps and Lamport times strictly rise along the log, whatever the
// leaders' clocks say; nothing is refused for its stamp.
func TestRising(t *testing.T) {
	g := busy(t, 3)
	last, n := Stamp{}, 0
	for _, e := range g.log.entries {
		it := Commands(e.Data)
		for it.Next() {
			if s := it.Command.Stamp; it.Command.Kind == KindPublish {
				if s.TS <= last.TS || s.Lamport <= last.Lamport {
					t.Fatalf("%+v after %+v", s, last)
				}
				last, n = s, n+1
			}
		}
	}
	for _, o := range g.broker.origins.list {
		for _, r := range o.ring {
			if r.Code == Disorder {
				t.Fatalf("refused: %+v", r)
			}
		}
	}
	if n < 300 {
		t.Fatalf("only %d publishes", n)
	}
}

// TestOnlyTheNextNumberCounts: Apply ignores a number that is not the next of its
// origin, whatever a leader may have proposed, and incarnations that are over.
func TestOnlyTheNextNumberCounts(t *testing.T) {
	b := NewBroker()
	one := makeBatch(t, 1, "x")
	var index uint64
	apply := func(k Kind, o Origin, number uint64, body []byte) string {
		t.Helper()
		index++
		data := AppendCommand(nil, Command{Kind: k, Origin: o, Number: number, Stamp: Stamp{TS: index}, Body: body})
		outs, err := b.Apply(Entry{Index: index, Term: 1, Data: data, Pos: Pos{Segment: 1}})
		switch {
		case err != nil:
			t.Fatal(err)
		case len(outs) == 0:
			return "ignored"
		}
		return fmt.Sprint("offset ", outs[0].Base)
	}
	apply(KindConfigure, Origin{}, 0, configure{1, 1, 1, 0}.append(nil))
	body := NewPublish(Publish{UID: 1, Batch: one}, 0, 0).Body
	for _, c := range []struct {
		name   string
		o      Origin
		number uint64
		want   string
	}{
		{"the first number is 1", Origin{1, 3}, 2, "ignored"},
		{"the first", Origin{1, 3}, 1, "offset 0"},
		{"again", Origin{1, 3}, 1, "ignored"},
		{"a gap", Origin{1, 3}, 3, "ignored"},
		{"the second", Origin{1, 3}, 2, "offset 1"},
		{"late", Origin{1, 3}, 1, "ignored"},
		{"another node", Origin{2, 1}, 1, "offset 2"},
		{"an incarnation before", Origin{1, 2}, 1, "ignored"},
		{"the next incarnation, not from its beginning", Origin{1, 4}, 3, "ignored"},
		{"so the old one goes on", Origin{1, 3}, 3, "offset 3"},
		{"the next incarnation", Origin{1, 4}, 1, "offset 4"},
		{"the old one is over", Origin{1, 3}, 4, "ignored"},
	} {
		if got := apply(KindPublish, c.o, c.number, body); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestDedupWindowRunsFromTheFirstWrite: it ends exactly dedupWindow after the
// first write's stamp; a repetition does not refresh it; a change of the setting
// counts for later first writes.
func TestDedupWindowRunsFromTheFirstWrite(t *testing.T) {
	b := NewBroker()
	one := makeBatch(t, 1, "x")
	s := stream(1, 0)
	var index, number uint64
	at := func(ts uint64, k Kind, body []byte) Result {
		t.Helper()
		index++
		c := Command{Kind: k, Stamp: Stamp{TS: ts}, Body: body}
		if k == KindPublish {
			number++
			c.Origin, c.Number = n1, number
		}
		outs, err := b.Apply(Entry{Index: index, Term: 1, Data: AppendCommand(nil, c), Pos: Pos{Segment: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if len(outs) == 0 {
			return Result{}
		}
		return outs[0].Result
	}
	body := NewPublish(Publish{UID: 1, HasID: true, ID: HashID(s, "id"), Batch: one}, 0, 0).Body
	const window = 2_500_000
	at(1, KindConfigure, configure{1, 1, 1, window}.append(nil))
	for _, c := range []struct {
		ts        uint64
		duplicate bool
		base      uint64
	}{
		{1_000_000, false, 0},
		{1_000_001, true, 0},
		{1_000_000 + window - 1, true, 0},
		{1_000_000 + window, false, 1},
		{1_000_000 + 2*window - 1, true, 1},
		{1_000_000 + 2*window, false, 2},
	} {
		if r := at(c.ts, KindPublish, body); r.Duplicate != c.duplicate || r.Base != c.base || r.Code != OK {
			t.Errorf("at %d: %+v", c.ts, r)
		}
	}
	at(8_000_000, KindConfigure, configure{1, 1, 2, 10}.append(nil))
	if r := at(8_400_000, KindPublish, body); !r.Duplicate {
		t.Errorf("a shorter window shortens one that runs: %+v", r)
	}
	if r := at(8_500_000, KindPublish, body); r.Duplicate {
		t.Errorf("%+v", r)
	}
	if r := at(8_500_010, KindPublish, body); r.Duplicate {
		t.Errorf("the shorter window does not count: %+v", r)
	}
}
