package wal

import (
	"cmp"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wiber/wiber/raftnode/vfs"
)

// indexedLog makes a log of many segments in which some streams have batches,
// with index files, and returns the batches in order.
func indexedLog(t testing.TB, o Options, rnd *rand.Rand, segments int, streams uint64) (*WAL, map[Stream][]Located) {
	t.Helper()
	w := mustOpen(t, o)
	all := map[Stream][]Located{}
	ts, index := uint64(1000), uint64(0)
	for len(w.segments) <= segments {
		index++
		mustAppend(t, w, Record{Group: 1, HardState: hard(1, 0, index-1), Entries: run(1, 1, index, index, 200+rnd.IntN(400))})
		pos, err := w.Group(1).Pos(index)
		if err != nil {
			t.Fatal(err)
		}
		for range rnd.IntN(5) {
			s := Stream{UID: rnd.Uint64N(streams) * 0x1000003, Partition: uint32(rnd.IntN(2))}
			base := uint64(0)
			if n := len(all[s]); n > 0 {
				base = all[s][n-1].Base + uint64(all[s][n-1].Count)
			}
			ts += rnd.Uint64N(5)
			r := StreamRecord{Stream: s, Base: base, Count: 1 + rnd.Uint32N(9), TS: ts, Term: 1, Index: index, Offset: pos.Offset + int64(rnd.IntN(50)), Len: 100}
			all[s] = append(all[s], Located{r, Pos{pos.Segment, r.Offset}})
		}
	}
	if err := w.Append([]Record{{Group: 1, HardState: hard(1, 0, index)}}); err != nil {
		t.Fatal(err)
	}
	for _, sealed := range w.Sealed() {
		var list []StreamRecord
		for _, batches := range all {
			for _, b := range batches {
				if b.Pos.Segment == sealed.Number {
					list = append(list, b.StreamRecord)
				}
			}
		}
		if err := w.WriteIndex(sealed.Number, list); err != nil {
			t.Fatal(err)
		}
	}
	last := w.segments[len(w.segments)-1].number
	for s := range all { // what lies in the active segment is not indexed
		all[s] = slices.DeleteFunc(all[s], func(b Located) bool { return b.Pos.Segment == last })
	}
	return w, all
}

// TestLookups compares Find, FindTime, Scan and ScanBack with a dumb twin: a
// sorted slice.
func TestLookups(t *testing.T) {
	for _, streams := range []uint64{1, 3, 400} {
		rnd := seeded(streams)
		m := vfs.NewMem(seeded(1))
		w, all := indexedLog(t, small(m, 1), rnd, 25, streams)
		names := slices.SortedFunc(maps.Keys(all), compareStreams)
		for range 2 {
			for i := 0; i < len(names); i += 1 + len(names)/40 {
				checkLookups(t, w, rnd, names[i], all[names[i]])
			}
			for range 20 { // streams that do not exist
				checkLookups(t, w, rnd, Stream{UID: rnd.Uint64(), Partition: rnd.Uint32N(3)}, nil)
			}
			m = m.Kill()
			w = mustOpen(t, small(m, 2)) // and once more from the files alone
		}
	}
}

func checkLookups(t *testing.T, w *WAL, rnd *rand.Rand, s Stream, want []Located) {
	t.Helper()
	end, firstTS, lastTS := uint64(0), uint64(0), uint64(2000)
	if n := len(want); n > 0 {
		end, firstTS, lastTS = want[n-1].Base+uint64(want[n-1].Count), want[0].TS, want[n-1].TS
	}
	for range 10 {
		offset, maxN := rnd.Uint64N(end+3), 1+rnd.IntN(20)
		i, _ := slices.BinarySearchFunc(want, offset, func(b Located, off uint64) int {
			return cmp.Compare(b.Base+uint64(b.Count), off+1)
		})
		r, pos, ok, err := w.Find(s, offset)
		if err != nil {
			t.Fatal(err)
		}
		if ok != (offset < end) || ok && (r != want[i].StreamRecord || pos != want[i].Pos) {
			t.Fatalf("Find(%v, %d) = %v, %v, %v", s, offset, r, pos, ok)
		}
		got, err := w.Scan(s, offset, maxN)
		if err != nil || !slices.Equal(got, want[i:min(i+maxN, len(want))]) {
			t.Fatalf("Scan(%v, %d, %d) = %d batches, %v", s, offset, maxN, len(got), err)
		}

		j, _ := slices.BinarySearchFunc(want, offset, func(b Located, off uint64) int { return cmp.Compare(b.Base, off) })
		back := slices.Clone(want[max(j-maxN, 0):j])
		slices.Reverse(back)
		got, err = w.ScanBack(s, offset, maxN)
		if err != nil || !slices.Equal(got, back) {
			t.Fatalf("ScanBack(%v, %d, %d) = %d batches, want %d, %v", s, offset, maxN, len(got), len(back), err)
		}

		ts := firstTS - 1 + rnd.Uint64N(lastTS-firstTS+3)
		k, _ := slices.BinarySearchFunc(want, ts, func(b Located, ts uint64) int { return cmp.Compare(b.TS, ts) })
		r, pos, ok, err = w.FindTime(s, ts)
		if err != nil {
			t.Fatal(err)
		}
		if ok != (k < len(want)) || ok && (r != want[k].StreamRecord || pos != want[k].Pos) {
			t.Fatalf("FindTime(%v, %d) = %v, %v, %v", s, ts, r, pos, ok)
		}
	}
}

// TestIndexedEntries: entries of indexed segments are read through the index
// file, none of their positions is in memory, and Open does not scan them.
func TestIndexedEntries(t *testing.T) {
	m := vfs.NewMem(seeded(1))
	o := small(m, 1)
	w, _ := indexedLog(t, o, seeded(2), 10, 5)
	last, _ := w.Group(1).LastIndex()
	want, err := w.Group(1).Entries(1, last+1, noLimit())
	if err != nil {
		t.Fatal(err)
	}
	checkEntries(t, w, 1, want)
	inMemory := 0
	for _, sp := range w.Group(1).spans {
		inMemory += len(sp.refs)
	}
	if inMemory > 30 {
		t.Errorf("%d of %d positions are in memory", inMemory, last)
	}
	o.FS = m.Kill()
	w = mustOpen(t, o)
	if r := w.Recovered(); r.Indexed != 10 || r.Frames > 30 {
		t.Errorf("recovery read %d frames of %d entries, %d segments were indexed", r.Frames, last, r.Indexed)
	}
	checkEntries(t, w, 1, want)
}

// TestProbes: looking for a stream that is in no segment costs at most a block
// a segment, and nothing the second time.
func TestProbes(t *testing.T) {
	o := small(vfs.NewMem(seeded(1)), 1)
	o.IndexCacheBytes = 1 << 20
	w, _ := indexedLog(t, o, seeded(3), 100, 1000)
	before := w.Preads()
	for i := range uint64(200) {
		if _, _, ok, err := w.Find(Stream{UID: 1e15 + i}, 0); ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if n := w.Preads() - before; n > 300 {
		t.Errorf("200 lookups in 100 segments cost %d reads", n)
	}
}

// TestIndexDamage flips a bit in every byte of an index file: nothing is ever
// answered wrongly.
func TestIndexDamage(t *testing.T) {
	m := vfs.NewMem(seeded(1))
	w, all := indexedLog(t, small(m, 1), seeded(4), 2, 3)
	name := "wal/" + indexName(1)
	size, _ := m.Size(name)
	found := 0
	for off := int64(0); off < size; off += 7 {
		if err := m.Flip(name, off, uint(off)); err != nil {
			t.Fatal(err)
		}
		if err := allRight(m, w, all); err != nil {
			var c *CorruptError
			var v *VersionError
			if !errors.As(err, &c) && !errors.As(err, &v) {
				t.Fatalf("byte %d: %v", off, err)
			}
			found++
		} else {
			t.Errorf("byte %d of %d: not noticed", off, size)
		}
		if err := m.Flip(name, off, uint(off)); err != nil {
			t.Fatal(err)
		}
	}
	if err := allRight(m, w, all); err != nil {
		t.Fatalf("undamaged: %v", err)
	}
	t.Logf("%d flips found in %d bytes", found, size)
}

// allRight reads the first two segments through fresh caches, from their files
// alone. (Open would make a new segment each time.)
func allRight(m *vfs.Mem, old *WAL, all map[Stream][]Located) error {
	fresh := &WAL{o: old.o, fs: m, groups: map[uint64]*Group{}, lasts: map[uint64]uint64{},
		files: &fileCache{fs: m, dir: "wal", open: map[string]*openFile{}}, blocks: newBlockCache(1 << 20)}
	defer fresh.files.close()
	for _, seg := range old.segments[:2] {
		s := &segment{number: seg.number, life: seg.life, end: seg.end, sealed: true}
		fresh.segments = append(fresh.segments, s)
		if err := fresh.loadIndex(s); err != nil {
			return err
		}
	}
	g := fresh.Group(1)
	if _, err := g.read(1, g.last+1, noLimit()); err != nil {
		return err
	}
	for s, batches := range all {
		got, err := fresh.Scan(s, 0, 1000)
		if err != nil {
			return err
		}
		if !slices.Equal(got, batches) {
			return errors.New("wrong batches")
		}
	}
	return nil
}

func TestWriteIndexRefuses(t *testing.T) {
	m := vfs.NewMem(seeded(1))
	w := mustOpen(t, small(m, 1))
	mustAppend(t, w, Record{Group: 1, Entries: run(1, 1, 1, 10, 200)})
	mustAppend(t, w, Record{Group: 1, Entries: run(1, 1, 11, 40, 200)})
	s := Stream{UID: 1}
	for name, list := range map[string][]StreamRecord{
		"no messages":        {{Stream: s, Offset: 5000}},
		"outside":            {{Stream: s, Count: 1, Offset: 100}},
		"behind the end":     {{Stream: s, Count: 1, Offset: 5000, Len: 1 << 20}},
		"overlapping":        {{Stream: s, Count: 2, Offset: 5000}, {Stream: s, Base: 1, Count: 2, Offset: 5000}},
		"going back in time": {{Stream: s, Count: 1, TS: 5, Offset: 5000}, {Stream: s, Base: 1, Count: 1, TS: 4, Offset: 5000}},
		"offsets overflow":   {{Stream: s, Base: 1<<64 - 1, Count: 2, Offset: 5000}},
	} {
		if err := w.WriteIndex(1, list); err == nil {
			t.Errorf("%s: was indexed", name)
		}
	}
	for _, number := range []uint64{2, 3} {
		if err := w.WriteIndex(number, nil); err == nil {
			t.Errorf("segment %d was indexed", number)
		}
	}
	if err := w.WriteIndex(1, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteIndex(1, nil); err == nil {
		t.Error("a segment was indexed twice")
	}
	if err := w.Append([]Record{{Group: 1, Entries: run(1, 2, 5, 5, 10)}}); err == nil {
		t.Error("an applied entry was replaced")
	}
}
