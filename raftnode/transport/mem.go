package transport

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Mem is a virtual network in one goroutine: the simulation's. It has no clock
// and no goroutine; every delivery is an event that it hands to the
// simulation's queue. With the same seed and the same calls the same things
// happen.
//
// Messages are encoded when sent and decoded when delivered, as on a real
// link, so nodes share no memory.
type Mem struct {
	opts  MemOptions
	nodes []*MemNode // sorted by id; a node stays listed while it is down
	cuts  map[[2]uint64]bool
	stats MemStats
}

// MemOptions are the settings of a Mem. They may be changed between events
// through Mem.SetFaults.
type MemOptions struct {
	// Schedule puts an event into the simulation's queue, to run after a delay
	// of virtual time. It must not run it at once. Required.
	Schedule func(after time.Duration, event func())
	// Rand decides delays and faults. Required; the simulation owns it.
	Rand *rand.Rand
	// Faults is how the network misbehaves from the start.
	Faults MemFaults
}

// MemFaults says how a network misbehaves. The zero value is a perfect one
// with a delay of 100 us.
type MemFaults struct {
	// MinDelay and MaxDelay bound a message's time under way. Messages of one
	// link overtake each other when they differ. Both zero means 100 us.
	MinDelay, MaxDelay time.Duration
	// Loss, Duplicate and Late are probabilities from 0 to 1. A duplicate comes
	// a second time after a delay of its own. A late message is under way for
	// up to LateBy more.
	Loss, Duplicate, Late float64
	LateBy                time.Duration
}

// MemStats counts what the network did, so that a simulation can assert that
// its faults really happened.
type MemStats struct {
	Sent, Delivered, Lost, Cut, Down, Duplicated, Late, Overtaken uint64
}

// MemNode is one node's end of a Mem. It implements Transport.
type MemNode struct {
	net  *Mem
	id   uint64
	recv Receiver
	up   bool
	seen map[uint64]uint64 // sender -> number of its latest message that arrived, for counting overtaking
}

// Receiver is called with what arrives at a node. OnUp and OnDown may be nil.
type Receiver struct {
	// OnMessage is called with every message, and the raft id of its sender.
	OnMessage func(from uint64, m Message)
	// OnUp is called when a connection with a peer stands.
	OnUp func(peer uint64)
	// OnDown is called when a connection with a peer broke: the peer's process
	// has probably died. It is a hint, not a fact.
	OnDown func(peer uint64)
}

// NewMem returns a network without nodes.
func NewMem(o MemOptions) *Mem {
	return &Mem{opts: o, cuts: make(map[[2]uint64]bool)}
}

// Attach connects a node, for the first time or after a crash, and returns its
// transport. What was under way to it arrives at the new incarnation, as it may
// on a real network. Peers learn of it through OnUp, after the network's delay.
func (n *Mem) Attach(id uint64, r Receiver) *MemNode {
	e := &MemNode{net: n, id: id, recv: r, up: true, seen: make(map[uint64]uint64)}
	i, found := slices.BinarySearchFunc(n.nodes, id, func(e *MemNode, id uint64) int {
		switch {
		case e.id < id:
			return -1
		case e.id > id:
			return 1
		}
		return 0
	})
	if found {
		n.nodes[i].up = false
		n.nodes[i] = e
	} else {
		n.nodes = slices.Insert(n.nodes, i, e)
	}
	n.tellPeers(id, true)
	return e
}

// Crash disconnects a node. Its connections close at once, which the peers that
// are not cut off from it learn through OnDown after the network's delay.
func (n *Mem) Crash(id uint64) {
	if e := n.node(id); e != nil && e.up {
		e.up = false
		n.tellPeers(id, false)
	}
}

// Cut stops everything from one node to another; the other direction goes on.
// Cut links do not tell OnDown: a silent network is no evidence.
func (n *Mem) Cut(from, to uint64) { n.cuts[[2]uint64{from, to}] = true }

// Isolate cuts a node off from all others, both ways.
func (n *Mem) Isolate(id uint64) {
	for _, e := range n.nodes {
		if e.id != id {
			n.Cut(id, e.id)
			n.Cut(e.id, id)
		}
	}
}

// Heal mends one direction.
func (n *Mem) Heal(from, to uint64) { delete(n.cuts, [2]uint64{from, to}) }

// HealAll mends all cuts. SetFaults mends the rest.
func (n *Mem) HealAll() { clear(n.cuts) }

// SetFaults changes how the network misbehaves from now on.
func (n *Mem) SetFaults(f MemFaults) { n.opts.Faults = f }

// Stats returns what the network has done so far.
func (n *Mem) Stats() MemStats { return n.stats }

func (n *Mem) node(id uint64) *MemNode {
	for _, e := range n.nodes {
		if e.id == id {
			return e
		}
	}
	return nil
}

func (n *Mem) delay() time.Duration {
	f := &n.opts.Faults
	if f.MinDelay <= 0 && f.MaxDelay <= 0 {
		return 100 * time.Microsecond
	}
	d := f.MinDelay
	if f.MaxDelay > d {
		d += time.Duration(n.opts.Rand.Int64N(int64(f.MaxDelay - d)))
	}
	return d
}

func (n *Mem) chance(p float64) bool { return p > 0 && n.opts.Rand.Float64() < p }

func (n *Mem) tellPeers(id uint64, up bool) {
	for _, e := range n.nodes {
		if e.id == id {
			continue
		}
		n.opts.Schedule(n.delay(), func() {
			if !e.up || n.cuts[[2]uint64{id, e.id}] {
				return
			}
			if up && e.recv.OnUp != nil {
				e.recv.OnUp(id)
			}
			if !up && e.recv.OnDown != nil {
				e.recv.OnDown(id)
			}
		})
	}
}

// Send implements Transport.
func (e *MemNode) Send(to uint64, m Message) {
	n := e.net
	if !e.up {
		return
	}
	n.stats.Sent++
	seq := n.stats.Sent
	p, err := encodeMem(m)
	if err != nil {
		n.stats.Lost++
		return
	}
	if to != e.id && n.chance(n.opts.Faults.Loss) {
		n.stats.Lost++
		return
	}
	copies := 1
	if to != e.id && n.chance(n.opts.Faults.Duplicate) {
		n.stats.Duplicated++
		copies = 2
	}
	for range copies {
		d := n.delay()
		if to != e.id && n.chance(n.opts.Faults.Late) && n.opts.Faults.LateBy > 0 {
			n.stats.Late++
			d += time.Duration(n.opts.Rand.Int64N(int64(n.opts.Faults.LateBy)))
		}
		n.opts.Schedule(d, func() { n.deliver(e.id, to, seq, p) })
	}
}

// Close implements Transport: it crashes the node, unless another incarnation
// of it was attached since.
func (e *MemNode) Close() {
	if e.net.node(e.id) == e {
		e.net.Crash(e.id)
	}
}

// deliver ends a message's way. A link that was cut meanwhile loses it.
func (n *Mem) deliver(from, to, seq uint64, p memPayload) {
	if n.cuts[[2]uint64{from, to}] {
		n.stats.Cut++
		return
	}
	e := n.node(to)
	if e == nil || !e.up {
		n.stats.Down++
		return
	}
	if seq < e.seen[from] {
		n.stats.Overtaken++
	}
	e.seen[from] = max(e.seen[from], seq)
	n.stats.Delivered++
	e.recv.OnMessage(from, p.decode())
}

// memPayload is a message under way.
type memPayload struct {
	kind  Kind
	group uint64
	bytes []byte
}

func encodeMem(m Message) (memPayload, error) {
	p := memPayload{kind: m.Kind, group: m.Group}
	if m.Kind != KindRaft {
		p.bytes = slices.Clone(m.Body)
		return p, nil
	}
	var err error
	p.bytes, err = proto.Marshal(m.Raft)
	return p, err
}

func (p memPayload) decode() Message {
	m := Message{Kind: p.kind, Group: p.group}
	if p.kind != KindRaft {
		m.Body = slices.Clone(p.bytes)
		return m
	}
	m.Raft = new(raftpb.Message)
	if err := proto.Unmarshal(p.bytes, m.Raft); err != nil {
		panic(fmt.Sprintf("transport: a message that was just encoded does not decode: %v", err))
	}
	return m
}
