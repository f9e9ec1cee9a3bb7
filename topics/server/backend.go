package server

import (
	"context"
	"errors"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/wire"
)

// ErrTopicGone is what a Backend answers to a publish, a read or a lookup whose
// uid no longer exists: the topic was deleted, or deleted and made anew. Nothing
// was written. The session resolves the name again.
var ErrTopicGone = errors.New("server: topic is gone")

// RefusedError says why a change to a topic is not made, and what would help.
type RefusedError struct{ Reason string }

// Error returns the reason.
func (e *RefusedError) Error() string { return e.Reason }

// Catalogue is the group that owns topics; the group of data shard s is s+1.
const Catalogue uint64 = 0

// ShardGroup returns the group of a data shard.
func ShardGroup(shard uint32) uint64 { return uint64(shard) + 1 }

// Backend is the node behind the sessions. All methods may be called
// concurrently. Methods without a context return at once from what this node
// has applied; they never wait for the log or another node.
//
// Errors that are (or wrap) a *wire.Error reach the client as they are; a
// context's error becomes NO_QUORUM for a read, TIMEOUT for a change; any other
// is INTERNAL and logged.
type Backend interface {
	// Info returns who this node is.
	Info() Info
	// Now returns the reference time in microseconds and its eps.
	Now() (us uint64, eps int64)
	// Nodes returns a line per configured node, in the order of the cluster.
	Nodes() []Node
	// Clocks returns a line per configured node, in the order of the cluster: this
	// node's clock, and what it knows of the others'.
	Clocks() []wire.ClockLine
	// NotReady returns why the node is not ready, one reason a line; empty: ready.
	NotReady() []string
	// Status and Identity are the answers of /v1/status and /v1/identity.
	Status() Status
	Identity() Identity
	// Counters returns what the node has counted since it started, for /metrics.
	Counters() Counters
	// Drain hands leadership over, lets the node finish what it has accepted and
	// then ends the node. It returns when the drain has begun for good.
	Drain(ctx context.Context) error

	// Topic looks a name up in this node's copy of the catalogue. The result is
	// shared and must not be changed.
	Topic(name string) (*Topic, bool)
	// Topics returns at most limit topics whose names are greater than after, in
	// the order of their names.
	Topics(after string, limit int) []*Topic
	// TopicChanges returns the topics that were made, configured or deleted since
	// the version (0: all that exist), and the version to ask with next.
	TopicChanges(since uint64) (changes []TopicChange, version uint64)
	// CatalogueVersion returns the version that TopicChanges would return now.
	CatalogueVersion() uint64
	// Shard returns the data shard that holds a partition.
	Shard(uid uint64, partition uint32) uint32
	// Leader returns the node that leads a group as far as this node knows, or "".
	Leader(group uint64) string

	// EnsureTopic returns the topic of that name and makes it first if there is
	// none; where topics are not made by publishing, the error is NO_TOPIC. It
	// never returns a topic for whose uid ErrTopicGone was answered before.
	//
	// EnsureTopic, PutTopic and DeleteTopic return when the change has committed
	// and this node's copy of the catalogue shows it.
	EnsureTopic(ctx context.Context, name string) (*Topic, error)
	// TopicObject returns a topic as an object of the API: metadata with name,
	// namespace, uid, generation, resource version, creation time and annotations,
	// and spec.
	TopicObject(name string) (*v1alpha1.Topic, bool)
	// PutTopic makes the topic or gives it this spec, and returns it and what that
	// did. The object is valid by itself. Nil annotations keep those that are
	// there. A change that is not possible is a *RefusedError.
	PutTopic(ctx context.Context, t *v1alpha1.Topic) (*v1alpha1.Topic, Effect, error)
	// DeleteTopic deletes a topic with its messages. Where the topic's deletion
	// policy is Retain and data loss is not allowed, it is a *RefusedError.
	// A topic that does not exist is NO_TOPIC.
	DeleteTopic(ctx context.Context, name string, allowDataLoss bool) error

	// Publish takes one batch on its way and returns at once, without waiting for
	// the log. Publishes that are given in one order for one partition get their
	// offsets in that order. p.Done.Complete is called exactly once, from any
	// goroutine, possibly before Publish returns.
	//
	// The backend keeps p.Timeout: a publish that was never sent to a leader by
	// then ends with NO_QUORUM (certainly not written), one that was sent with
	// TIMEOUT (unknown). p and p.Batch belong to the backend until Complete.
	Publish(p *Publish)

	// Barrier waits until this node may answer a read that concerns the groups of
	// floors. Linearizable: it has applied everything acknowledged before the
	// call. Session: it has applied each group to at least the floor's index.
	// Local: it does not wait. The floors' groups are the shards that are read
	// and, for a linearizable read, Catalogue. Barrier returns as_of, the time in
	// microseconds up to which what follows is complete: for a linearizable read
	// the reference time at which it was asked, otherwise the smallest of the
	// groups' last applied stamps.
	Barrier(ctx context.Context, level Level, floors []Floor) (asOf uint64, err error)

	// Bounds returns the first offset that a partition still has and the next one
	// it will give.
	Bounds(s Stream) (first, next uint64, err error)
	// Seek returns the offset of the first record whose stamp is at least ts, or
	// the next offset when there is none. It may read the disk.
	Seek(s Stream, ts uint64) (offset uint64, err error)
	// Read returns committed and applied batches in the order of their offsets:
	// first the one that holds from, then those that follow while they fit into
	// maxBytes; at least one if there is any. An offset at or past the end gives
	// none. It may read the disk.
	Read(s Stream, from uint64, maxBytes int) ([]Stored, error)
	// ReadBack is Read in the other direction: first the batch that holds the
	// offset before until, then those before it.
	ReadBack(s Stream, until uint64, maxBytes int) ([]Stored, error)

	// Watch calls wake after batches of the partition have become readable, and
	// after the partition is gone, until stop is called. It may call it for
	// nothing, but never too seldom: a read that follows the wake sees the news.
	// wake must not block. After stop has returned, wake is not called again.
	Watch(s Stream, wake func()) (stop func())
	// Safe returns the group's safe time in microseconds: of what is stamped at or
	// before it in the group, who watches has been told, and nothing more is to
	// come, as far as the log and the promises of its leader say. It never waits.
	Safe(group uint64) uint64
	// AwaitSafe asks for a promise of the group's leader, and calls wake once the
	// safe time is at least ts, at most once, until stop is called. A leader whose
	// clock has not come so far promises less, and a question may be lost: who
	// goes on waiting asks again after a while. wake must not block, and may be
	// called before AwaitSafe returns. After stop has returned it is not called.
	AwaitSafe(group, ts uint64, wake func()) (stop func())
	// WatchTopics calls wake after the catalogue has changed. See Watch.
	WatchTopics(wake func()) (stop func())
}

// Effect says what a change to a topic did.
type Effect string

// The effects of a change.
const (
	Created    Effect = "created"
	Configured Effect = "configured"
	Unchanged  Effect = "unchanged"
)

// Level says how much a read must have seen.
type Level = wire.ReadLevel

// The read levels.
const (
	Session      = wire.ReadSession      // what this connection has written or read
	Linearizable = wire.ReadLinearizable // what anybody had acknowledged when it was asked
	Local        = wire.ReadLocal        // what this node has applied
)

// Info says who a node is.
type Info struct {
	Node    string
	Cluster string
	Version string
	// MaxMessageBytes is the largest message that any topic takes, at least the
	// default of topics: the max= of the greeting. A connection keeps the value
	// that it was greeted with.
	MaxMessageBytes int
}

// Node is one node as INFO shows it.
type Node struct {
	ID       string
	Role     string   // leader if it leads any group, else follower
	Term     uint64   // of the catalogue, as this node knows it
	LeaderOf []string // groups: "catalogue", "0", "1", …
	Gossip   string   // alive, suspect, dead, left or unknown, as this node sees it
}

// Topic is a topic in the catalogue. It is never changed once it is shared.
type Topic struct {
	Name            string
	UID             uint64
	Generation      uint64
	Partitions      uint32
	MaxMessageBytes int // payload, key and headers together
}

// TopicChange is a difference in the catalogue.
type TopicChange struct {
	Name  string
	Topic *Topic // nil: deleted
}

// Stream is one partition of one topic.
type Stream struct {
	UID       uint64
	Partition uint32
}

// Floor is a raft index of a group that a read must have applied.
type Floor struct {
	Group uint64
	Index uint64
}

// Publish is one batch for one partition.
type Publish struct {
	Topic     string
	UID       uint64 // as the session resolved it; see ErrTopicGone
	Partition uint32

	// Batch is a record batch, version 2. Publishes of this package have one
	// record; an ID stands in it as header wiber.id.
	Batch []byte

	ID       string // "" = none
	Producer string // "" = none
	Seq      uint64 // of the producer, from 1
	Lamport  uint64 // the client's, 0 = none

	Timeout time.Duration
	Done    Completer
}

// Completer is told how a publish ended.
type Completer interface {
	// Complete must not block. When err is not nil, r means nothing.
	Complete(r Receipt, err error)
}

// Receipt is what an acknowledgement states.
type Receipt struct {
	// Offset of the batch's first record. Unknown: a duplicate so old that its
	// offset is no longer remembered; then the stamp, Term and Index are 0 too.
	Offset  uint64
	Unknown bool

	TS      uint64
	Eps     int64
	Lamport uint64

	Group uint64 // of the shard; Term and Index are this group's
	Term  uint64
	Index uint64

	Synced    int // replicas known to have it on disk
	Replicas  int
	Duplicate bool
}

// Stored is a batch as the log holds it.
type Stored struct {
	Base  uint64 // offset of the first record
	Count uint32

	TS      uint64
	Eps     int64
	Lamport uint64
	Term    uint64
	Index   uint64

	// Batch is the record batch. It must not be changed.
	Batch []byte
}

// Status is the answer of /v1/status.
type Status struct {
	Node        string        `json:"node"`
	Cluster     string        `json:"cluster"`
	Version     string        `json:"version"`
	Incarnation uint64        `json:"incarnation"`
	Groups      []GroupStatus `json:"groups"`
	Clock       ClockStatus   `json:"clock"`
	Gossip      []GossipState `json:"gossip"`
	Links       []LinkState   `json:"links"`
}

// GossipState is what this node thinks of a node, itself included. It is a hint:
// nothing that raft decides depends on it.
type GossipState struct {
	Node  string    `json:"node"`
	State string    `json:"state"` // alive, suspect, dead, left; unknown before first contact
	Since time.Time `json:"since"`
	// What the node last said of itself; absent if it never did.
	Incarnation uint64   `json:"incarnation,omitempty"`
	Role        string   `json:"role,omitempty"`
	Leads       []string `json:"leads,omitempty"`     // groups, the first ones if there are very many
	CPUMillis   uint32   `json:"cpuMillis,omitempty"` // CPU time that it used, per second
}

// LinkState is this node's raft link with a peer.
type LinkState struct {
	Node  string    `json:"node"`
	Up    bool      `json:"up"`
	Since time.Time `json:"since"`
}

// FollowerStatus is what a group's leader knows of another replica.
type FollowerStatus struct {
	Node   string `json:"node"`
	Match  uint64 `json:"match"`  // last index known to be on its disk
	Lag    uint64 `json:"lag"`    // how far Match is behind the leader's log
	Active bool   `json:"active"` // it was heard of within an election timeout
}

// GroupStatus is one raft group of a Status.
type GroupStatus struct {
	ID      string `json:"id"` // "catalogue", "0", "1", …
	Role    string `json:"role"`
	Leader  string `json:"leader"` // "" when unknown
	Term    uint64 `json:"term"`
	Commit  uint64 `json:"commit"`
	Applied uint64 `json:"applied"`
	Chain   string `json:"chain"` // hash of all outcomes up to Applied
	// Followers is there only on the leader.
	Followers []FollowerStatus `json:"followers,omitempty"`
}

// ClockStatus is what a node knows of the time, in a Status.
type ClockStatus struct {
	State  string `json:"state"`            // synchronised, holdover or unsynchronised
	Reason string `json:"reason,omitempty"` // why it is unsynchronised
	// OffsetMicros is how far the node's own clock is ahead of the cluster's time,
	// give or take Eps. -1: unsynchronised.
	OffsetMicros int64    `json:"offsetMicros"`
	Eps          int64    `json:"eps"`
	DriftPPM     *float64 `json:"driftPpm"` // null until it is known
	Lamport      uint64   `json:"lamport"`
	Reference    int64    `json:"reference"` // the cluster's time, microseconds since 1970
	TestClock    string   `json:"testClock"` // WIBER_TEST_CLOCK; "": the clock is true
	// Ahead are the groups whose last stamp is more than 500 ms ahead of the
	// cluster's time.
	Ahead []AheadStatus `json:"ahead"`
	Peers []PeerClock   `json:"peers"`
}

// AheadStatus is a group whose stamps run ahead of the cluster's time.
type AheadStatus struct {
	Group  string `json:"group"`
	Micros int64  `json:"micros"`
}

// PeerClock is another node's clock in a ClockStatus.
type PeerClock struct {
	Node  string `json:"node"`
	State string `json:"state"` // ok, unknown, silent, distrusted or ahead
	// OffsetMicros is how far its clock is ahead of the cluster's time, give or take
	// Eps; null and -1 before it was read.
	OffsetMicros *int64   `json:"offsetMicros"`
	Eps          int64    `json:"eps"`
	DriftPPM     *float64 `json:"driftPpm"`
	BoundMicros  int64    `json:"boundMicros"` // of the reading that counts, when it was taken
	AgeMillis    int64    `json:"ageMillis"`   // of that reading
}

// Counters are what a node has counted since it started, and what is under way.
type Counters struct {
	LogSyncs, LogFrames, LogBytes uint64 // of the log: fdatasyncs, frames, bytes of frames

	// LeaderChanges are by group: each time this node took notice of another leader.
	LeaderChanges map[string]uint64
	// Forwards are requests without an answer: sent to their leaders, and waiting
	// for one.
	ForwardsSent, ForwardsWaiting int

	// MessagesDropped are raft's: a queue was full, or a peer not connected.
	MessagesDropped uint64

	// Of the peer port's UDP: packets that were sent, and that came; what came and
	// was not taken: nobody took them then, no node sends such packets, or gossip
	// had no room.
	PacketsSent, PacketsReceived                  uint64
	PacketsUntaken, PacketsStrange, PacketsNoRoom uint64

	ProbesAsked, ProbesAnswered uint64 // of clocks: by this node, and for others
}

// Identity is the answer of /v1/identity.
type Identity struct {
	Cluster     string `json:"cluster"`
	Node        string `json:"node"`
	UID         string `json:"uid"`
	Incarnation uint64 `json:"incarnation"`
	PID         int    `json:"pid"`
	BootID      string `json:"bootId"`
	DataDir     string `json:"dataDir"`
}
