package wal

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/wiber/wiber/raftnode/vfs"
)

// A next segment for which the disk has no room leaves nothing behind: what is
// left of the disk belongs to index files and checkpoints.
func TestASpareThatDoesNotFitLeavesNothingBehind(t *testing.T) {
	f := vfs.NewFault(vfs.NewMem(seeded(1)))
	w := mustOpen(t, small(f, 1))
	f.Add(vfs.Rule{Op: vfs.OpTruncate, Name: spareName, Err: syscall.ENOSPC})
	f.Add(vfs.Rule{Op: vfs.OpWrite, Name: spareName, Err: syscall.ENOSPC, Torn: true})
	if err := w.PrepareSpare(); err == nil {
		t.Fatal("the spare was made on a full disk")
	}
	names, err := f.ReadDir("wal")
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, spareName) }) {
		t.Errorf("left behind: %q", names)
	}
}

// What can be made again is not worth a replica: the error about an index file
// says what to do.
func TestADamagedIndexFileCanBeMadeAgain(t *testing.T) {
	index, segment := &CorruptError{Segment: "log/" + indexName(3)}, &CorruptError{Segment: "log/" + segmentName(3)}
	if s := index.Error(); !strings.Contains(s, "move this file away") {
		t.Error(s)
	}
	if s := segment.Error(); strings.Contains(s, "move this file away") {
		t.Error(s)
	}
}
