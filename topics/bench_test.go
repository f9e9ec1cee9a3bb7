package topics

import (
	"fmt"
	"testing"
)

// publishes returns n publish requests of one topic, with ids or numbers.
func publishes(t testing.TB, s Stream, n int, ids, seqs bool, first uint64) []Request {
	b := makeBatch(t, 1, string(make([]byte, 128)))
	rs := make([]Request, n)
	for i := range rs {
		p := Publish{UID: s.UID, Partition: s.Partition, Batch: b}
		if ids {
			p.HasID, p.ID = true, HashID(s, fmt.Sprint(first+uint64(i)))
		}
		if seqs {
			p.HasProducer, p.Producer, p.Seq = true, HashProducer("p"), first+uint64(i)
		}
		rs[i] = NewPublish(p, 0, 1)
		rs[i].Number = first + uint64(i)
		rs[i].Catalogue = 1
	}
	return rs
}

// TestApplyAllocatesLittle: applying a plain or numbered publish allocates only
// where the tables grow.
func TestApplyAllocatesLittle(t *testing.T) {
	g := newGroup(t)
	s := stream(g.topic("a", nil), 0)
	const per = 100
	var entries []Entry
	for i := range uint64(120) {
		g.leader.Receive(n1, publishes(t, s, per, false, true, 1+i*per))
		data := g.leader.NextEntry(1)
		g.index++
		entries = append(entries, Entry{Index: g.index, Term: 1, Data: data, Pos: g.log.append(data)})
	}
	for _, e := range entries[:10] {
		g.broker.Apply(e)
	}
	i := 10
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := g.broker.Apply(entries[i]); err != nil {
			t.Fatal(err)
		}
		i++
	})
	if allocs > 2 {
		t.Errorf("%.1f allocations for %d publishes", allocs, per)
	}
	if _, next := g.broker.Offsets(s); next < 11000 {
		t.Fatalf("only %d were applied", next)
	}
}

func BenchmarkApply(b *testing.B) {
	for _, c := range []struct {
		name      string
		ids, seqs bool
	}{{"plain", false, false}, {"seq", false, true}, {"id", true, false}} {
		b.Run(c.name, func(b *testing.B) {
			g := newGroup(b)
			s := stream(g.topic("a", func(s *Spec) { s.DedupWindowUS = 5e6 }), 0)
			const per = 100
			next := uint64(1)
			var data []byte
			b.ReportAllocs()
			b.SetBytes(128)
			for n := 0; b.Loop(); n++ {
				if n%per == 0 {
					b.StopTimer()
					g.now += 2000
					g.leader.Receive(n1, publishes(b, s, per, c.ids, c.seqs, next))
					next += per
					data = g.leader.NextEntry(1)
					g.index++
					if n%100_000 == 0 {
						g.broker.Unload(uint64(n) / 100_000)
					}
					b.StartTimer()
					e := Entry{Index: g.index, Term: 1, Data: data, Pos: Pos{Segment: uint64(n)/100_000 + 1}}
					if _, err := g.broker.Apply(e); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkNextEntry(b *testing.B) {
	g := newGroup(b)
	s := stream(g.topic("a", nil), 0)
	const per = 100
	rs := publishes(b, s, per, false, false, 1)
	b.ReportAllocs()
	b.SetBytes(128)
	next := uint64(1)
	for n := 0; b.Loop(); n++ {
		if n%per == 0 {
			for i := range rs {
				rs[i].Number = next
				next++
			}
			g.leader.Receive(n1, rs)
			if g.leader.NextEntry(1) == nil {
				b.Fatal("nothing")
			}
		}
	}
}

// BenchmarkUnderLock is what the settle loop does under a shard's lock, where
// publishing waits for it: with a segment of 120,000 batches and three origins
// whose remembered results are all new.
func BenchmarkUnderLock(b *testing.B) {
	fill := func(b *testing.B, g *group, s Stream, first uint64) {
		const per = 100
		for n := range uint64(1200) {
			origin := Origin{RaftID: 1 + n%3, Counter: 1}
			next, _ := g.broker.NextNumber(origin)
			rs := publishes(b, s, per, false, false, next)
			if _, nack := g.leader.Receive(origin, rs); nack != nil {
				b.Fatal(nack)
			}
			g.index++
			e := Entry{Index: g.index, Term: 1, Data: g.leader.NextEntry(1), Pos: Pos{Segment: first, Offset: int64(n) << 14}}
			if _, err := g.broker.Apply(e); err != nil {
				b.Fatal(err)
			}
		}
	}
	g := newGroup(b)
	s := stream(g.topic("a", nil), 0)
	for _, what := range []string{"seal", "checkpoint"} {
		b.Run(what, func(b *testing.B) {
			segment := g.index // above all before
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				segment++
				fill(b, g, s, segment)
				b.StartTimer()
				if what == "seal" {
					g.broker.Seal(segment)
					b.StopTimer()
					g.broker.Unload(segment)
				} else {
					b.StopTimer()
					g.broker.Unload(segment)
					b.StartTimer()
					g.broker.Checkpoint()
				}
				b.StartTimer()
			}
		})
	}
}
