package topics

import "testing"

// TestPromisesAreKept: what a leader promises holds for everything that it stamps
// afterwards in its term, whatever its clock does; it costs stamps nothing; what
// the shard writes for itself does not move the log's clock to a promise.
func TestPromisesAreKept(t *testing.T) {
	g := newGroup(t)
	g.eps = 0
	a := stream(g.topic("a", nil), 0)
	number := uint64(0)
	publish := func() Result {
		t.Helper()
		number++
		g.send(n1, number, NewPublish(g.message(a, "x"), 0, 0))
		outs := g.step()
		return outs[len(outs)-1].Result
	}
	promise := func() Promise {
		t.Helper()
		p, ok := g.leader.Promise()
		if !ok || p.Term != g.term || p.After > p.Safe {
			t.Fatalf("%+v %v", p, ok)
		}
		return p
	}

	// An idle shard promises up to the reference time; a stamp of the same
	// microsecond is still exact.
	g.now = 5_000_000
	p := promise()
	if p.Safe != 4_999_999 || p.After != g.broker.LastStamp().TS {
		t.Fatalf("%+v", p)
	}
	if r := publish(); r.TS != 5_000_000 || r.EPS != 0 {
		t.Fatalf("%+v", r)
	}

	// What is on its way is named by its stamp.
	number++
	g.send(n1, number, NewPublish(g.message(a, "x"), 0, 0))
	inFlight := g.leader.NextEntry(1)
	if p = promise(); p.After != 5_000_001 || p.Safe != 5_000_001 {
		t.Fatalf("%+v", p)
	}
	g.apply(inFlight)

	// A clock that goes back breaks nothing.
	g.now = 9_000_000
	p = promise()
	g.now = 2_000_000
	if again := promise(); again.Safe != p.Safe {
		t.Fatalf("%+v after %+v", again, p)
	}
	g.topic("b", nil)
	before := g.broker.LastStamp().TS
	g.leader.drops = append(g.leader.drops, a.UID+1000)
	g.leader.configured = map[uint64]uint64{a.UID + 1000: 1}
	g.step() // a Drop: it repeats the last stamp, not the promise
	if now := g.broker.LastStamp().TS; now != before {
		t.Fatalf("the log's clock went from %d to %d", before, now)
	}
	if r := publish(); r.TS != p.Safe+1 {
		t.Fatalf("stamped %d after a promise of %d", r.TS, p.Safe)
	}

	// Another term is bound only by what it is told.
	g.now = 20_000_000
	p = promise()
	g.now = 10_000_000
	g.leader.Reset(2)
	if _, ok := g.leader.Promise(); ok {
		t.Fatal("a leader promises before it has applied what earlier ones wrote")
	}
	g.lead(2)
	g.leader.Above(p.Safe)
	if r := publish(); r.TS != p.Safe+1 {
		t.Fatalf("stamped %d", r.TS)
	}
	g.leader.Reset(0)
	if _, ok := g.leader.Promise(); ok {
		t.Fatal("who does not lead promises nothing")
	}
}
