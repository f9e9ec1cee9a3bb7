package v1alpha1

import (
	"fmt"
	"time"
)

// The defaults of a cluster and of a topic.
const (
	DefaultHost                   = "127.0.0.1"
	DefaultFirstPort              = 9101
	DefaultShards                 = 4
	DefaultReplicationFactor      = 3
	DefaultDataRoot               = ".data"
	DefaultBackoffInitial         = Duration(time.Second)
	DefaultBackoffMax             = Duration(60 * time.Second)
	DefaultTerminationGracePeriod = Duration(10 * time.Second)
	DefaultElectionTimeout        = Duration(time.Second)
	DefaultHotLog                 = 1 * GiB
	DefaultMemory                 = 512 * MiB
	DefaultDedupIDs               = 1_000_000

	DefaultPartitions      = 1
	DefaultDedupWindow     = Duration(2 * time.Minute)
	DefaultMaxMessageBytes = 1 << 20
)

// The distances of a node's derived ports from its client port.
const (
	PeerPortOffset  = 100
	HTTPPortOffset  = 200
	KafkaPortOffset = 300
)

// The limits of what a manifest may ask for.
const (
	MaxNodes            = 99
	MaxShards           = 1024
	MaxPartitions       = 10_000
	MaxDedupIDs         = 100_000_000
	MaxMessageBytes     = 16 << 20
	MaxDedupWindow      = Duration(30 * 24 * time.Hour)
	MaxTerminationGrace = Duration(time.Hour)
	MinElectionTimeout  = Duration(100 * time.Millisecond)
	MaxElectionTimeout  = Duration(time.Minute)
	MinBackoff          = Duration(10 * time.Millisecond)
	MaxBackoff          = Duration(time.Hour)
	maxTopicNameLength  = 249
	maxHostLength       = 253
	maxAnnotationBytes  = 64 << 10
)

// Default fills in what depends on other fields: nodes from replicas, derived
// ports, and the replication factor. It leaves wrong values alone, for Validate
// to name them. Calling it twice changes nothing more.
func (c *Cluster) Default() {
	s := &c.Spec
	if len(s.Nodes) == 0 && s.Replicas > 0 && s.Replicas <= MaxNodes {
		s.Nodes = make([]NodeSpec, s.Replicas)
		for i := range s.Nodes {
			s.Nodes[i] = NodeSpec{ID: fmt.Sprintf("n%d", i+1), Host: DefaultHost, Port: DefaultFirstPort + i}
		}
		s.Replicas = 0
	}
	for i := range s.Nodes {
		s.Nodes[i].derivePorts()
	}
	if s.ReplicationFactor == 0 {
		s.ReplicationFactor = min(DefaultReplicationFactor, len(s.Nodes))
	}
}

func (n *NodeSpec) derivePorts() {
	if n.Port == 0 {
		return
	}
	if n.PeerPort == 0 {
		n.PeerPort = n.Port + PeerPortOffset
	}
	if n.HTTPPort == 0 {
		n.HTTPPort = n.Port + HTTPPortOffset
	}
	if n.KafkaPort == 0 {
		n.KafkaPort = n.Port + KafkaPortOffset
	}
}
