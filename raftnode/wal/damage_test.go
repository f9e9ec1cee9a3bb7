package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/wiber/wiber/raftnode/vfs"
)

// TestD4Damage flips one bit in every place below the synced-through, one at a
// time: Open names the segment and changes no file.
func TestD4Damage(t *testing.T) {
	if plantedTruncateOnCRC {
		t.Skip("built with the bug that this test finds")
	}
	m := vfs.NewMem(seeded(1))
	w := mustOpen(t, small(m, 1))
	for i := uint64(1); i <= 12; i++ {
		mustAppend(t, w, Record{Group: i % 3, HardState: hard(1, i, 0), Entries: run(i%3, 1, (i-1)/3+1, (i-1)/3+1, 700)})
	}
	if err := w.Idle(); err != nil {
		t.Fatal(err)
	}
	m = m.Kill()
	names, _ := m.ReadDir("wal")
	if len(names) < 2 {
		t.Fatalf("only %d files", len(names))
	}
	flips := 0
	for _, seg := range w.segments {
		name := "wal/" + segmentName(seg.number)
		end := seg.end
		if !seg.sealed {
			end -= frameHead // the empty frame itself is not proven
		}
		for off := int64(0); off < end; off += 13 {
			disk := m.Crash() // everything is synced, so this is a copy
			if err := disk.Flip(name, off, uint(off)); err != nil {
				t.Fatal(err)
			}
			before := dump(t, disk)
			_, err := Open(small(disk, 9))
			var c *CorruptError
			var v *VersionError
			switch {
			case errors.As(err, &v) && off >= 8 && off < 12:
			case !errors.As(err, &c):
				t.Fatalf("%s, byte %d: %v", name, off, err)
			case c.Segment != name && off >= headerBytes || c.Offset > off:
				t.Fatalf("%s, byte %d: the error names %s at %d", name, off, c.Segment, c.Offset)
			}
			if after := dump(t, disk); after != before {
				t.Fatalf("%s, byte %d: Open changed the files", name, off)
			}
			flips++
		}
	}
	t.Logf("%d flips, all found", flips)
}

// TestNewestSegmentsAreMissed takes the newest segments of a log away: who
// remembers what Begun said learns of it, whatever is left.
func TestNewestSegmentsAreMissed(t *testing.T) {
	m := vfs.NewMem(seeded(2))
	o := small(m, 2)
	newest := uint64(0)
	o.Begun = func(n uint64) error {
		if _, err := m.Crash().Size("wal/" + segmentName(n)); err != nil {
			t.Errorf("segment %d is not on the disk when Begun is told: %v", n, err)
		}
		if n != newest+1 {
			t.Errorf("segment %d follows %d", n, newest)
		}
		newest = n
		return nil
	}
	w := mustOpen(t, o)
	for i := uint64(1); newest < 4; i++ {
		mustAppend(t, w, Record{Group: 1, HardState: hard(1, 1, 0), Entries: run(1, 1, i, i, 700)})
	}
	for gone := range newest + 1 {
		disk := m.Crash()
		for n := newest; n > newest-gone; n-- {
			if err := disk.Remove("wal/" + segmentName(n)); err != nil {
				t.Fatal(err)
			}
		}
		before := dump(t, disk)
		o := small(disk, 3)
		o.Newest = newest
		_, err := Open(o)
		var c *CorruptError
		switch {
		case gone == 0 && err != nil:
			t.Errorf("a whole log: %v", err)
		case gone > 0 && (!errors.As(err, &c) || c.Segment != "wal/"+segmentName(newest-gone+1)):
			t.Errorf("%d segments are gone: %v", gone, err)
		case gone > 0 && dump(t, disk) != before:
			t.Errorf("%d segments are gone: Open changed the files", gone)
		}
	}

	failed := errors.New("it cannot be remembered")
	o.FS, o.Begun = m.Crash(), func(uint64) error { return failed }
	if _, err := Open(o); !errors.Is(err, failed) {
		t.Errorf("err = %v", err)
	}
}

func dump(t *testing.T, m *vfs.Mem) string {
	names, err := m.ReadDir("wal")
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, n := range names {
		data, err := m.ReadFile("wal/"+n, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		out += n + string(data)
	}
	return out
}

// TestPlantedBug: with the tag planted_truncate_on_crc damage cuts the log,
// without it damage stops Open.
func TestPlantedBug(t *testing.T) {
	m := vfs.NewMem(seeded(1))
	w := mustOpen(t, small(m, 1))
	mustAppend(t, w, Record{Group: 1, Entries: run(1, 1, 1, 1, 50)})
	mustAppend(t, w, Record{Group: 1, Entries: run(1, 1, 2, 2, 50)})
	mustAppend(t, w, Record{Group: 1, Entries: run(1, 1, 3, 3, 50)})
	m = m.Kill()
	if err := m.Flip("wal/"+segmentName(1), 4096+150, 0); err != nil {
		t.Fatal(err)
	}
	_, err := Open(small(m, 2))
	if cut := err == nil; cut != plantedTruncateOnCRC {
		t.Fatalf("planted: %v, the error is %v", plantedTruncateOnCRC, err)
	}
}

// goldenLog makes the log whose files are in testdata/golden.
func goldenLog(t testing.TB) (*vfs.Mem, *WAL) {
	m := vfs.NewMem(seeded(42))
	w := mustOpen(t, small(m, 42))
	mustAppend(t, w, Record{Group: 0, HardState: hard(1, 1, 0), Entries: run(0, 1, 1, 3, 40)}, Record{Group: 7, HardState: hard(2, 3, 0), Entries: run(7, 2, 1, 1, 0)})
	mustAppend(t, w, Record{Group: 0, HardState: hard(3, 1, 3), Entries: run(0, 3, 4, 5, 1500)})
	mustAppend(t, w, Record{Group: 0, HardState: hard(3, 1, 5), Entries: run(0, 3, 6, 6, 30)}, Record{Group: 0, Entries: run(0, 3, 2, 3, 40), Carried: true})
	mustAppend(t, w, Record{Group: 7, Entries: run(7, 2, 2, 3, 1000)})
	if err := w.Idle(); err != nil {
		t.Fatal(err)
	}
	err := w.WriteIndex(1, []StreamRecord{
		{Stream: Stream{9, 1}, Base: 0, Count: 3, TS: 100, Term: 1, Index: 2, Offset: 4200, Len: 40},
		{Stream: Stream{4, 0}, Base: 7, Count: 1, TS: 90, Term: 1, Index: 1, Offset: 4160, Len: 40},
		{Stream: Stream{9, 1}, Base: 3, Count: 2, TS: 120, Term: 3, Index: 4, Offset: 5000, Len: 400},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, w
}

// TestGolden: the files that version 1 wrote are the files that it writes. If
// this fails the format has changed: raise its version, keep reading the old
// one, and write the page anew. WAL_GOLDEN=write makes the files.
func TestGolden(t *testing.T) {
	m, _ := goldenLog(t)
	for _, name := range []string{segmentName(1), segmentName(2), indexName(1)} {
		data, err := m.ReadFile("wal/"+name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		data = bytes.TrimRight(data, "\x00")
		path := filepath.Join("testdata", "golden", name)
		if os.Getenv("WAL_GOLDEN") == "write" {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, want) {
			t.Errorf("%s: %d bytes written, differing from the %d of the golden file", name, len(data), len(want))
		}
	}
}

// memWith returns a disk with a log of these files, each a multiple of a block.
func memWith(t testing.TB, files map[string][]byte) *vfs.Mem {
	m := vfs.NewMem(seeded(1))
	if err := m.MkdirAll("wal"); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := m.WriteFile("wal/"+name, data); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// readEverything opens a log and reads all of it. It returns an error where the
// log must be refused.
func readEverything(m *vfs.Mem) error {
	w, err := Open(small(m, 5))
	if err != nil {
		return err
	}
	defer w.Close()
	for _, r := range w.Recovered().Groups {
		g := w.Group(r.Group)
		for lo := r.First; lo <= r.Last; {
			entries, err := g.Entries(lo, r.Last+1, 1<<20)
			if err != nil {
				return err
			}
			if len(entries) == 0 || entries[0].GetIndex() != lo {
				return fmt.Errorf("group %d: no entry %d", r.Group, lo)
			}
			lo += uint64(len(entries))
		}
	}
	for _, s := range []Stream{{9, 1}, {4, 0}, {1, 1}} {
		for _, call := range []func() error{
			func() error { _, err := w.Scan(s, 0, 100); return err },
			func() error { _, err := w.ScanBack(s, 1<<63, 100); return err },
			func() error { _, _, _, err := w.FindTime(s, 100); return err },
		} {
			if err := call(); err != nil {
				return err
			}
		}
	}
	return nil
}

// typed says whether an error is one that Open may return for strange bytes.
func typed(err error) bool {
	var c *CorruptError
	var v *VersionError
	return err == nil || errors.As(err, &c) || errors.As(err, &v)
}

// FuzzSegment reads any bytes as what follows the header of the last segment.
// What is accepted is read the same way again.
func FuzzSegment(f *testing.F) {
	h := header{life: 3, number: 1, firstFrame: 1}
	seed := func(recs ...[]byte) {
		b := []byte{}
		for i, payload := range recs {
			fr := append(make([]byte, frameHead), payload...)
			frame{number: uint64(i) + 1, synced: headerBytes + int64(len(b))}.seal(fr, h.life, headerBytes+int64(len(b)))
			b = append(b, fr...)
		}
		f.Add(b)
	}
	entries := appendEntries(nil, kindEntries, 2, run(2, 1, 1, 2, 10))
	seed()
	seed(nil)
	seed(appendState(entries, 1, hard(1, 2, 0)), entries, nil)
	f.Add(bytes.Repeat([]byte{3, 0, 0, 0, 0, 0, 0, 0}, 30))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<20 {
			return
		}
		m := memWith(t, map[string][]byte{segmentName(1): append(h.encode(), data...)})
		err := readEverything(m)
		if !typed(err) {
			t.Fatal(err)
		}
		if err == nil {
			if err := readEverything(m.Kill()); err != nil {
				t.Fatalf("accepted once, then: %v", err)
			}
		}
	})
}

// FuzzHeader reads any bytes as the first block of a segment.
func FuzzHeader(f *testing.F) {
	f.Add(header{life: 3, number: 1, firstFrame: 1}.encode()[:60])
	f.Add([]byte(segmentMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := make([]byte, headerBytes)
		copy(b[:headerBytes-4], data)
		le.PutUint32(b[headerBytes-4:], crc32.Checksum(b[:headerBytes-4], castagnoli))
		for _, b := range [][]byte{data, b} {
			if err := readEverything(memWith(t, map[string][]byte{segmentName(1): b})); !typed(err) {
				t.Fatal(err)
			}
		}
	})
}

// FuzzRecords reads any bytes as the payload of a frame whose checksum is
// right, so that the decoder behind the checksum is reached.
func FuzzRecords(f *testing.F) {
	m, w := goldenLog(f)
	data, err := m.ReadFile("wal/"+segmentName(1), 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	fr := &frames{r: bytes.NewReader(data), life: w.segments[0].life, size: int64(len(data)), off: headerBytes, number: 1}
	for {
		payload, _, err := fr.next()
		if err != nil {
			break
		}
		f.Add(bytes.Clone(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > 1<<20 {
			return
		}
		h := header{life: 3, number: 1, firstFrame: 1}
		b := append(make([]byte, frameHead), payload...)
		frame{number: 1, synced: headerBytes}.seal(b, 3, headerBytes)
		m := memWith(t, map[string][]byte{segmentName(1): append(h.encode(), b...)})
		if err := readEverything(m); !typed(err) {
			t.Fatal(err)
		}
	})
}

// FuzzIndex reads any bytes as the index file of a sealed segment. The blocks
// get right checksums first, so that what lies behind them is reached.
func FuzzIndex(f *testing.F) {
	m, w := goldenLog(f)
	files := map[string][]byte{}
	for _, n := range []string{segmentName(1), segmentName(2), indexName(1)} {
		data, err := m.ReadFile("wal/"+n, 1<<20)
		if err != nil {
			f.Fatal(err)
		}
		files[n] = data
	}
	life := w.segments[0].life
	f.Add(files[indexName(1)])
	f.Add(files[indexName(1)][:4096])
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<20 {
			return
		}
		data = bytes.Clone(data)
		blocks := len(data) / blockBytes
		for i := range blocks {
			b := data[i*blockBytes:][:blockBytes]
			if i == blocks-1 {
				sealBlock(b, 0, 0)
			} else {
				sealBlock(b, life, uint64(i))
			}
		}
		m := memWith(t, map[string][]byte{segmentName(1): files[segmentName(1)], segmentName(2): files[segmentName(2)], indexName(1): data})
		if err := readEverything(m); !typed(err) {
			t.Fatal(err)
		}
	})
}
