// Package wal keeps the entries and hard states of a node's raft groups on disk.
//
// There is one log for all groups. Append writes what waits as one frame and
// is the only call that waits for the disk: when it returns nil, the entries
// survive a power cut. When it returns an error, the process must end: after a
// failed write or fsync nobody knows what the disk holds.
//
// Open recovers (see recover.go). It never moves, cuts or deletes anything
// that it could not read; damage is a *CorruptError that names the segment and
// the offset. Group gives raft its Storage; ReadAt, Find, FindTime and Scan
// serve the readers of messages, from the log itself and from the index files
// that WriteIndex makes for sealed segments.
//
// Invariants, each with a test of the same name:
//
//	Durable:    what Append acknowledged is there after any crash, nothing
//	            else is, and it is in order.
//	Contiguous: a group's entry indexes have no gap.
//	D4Damage:   a changed byte below the synced-through stops Open.
//	NoPread:    raft in steady state reads from memory.
//
// Not here: replication (raftnode), meaning (topics), the folder's lock
// (member). The on-disk format is docs/format/wal.md. Start reading at
// WAL.Append.
package wal
