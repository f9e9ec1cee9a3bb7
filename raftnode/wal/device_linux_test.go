package wal

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestSmallAppendStaysSmall: an append of 200 bytes writes a few kilobytes. In
// a segment that was zeroed with large writes and left in the page cache it
// would count as a megabyte.
func TestSmallAppendStaysSmall(t *testing.T) {
	w := mustOpen(t, Options{Dir: t.TempDir()})
	before := writeBytes(t)
	const n = 200
	for i := uint64(1); i <= n; i++ {
		mustAppend(t, w, Record{Group: 1, Entries: run(1, 1, i, i, 200)})
	}
	if each := (writeBytes(t) - before) / n; each > 32<<10 {
		t.Errorf("an append of 200 bytes writes %d bytes", each)
	} else {
		t.Logf("an append of 200 bytes writes %d bytes", each)
	}
}

// writeBytes returns what this process has caused to be written to a disk.
func writeBytes(t *testing.T) int64 {
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(data), "\nwrite_bytes:")
	n := int64(0)
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Skip(err)
	}
	return n
}
