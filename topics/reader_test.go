package topics

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// TestReaderFindsEverything publishes to a few streams over many segments, hands
// some segments over to index files, and compares every read, forwards and
// backwards, by offset and by time, with a plain list.
func TestReaderFindsEverything(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		g := newGroup(t)
		g.log.limit = 3000
		uid := g.topic("a", func(s *Spec) { s.Partitions = 3 })
		all := map[Stream][]StoredBatch{}
		check := func() {
			t.Helper()
			r := NewReader(&sync.Mutex{}, g.broker, g.log)
			for p := range uint32(3) {
				compareReads(t, rng, r, stream(uid, p), all[stream(uid, p)])
			}
		}
		for i := range 300 {
			g.now += rng.Int64N(3)
			s := stream(uid, uint32(rng.IntN(3)*rng.IntN(2)))
			n := 1 + rng.IntN(3)
			p := Publish{UID: s.UID, Partition: s.Partition, Batch: makeBatch(t, n, fmt.Sprint("value ", i))}
			res := g.publish(p)
			var b StoredBatch
			b.Stream, b.Base, b.Count, b.StreamRecord.TS = s, res.Base, uint32(n), res.TS
			b.Term, b.Index = res.Term, res.Index
			b.Stamp, b.Batch = Stamp{res.TS, res.EPS, res.Lamport}, p.Batch
			all[s] = append(all[s], b)
			if i%60 == 59 {
				check()
				// The oldest segment without an index file gets one.
				if n := uint64(len(g.log.index) + 1); n < g.log.current {
					g.log.index[n] = g.broker.Seal(n).Records(nil)
					check()
					g.broker.Unload(n)
					check()
				}
			}
		}
		if len(g.log.index) < 3 || len(g.broker.hot.segments) < 3 {
			t.Fatalf("too little happened: %d index files, %d segments in memory", len(g.log.index), len(g.broker.hot.segments))
		}
	}
}

func compareReads(t *testing.T, rng *rand.Rand, r *Reader, s Stream, all []StoredBatch) {
	t.Helper()
	_, next := r.broker.Offsets(s)
	for range 20 {
		from := rng.Uint64N(next + 2)
		i := slices.IndexFunc(all, func(b StoredBatch) bool { return b.Base+uint64(b.Count) > from })
		limit := 1 + rng.IntN(5000)
		got, err := r.Read(s, from, limit)
		want := []StoredBatch(nil)
		if i >= 0 {
			want = all[i:]
		}
		sameBatches(t, fmt.Sprintf("read %v from %d", s, from), got, err, want, limit)
		if i >= 0 {
			one, err := r.At(s, from)
			sameBatches(t, fmt.Sprintf("at %d", from), []StoredBatch{one}, err, all[i:], 1)
			if inMemory, ok := r.broker.Locate(s, from); ok && inMemory != one.Located {
				t.Fatalf("located %+v, read %+v", inMemory, one.Located)
			}
		} else if _, err := r.At(s, from); !errors.Is(err, ErrNoBatch) {
			t.Fatalf("at %d of %d: %v", from, next, err)
		}

		before := rng.Uint64N(next + 2)
		var back []StoredBatch
		for _, b := range slices.Backward(all) {
			if b.Base < before {
				back = append(back, b)
			}
		}
		got, err = r.ReadBack(s, before, limit)
		sameBatches(t, fmt.Sprintf("read %v back from %d", s, before), got, err, back, limit)

		ts := 1_000_000 + rng.Uint64N(700)
		wantAt := next
		if i := slices.IndexFunc(all, func(b StoredBatch) bool { return b.Stamp.TS >= ts }); i >= 0 {
			wantAt = all[i].Base
		}
		if at, err := r.OffsetAt(s, ts); err != nil || at != wantAt {
			t.Fatalf("offset at %d is %d, %v; want %d", ts, at, err, wantAt)
		}
	}
}

// sameBatches compares a read with what begins at want: as much as limit says.
func sameBatches(t *testing.T, what string, got []StoredBatch, err error, want []StoredBatch, limit int) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	bytes := 0
	for i, g := range got {
		if i >= len(want) || bytes >= limit {
			t.Fatalf("%s: %d batches, batch %d is too many", what, len(got), i)
		}
		w := want[i]
		if g.Base != w.Base || g.Count != w.Count || g.Stamp != w.Stamp || g.Index != w.Index || g.Term != w.Term ||
			g.Stream != w.Stream || string(g.Batch) != string(w.Batch) || g.StreamRecord.TS != g.Stamp.TS {
			t.Fatalf("%s: batch %d is %+v, want %+v", what, i, g, w)
		}
		bytes += int(g.Len)
	}
	if len(got) < len(want) && bytes < limit {
		t.Fatalf("%s: %d batches of %d bytes, want %d", what, len(got), bytes, limit)
	}
}

// TestReaderNamesAHole: a batch that neither memory nor an index file holds is an
// error with its offset, never an empty answer.
func TestReaderNamesAHole(t *testing.T) {
	g := newGroup(t)
	s := stream(g.topic("a", nil), 0)
	g.publish(g.message(s, "x"))
	g.broker.Unload(1) // nobody wrote the index file
	r := NewReader(&sync.Mutex{}, g.broker, g.log)
	if b, err := r.Read(s, 0, 1000); err == nil {
		t.Fatalf("read %d batches", len(b))
	}
	if b, err := r.ReadBack(s, 1, 1000); err == nil {
		t.Fatalf("read %d batches backwards", len(b))
	}
	if _, err := r.At(s, 0); err == nil || errors.Is(err, ErrNoBatch) {
		t.Fatal(err)
	}
}

// TestSequentialReadIsOneRead: neighbours in the log cost one read, not one each.
func TestSequentialReadIsOneRead(t *testing.T) {
	g := newGroup(t)
	s := stream(g.topic("a", nil), 0)
	for range 1000 {
		g.publish(g.message(s, "x"))
	}
	g.log.reads = 0
	r := NewReader(&sync.Mutex{}, g.broker, g.log)
	if b, err := r.Read(s, 0, 1<<20); err != nil || len(b) != 1000 {
		t.Fatal(len(b), err)
	}
	if g.log.reads != 1 {
		t.Errorf("%d reads of the log", g.log.reads)
	}
}

// TestDroppedTopicIsNotRead: the batches of a dropped topic are gone from memory
// at once; a topic of the same name starts at offset 0.
func TestDroppedTopicIsNotRead(t *testing.T) {
	g := newGroup(t)
	old := stream(g.topic("a", nil), 0)
	g.publish(g.message(old, "old"))
	g.catalogue(NewDelete(Delete{Name: "a"}))
	g.step()
	fresh := stream(g.topic("a", nil), 0)
	if fresh.UID == old.UID {
		t.Fatal("the uid is used again")
	}
	if res := g.publish(g.message(fresh, "new")); res.Base != 0 {
		t.Fatalf("%+v", res)
	}
	r := NewReader(&sync.Mutex{}, g.broker, g.log)
	if b, err := r.Read(old, 0, 1000); err != nil || len(b) != 0 {
		t.Fatal(len(b), err)
	}
	b, err := r.Read(fresh, 0, 1000)
	if err != nil || len(b) != 1 || b[0].UID != fresh.UID {
		t.Fatal(b, err)
	}
	if res := g.publish(g.message(old, "late")); res.Code != NoTopic {
		t.Fatalf("publish to a dropped topic: %+v", res)
	}
	if sealed := g.broker.Seal(1).Records(nil); len(sealed) != 1 || sealed[0].Stream != fresh {
		t.Fatalf("%+v", sealed)
	}
}
