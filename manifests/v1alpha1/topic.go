package v1alpha1

import "slices"

// Topic is a named set of ordered streams, its partitions. Topic objects are a
// view of the cluster's catalogue, which keeps them.
type Topic struct {
	TypeMeta   `json:",inline"`
	ObjectMeta `json:"metadata"`
	Spec       TopicSpec   `json:"spec"`
	Status     TopicStatus `json:"status,omitzero"`
}

// TopicSpec is the wanted state of a topic, and the body of a node's
// PUT /v1/topics/{t}.
type TopicSpec struct {
	// Partitions is the number of ordered streams. It can only grow.
	Partitions int `json:"partitions"`
	// Retention limits what is kept. Not supported yet: everything is kept.
	Retention Retention `json:"retention"`
	// DedupWindow is how long a message id is remembered, on the log's clock.
	DedupWindow Duration `json:"dedupWindow"`
	// MaxMessageBytes bounds payload, key and headers of one message together.
	MaxMessageBytes int `json:"maxMessageBytes"`
	// DeletionPolicy says whether deleting the topic deletes its messages.
	DeletionPolicy DeletionPolicy `json:"deletionPolicy"`
}

// Retention limits what a topic keeps; 0 is no limit.
type Retention struct {
	Age      Duration `json:"age"`
	Bytes    int64    `json:"bytes"`
	Messages int64    `json:"messages"`
}

// DeletionPolicy says what becomes of a deleted topic's messages.
type DeletionPolicy string

// The deletion policies.
const (
	// DeletionRetain refuses to delete the topic's data unless data loss is
	// allowed explicitly.
	DeletionRetain DeletionPolicy = "Retain"
	// DeletionDelete deletes the data with the topic.
	DeletionDelete DeletionPolicy = "Delete"
)

// TopicStatus is what is seen of a topic.
type TopicStatus struct {
	ObservedGeneration int64       `json:"observedGeneration,omitempty"`
	Conditions         []Condition `json:"conditions,omitempty"`
}

// NewTopic returns a topic that holds every default. Decode over it.
func NewTopic() *Topic {
	return &Topic{
		TypeMeta: TypeMeta{APIVersion: APIVersion, Kind: KindTopic},
		Spec:     DefaultTopicSpec(),
	}
}

// DefaultTopicSpec returns the spec of a topic about which nobody said
// anything, as a first publish creates it.
func DefaultTopicSpec() TopicSpec {
	return TopicSpec{
		Partitions:      DefaultPartitions,
		DedupWindow:     DefaultDedupWindow,
		MaxMessageBytes: DefaultMaxMessageBytes,
		DeletionPolicy:  DeletionRetain,
	}
}

// Clone returns a copy that shares nothing with t.
func (t *Topic) Clone() *Topic {
	d := *t
	d.ObjectMeta = t.ObjectMeta.clone()
	d.Status.Conditions = slices.Clone(t.Status.Conditions)
	return &d
}
