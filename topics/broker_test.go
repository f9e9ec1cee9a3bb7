package topics

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestBrokerDecidesAsItsDumbTwin sends random publishes, with ids and with
// numbers, through the whole main path and compares every decision with a model
// that keeps everything and searches it from the beginning.
func TestBrokerDecidesAsItsDumbTwin(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { twin(t, seed) })
	}
}

func twin(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	g := newGroup(t)
	m := newModel()
	if seed%3 == 0 {
		g.leader.o.DedupIDs, m.dedupIDs = 6, 6
	}
	uids := []uint64{
		g.topic("a", func(s *Spec) { s.Partitions = 3; s.DedupWindowUS = 10e6 }),
		g.topic("b", func(s *Spec) { s.DedupWindowUS = 2_500_000 }),
		g.topic("c", func(s *Spec) { s.DedupWindowUS = 0 }),
	}
	batches := [][]byte{1: makeBatch(t, 1, "x"), 2: makeBatch(t, 2, "x"), 3: makeBatch(t, 3, "x")}
	seqs, epochs := map[string]uint64{}, map[string]uint32{}
	var dups, gaps, busy, old int
	for range 600 {
		g.now += rng.Int64N(400_000)
		if rng.IntN(150) == 0 {
			g.now += 6*24*3600*1e6 + rng.Int64N(2*24*3600*1e6)
		}
		count := uint32(1 + rng.IntN(3))
		p := Publish{UID: uids[rng.IntN(len(uids))], Batch: batches[count]}
		if p.UID == uids[0] {
			p.Partition = rng.Uint32N(3)
		}
		s := stream(p.UID, p.Partition)
		if rng.IntN(2) == 0 {
			p.HasID, p.ID = true, HashID(s, fmt.Sprint(rng.IntN(40)))
		}
		if rng.IntN(2) == 0 {
			name := fmt.Sprint(rng.IntN(2))
			p.HasProducer, p.Producer = true, HashProducer(name)
			key := fmt.Sprint(name, s)
			if rng.IntN(40) == 0 {
				epochs[key]++
				seqs[key] = 0
			}
			p.Epoch = epochs[key]
			switch rng.IntN(8) {
			case 6:
				p.Epoch = max(p.Epoch, 1) - 1
			case 0:
				p.Seq = uint64(rng.IntN(20))
			case 1:
				p.Seq = seqs[key] + uint64(rng.IntN(3))
			default:
				p.Seq = seqs[key] + 1
			}
		}
		got := g.publish(p)
		m.topics[p.UID] = configure{Partitions: 3, DedupWindowUS: g.broker.topics[p.UID].dedupWindowUS}
		want := m.publish(p, count, got.TS)
		want.Number, want.TS, want.EPS, want.Lamport, want.Term, want.Index = got.Number, got.TS, got.EPS, got.Lamport, got.Term, got.Index
		if got != want {
			t.Fatalf("seed %d: publish %+v\n got %+v\nwant %+v", seed, p, got, want)
		}
		if p.HasProducer && got.Code == OK && !(got.Duplicate && p.Seq <= seqs[fmt.Sprint(p.Producer, s)]) {
			for k := range 2 {
				if name := fmt.Sprint(k); HashProducer(name) == p.Producer {
					seqs[fmt.Sprint(name, s)] = p.Seq + uint64(count) - 1
				}
			}
		}
		switch {
		case got.Duplicate && got.NoOffset:
			old++
		case got.Duplicate:
			dups++
		case got.Code == Gap:
			gaps++
		case got.Code == Busy:
			busy++
		}
	}
	if dups == 0 || gaps == 0 || seed%3 == 0 && busy == 0 {
		t.Fatalf("seed %d tried too little: %d duplicates, %d gaps, %d busy", seed, dups, gaps, busy)
	}
	rehearse(t, g)
}

// rehearse replays the log into a new broker: it must end in the same state.
func rehearse(t *testing.T, g *group) {
	t.Helper()
	b := NewBroker()
	for _, e := range g.log.entries {
		if _, err := b.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	if b.Chain() != g.broker.Chain() {
		t.Fatalf("chain %s after a replay, %s before", b.Chain(), g.broker.Chain())
	}
}

// TestOldNumbersHaveNoOffset: a number older than the last 1,000 of its producer
// is a duplicate without an offset, the 1,000th newest has one.
func TestOldNumbersHaveNoOffset(t *testing.T) {
	g := newGroup(t)
	a := stream(g.topic("a", nil), 0)
	one := makeBatch(t, 1, "x")
	p := Publish{UID: a.UID, HasProducer: true, Producer: HashProducer("p"), Batch: one}
	other := Publish{UID: a.UID, Batch: one}
	offset := map[uint64]uint64{}
	for seq := uint64(1); seq <= 3000; seq++ {
		p.Seq = seq
		offset[seq] = g.publish(p).Base
		if seq%2 == 0 {
			g.publish(other) // so that no two numbers share a run
		}
	}
	if n := len(g.broker.producers.list[0].runs); n > 2*RememberedSeqs+16 {
		t.Errorf("%d runs are kept", n)
	}
	for _, c := range []struct {
		seq   uint64
		known bool
	}{{3000, true}, {2001, true}, {2000, false}, {1, false}} {
		p.Seq = c.seq
		r := g.publish(p)
		if !r.Duplicate || r.NoOffset == c.known || c.known && r.Base != offset[c.seq] {
			t.Errorf("seq %d again: %+v, first offset %d", c.seq, r, offset[c.seq])
		}
	}
}

// TestFullOfIDsIsBusy: a shard that remembers dedupIds ids inside their windows
// refuses another one, takes messages without an id, still knows every id, and
// goes on when the windows end.
func TestFullOfIDsIsBusy(t *testing.T) {
	g := newGroup(t)
	g.leader.o.DedupIDs = 1000
	a := stream(g.topic("a", func(s *Spec) { s.DedupWindowUS = 5e6 }), 0)
	id := func(i int) Publish {
		p := g.message(a, "x")
		p.HasID, p.ID = true, HashID(a, fmt.Sprint(i))
		return p
	}
	for round := range 5 {
		for i := range 1000 {
			if r := g.publish(id(round*1000 + i)); r.Code != OK || r.Duplicate {
				t.Fatalf("round %d id %d: %+v", round, i, r)
			}
		}
		if r := g.publish(id(-1)); r.Code != Busy {
			t.Fatalf("round %d, one too many: %+v", round, r)
		}
		if r := g.publish(g.message(a, "x")); r.Code != OK {
			t.Fatalf("without an id: %+v", r)
		}
		for i := range 1000 {
			if r := g.publish(id(round*1000 + i)); !r.Duplicate || r.Base != uint64(round*1001+i) {
				t.Fatalf("round %d id %d again: %+v", round, i, r)
			}
		}
		g.now += 6_100_000
	}
	if n := len(g.broker.ids.slots); n > 1000*17/16*5/4+64 {
		t.Errorf("the table has %d places for 1000 ids", n)
	}
}

// TestQuietShardForgets: a leader without work proposes a Clock when an id's
// window has ended, once.
func TestQuietShardForgets(t *testing.T) {
	g := newGroup(t)
	a := stream(g.topic("a", func(s *Spec) { s.DedupWindowUS = 5e6 }), 0)
	p := g.message(a, "x")
	p.HasID, p.ID = true, HashID(a, "i")
	g.publish(p)
	g.now += 4_000_000
	g.leader.Tick()
	if g.leader.Pending() {
		t.Fatal("a clock before anything ends")
	}
	g.now += 3_000_000
	g.leader.Tick()
	if !g.leader.Pending() {
		t.Fatal("no clock though a window ended")
	}
	g.step()
	if _, live := g.broker.DedupIDs(); live != 0 {
		t.Fatalf("%d ids live after their windows", live)
	}
	g.now += 3_000_000
	g.leader.Tick()
	if g.leader.Pending() {
		t.Fatal("a clock without a reason")
	}
}

// TestDivergedReplicaStops: a replica that decided otherwise than the leader
// finds out by the leader's chain hash.
func TestDivergedReplicaStops(t *testing.T) {
	g := newGroup(t)
	g.topic("a", nil)
	other := NewBroker()
	for _, e := range g.log.entries {
		if _, err := other.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	other.chain[3]++
	other.recent[other.applied%recentChains].chain = other.chain
	data := AppendCommand(nil, Command{Kind: KindClock, Stamp: Stamp{TS: 5e6}, Body: clock{g.broker.applied, g.broker.chain}.append(nil)})
	e := Entry{Index: g.index + 1, Term: 1, Data: data}
	if _, err := g.broker.Apply(e); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Apply(e); err == nil {
		t.Fatal("a diverged replica goes on")
	} else if _, ok := err.(*DivergedError); !ok {
		t.Fatal(err)
	}
}
