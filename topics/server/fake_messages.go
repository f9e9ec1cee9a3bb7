package server

import (
	"context"
	"slices"
	"sort"

	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/wire"
)

// Publish implements Backend.
func (f *Fake) Publish(p *Publish) {
	f.mu.Lock()
	if f.hold {
		f.held = append(f.held, p)
		f.heldMore.Broadcast()
		f.mu.Unlock()
		return
	}
	f.mu.Unlock()
	f.carryOut(p)
}

func (f *Fake) carryOut(p *Publish) {
	f.mu.Lock()
	r, stored, err := f.publishLocked(p)
	f.mu.Unlock()
	p.Done.Complete(r, err)
	if stored {
		f.tell(Stream{p.UID, p.Partition})
	}
}

func (f *Fake) publishLocked(p *Publish) (r Receipt, stored bool, err error) {
	s := Stream{p.UID, p.Partition}
	part := f.parts[s]
	if part == nil {
		return r, false, ErrTopicGone
	}
	if p.ID != "" {
		if r, ok := part.ids[p.ID]; ok {
			r.Duplicate, r.Synced = true, 3
			return r, false, nil
		}
	}
	if p.Producer != "" {
		switch receipts := part.seqs[p.Producer]; {
		case p.Seq <= uint64(len(receipts)):
			r := receipts[p.Seq-1]
			r.Duplicate, r.Synced = true, 3
			return r, false, nil
		case p.Seq != uint64(len(receipts))+1:
			return r, false, wire.GapError(uint64(len(receipts)) + 1)
		}
	}
	r = f.storeLocked(s, p.Batch)
	if p.ID != "" {
		part.ids[p.ID] = r
	}
	if p.Producer != "" {
		part.seqs[p.Producer] = append(part.seqs[p.Producer], r)
	}
	return r, true, nil
}

func (f *Fake) storeLocked(s Stream, b []byte) Receipt {
	part, group := f.parts[s], ShardGroup(f.Shard(s.UID, s.Partition))
	if f.untold == 0 {
		f.told = f.now
	}
	f.untold++
	f.now++
	f.index[group]++
	count := batch.Batch(b).Count()
	r := Receipt{
		Offset: part.next, TS: f.now, Lamport: f.now - FakeStart, Group: group, Term: 1,
		Index: f.index[group], Synced: 2, Replicas: 3,
	}
	part.batches = append(part.batches, Stored{
		Base: r.Offset, Count: uint32(count), TS: r.TS, Eps: r.Eps, Lamport: r.Lamport,
		Term: r.Term, Index: r.Index, Batch: b,
	})
	part.next += uint64(count)
	return r
}

// Barrier implements Backend.
func (f *Fake) Barrier(ctx context.Context, level Level, floors []Floor) (uint64, error) {
	f.mu.Lock()
	check, now := f.barrier, f.now
	f.mu.Unlock()
	if check != nil {
		if err := check(ctx, level, floors); err != nil {
			return 0, err
		}
	}
	return now, ctx.Err()
}

// Bounds implements Backend.
func (f *Fake) Bounds(s Stream) (first, next uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.parts[s]
	if p == nil {
		return 0, 0, ErrTopicGone
	}
	return p.first, p.next, nil
}

// Seek implements Backend.
func (f *Fake) Seek(s Stream, ts uint64) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.parts[s]
	if p == nil {
		return 0, ErrTopicGone
	}
	for _, b := range p.batches {
		if b.TS >= ts {
			return b.Base, nil
		}
	}
	return p.next, nil
}

// Read implements Backend.
func (f *Fake) Read(s Stream, from uint64, maxBytes int) ([]Stored, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.parts[s]
	if p == nil {
		return nil, ErrTopicGone
	}
	i := sort.Search(len(p.batches), func(i int) bool {
		return p.batches[i].Base+uint64(p.batches[i].Count) > from
	})
	var out []Stored
	for size := 0; i < len(p.batches); i++ {
		if size += len(p.batches[i].Batch); len(out) > 0 && size > maxBytes {
			break
		}
		out = append(out, p.batches[i])
	}
	return out, nil
}

// ReadBack implements Backend.
func (f *Fake) ReadBack(s Stream, until uint64, maxBytes int) ([]Stored, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.parts[s]
	if p == nil {
		return nil, ErrTopicGone
	}
	i := sort.Search(len(p.batches), func(i int) bool { return p.batches[i].Base >= until })
	var out []Stored
	for size := 0; i > 0; i-- {
		if size += len(p.batches[i-1].Batch); len(out) > 0 && size > maxBytes {
			break
		}
		out = append(out, p.batches[i-1])
	}
	return out, nil
}

// Watch implements Backend.
func (f *Fake) Watch(s Stream, wake func()) (stop func()) {
	w := &fakeWatch{stream: s, wake: wake}
	f.mu.Lock()
	f.watchers = append(f.watchers, w)
	f.mu.Unlock()
	return func() {
		f.mu.Lock()
		f.watchers = slices.DeleteFunc(f.watchers, func(x *fakeWatch) bool { return x == w })
		f.mu.Unlock()
		w.mu.Lock()
		w.off = true
		w.mu.Unlock()
	}
}

// WatchTopics implements Backend.
func (f *Fake) WatchTopics(wake func()) (stop func()) { return f.Watch(Stream{}, wake) }

// wake calls the watchers of a stream; those of the zero Stream watch topics.
func (f *Fake) wake(s Stream) {
	f.mu.Lock()
	var called []*fakeWatch
	for _, w := range f.watchers {
		if w.stream == s {
			called = append(called, w)
		}
	}
	f.mu.Unlock()
	for _, w := range called {
		w.mu.Lock()
		if !w.off {
			w.wake()
		}
		w.mu.Unlock()
	}
}
