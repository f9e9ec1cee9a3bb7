// Package store keeps what a node needs besides the log: its identity and the
// checkpoint manifest in a MetaStore.
//
// Not here: the log (raftnode/wal) and what the state means (topics). Start
// reading at MetaStore.
package store
