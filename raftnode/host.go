package raftnode

import (
	"go.etcd.io/raft/v3/raftpb"
)

// Host is all raft groups of one node. It is not safe for concurrent use: one
// goroutine owns it, calls its inputs, and then Next until that returns false.
type Host struct{}

// New starts the groups from the log. It fails when the log does not fit the
// configuration or the checkpoint.
func New(c Config) (*Host, error) { panic("soon") }

// Next returns what is to be done now, false if there is nothing.
func (h *Host) Next() (Output, bool) { panic("soon") }

// Tick says that one tick of time has passed. It never waits for the disk.
func (h *Host) Tick() {}

// Receive takes a message of another node. A message that no node of this
// cluster would send is refused with an error and has no effect.
func (h *Host) Receive(g GroupID, m *raftpb.Message) error { panic("soon") }

// Appended says that the outstanding append is durable.
func (h *Host) Appended() {}

// Applied says that a group's entries up to index are applied.
func (h *Host) Applied(g GroupID, index uint64) {}

// Wake says that a group's Proposer has work.
func (h *Host) Wake(g GroupID) {}

// ReadIndex asks how far this node must have applied a group to answer a
// linearizable read that begins now. The answer is a Read with the same ctx.
func (h *Host) ReadIndex(g GroupID, ctx uint64) {}

// Release lets the messages go that Output.Held spoke of.
func (h *Host) Release() {}

// Unreachable says that messages to a peer are being lost.
func (h *Host) Unreachable(peer uint64) {}

// PeerClosed says that a peer's connection closed, so that it probably died.
// In the groups that it led the others elect a new leader at once.
func (h *Host) PeerClosed(peer uint64) {}

// Transfer hands a group to another voter, if this node leads it.
func (h *Host) Transfer(g GroupID, to uint64) {}

// TransferAll hands every led group to a voter that is caught up, now and
// whenever this node should come to lead one again. Output.Drained reports.
func (h *Host) TransferAll() {}

// Status returns the state of all groups, in the order of Config.Groups.
func (h *Host) Status() []GroupStatus { panic("soon") }
