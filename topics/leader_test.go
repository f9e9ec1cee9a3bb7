package topics

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

var n1 = Origin{RaftID: 1, Counter: 1}

// kinds lists the commands of an entry's payload.
func kinds(t *testing.T, data []byte) (ks []Kind) {
	t.Helper()
	it := Commands(data)
	for it.Next() {
		ks = append(ks, it.Command.Kind)
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return ks
}

// TestSettingsGoAheadOfTheFirstPublish: the first publish to a topic carries its
// settings in the same entry, a later one does not, and one after a change of
// the topic does again; also while the first is still on its way.
func TestSettingsGoAheadOfTheFirstPublish(t *testing.T) {
	g := newGroup(t)
	a := stream(g.topic("a", nil), 0)
	pub := NewPublish(g.message(a, "x"), 0, 0)
	g.send(n1, 1, pub)
	first := g.leader.NextEntry(1)
	if ks := kinds(t, first); !slices.Equal(ks, []Kind{KindConfigure, KindPublish}) {
		t.Fatal(ks)
	}
	g.send(n1, 2, pub)
	second := g.leader.NextEntry(1)
	if ks := kinds(t, second); !slices.Equal(ks, []Kind{KindPublish}) {
		t.Fatal(ks)
	}
	g.apply(first)
	g.apply(second)
	g.topic("a", func(s *Spec) { s.DedupWindowUS = 1 })
	g.send(n1, 3, pub)
	if ks := kinds(t, g.leader.NextEntry(1)); !slices.Equal(ks, []Kind{KindConfigure, KindPublish}) {
		t.Fatal(ks)
	}
}

// TestRequestsWaitForTheCatalogue: a request that was resolved at a later
// catalogue index than the leader's copy has waits, and those of its origin
// behind it; another origin goes on.
func TestRequestsWaitForTheCatalogue(t *testing.T) {
	g := newGroup(t)
	a := stream(g.topic("a", nil), 0)
	late := NewPublish(g.message(a, "x"), 0, g.catIdx+1)
	g.send(n1, 1, late, NewPublish(g.message(a, "y"), 0, 1))
	if g.leader.NextEntry(1); g.leader.Pending() {
		t.Fatal("pending before the catalogue is there")
	}
	g.send(Origin{2, 1}, 1, NewPublish(g.message(a, "z"), 0, 0))
	if outs := g.step(); len(outs) != 1 || outs[0].Origin.RaftID != 2 {
		t.Fatalf("%+v", outs)
	}
	g.topic("b", nil)
	if !g.leader.Pending() {
		t.Fatal("not pending though the catalogue is there")
	}
	if outs := g.step(); len(outs) != 2 || outs[0].Number != 1 || outs[1].Number != 2 {
		t.Fatalf("%+v", outs)
	}
}

// TestRefusalsTakeTheirNumber: what the leader does not let through goes into the
// log as an empty command with its number and code.
func TestRefusalsTakeTheirNumber(t *testing.T) {
	g := newGroup(t)
	a := stream(g.topic("a", nil), 0)
	out := a
	out.Partition = 1
	g.send(n1, 1,
		NewPublish(g.message(stream(77, 0), "no such uid"), 0, 0),
		NewPublish(g.message(out, "no such partition"), 0, 0),
		Request{Kind: KindPublish, Body: []byte("not a publish")},
		Request{Kind: KindDrop, Body: appendDrop(nil, a.UID)},
		NewPublish(Publish{UID: a.UID, Batch: []byte("not a batch")}, 0, 0),
		NewPublish(g.message(a, "fine"), 0, 0),
	)
	var codes []Code
	for _, o := range g.step() {
		codes = append(codes, o.Code)
	}
	if want := []Code{NoTopic, OutOfRange, Malformed, Malformed, Malformed, OK}; !slices.Equal(codes, want) {
		t.Fatalf("%v, want %v", codes, want)
	}
	if _, next := g.broker.Offsets(a); next != 1 {
		t.Fatalf("next offset %d", next)
	}
}

// TestDuplicatesInFlightGapsAndAnswers: Receive takes each number once, says
// what it expects after a gap, and answers applied numbers from memory.
func TestDuplicatesInFlightGapsAndAnswers(t *testing.T) {
	g := newGroup(t)
	a := stream(g.topic("a", nil), 0)
	pub := func() Request { return NewPublish(g.message(a, "x"), 0, 0) }
	g.send(n1, 1, pub(), pub())
	if answers, nack := g.send(n1, 2, pub(), pub()); answers != nil || nack != nil {
		t.Fatal(answers, nack)
	}
	if _, nack := g.send(n1, 5, pub()); nack == nil || nack.Expect != 4 || nack.Busy {
		t.Fatalf("%+v", nack)
	}
	outs := slices.Clone(g.step())
	if len(outs) != 3 {
		t.Fatalf("%+v", outs)
	}
	answers, nack := g.send(n1, 1, pub(), pub(), pub(), pub())
	if nack != nil || len(answers) != 3 || answers[1] != outs[1].Result {
		t.Fatal(answers, nack)
	}
	g.lead(2)
	if answers, _ := g.send(n1, 3, pub()); len(answers) != 1 || answers[0] != outs[2].Result {
		t.Fatalf("after an election: %+v", answers)
	}
	// A newer incarnation begins at 1; the older one is ignored for ever.
	n1b := Origin{RaftID: 1, Counter: 2}
	g.send(n1b, 1, pub())
	if outs := g.step(); len(outs) != 1 || outs[0].Origin != n1b || outs[0].Base != 3 {
		t.Fatalf("%+v", outs)
	}
	if answers, nack := g.send(n1, 4, pub()); answers != nil || nack != nil || g.leader.Pending() {
		t.Fatal("a dead incarnation is heard")
	}
}

// TestAnswersOfTheLast4096: every one of an origin's last 4,096 results is
// remembered, an older one is not.
func TestAnswersOfTheLast4096(t *testing.T) {
	g := newGroup(t)
	a := stream(g.topic("a", nil), 0)
	const n = 10_000
	for i := uint64(1); i <= n; i++ {
		g.send(n1, i, NewPublish(g.message(a, "x"), 0, 0))
		if i%100 == 0 {
			g.step()
		}
	}
	for i := uint64(n); i > n-RememberedResults; i-- {
		if r, ok := g.broker.Remembered(n1, i); !ok || r.Number != i || r.Base != i-1 {
			t.Fatalf("number %d: %+v %v", i, r, ok)
		}
	}
	if _, ok := g.broker.Remembered(n1, n-RememberedResults); ok {
		t.Fatal("more is remembered than promised")
	}
}

// TestFullQueueIsBusy: beyond its limit the queue takes nothing, and says where
// to go on.
func TestFullQueueIsBusy(t *testing.T) {
	g := newGroup(t)
	g.leader.o.QueueBytes = 10_000
	a := stream(g.topic("a", nil), 0)
	big := NewPublish(g.message(a, string(make([]byte, 3000))), 0, 0)
	_, nack := g.send(n1, 1, big, big, big, big)
	if nack == nil || !nack.Busy || nack.Expect != 4 {
		t.Fatalf("%+v", nack)
	}
	if outs := g.step(); len(outs) != 3 {
		t.Fatalf("%d outcomes", len(outs))
	}
	if g.leader.queued != 0 {
		t.Fatalf("%d bytes count as queued in an empty queue", g.leader.queued)
	}
	if _, nack := g.send(n1, 4, NewPublish(g.message(a, string(make([]byte, 20000))), 0, 0)); nack != nil {
		t.Fatalf("an empty queue takes one of any size: %+v", nack)
	}
}

// TestEntriesJoinUpToALimit: many commands make one entry, up to the limit; a
// larger one goes alone.
func TestEntriesJoinUpToALimit(t *testing.T) {
	g := newGroup(t)
	g.leader.o.EntryBytes = 5000
	a := stream(g.topic("a", nil), 0)
	small := NewPublish(g.message(a, string(make([]byte, 1000))), 0, 0)
	large := NewPublish(g.message(a, string(make([]byte, 9000))), 0, 0)
	g.send(n1, 1, small)
	g.step() // the topic's settings
	g.send(n1, 2, small, small, small, small, small, large, small)
	var got []int
	for data := g.leader.NextEntry(1); data != nil; data = g.leader.NextEntry(1) {
		if cap(data) > len(data)+len(data)/2 {
			t.Errorf("an entry of %d bytes takes %d", len(data), cap(data))
		}
		got = append(got, len(kinds(t, data)))
		g.apply(data)
	}
	if !slices.Equal(got, []int{4, 1, 1, 1}) {
		t.Fatalf("commands per entry: %v", got)
	}
}

// TestStamps: above the last, at least the reference; eps says how far a stamp
// runs ahead and is -1 when unsynchronised or beyond 500 ms; Lamport time rises
// above the client's.
func TestStamps(t *testing.T) {
	for _, c := range []struct {
		name         string
		last, ref    int64
		eps          int64
		lastLam, lam uint64
		ts           uint64
		wantEPS      int64
		wantLam      uint64
	}{
		{"the reference is later", 1000, 5000, 10, 7, 0, 5000, 10, 8},
		{"the stamp runs ahead", 5000, 4000, 10, 7, 0, 5001, 1011, 8},
		{"the client is ahead", 1000, 5000, 10, 7, 20, 5000, 10, 21},
		{"unsynchronised", 5000, 4000, -1, 7, 0, 5001, -1, 8},
		{"too far ahead", 1_000_000, 4000, 10, 7, 0, 1_000_001, -1, 8},
		{"too uncertain", 1000, 5000, 600_000, 7, 0, 5000, -1, 8},
		{"one node is certain", 1000, 5000, 0, 7, 0, 5000, 0, 8},
		{"its first message too", 0, 5000, 0, 0, 0, 5000, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGroup(t)
			a := stream(g.topic("a", nil), 0)
			if c.last > 0 {
				g.apply(AppendCommand(nil, Command{Kind: KindConfigure, Stamp: Stamp{TS: uint64(c.last), Lamport: c.lastLam},
					Body: configure{a.UID, 1, 1, 0}.append(nil)}))
			}
			g.now, g.eps = c.ref, c.eps
			g.send(n1, 1, NewPublish(g.message(a, "x"), c.lam, 0))
			o := g.step()[0]
			if o.TS != c.ts || o.EPS != c.wantEPS || o.Lamport != c.wantLam {
				t.Fatalf("%+v", o.Result)
			}
		})
	}
}

// TestStampsRiseInFlight: what is formed before the last entry is applied lies
// above it.
func TestStampsRiseInFlight(t *testing.T) {
	g := newGroup(t)
	a := stream(g.topic("a", nil), 0)
	var entries [][]byte
	for i := range uint64(5) {
		g.send(n1, i+1, NewPublish(g.message(a, "x"), 0, 0))
		entries = append(entries, g.leader.NextEntry(1))
	}
	last := Stamp{}
	for _, e := range entries {
		for _, o := range g.apply(e) {
			if o.Code != OK || o.TS <= last.TS || o.Lamport <= last.Lamport {
				t.Fatalf("%+v after %+v", o.Result, last)
			}
			last = Stamp{TS: o.TS, Lamport: o.Lamport}
		}
	}
}

// TestNewLeaderComparesAllTopics: a leader that was away while topics were
// deleted drops them; one that its catalogue copy does not know yet stays.
func TestNewLeaderComparesAllTopics(t *testing.T) {
	g := newGroup(t)
	var uids []uint64
	for i := range 5 {
		uids = append(uids, g.topic(fmt.Sprint("t", i), nil))
		g.publish(g.message(stream(uids[i], 0), "x"))
	}
	g.leader.Reset(0)
	g.catalogue(NewDelete(Delete{Name: "t1"}), NewDelete(Delete{Name: "t3"}))
	// A topic of the future: configured by an earlier leader that knew more.
	future := g.cat.NextUID()
	g.apply(AppendCommand(nil, Command{Kind: KindConfigure, Stamp: Stamp{TS: g.broker.last.TS + 1}, Body: configure{future, 1, 1, 0}.append(nil)}))
	g.lead(2)
	g.step()
	if got, want := g.broker.TopicUIDs(nil), []uint64{uids[0], uids[2], uids[4], future}; !slices.Equal(got, want) {
		t.Fatalf("topics %v, want %v", got, want)
	}
}

// TestDedupIDsComeFromTheLog: a limit that differs from the log's is written to it.
func TestDedupIDsComeFromTheLog(t *testing.T) {
	g := newGroup(t)
	g.leader.o.DedupIDs = 42
	g.step()
	if n, _ := g.broker.DedupIDs(); n != 42 {
		t.Fatalf("limit %d", n)
	}
	g.lead(2)
	if data := g.leader.NextEntry(2); data != nil {
		t.Fatalf("written again: %v", kinds(t, data))
	}
}

// TestStoredPublishIsReadBack: what the index points at is the command, with its
// stamp and the batch untouched.
func TestStoredPublishIsReadBack(t *testing.T) {
	g := newGroup(t)
	a := stream(g.topic("a", nil), 0)
	p := g.message(a, "payload")
	p.HasID, p.ID = true, HashID(a, "id")
	p.HasProducer, p.Producer, p.Seq = true, HashProducer("p"), 1
	res := g.publish(p)
	l, ok := g.broker.Locate(a, 0)
	if !ok || l.Term != res.Term || l.Index != res.Index || l.TS != res.TS {
		t.Fatalf("%+v %v", l, ok)
	}
	buf := make([]byte, l.Len)
	if err := g.log.ReadAt(buf, l.Pos); err != nil {
		t.Fatal(err)
	}
	s, err := DecodeStored(buf)
	if err != nil {
		t.Fatal(err)
	}
	if s.Stamp != (Stamp{res.TS, res.EPS, res.Lamport}) || !bytes.Equal(s.Batch, p.Batch) || s.ID != p.ID || s.Producer != p.Producer || s.Seq != 1 {
		t.Fatalf("%+v", s)
	}
}
