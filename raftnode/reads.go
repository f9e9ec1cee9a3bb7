package raftnode

import (
	"encoding/binary"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// maxReads bounds the questions of this node, and those of others, that wait
// in one group. One at a time, with joiners, is what a caller needs.
const maxReads = 64

// readQueue is the read indexes that are asked for and not answered.
type readQueue struct {
	asked  []askedRead
	others []*raftpb.Message // of other nodes, for a leader that cannot answer yet
	salt   uint64            // the incarnation
	last   uint64            // number of the last question
}

type askedRead struct {
	ctx    uint64 // the caller's
	number uint64 // ours, never used twice
	ticks  int    // since it was asked
	parked bool   // raft does not know of it yet
}

// readIndex asks raft, or parks the question until raft may be asked.
//
// Raft's own parking has no limit and outlives the term, and with one voter it
// does not wait at all: it answers the commit index of the log, which may lie
// below what was acknowledged before a crash. So no question reaches a leading
// raft before the empty entry of its own term is committed, or, with one
// voter, applied: everything that was ever acknowledged lies below it.
func (c *core) readIndex(out *Output, ctx uint64) {
	s := c.look()
	switch {
	case plantedReadWithoutQuorum && s.Role == Leader:
		out.Reads = append(out.Reads, Read{Group: c.group, Ctx: ctx, Index: s.Commit})
		return
	case s.Leader == 0:
		out.Reads = append(out.Reads, Read{Group: c.group, Ctx: ctx, Err: ErrNoLeader})
		return
	case len(c.reads.asked) >= maxReads:
		out.Reads = append(out.Reads, Read{Group: c.group, Ctx: ctx, Err: ErrBusy})
		return
	}
	c.reads.last++
	r := askedRead{ctx: ctx, number: c.reads.last, parked: s.Role == Leader && !c.answersReads(s)}
	c.reads.asked = append(c.reads.asked, r)
	if !r.parked {
		c.ask(r.number)
	}
}

// answersReads says whether raft may be asked on this leader.
func (c *core) answersReads(s State) bool {
	own := c.ownTerm == s.Term && c.ownIndex > 0
	if len(c.cfg.Voters) == 1 {
		return own && c.applied >= c.ownIndex
	}
	return own && s.Commit >= c.ownIndex
}

func (c *core) ask(number uint64) {
	c.rn.ReadIndex(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(make([]byte, 0, 16), c.reads.salt), number))
	c.touch()
}

// receiveRead takes the question of another node. Only a leader answers; one
// that was asked by mistake says nothing, and the asker asks again.
func (c *core) receiveRead(m *raftpb.Message) {
	s := c.look()
	switch {
	case s.Role != Leader:
	case c.answersReads(s):
		c.step(m)
	case len(c.reads.others) < maxReads*len(c.cfg.Voters):
		c.reads.others = append(c.reads.others, m)
	}
}

// park asks what was parked, once that may be done.
func (c *core) park() {
	if len(c.reads.asked) == 0 && len(c.reads.others) == 0 {
		return
	}
	if s := c.look(); s.Role != Leader || !c.answersReads(s) {
		return
	}
	for i := range c.reads.asked {
		if r := &c.reads.asked[i]; r.parked {
			r.parked = false
			c.ask(r.number)
		}
	}
	for _, m := range c.reads.others {
		c.step(m)
	}
	c.reads.others = nil
}

// answered passes raft's answers on. An answer to a question of an earlier
// incarnation, or to one that was given up, finds nobody.
func (c *core) answered(out *Output, states []raft.ReadState) {
	for _, s := range states {
		if len(s.RequestCtx) != 16 || binary.LittleEndian.Uint64(s.RequestCtx) != c.reads.salt {
			continue
		}
		number := binary.LittleEndian.Uint64(s.RequestCtx[8:])
		for i, r := range c.reads.asked {
			if r.number == number {
				out.Reads = append(out.Reads, Read{Group: c.group, Ctx: r.ctx, Index: s.Index})
				c.reads.asked = append(c.reads.asked[:i], c.reads.asked[i+1:]...)
				break
			}
		}
	}
}

// dropReads gives all questions up.
func (c *core) dropReads(out *Output, err error) {
	for _, r := range c.reads.asked {
		out.Reads = append(out.Reads, Read{Group: c.group, Ctx: r.ctx, Err: err})
	}
	c.reads.asked, c.reads.others = nil, nil
}

// tickReads gives up what nobody answered for an election timeout.
func (c *core) tickReads(out *Output) {
	kept := c.reads.asked[:0]
	for _, r := range c.reads.asked {
		if r.ticks++; r.ticks < c.cfg.ElectionTicks {
			kept = append(kept, r)
			continue
		}
		out.Reads = append(out.Reads, Read{Group: c.group, Ctx: r.ctx, Err: ErrReadDropped})
	}
	c.reads.asked = kept
}
