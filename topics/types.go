package topics

import (
	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/wal"
)

// Origin is one incarnation of a node: whoever numbers requests. RaftID 0 means
// no origin (a leader's own commands).
type Origin struct {
	RaftID  uint64
	Counter uint64 // synced in the node's folder before use, +1 at each start
}

// Request is one command on its way to a group's leader, without a stamp.
type Request struct {
	// Number is given by the Forwarder when the request is first sent.
	Number uint64
	// Catalogue is the catalogue index at which the topic's name was resolved.
	// The leader waits until its own catalogue has applied that far. 0 for
	// requests to the catalogue group.
	Catalogue uint64
	// Lamport is the client's Lamport time, 0 for none; what is above
	// timesvc.MaxLamport counts as that.
	Lamport uint64
	// Kind and Body are the command. Body is immutable once made.
	Kind Kind
	Body []byte
}

// Effect says what an accepted catalogue command did.
type Effect uint8

// The effects of catalogue commands.
const (
	Unchanged  Effect = 0
	Created    Effect = 1
	Configured Effect = 2
	Deleted    Effect = 3
)

// Result is the answer to one Request, decided by Apply.
type Result struct {
	Number    uint64
	Code      Code
	Effect    Effect // of a catalogue command
	Duplicate bool
	// NoOffset: a duplicate so old that its first offset is no longer known.
	NoOffset  bool
	Partition uint32
	Count     uint32 // records in the batch
	UID       uint64 // of the topic
	Base      uint64 // offset of the first record; of a duplicate, the first one
	// Expected is the producer's next number when Code is Gap.
	Expected uint64
	// The stamp and the entry. Of a duplicate they are those of the repetition:
	// the first ones are read back from the log (Reader.At).
	TS      uint64 // microseconds
	EPS     int64  // microseconds, -1 when unsynchronised
	Lamport uint64
	Term    uint64
	Index   uint64
	// Synced of Replicas replicas have it on disk; filled by the leader's shell.
	Synced   uint8
	Replicas uint8
}

// Outcome is what Apply decided about one command of an origin.
type Outcome struct {
	Origin Origin
	Result
}

// Nack is a leader's answer to requests that it did not take.
type Nack struct {
	// Expect is the number the leader takes next.
	Expect uint64
	// Busy: the leader's queue is full; send again at the next tick.
	Busy bool
}

// The log's own types, for those who know only this package.
type (
	// Entry is one committed raft entry; Pos is where its data lies.
	Entry = raftnode.Entry
	// Pos is a place in the node's log.
	Pos = wal.Pos
	// Stream names one partition of one topic.
	Stream = wal.Stream
	// StreamRecord says where one stored batch lies: Offset and Len are those
	// of its whole command inside the segment.
	StreamRecord = wal.StreamRecord
	// Located is a StreamRecord with its segment.
	Located = wal.Located
)

func stream(uid uint64, partition uint32) Stream { return Stream{UID: uid, Partition: partition} }

// Spec is what a topic's owner may set.
type Spec struct {
	Partitions        uint32
	RetentionAgeUS    uint64 // 0 = no limit, as the next two
	RetentionBytes    uint64
	RetentionMessages uint64
	DedupWindowUS     uint64
	MaxMessageBytes   uint32 // payload + key + headers
	DeleteData        bool   // deletionPolicy Delete
}

// DefaultSpec is the spec of a topic made by its first publish.
var DefaultSpec = Spec{Partitions: 1, DedupWindowUS: 120e6, MaxMessageBytes: 1 << 20}

// Annotation is one annotation of a topic.
type Annotation struct{ Key, Value string }

// Topic is one topic of the catalogue. Its slices must not be changed.
type Topic struct {
	UID         uint64
	Name        string
	Generation  uint64 // +1 at every change of Spec, from 1
	CreatedTS   uint64 // stamp of its creation, microseconds
	Spec        Spec
	Annotations []Annotation // sorted by key
}

// Node is one node of the catalogue. A zero UID: the name never ran.
type Node struct {
	Name   string
	RaftID uint64
	UID    [16]byte
}

// ClusterInfo is what Form fixed for ever.
type ClusterInfo struct {
	ID     [16]byte
	Shards uint32
}

// Secret is what the nodes of a cluster share and nobody else knows. It is not
// printed: fmt and slog show only that there is one.
type Secret [32]byte

// String implements fmt.Stringer.
func (Secret) String() string { return "(secret)" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return "topics.Secret(secret)" }
