package member

import (
	"fmt"
	"slices"
	"strings"
)

// Ask is the question of a node with an empty folder to a configured peer.
type Ask struct {
	Cluster string   `json:"cluster"`
	Node    string   `json:"node"`
	UID     UID      `json:"uid"`
	Forming []string `json:"forming"` // the names that this node's settings want to form the cluster from
}

// Answer is what a node says about itself and its cluster. An empty folder
// answers without a Membership, and with a uid that is already synced.
type Answer struct {
	Cluster string      `json:"cluster"`
	Node    string      `json:"node"`
	UID     UID         `json:"uid"`
	Forming []string    `json:"forming,omitempty"`
	Member  *Membership `json:"member,omitempty"` // with the secret only for a node of the cluster
	// Reads is the highest version of an entry that the node reads. Programs of the
	// first version do not say it.
	Reads int `json:"reads,omitempty"`
}

// Bootstrap decides how a node with an empty folder becomes part of a cluster
// (invariant D6). It is a step function: the owner carries its questions to the
// peers and its decisions to the disk.
//
//   - If any peer knows a cluster, the node takes its reserved raft id there,
//     if that name never ran or ran with this very uid; the same name with
//     another uid is an erased folder, which must not vote.
//   - A cluster is formed only when every node of the forming list answers
//     "empty"; then the first of the list draws the cluster id and the secret; the others
//     learn them from its answer, by the rule above.
//
// Not for concurrent use.
type Bootstrap struct {
	self    Identity
	cluster string
	shards  int
	forming []string // not stopped nodes, in the order of the file
	all     []string // every configured node: raft ids 1..N in this order

	answers map[string]Answer
	draw    func() (id string, s Secret)
	decided *Membership
	refused error
}

// BootstrapConfig is what a Bootstrap knows from its settings.
type BootstrapConfig struct {
	Self    Identity // synced, and empty: Member is nil
	Cluster string
	Shards  int
	Forming []string // the configured nodes that are not stopped, or what --bootstrap says
	All     []string // every configured node
	// Draw draws a cluster's id and secret; it is used at most once.
	Draw func() (id string, s Secret)
}

// NewBootstrap starts with no answer known.
func NewBootstrap(c BootstrapConfig) *Bootstrap {
	return &Bootstrap{
		self: c.Self, cluster: c.Cluster, shards: c.Shards,
		forming: slices.Clone(c.Forming), all: slices.Clone(c.All),
		answers: make(map[string]Answer), draw: c.Draw,
	}
}

// Peers are the nodes to ask, in the order of the file.
func (b *Bootstrap) Peers() []string {
	peers := make([]string, 0, len(b.all))
	for _, name := range b.all {
		if name != b.self.Node {
			peers = append(peers, name)
		}
	}
	return peers
}

// Ask is the question to send to each peer until Decided or Err says something.
func (b *Bootstrap) Ask() Ask {
	return Ask{Cluster: b.cluster, Node: b.self.Node, UID: b.self.UID, Forming: b.forming}
}

// Reply is this node's own answer to a peer that asks, while it is still empty.
// Once Decided returned a membership and the owner synced it, replies carry it.
func (b *Bootstrap) Reply() Answer {
	return Answer{Cluster: b.cluster, Node: b.self.Node, UID: b.self.UID, Forming: b.forming}
}

// Handle takes a peer's answer. The peer name is the one that was asked.
func (b *Bootstrap) Handle(peer string, a Answer) {
	if b.decided != nil || b.refused != nil {
		return
	}
	switch {
	case a.Cluster != b.cluster:
		b.refuse("the node that answers for %s belongs to cluster %q, this node to %q; mend the host and port of %s in the file", peer, a.Cluster, b.cluster, peer)
	case a.Node != peer:
		b.refuse("node %s answers where %s is expected; mend the hosts and ports in the file", a.Node, peer)
	case a.Member != nil:
		b.join(peer, a.Member)
	case len(a.Forming) == 0:
		b.Lost(peer) // it has only just begun, and knows no better than this
	default:
		b.answers[peer] = a
		b.form()
	}
}

// Lost says that a peer could not be asked this time: its earlier answer may
// no longer be true.
func (b *Bootstrap) Lost(peer string) { delete(b.answers, peer) }

// Start must be called once before the first answer: a one-node cluster forms
// at once.
func (b *Bootstrap) Start() { b.form() }

// Decided is the membership to sync before anything else is done, or nil.
func (b *Bootstrap) Decided() *Membership { return b.decided }

// Err says why this node must not run, or nil.
func (b *Bootstrap) Err() error { return b.refused }

// Waiting names the nodes of the forming list that have not answered yet.
func (b *Bootstrap) Waiting() []string {
	var names []string
	for _, name := range b.forming {
		if _, ok := b.answers[name]; !ok && name != b.self.Node {
			names = append(names, name)
		}
	}
	if len(names) == 0 && len(b.forming) > 0 && b.forming[0] != b.self.Node {
		return b.forming[:1] // all are there; the first one forms the cluster
	}
	return names
}

// join takes the node's reserved place in a cluster that a peer knows.
func (b *Bootstrap) join(peer string, m *Membership) {
	me, ok := m.ByName(b.self.Node)
	switch {
	case !ok:
		b.refuse("cluster %q was formed from %s, without %s; adding a node to a formed cluster is not supported yet", b.cluster, names(m.Nodes), b.self.Node)
	case m.Shards != b.shards:
		b.refuse("cluster %q was formed with shards: %d, the file says shards: %d; shards are fixed once applied", b.cluster, m.Shards, b.shards)
	case me.UID == "":
		// The name was absent when the cluster formed. The peer has the
		// catalogue enter this uid; its next answer will carry it.
	case me.UID != b.self.UID:
		b.refuse("the folder of %s is empty or another one, but %s says that %s ran before with uid %s: an erased node must not vote again under its old id; bring its folder back, or rejoin it as a new replica (not supported yet)",
			b.self.Node, peer, b.self.Node, me.UID)
	default:
		b.decided = m.clone()
	}
}

// form decides to form a cluster when this node is the first of the list and
// all of the list answered that they are empty.
func (b *Bootstrap) form() {
	if b.decided != nil || b.refused != nil || len(b.forming) == 0 {
		return
	}
	if b.forming[0] != b.self.Node || len(b.answers) < len(b.forming)-1 {
		return
	}
	uids := map[string]UID{b.self.Node: b.self.UID}
	for _, name := range b.forming[1:] {
		a, ok := b.answers[name]
		if !ok {
			return
		}
		if !slices.Equal(a.Forming, b.forming) {
			b.refuse("%s wants to form cluster %q from %s, %s from %s; start all nodes with the same file",
				b.self.Node, b.cluster, strings.Join(b.forming, ", "), name, strings.Join(a.Forming, ", "))
			return
		}
		uids[name] = a.UID
	}
	m := &Membership{Cluster: b.cluster, Shards: b.shards}
	m.ClusterID, m.Secret = b.draw()
	for i, name := range b.all {
		m.Nodes = append(m.Nodes, NodeIdentity{Name: name, RaftID: uint64(i + 1), UID: uids[name]})
	}
	b.decided = m
}

func (b *Bootstrap) refuse(format string, args ...any) {
	b.refused = &RefusedError{Reason: fmt.Sprintf(format, args...)}
}

func names(nodes []NodeIdentity) string {
	s := make([]string, len(nodes))
	for i, n := range nodes {
		s[i] = n.Name
	}
	return strings.Join(s, ", ")
}
