package raftnode

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// check refuses what would make raft panic, and what no Host sends: proposals
// and transfers go to the leader by other ways, and there are no snapshots,
// because the log is kept whole.
func (h *Host) check(m *raftpb.Message) error {
	if m.GetTo() != h.cfg.ID {
		return fmt.Errorf("it is for node %d", m.GetTo())
	}
	if m.GetFrom() == h.cfg.ID || !slices.Contains(h.cfg.Voters, m.GetFrom()) {
		return errors.New("its sender is no other voter")
	}
	if m.GetTerm() == 0 && m.GetType() != raftpb.MsgReadIndex {
		return errors.New("it has no term")
	}
	switch m.GetType() {
	case raftpb.MsgApp:
		return checkEntries(m)
	case raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp:
		if n := len(m.GetContext()); n != 0 && n != 8 {
			return fmt.Errorf("its context has %d bytes", n)
		}
	case raftpb.MsgReadIndex, raftpb.MsgReadIndexResp:
		if len(m.GetEntries()) != 1 || len(m.GetEntries()[0].GetData()) != 16 {
			return errors.New("it does not hold one context")
		}
	case raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgTimeoutNow:
	default:
		return errors.New("no node sends that")
	}
	return nil
}

// checkEntries wants entries that follow each other, with terms that do not
// fall and are not above the message's.
func checkEntries(m *raftpb.Message) error {
	index, term := m.GetIndex(), m.GetLogTerm()
	for _, e := range m.GetEntries() {
		if e.GetIndex() != index+1 || e.GetTerm() < term || e.GetTerm() > m.GetTerm() || e.GetTerm() == 0 {
			return fmt.Errorf("entry %d of term %d follows entry %d of term %d", e.GetIndex(), e.GetTerm(), index, term)
		}
		index, term = e.GetIndex(), e.GetTerm()
	}
	return nil
}

// send sends a message, or keeps it back when it tells a follower nothing but
// a new commit index: a message with entries often follows at once and tells
// it as well. Whatever a follower could wait for with that index lets it go.
func (c *core) send(out *Output, m *raftpb.Message) {
	i := slices.Index(c.cfg.Voters, m.GetTo())
	if i < 0 {
		return
	}
	switch m.GetType() {
	case raftpb.MsgApp:
		if q := c.quiet[i].m; q != nil && (m.GetTerm() > q.GetTerm() || m.GetTerm() == q.GetTerm() && m.GetCommit() >= q.GetCommit()) {
			c.quiet[i] = quiet{}
		}
		if len(m.GetEntries()) == 0 && m.GetCommit() > c.sent[i] {
			c.quiet[i] = quiet{m: m}
			out.Held = true
			return
		}
		c.sent[i] = max(c.sent[i], m.GetCommit())
	case raftpb.MsgReadIndexResp, raftpb.MsgTimeoutNow:
		c.releaseTo(out, i)
	}
	out.Send = append(out.Send, Message{To: m.GetTo(), Group: c.group, Raft: m})
}

// quiet is a message that was kept back.
type quiet struct {
	m    *raftpb.Message
	aged bool // it was kept back at the last release already
}

// release sends what send kept back and was there at the last release, or
// everything.
func (c *core) release(out *Output, all bool) {
	for i := range c.quiet {
		if q := &c.quiet[i]; all || q.aged {
			c.releaseTo(out, i)
		} else if q.m != nil {
			q.aged, out.Held = true, true
		}
	}
}

func (c *core) releaseTo(out *Output, i int) {
	m := c.quiet[i].m
	if m == nil {
		return
	}
	c.quiet[i] = quiet{}
	if m.GetTerm() == c.state.Term {
		c.sent[i] = max(c.sent[i], m.GetCommit())
	}
	out.Send = append(out.Send, Message{To: m.GetTo(), Group: c.group, Raft: m})
}
