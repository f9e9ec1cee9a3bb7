// Package store keeps what a node needs besides the log: its identity and the
// checkpoint manifest in a MetaStore, and the state of its groups in state files.
//
// A state file is sorted, immutable and checksummed. A group's state is one base
// and the deltas since, one per checkpoint; where records have the same key the
// newest file counts. Many deltas are merged into a new base.
//
// Invariants, each with a test of the same name:
//
//	WholeCheckpoint: after a crash a checkpoint is there as a whole, for all of
//	                 its groups, or not at all (D2).
//	DamageIsNamed:   a changed byte in a state file stops Restore with the file
//	                 and the offset; nothing is moved or deleted.
//
// Not here: the log (raftnode/wal) and what the state means (topics). The
// formats are docs/format/state.md and docs/format/identity.md. Start reading at
// State.Save.
package store
