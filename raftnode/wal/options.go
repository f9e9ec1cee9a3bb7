package wal

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/wiber/wiber/raftnode/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// Pos says where bytes lie in the log: a segment's number and an offset in its
// file. An entry's Pos is that of its data.
type Pos struct {
	Segment uint64
	Offset  int64
}

// Record is what one group wants on the disk: a new hard state, entries, or
// both. HardState is nil when it has not changed. Entries must follow each
// other; the first may lie at or below the group's last index, and then cuts
// what was there from it on. The WAL keeps the entries: nobody may change them
// afterwards.
type Record struct {
	Group     uint64
	HardState *raftpb.HardState
	Entries   []*raftpb.Entry
	// Carried entries were in the log before and are written again because
	// their old segment goes. They cut nothing that lies above them.
	Carried bool
}

// Options says where the log is and how big its parts are. Zero values mean the
// defaults.
type Options struct {
	// FS holds the log; vfs.OS{} by default.
	FS vfs.FS
	// Dir is the log's own folder. Open makes it.
	Dir string
	// Rand gives the segments' lives; crypto/rand by default.
	Rand io.Reader
	// SegmentBytes is the size of segments prepared in the background; 64 MiB.
	// Bigger ones mean fewer checkpoints and a longer replay.
	SegmentBytes int64
	// FirstSegmentBytes is the size of segments that nothing was prepared for:
	// the first, that after a recovery that finds no spare, and those that
	// Append has to make while it is waited for; 4 MiB.
	FirstSegmentBytes int64
	// TailBytes bounds the memory of the newest entries, of all groups
	// together; 32 MiB. What raft asks for above it costs a read.
	TailBytes int64
	// IndexCacheBytes bounds the memory of blocks of index files; 8 MiB.
	IndexCacheBytes int64
	// Newest is the largest number that Begun was ever told; 0 if it is not
	// known. A log that ends before that segment has lost its end.
	Newest uint64
	// Begun, if there is one, is told the number of each new segment: when its
	// name is durable, before anything is in it. It returns nil when the number
	// will be remembered after any crash; an error ends the log.
	Begun func(segment uint64) error
}

// CorruptError says where the log stopped making sense. Nothing was changed:
// the file is as it was found. The replica may not vote until it is repaired.
type CorruptError struct {
	Segment string // the file's path
	Offset  int64  // of the first byte that cannot be believed
	Err     error
}

// Error implements error.
func (e *CorruptError) Error() string {
	way := "this replica must be rebuilt from its peers"
	if strings.HasSuffix(e.Segment, indexSuffix) {
		way = "move this file away: the node makes it again from the log"
	}
	return fmt.Sprintf("wal: %s is damaged at offset %d: %v (nothing was changed; %s)", e.Segment, e.Offset, e.Err, way)
}

// Unwrap returns the reason.
func (e *CorruptError) Unwrap() error { return e.Err }

// VersionError says that a file was written by another version of Wiber.
type VersionError struct {
	File    string
	Version uint32
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("wal: %s has format version %d, this program reads version %d: use the program that wrote it", e.File, e.Version, formatVersion)
}

// ErrTooLarge says that an append does not fit a frame (MaxFrameBytes).
// Nothing was written.
var ErrTooLarge = errors.New("wal: append is larger than a frame may be")

// Recovery is what Open found.
type Recovery struct {
	Segments   int    // segments on disk, before the new one
	Indexed    int    // of them, with an index file: not scanned
	Frames     uint64 // valid frames read
	TornBytes  int64  // bytes behind the end of the log that belong to no frame of it
	TornFrames int    // valid frames behind the end, lost with a hole before them
	Synced     Pos    // the largest synced-through: up to here all was durable
	End        Pos    // the end of the log
	Groups     []GroupRange
}

// GroupRange is a group's entries, in the log or in one segment.
type GroupRange struct {
	Group, First, Last uint64 // First > Last: none
}

// Sealed is a segment that is complete and has no index file yet. It may get
// one when each group has applied its entries up to Last.
type Sealed struct {
	Number uint64
	Groups []GroupRange // by group
}

// Stream is a partition of a topic, as an index file names it.
type Stream struct {
	UID       uint64
	Partition uint32
}

// StreamRecord is one batch of a stream in an index file: Count messages from
// offset Base on, stamped TS, written by the entry (Term, Index), Len bytes at
// Offset of its segment.
type StreamRecord struct {
	Stream
	Base        uint64
	Count       uint32
	TS          uint64
	Term, Index uint64
	Offset      int64
	Len         uint32
}

// Located is a StreamRecord with the place of its bytes.
type Located struct {
	StreamRecord
	Pos Pos
}
