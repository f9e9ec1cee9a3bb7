package wal

import "go.etcd.io/raft/v3/raftpb"

const formatVersion = 1

// WAL is the log. Append and Idle are for one goroutine, the append loop; all
// other methods may be called by any.
type WAL struct{}

// Group is one group's part of the log and implements raft.Storage.
type Group struct{}

// Open recovers the log in Options.Dir, or begins one.
func Open(o Options) (*WAL, error) { panic("soon") }

// Append writes records of any groups as one frame, with one fdatasync if
// entries, a term or a vote changed. After an error every further call returns
// that error.
func (w *WAL) Append(recs []Record) error { panic("soon") }

// Idle makes everything appended provably durable. Call it when nothing was
// appended for 100 ms. It does nothing if the disk says so already.
func (w *WAL) Idle() error { panic("soon") }

// NeedsSpare says that PrepareSpare should be called, from another goroutine.
func (w *WAL) NeedsSpare() bool { panic("soon") }

// PrepareSpare makes the next segment's file: allocated, zero-written, synced.
func (w *WAL) PrepareSpare() error { panic("soon") }

// Group returns the group with this id, and makes an empty one if there is none.
func (w *WAL) Group(id uint64) *Group { panic("soon") }

// ReadAt reads len(p) bytes from one segment.
func (w *WAL) ReadAt(p []byte, pos Pos) error { panic("soon") }

// Recovered tells what Open found.
func (w *WAL) Recovered() Recovery { panic("soon") }

// Sealed lists the segments that are complete and have no index file, in order.
func (w *WAL) Sealed() []Sealed { panic("soon") }

// WriteIndex makes a sealed segment's index file, durably. All entries of the
// segment must have been applied; streams holds the batches that they wrote,
// in any order. Afterwards the segment's entry positions come from the file.
func (w *WAL) WriteIndex(number uint64, streams []StreamRecord) error { panic("soon") }

// Find returns the batch of an indexed segment that holds a stream's offset.
func (w *WAL) Find(s Stream, offset uint64) (StreamRecord, Pos, bool, error) { panic("soon") }

// FindTime returns a stream's first batch in the indexed segments with TS >= ts.
func (w *WAL) FindTime(s Stream, ts uint64) (StreamRecord, Pos, bool, error) { panic("soon") }

// Scan returns up to max batches of a stream in the indexed segments, in order,
// beginning with the one that holds from, or else the first above it.
func (w *WAL) Scan(s Stream, from uint64, max int) ([]Located, error) { panic("soon") }

// ScanBack returns up to max batches of a stream in the indexed segments, the
// newest first, beginning with the one that holds until-1, or else the first
// below it.
func (w *WAL) ScanBack(s Stream, until uint64, max int) ([]Located, error) { panic("soon") }

// Syncs counts the fdatasyncs of Append and Idle since Open.
func (w *WAL) Syncs() uint64 { panic("soon") }

// Frames counts the frames written since Open.
func (w *WAL) Frames() uint64 { panic("soon") }

// Preads counts the reads of the disk since Open, for any caller.
func (w *WAL) Preads() uint64 { panic("soon") }

// Close closes the files. It syncs nothing; call Idle before it.
func (w *WAL) Close() error { panic("soon") }

// InitialState implements raft.Storage.
func (g *Group) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) { panic("soon") }

// Entries implements raft.Storage.
func (g *Group) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) { panic("soon") }

// Term implements raft.Storage.
func (g *Group) Term(i uint64) (uint64, error) { panic("soon") }

// LastIndex implements raft.Storage.
func (g *Group) LastIndex() (uint64, error) { panic("soon") }

// FirstIndex implements raft.Storage. The log is kept whole, so it is 1.
func (g *Group) FirstIndex() (uint64, error) { panic("soon") }

// Snapshot implements raft.Storage. It returns
// raft.ErrSnapshotTemporarilyUnavailable.
func (g *Group) Snapshot() (*raftpb.Snapshot, error) { panic("soon") }

// SetConfState sets what InitialState returns; it comes from the checkpoint.
func (g *Group) SetConfState(cs *raftpb.ConfState) { panic("soon") }

// Pos returns where an entry's data lies.
func (g *Group) Pos(index uint64) (Pos, error) { panic("soon") }

// Durable returns the newest hard state that an fdatasync covers, nil if there
// is none. A checkpoint may be made up to its commit.
func (g *Group) Durable() *raftpb.HardState { panic("soon") }
