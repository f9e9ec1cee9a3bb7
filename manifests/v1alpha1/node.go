package v1alpha1

import (
	"maps"
	"slices"
)

// Node is one node of a cluster: its name is the node's id, its namespace the
// cluster's name. The controller makes it from the Cluster; nobody applies it.
type Node struct {
	TypeMeta   `json:",inline"`
	ObjectMeta `json:"metadata"`
	Spec       NodeSpec   `json:"spec"`
	Status     NodeStatus `json:"status,omitzero"`
}

// NodeStatus is what is seen of a node.
type NodeStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Phase is the state of the node in one word; Reason says why, for a person.
	Phase  NodePhase `json:"phase,omitempty"`
	Reason string    `json:"reason,omitempty"`
	// PID is the process, 0 if there is none.
	PID int `json:"pid"`
	// Incarnation counts the starts of the node, as its folder counts them.
	Incarnation uint64 `json:"incarnation"`
	// Restarts counts the starts that followed an end nobody asked for, and
	// RestartedAt is when the last of them was.
	Restarts    int        `json:"restarts"`
	RestartedAt *MicroTime `json:"restartedAt,omitempty"`
	// Role is RoleLeader if the node leads any shard.
	Role Role `json:"role,omitempty"`
	// Term and Commit are the catalogue's.
	Term   uint64 `json:"term"`
	Commit uint64 `json:"commit"`
	// Applied is how far the node has applied the catalogue.
	Applied uint64 `json:"applied"`
	// Lag is the largest distance of its groups from what they know committed.
	Lag uint64 `json:"lag"`
	// LeaderOf names the groups the node leads: "catalogue", "0", "1", …
	LeaderOf []string `json:"leaderOf,omitempty"`
	// StartedAt is when the running process was started.
	StartedAt *MicroTime `json:"startedAt,omitempty"`
	// Version is the program's version as the node states it.
	Version string `json:"version,omitempty"`
	// DataDir is the node's folder.
	DataDir string `json:"dataDir,omitempty"`
	// LastTermination is how the process before this one ended.
	LastTermination *Termination `json:"lastTermination,omitempty"`
	// NextStart is when the node is started again, while it is held back.
	NextStart  *MicroTime  `json:"nextStart,omitempty"`
	Conditions []Condition `json:"conditions,omitempty"`
}

// Termination says how a process ended.
type Termination struct {
	ExitCode int `json:"exitCode"`
	// Signal is the signal that ended the process, as in "SIGKILL", or empty.
	Signal string    `json:"signal,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     MicroTime `json:"at"`
}

// NodePhase is the state of a node in one word.
type NodePhase string

// The phases of a node.
const (
	NodePending          NodePhase = "Pending"          // not started yet
	NodeStarting         NodePhase = "Starting"         // the process runs and is not ready
	NodeRunning          NodePhase = "Running"          // ready
	NodeDraining         NodePhase = "Draining"         // asked to end
	NodeStopped          NodePhase = "Stopped"          // ended, and should not run
	NodeCrashLoopBackOff NodePhase = "CrashLoopBackOff" // ended, waits for NextStart
	NodeUnknown          NodePhase = "Unknown"          // the process runs and does not answer
)

// NodePhases are all phases, in the order of a node's life.
var NodePhases = []NodePhase{NodePending, NodeStarting, NodeRunning, NodeDraining, NodeStopped, NodeCrashLoopBackOff, NodeUnknown}

// NodeHeld is the reason of a node that is Stopped because a hold keeps it down.
const NodeHeld = "Held"

// Role is what a node is in its groups.
type Role string

// The roles, as status and the get table show them.
const (
	RoleLeader    Role = "leader"
	RoleFollower  Role = "follower"
	RoleCandidate Role = "candidate"
)

// The conditions of a node.
const (
	// NodeReady: the node takes requests and serves them.
	NodeReady = "Ready"
	// NodeProcessRunning: the node's process lives.
	NodeProcessRunning = "ProcessRunning"
	// NodeJoined: the other nodes see it.
	NodeJoined = "Joined"
	// NodeCaughtUp: the node has applied what it knows to be committed.
	NodeCaughtUp = "CaughtUp"
)

// Clone returns a copy that shares nothing with n.
func (n *Node) Clone() *Node {
	d := *n
	d.ObjectMeta = n.ObjectMeta.clone()
	d.Spec.Labels = maps.Clone(n.Spec.Labels)
	d.Status.LeaderOf = slices.Clone(n.Status.LeaderOf)
	d.Status.RestartedAt = clonePointer(n.Status.RestartedAt)
	d.Status.StartedAt = clonePointer(n.Status.StartedAt)
	d.Status.LastTermination = clonePointer(n.Status.LastTermination)
	d.Status.NextStart = clonePointer(n.Status.NextStart)
	d.Status.Conditions = slices.Clone(n.Status.Conditions)
	return &d
}
