// Package transport carries messages between the nodes of a cluster: raft's
// own, and the forwarded requests and results of the layer above, which are
// opaque here.
//
// A transport promises very little, and raft and the forwarder are built for
// that: a message arrives whole or not at all; it may be lost, and over Mem
// also be late, out of order or twice. Nothing is sent again here. Send never
// waits: what does not fit a bounded queue is dropped.
//
// TCP is the real one: one connection per direction and peer, dialled by the
// sender. Mem is a seeded virtual network for tests and simulation, without
// goroutines and without a clock of its own.
//
// Not here: who the voters are (raftnode), what requests mean (topics), the
// peer port and its listener (member). The bytes on the wire are
// docs/format/peer.md. Start reading at Transport and TCP.Send.
package transport

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// Kind says what a message is and who understands it.
type Kind uint8

// The kinds of messages. Only KindRaft is understood here.
const (
	// KindRaft is a message of a raft group, in Message.Raft.
	KindRaft Kind = 1
	// KindRequests are numbered requests of an origin for a group's leader.
	KindRequests Kind = 2
	// KindResults are results of applied requests, for their origin.
	KindResults Kind = 3
	// KindNack tells an origin which number its group's leader expects next.
	KindNack Kind = 4
	// KindAsk asks a group's leader for a promise.
	KindAsk Kind = 5
	// KindPromise is a leader's promise about the stamps to come.
	KindPromise Kind = 6
)

func (k Kind) valid() bool { return k >= KindRaft && k <= KindPromise }

// String returns the word that logs use.
func (k Kind) String() string {
	switch k {
	case KindRaft:
		return "raft"
	case KindRequests:
		return "requests"
	case KindResults:
		return "results"
	case KindNack:
		return "nack"
	case KindAsk:
		return "ask"
	case KindPromise:
		return "promise"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Message is what one node sends another about one group.
//
// A message belongs to the transport once it was given to Send: neither Raft,
// nor its entries, nor Body may change afterwards. What a callback receives
// belongs to the callback, except a message that a node sent to itself: that is
// the same memory and must only be read.
type Message struct {
	Kind  Kind
	Group uint64
	// Raft is set for KindRaft and nil for every other kind.
	Raft *raftpb.Message
	// Body holds the bytes of every kind but KindRaft.
	Body []byte
}

// Transport sends messages to nodes by their raft ids.
type Transport interface {
	// Send hands a message over for the node to, and never waits. The message
	// is dropped if the node is unknown or not connected, or if its queue is full.
	// A message to the node itself is delivered too, without a network.
	// It may be called concurrently, and after Close, when it does nothing.
	Send(to uint64, m Message)
	// Close ends all connections and returns when nothing is running any more.
	// No callback is called after it returned.
	Close()
}

// weight is what a message counts in a queue's byte limit: about its size on
// the wire, computed without encoding it.
func (m *Message) weight() int {
	n := 64 + len(m.Body)
	if m.Raft != nil {
		n += len(m.Raft.GetContext())
		for _, e := range m.Raft.GetEntries() {
			n += 24 + len(e.GetData())
		}
	}
	return n
}
