package raftnode

import (
	"fmt"
	"slices"

	"github.com/wiber/wiber/raftnode/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// Host is all raft groups of one node. It is not safe for concurrent use: one
// goroutine owns it, calls its inputs, and then Next until that returns false.
type Host struct {
	cfg   Config
	cores []*core // in the order of Config.Groups
	queue []*core // their records wait for the next append
	joint []*core // their records are in the outstanding append
	early Output  // what inputs answered at once; goes with the next Next

	appending bool // an append is outstanding
	appended  bool // it has become durable since the last Next
	calm      int  // ticks since an append was outstanding or waiting
	held      bool // Output.Held was said since the last Release
	draining  bool
	drained   bool // Output.Drained was said
}

// New starts the groups from the log. It fails when the log does not fit the
// configuration or the checkpoint.
func New(c Config) (*Host, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if c.Log == nil {
		return nil, fmt.Errorf("raftnode: node %d has no log", c.ID)
	}
	return newHost(c, func(g GroupID) storage {
		log := c.Log.Group(uint64(g))
		log.SetConfState(&raftpb.ConfState{Voters: slices.Clone(c.Voters)})
		return log
	})
}

func newHost(c Config, log func(GroupID) storage) (*Host, error) {
	h := &Host{cfg: c}
	for _, g := range c.Groups {
		core, err := newCore(g, &h.cfg, log(g))
		if err != nil {
			return nil, err
		}
		core.reads.salt = c.Incarnation
		if len(c.Voters) == 1 {
			core.campaign()
		}
		h.cores = append(h.cores, core)
	}
	return h, nil
}

// Next returns what is to be done now, false if there is nothing.
//
// It is the whole protocol: what a finished append was holding up goes first,
// then every group that is free takes its next Ready, and if no append is
// outstanding, all records that wait become the next one.
func (h *Host) Next() (Output, bool) {
	out := h.early
	h.early = Output{}
	if h.appended {
		h.appended, h.appending = false, false
		for _, c := range h.joint {
			c.advance(&out)
		}
		h.joint = nil
	}
	for _, c := range h.cores {
		free := !c.taken
		c.run(&out)
		if free && c.taken {
			h.queue = append(h.queue, c)
		}
	}
	if !h.appending && len(h.queue) > 0 {
		out.Append = h.join()
	}
	if out.Held = out.Held && !h.held; out.Held {
		h.held = true
	}
	out.Drained = h.nowDrained()
	return out, len(out.Send)+len(out.Append)+len(out.Apply)+len(out.Reads)+len(out.States) > 0 || out.Held || out.Drained
}

// join makes the next append of what waits, in the order it came, up to
// MaxAppendBytes. New commit indexes of groups that have nothing else ride
// along: checkpoints need them on the disk, and they are no reason for a sync.
func (h *Host) join() []wal.Record {
	var recs []wal.Record
	var bytes uint64
	for len(h.queue) > 0 {
		c := h.queue[0]
		n := recordBytes(&c.record)
		if len(recs) > 0 && bytes+n > h.cfg.MaxAppendBytes {
			break
		}
		bytes += n
		recs = append(recs, c.record)
		h.joint = append(h.joint, c)
		h.queue = h.queue[1:]
	}
	h.appending, h.calm = true, 0
	return append(recs, h.commits()...)
}

// commits takes the commit indexes that no append has written yet.
func (h *Host) commits() []wal.Record {
	var recs []wal.Record
	for _, c := range h.cores {
		if c.behind && !c.taken {
			recs = append(recs, wal.Record{Group: uint64(c.group), HardState: c.hardState()})
		}
	}
	return recs
}

func recordBytes(r *wal.Record) uint64 {
	n := uint64(64)
	for _, e := range r.Entries {
		n += 32 + uint64(len(e.GetData()))
	}
	return n
}

// Appended says that the outstanding append is durable.
func (h *Host) Appended() {
	if !h.appending || h.appended {
		panic("raftnode: an append is said to be durable, and none is outstanding")
	}
	h.appended = true
}

// Tick says that one tick of time has passed. It never waits for the disk.
func (h *Host) Tick() {
	for _, c := range h.cores {
		c.rn.Tick()
		c.touch()
		c.tickReads(&h.early)
		c.tickLeadership()
	}
	h.release(true)
	// A log that stands still gets the last commit indexes too, once.
	if h.appending || h.appended || len(h.queue) > 0 {
		h.calm = 0
	} else if h.calm++; h.calm >= 2 && len(h.early.Append) == 0 {
		if recs := h.commits(); len(recs) > 0 {
			h.early.Append, h.appending, h.calm = recs, true, 0
		}
	}
}

// Receive takes a message of another node. A message that no node of this
// cluster would send is refused with an error and has no effect.
func (h *Host) Receive(g GroupID, m *raftpb.Message) error {
	c := h.core(g)
	if c == nil {
		return fmt.Errorf("raftnode: a message of node %d for group %s, which is not here", m.GetFrom(), g)
	}
	if err := h.check(m); err != nil {
		return fmt.Errorf("raftnode: group %s: %s of node %d: %w", g, m.GetType(), m.GetFrom(), err)
	}
	last := c.lead.lastWords(m.GetFrom())
	if !last {
		c.lead.hear(m.GetFrom())
	}
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat:
		if last {
			c.receiveLastWords(m)
		} else {
			c.step(m)
		}
	case raftpb.MsgVote, raftpb.MsgPreVote:
		c.receiveVote(m)
	case raftpb.MsgReadIndex:
		c.receiveRead(m)
	default:
		c.step(m)
	}
	c.park()
	return nil
}

// Applied says that a group's entries up to index are applied.
func (h *Host) Applied(g GroupID, index uint64) {
	if c := h.core(g); c != nil {
		c.appliedTo(index)
	}
}

// Wake says that a group's Proposer has work.
func (h *Host) Wake(g GroupID) {
	if c := h.core(g); c != nil {
		c.wake, c.idle = true, false
	}
}

// ReadIndex asks how far this node must have applied a group to answer a
// linearizable read that begins now. The answer is a Read with the same ctx;
// it comes within an election timeout. A question that is asked again needs no
// other ctx: the context that raft sees is fresh each time.
func (h *Host) ReadIndex(g GroupID, ctx uint64) {
	c := h.core(g)
	if c == nil {
		h.early.Reads = append(h.early.Reads, Read{Group: g, Ctx: ctx, Err: ErrNoLeader})
		return
	}
	c.readIndex(&h.early, ctx)
}

// Release lets the messages go that are kept back since Output.Held, but for
// those that came later: for them the next Output says Held again.
func (h *Host) Release() { h.release(false) }

func (h *Host) release(all bool) {
	h.held = false
	for _, c := range h.cores {
		c.release(&h.early, all)
	}
}

// Unreachable says that messages to a peer are being lost.
func (h *Host) Unreachable(peer uint64) {
	for _, c := range h.cores {
		c.unreachable(peer)
	}
}

// PeerClosed says that a peer's connection closed, so that it probably died.
// In the groups that it led the others elect a new leader at once.
func (h *Host) PeerClosed(peer uint64) {
	for _, c := range h.cores {
		c.peerClosed(peer)
	}
}

// Transfer hands a group to another voter, if this node leads it.
func (h *Host) Transfer(g GroupID, to uint64) {
	if c := h.core(g); c != nil && slices.Contains(h.cfg.Voters, to) {
		c.transfer(to)
	}
}

// TransferAll hands every led group to a voter that is caught up, now and
// whenever this node should come to lead one again. Output.Drained reports; it
// waits for no group that the others are too few to lead.
func (h *Host) TransferAll() {
	h.draining, h.drained = true, false
	for _, c := range h.cores {
		c.lead.draining = true
		if c.look().Role == Leader {
			c.drain()
		}
	}
}

// Leads counts the groups that this node leads.
func (h *Host) Leads() int {
	n := 0
	for _, c := range h.cores {
		if c.look().Role == Leader {
			n++
		}
	}
	return n
}

// nowDrained says once that nothing is left to hand on.
func (h *Host) nowDrained() bool {
	if !h.draining {
		return false
	}
	none := true
	for _, c := range h.cores {
		none = none && (c.look().Role != Leader || !c.lead.suffice(h.cfg.ID))
	}
	said := h.drained
	h.drained = none
	return none && !said
}

// Status returns the state of all groups, in the order of Config.Groups.
func (h *Host) Status() []GroupStatus {
	all := make([]GroupStatus, len(h.cores))
	for i, c := range h.cores {
		all[i] = c.status()
	}
	return all
}

func (h *Host) core(g GroupID) *core {
	for _, c := range h.cores {
		if c.group == g {
			return c
		}
	}
	return nil
}
