package v1alpha1

import (
	"maps"
	"slices"
)

// Cluster is a set of nodes that hold the same topics.
type Cluster struct {
	TypeMeta   `json:",inline"`
	ObjectMeta `json:"metadata"`
	Spec       ClusterSpec   `json:"spec"`
	Status     ClusterStatus `json:"status,omitzero"`
}

// ClusterSpec is the wanted state of a cluster. The tag written:"positive"
// marks the fields whose zero means "not given": a decoder refuses a zero that
// somebody wrote.
type ClusterSpec struct {
	// Nodes are the nodes, 1 to MaxNodes of them, in the order in which they
	// get their numbers when the cluster forms.
	Nodes []NodeSpec `json:"nodes,omitempty"`
	// Replicas is the short way to write Nodes: n1..nN on 127.0.0.1 with client
	// ports from 9101. Default replaces it by Nodes, so a stored object never
	// holds it.
	Replicas int `json:"replicas,omitempty" written:"positive"`
	// Shards is the number of data shards; the catalogue has a group of its
	// own. Fixed once applied.
	Shards int `json:"shards"`
	// ReplicationFactor is the number of nodes that hold a shard; min(3, nodes)
	// unless given. It must equal the number of nodes: placement of fewer is
	// not supported yet.
	ReplicationFactor int `json:"replicationFactor,omitempty" written:"positive"`
	// DataRoot is the folder that holds a folder per node. Fixed once applied.
	DataRoot string `json:"dataRoot"`
	// RestartPolicy says which ends of a node's process start it again.
	RestartPolicy RestartPolicy `json:"restartPolicy"`
	// Backoff is the pause before such a start.
	Backoff Backoff `json:"backoff"`
	// TerminationGracePeriod is how long a node may drain before it is killed.
	TerminationGracePeriod Duration `json:"terminationGracePeriod"`
	// AutoCreateTopics lets a first publish create its topic.
	AutoCreateTopics bool `json:"autoCreateTopics"`
	// ElectionTimeout is how long a group waits for its leader before it elects
	// another. Shorter fails over sooner and mistakes a slow disk for a death.
	ElectionTimeout Duration `json:"electionTimeout"`
	// HotLog is the budget of the log on disk. Not supported yet.
	HotLog ByteSize `json:"hotLog"`
	// Memory is the budget of a node's memory. Not supported yet.
	Memory ByteSize `json:"memory"`
	// DedupIDs is the number of message ids that a shard remembers inside their
	// windows, about 40 bytes each.
	DedupIDs int `json:"dedupIds"`
	// FaultInjection allows faults to be injected. Not supported yet.
	FaultInjection bool `json:"faultInjection"`
}

// NodeSpec is one node as its cluster wants it. A port that is zero is derived
// from Port by Default.
type NodeSpec struct {
	// ID is the node's name inside its cluster.
	ID string `json:"id"`
	// Host is the address or name the node listens on and is reached at.
	Host string `json:"host"`
	// Port is the client port: the text protocol.
	Port int `json:"port" written:"positive"`
	// PeerPort is the port between nodes; Port+100 unless given.
	PeerPort int `json:"peerPort,omitempty" written:"positive"`
	// HTTPPort is the node's HTTP port; Port+200 unless given.
	HTTPPort int `json:"httpPort,omitempty" written:"positive"`
	// KafkaPort is reserved; Port+300 unless given.
	KafkaPort int `json:"kafkaPort,omitempty" written:"positive"`
	// Stopped keeps the node's process stopped.
	Stopped bool `json:"stopped"`
	// Decommission moves the node's data away. Not supported yet.
	Decommission bool `json:"decommission"`
	// Labels are carried and have no effect.
	Labels map[string]string `json:"labels,omitempty"`
}

// Backoff is the pause before a process is started again. It doubles from
// Initial to Max with every end that follows a short run.
type Backoff struct {
	Initial Duration `json:"initial"`
	Max     Duration `json:"max"`
}

// RestartPolicy says which ends of a process start it again.
type RestartPolicy string

// The restart policies. No policy restarts a node that exits with
// ExitNoRestart.
const (
	RestartAlways    RestartPolicy = "Always"
	RestartOnFailure RestartPolicy = "OnFailure"
	RestartNever     RestartPolicy = "Never"
)

// ClusterStatus is what is seen of a cluster.
type ClusterStatus struct {
	// ObservedGeneration is the generation of the spec that this status is
	// about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Nodes counts the nodes of the spec, and ReadyNodes those of them that are
	// ready.
	Nodes      int         `json:"nodes,omitempty"`
	ReadyNodes int         `json:"readyNodes,omitempty"`
	Conditions []Condition `json:"conditions,omitempty"`
}

// The conditions of a cluster.
const (
	// ClusterReady: every node that should run is ready, and some should. Its
	// reason is ClusterStopped when none should.
	ClusterReady = "Ready"
	// ClusterProgressing: the controller is still bringing about the spec.
	ClusterProgressing = "Progressing"
	// ClusterDegraded: fewer nodes are ready than the cluster has, so it bears
	// fewer deaths: a node is not ready, or is stopped as somebody wants.
	ClusterDegraded = "Degraded"
	// ClusterQuorumAvailable: a majority of the nodes can acknowledge writes.
	ClusterQuorumAvailable = "QuorumAvailable"
)

// ClusterStopped is the reason of ClusterReady when no node should run.
const ClusterStopped = "Stopped"

// NewCluster returns a cluster that holds every default which does not depend
// on other fields. Decode over it, then call Default.
func NewCluster() *Cluster {
	return &Cluster{
		TypeMeta: TypeMeta{APIVersion: APIVersion, Kind: KindCluster},
		Spec: ClusterSpec{
			Shards:                 DefaultShards,
			DataRoot:               DefaultDataRoot,
			RestartPolicy:          RestartAlways,
			Backoff:                Backoff{Initial: DefaultBackoffInitial, Max: DefaultBackoffMax},
			TerminationGracePeriod: DefaultTerminationGracePeriod,
			AutoCreateTopics:       true,
			ElectionTimeout:        DefaultElectionTimeout,
			HotLog:                 DefaultHotLog,
			Memory:                 DefaultMemory,
			DedupIDs:               DefaultDedupIDs,
		},
	}
}

// Node returns the node of the spec with the given id.
func (s *ClusterSpec) Node(id string) (NodeSpec, bool) {
	for _, n := range s.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return NodeSpec{}, false
}

// Clone returns a copy that shares nothing with c.
func (c *Cluster) Clone() *Cluster {
	d := *c
	d.ObjectMeta = c.ObjectMeta.clone()
	d.Spec.Nodes = slices.Clone(c.Spec.Nodes)
	for i := range d.Spec.Nodes {
		d.Spec.Nodes[i].Labels = maps.Clone(d.Spec.Nodes[i].Labels)
	}
	d.Status.Conditions = slices.Clone(c.Status.Conditions)
	return &d
}
