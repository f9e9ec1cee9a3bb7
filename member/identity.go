package member

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/wal"
	"github.com/wiber/wiber/topics"
	"github.com/wiber/wiber/topics/store"
)

// UID names one life of a folder: 16 random bytes in hex, drawn and synced
// before the node says anything about itself to a peer.
type UID string

// NodeIdentity is one node of a cluster's list, as it was formed.
type NodeIdentity struct {
	Name   string `json:"name"`
	RaftID uint64 `json:"raftId"`
	UID    UID    `json:"uid,omitempty"` // empty: that name never ran
}

// Membership is what makes a folder part of a cluster: it is synced, whole,
// before the node's first vote (invariant D6).
type Membership struct {
	ClusterID string         `json:"clusterId"`
	Cluster   string         `json:"cluster"`
	Shards    int            `json:"shards"`
	Nodes     []NodeIdentity `json:"nodes"` // in the order of the file that formed the cluster
	// Secret is known to the cluster's nodes only. Zero: the cluster was formed by a
	// program that drew none; see node.learnSecret.
	Secret Secret `json:"secret,omitzero"`
}

// ByName finds a node of the list.
func (m *Membership) ByName(name string) (NodeIdentity, bool) {
	for _, n := range m.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return NodeIdentity{}, false
}

// ByRaftID finds a node of the list by its raft id.
func (m *Membership) ByRaftID(id uint64) (NodeIdentity, bool) {
	for _, n := range m.Nodes {
		if n.RaftID == id {
			return n, true
		}
	}
	return NodeIdentity{}, false
}

// clone returns a copy that shares nothing with m.
func (m *Membership) clone() *Membership {
	c := *m
	c.Nodes = slices.Clone(m.Nodes)
	return &c
}

// Identity is what a node's folder says about the node. How it lies there is
// docs/format/identity.md.
type Identity struct {
	Node    string      `json:"node"`
	UID     UID         `json:"uid"`
	Counter uint64      `json:"counter"`          // starts of this folder so far; with the raft id it is the incarnation
	Logged  bool        `json:"logged,omitempty"` // the folder has a log: if it is gone, votes and entries are lost
	Member  *Membership `json:"member,omitempty"` // nil: the folder is empty, it belongs to no cluster yet
}

// RaftID is the node's own raft id, 0 while the folder is empty.
func (id *Identity) RaftID() uint64 {
	if id.Member == nil {
		return 0
	}
	n, _ := id.Member.ByName(id.Node)
	return n.RaftID
}

const identityKey = "identity"

// ErrNotRestartable marks errors that starting again cannot mend; the process
// exits with ExitNoRestart and the controller leaves it stopped.
var ErrNotRestartable = errors.New("needs a person")

// ExitNoRestart is the exit code that stops restarts (sysexits' EX_CONFIG).
const ExitNoRestart = 78

// RefusedError says why this node must not run in its cluster. It is not
// mended by a restart.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Unwrap makes every refusal an ErrNotRestartable.
func (e *RefusedError) Unwrap() error { return ErrNotRestartable }

// ExitCode is the process's exit code for this error.
func (e *RefusedError) ExitCode() int { return ExitNoRestart }

// refusal makes a RefusedError of damage: starting again does not mend it, and
// a replica that is not whole must not vote.
func refusal(err error) error {
	var log *wal.CorruptError
	var version *wal.VersionError
	var state *store.CorruptError
	var diverged *topics.DivergedError
	if errors.As(err, &log) || errors.As(err, &version) || errors.As(err, &state) || errors.As(err, &diverged) ||
		errors.Is(err, store.ErrDamaged) || errors.Is(err, topics.ErrMalformed) || errors.Is(err, raftnode.ErrLost) {
		return &RefusedError{err.Error()}
	}
	return err
}

// loadIdentity reads the folder's identity; nil when there is none.
func loadIdentity(ms store.MetaStore, node string) (*Identity, error) {
	raw, err := ms.Get(identityKey)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if raw == nil {
		return nil, nil
	}
	id := new(Identity)
	if err := json.Unmarshal(raw, id); err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if id.Node != node {
		return nil, &RefusedError{fmt.Sprintf("this folder belongs to node %q, not to %q; start node %q here or give %q a folder of its own", id.Node, node, id.Node, node)}
	}
	return id, nil
}

// storeIdentity makes id durable.
func storeIdentity(ms store.MetaStore, id *Identity) error {
	raw, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	if err := ms.Update(map[string][]byte{identityKey: raw}); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}
