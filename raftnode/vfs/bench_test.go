package vfs

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/wiber/wiber/timesvc"
)

// BenchmarkSyncBesideZero makes a file of 64 MiB of zeros, as a node does for
// its next segment, and reports how long the syncs of another file take
// meanwhile: of 128 KiB each, one after the other.
func BenchmarkSyncBesideZero(b *testing.B) {
	clock, dir := timesvc.NewSystem(timesvc.Skew{}), b.TempDir()
	log, err := OS{}.Create(filepath.Join(dir, "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	if err := log.Zero(64 << 20); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	frame := make([]byte, 128<<10)
	for n := int64(0); b.Loop(); n++ {
		spare, err := OS{}.Create(filepath.Join(dir, "spare"))
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- spare.Zero(64 << 20) }()
		for i, ended := int64(0), false; !ended; i++ {
			began := clock.Mono()
			if _, err := log.WriteAt(frame, (n*64+i)%512*int64(len(frame))); err != nil {
				b.Fatal(err)
			}
			if err := log.Sync(); err != nil {
				b.Fatal(err)
			}
			took = append(took, clock.Mono()-began)
			select {
			case err = <-done:
				ended = true
			default:
			}
		}
		if err != nil {
			b.Fatal(err)
		}
		if err := spare.Close(); err != nil {
			b.Fatal(err)
		}
		if err := (OS{}).Remove(filepath.Join(dir, "spare")); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms")
	b.ReportMetric(took[len(took)-1].Seconds()*1000, "max-ms")
}
