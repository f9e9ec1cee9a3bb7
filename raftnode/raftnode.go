// Package raftnode keeps the raft groups of one node: it orders entries, makes
// them durable on a majority, and hands them out to be applied.
//
// Host is all groups of a node and Core, inside it, is one. Both are step
// machines: no goroutine, no clock, no disk, no network, no lock. Whoever runs
// a Host (a node's raft loop, or a simulation) feeds it inputs one at a time
// (Tick, Receive, Appended, Applied, Wake, ReadIndex, …) and then takes what is
// to be done from Next until there is nothing: messages to send, one append to
// the log, entries to apply, answers to reads. The same inputs give the same
// outputs, but for raft's election jitter, which it draws from crypto/rand.
//
// One append per node is outstanding at a time, and it joins what all groups
// have waiting: group commit. A group whose Ready went into an append takes no
// further one until the append is durable, but goes on to take messages and
// ticks; what it produces meanwhile leaves with the next Ready. So batches grow
// with the time the disk needs, and need no setting.
//
// Invariants, each with a test of the same name:
//
//	D1: nothing that depends on a write leaves before the write is durable.
//	    MsgApp, MsgHeartbeat and MsgPreVote depend on none and leave at once;
//	    everything else of a Ready waits for its append. A candidate's MsgVote
//	    waits too, see leavesAtOnce.
//	OneAppend: at most one append is outstanding, and one entry per group is
//	    proposed between two.
//	Bounded: what waits to be applied is bounded in bytes, whatever the rates.
//	FreshReads: every read index is asked for with a context that was never
//	    used before, by this incarnation of the node or an earlier one.
//
// Not here: what entries mean (topics), the files (raftnode/wal), connections
// (raftnode/transport), the loops (member). Start reading at Host.Next.
package raftnode

import (
	"errors"
	"log/slog"
	"strconv"

	"github.com/wiber/wiber/raftnode/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// GroupID names a raft group: 0 is the catalogue, shard s has s+1.
type GroupID uint64

// Catalogue is the group that keeps topics and placement.
const Catalogue GroupID = 0

// Shard returns the group of data shard s, which counts from 0.
func Shard(s int) GroupID { return GroupID(s) + 1 }

// String returns the name that people see: "catalogue", or the shard's number.
func (g GroupID) String() string {
	if g == Catalogue {
		return "catalogue"
	}
	return strconv.FormatUint(uint64(g)-1, 10)
}

// Role is what a node is in a group.
type Role uint8

// The roles. A pre-candidate is a Candidate.
const (
	Follower Role = iota
	Candidate
	Leader
)

// String returns the word that logs and status pages use.
func (r Role) String() string {
	switch r {
	case Leader:
		return "leader"
	case Candidate:
		return "candidate"
	}
	return "follower"
}

// ErrNoLeader answers a read for which this node knows no leader to ask.
var ErrNoLeader = errors.New("raftnode: the group has no leader")

// ErrReadDropped answers a read whose question or answer is lost: the leader or
// the term changed, or nothing was heard for an election timeout.
var ErrReadDropped = errors.New("raftnode: the read index was not confirmed, ask again")

// ErrBusy answers a read when too many wait in the group already.
var ErrBusy = errors.New("raftnode: too many reads wait in the group")

// ErrLost says that the log does not hold what it must. This replica may not vote.
var ErrLost = errors.New("entries are lost")

// MaxEntryBytes is the largest payload of an entry. It leaves room in a frame
// of the link between nodes and in an append.
const MaxEntryBytes = 32 << 20

// Proposer has the work of one group that waits for its leader.
type Proposer interface {
	// NextEntry returns the payload of the next entry, nil if nothing waits. It
	// is called only when this node leads the group in this term, has applied
	// everything of earlier terms, and no append of the group is outstanding;
	// so it should join all that waits, up to the largest entry it wants, and
	// never more than MaxEntryBytes.
	//
	// The Host owns the payload. It proposes it at most once in this term; when
	// the term is lost before, it is forgotten, and whoever asked for it asks
	// the next leader.
	NextEntry(term uint64) []byte
}

// Config says what a Host is. Fields without a default are required.
type Config struct {
	// ID is this node's raft id; it is one of Voters.
	ID uint64
	// Voters are the raft ids of all groups' voters, in the cluster's order. The
	// order decides which node leads which group: group g prefers
	// Voters[g % len(Voters)], then the one after it, and so on.
	Voters []uint64
	// Groups are the groups of this node, each once.
	Groups []GroupID
	// Log is the node's recovered log.
	Log *wal.WAL
	// Proposer returns a group's source of entries, and nil for none.
	Proposer func(GroupID) Proposer
	// Applied returns the index that a group's state has reached by its
	// checkpoint; entries above it are handed out. Nil means 0 for all. An index
	// above the log's commit raises the commit, one above the log's end is an
	// error: the log lost entries.
	Applied func(GroupID) uint64
	// Incarnation differs each time the node starts. It keeps the read contexts
	// of one start apart from those of another. It is not 0.
	Incarnation uint64
	// Logger gets what raft itself says; nil keeps it silent. The Host says
	// nothing.
	Logger *slog.Logger

	// ElectionTicks is how many ticks a follower waits for its leader, and a
	// leader for a majority: 10. HeartbeatTicks is the leader's interval: 1.
	ElectionTicks, HeartbeatTicks int
	// SpreadTicks is for how many ticks the preferred voter of a group must have
	// been up and caught up until it is given the group: 3 x ElectionTicks.
	SpreadTicks int
	// MaxMessageBytes bounds the entries of one message to a follower, and of
	// one Ready to apply; a single larger entry still goes alone: 1 MiB. It is
	// at most MaxEntryBytes.
	MaxMessageBytes uint64
	// MaxInflightMessages and MaxInflightBytes bound what is under way to one
	// follower of one group: 256 and 4 MiB. They are also the steps in which a
	// follower that was away catches up.
	MaxInflightMessages int
	MaxInflightBytes    uint64
	// MaxUncommittedBytes bounds a leader's proposals that are not yet
	// committed: 64 MiB.
	MaxUncommittedBytes uint64
	// MaxApplyBytes bounds the entries of one group that were handed out and
	// are not yet applied: 8 MiB. Entries above it stay in the log and are read
	// back from there; smaller saves memory, larger saves that reading.
	MaxApplyBytes uint64
	// MaxAppendBytes is where an append stops to take more groups in: 16 MiB.
	// It has room for any one group.
	MaxAppendBytes uint64
}

// RaftMessage is a message of raft itself, for those who only pass it on.
type RaftMessage = raftpb.Message

// Message is a raft message to another node.
type Message struct {
	To    uint64
	Group GroupID
	Raft  *RaftMessage
}

// Entry is a committed entry. Data must not be changed; it is nil for the empty
// entry with which a term begins. Pos is where the data lies in the log.
type Entry struct {
	Index, Term uint64
	Data        []byte
	Pos         wal.Pos
}

// Apply is a run of committed entries of one group, to be applied in order.
// When they are, Host.Applied says so.
type Apply struct {
	Group   GroupID
	Entries []Entry
	// Synced is how many of the Replicas are known to have the last entry on
	// disk. Only a leader knows; elsewhere both are 0.
	Synced, Replicas int
}

// Read answers a ReadIndex. With Err nil, the read may be served as soon as
// the node has applied Index. Otherwise nothing is known: ask again, when the
// group has a leader.
type Read struct {
	Group GroupID
	Ctx   uint64
	Index uint64
	Err   error
}

// State is what this node is in a group and whom it follows.
type State struct {
	Group  GroupID
	Role   Role
	Leader uint64 // 0: none is known
	Term   uint64
	Commit uint64 // when the state was taken
	// Proposing says that this node leads and has applied everything of
	// earlier terms: it asks its Proposer for entries.
	Proposing bool
}

// Output is what a Host wants done.
type Output struct {
	// Send is to be sent now; the order matters little, loss is repaired.
	Send []Message
	// Append goes to the log as one append, and Appended is called when it is
	// durable. Until then no Output has another. If the append fails, the
	// process must end.
	Append []wal.Record
	// Apply is to be applied, in order per group.
	Apply []Apply
	// Reads are answers to ReadIndex.
	Reads []Read
	// States are the groups whose role, leader, term or readiness changed.
	States []State
	// Held says that messages with nothing but a new commit index are kept
	// back, because one with entries often follows and makes them needless.
	// Call Release a millisecond later, so that none is kept longer than two.
	// The next Tick lets all of them go in any case.
	Held bool
	// Drained says that after TransferAll this node leads no group any more
	// that the other voters, as far as they are there, could lead.
	Drained bool
}

// GroupStatus is a snapshot of a group for status pages.
type GroupStatus struct {
	Group   GroupID
	Role    Role
	Leader  uint64 // 0: none is known
	Term    uint64
	Commit  uint64
	Applied uint64 // truly applied
	Last    uint64 // last index in this node's log
	// Peers are the other voters, by id, as the leader knows them; nil
	// elsewhere.
	Peers []PeerStatus
}

// PeerStatus is what a leader knows of another voter.
type PeerStatus struct {
	ID     uint64
	Match  uint64 // last index known to be on its disk
	Active bool   // it was heard of lately
}
