package wal

import (
	"bytes"
	"sync"
	"testing"

	"github.com/wiber/wiber/raftnode/vfs"
)

// TestConcurrent runs the log as a node does: one goroutine appends, others
// read entries and bytes, prepare segments and write index files. The race
// detector and the contents decide.
func TestConcurrent(t *testing.T) {
	o := small(vfs.OS{}, 1)
	o.Dir = t.TempDir()
	w := mustOpen(t, o)
	const entries = 600
	done := make(chan struct{})
	var wg sync.WaitGroup
	loop := func(step func() error) {
		wg.Go(func() {
			for {
				if err := step(); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	g := w.Group(1)
	for range 2 {
		rnd := seeded(w.files.preads.Load() + 1)
		loop(func() error {
			last, err := g.LastIndex()
			if err != nil || last == 0 {
				return err
			}
			lo := 1 + rnd.Uint64N(last)
			got, err := g.Entries(lo, last+1, 5000)
			if err != nil {
				return err
			}
			for i, e := range got {
				sameEntry(t, 1, e, run(1, 1, lo+uint64(i), lo+uint64(i), 150)[0])
			}
			if _, err := g.Term(lo); err != nil {
				return err
			}
			pos, err := g.Pos(lo)
			if err != nil {
				return err
			}
			data := make([]byte, 150)
			if err := w.ReadAt(data, pos); err != nil {
				return err
			}
			if want := run(1, 1, lo, lo, 150)[0].Data; !bytes.Equal(data, want) {
				t.Errorf("entry %d reads %q", lo, data)
			}
			return nil
		})
	}
	loop(func() error {
		if w.NeedsSpare() {
			return w.PrepareSpare()
		}
		return nil
	})
	loop(func() error {
		for _, s := range w.Sealed() {
			if err := w.WriteIndex(s.Number, []StreamRecord{{Stream: Stream{UID: 1}, Base: s.Number, Count: 1, TS: s.Number, Offset: headerBytes, Len: 1}}); err != nil {
				return err
			}
		}
		return nil
	})
	loop(func() error {
		_, err := w.Scan(Stream{UID: 1}, 0, 50)
		return err
	})
	for i := uint64(1); i <= entries; i++ {
		mustAppend(t, w, Record{Group: 1, HardState: hard(1, 0, i-1), Entries: run(1, 1, i, i, 150)})
	}
	close(done)
	wg.Wait()
	if n := len(w.Sealed()); n > 2 {
		t.Logf("%d segments not indexed", n)
	}
	o.Rand = randReader{seeded(2)}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w2, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer w2.Close()
	checkEntries(t, w2, 1, run(1, 1, 1, entries, 150))
}
