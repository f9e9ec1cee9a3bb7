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

// TestDeterministic: brokers that apply the same log elsewhere on their disks, in
// one go or through a restart, are equal at every index.
func TestDeterministic(t *testing.T) {
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
