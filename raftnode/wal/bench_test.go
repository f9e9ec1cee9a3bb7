package wal

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/wiber/wiber/raftnode/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// BenchmarkAppend is one frame with one entry and one fdatasync on a real disk.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{200, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d/fsync=on", size), func(b *testing.B) {
			w := mustOpen(b, Options{Dir: b.TempDir()})
			data := make([]byte, size)
			_, _ = rand.Read(data)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			index := uint64(0)
			for b.Loop() {
				index++
				if err := w.Append([]Record{{Group: 1, Entries: []*raftpb.Entry{entry(1, index, data)}}}); err != nil {
					b.Fatal(err)
				}
				if w.NeedsSpare() {
					b.StopTimer()
					if err := w.PrepareSpare(); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			}
			b.ReportMetric(float64(w.Syncs())/float64(index), "syncs/op")
		})
	}
}

// BenchmarkEncode is Append without a disk: what a frame costs the processor.
func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{200, 64 << 10} {
		b.Run(fmt.Sprintf("bytes=%d/fsync=memory", size), func(b *testing.B) {
			w := mustOpen(b, Options{FS: discard{vfs.NewMem(seeded(1))}, Dir: "wal", FirstSegmentBytes: 1 << 30})
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			index := uint64(0)
			for b.Loop() {
				index = index%1000 + 1 // stays in the segment
				w.off = headerBytes
				if err := w.Append([]Record{{Group: 1, Entries: []*raftpb.Entry{entry(1, index, data)}}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// discard is a file system whose files take every write and keep none.
type discard struct{ vfs.FS }

func (d discard) Create(name string) (vfs.File, error) {
	f, err := d.FS.Create(name)
	return sink{f}, err
}

type sink struct{ vfs.File }

func (sink) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (sink) Zero(int64) error                       { return nil }
func (sink) Sync() error                            { return nil }

// BenchmarkRecover opens a log of 260 MB: a million messages of 128 bytes,
// joined into entries of 64, without index files and with them.
func BenchmarkRecover(b *testing.B) {
	const perEntry, entries = 64, 1_000_000 / 64
	for _, indexed := range []bool{false, true} {
		b.Run(fmt.Sprintf("megabytes=260/indexed=%v", indexed), func(b *testing.B) {
			o := Options{Dir: b.TempDir()}
			w := mustOpen(b, o)
			data := make([]byte, perEntry*260)
			_, _ = rand.Read(data)
			var batches []StreamRecord
			for i := uint64(1); i <= entries; i += 16 {
				var list []*raftpb.Entry
				for k := i; k < i+16; k++ {
					list = append(list, entry(1, k, data))
				}
				if w.NeedsSpare() {
					if err := w.PrepareSpare(); err != nil {
						b.Fatal(err)
					}
				}
				mustAppend(b, w, Record{Group: 1, HardState: hard(1, 0, i), Entries: list})
			}
			for _, s := range w.Sealed() {
				if !indexed {
					break
				}
				batches = batches[:0]
				for i := uint64(0); i < 250_000; i++ {
					batches = append(batches, StreamRecord{Stream: Stream{UID: i % 100}, Base: i / 100, Count: 1, TS: i / 100, Offset: headerBytes, Len: 1})
				}
				if err := w.WriteIndex(s.Number, batches); err != nil {
					b.Fatal(err)
				}
			}
			size := int64(0)
			for _, seg := range w.segments {
				size += seg.end
			}
			w.Close()
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				w, err := Open(o)
				if err != nil {
					b.Fatal(err)
				}
				w.Close()
			}
		})
	}
}
