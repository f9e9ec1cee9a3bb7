package raftnode

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// rankTicks is the distance between the turns of two voters to campaign.
const rankTicks = 2

// leadership is what a group does about who leads it, beyond raft's timers:
// turns to campaign after evidence that the leader died, and handing the group
// to the voter that should lead it.
//
// When a leader dies, all others see its connections close within a
// millisecond. If all campaigned at once the vote would often split and cost an
// election timeout; so they take turns in the group's order of preference,
// the first at once and the others rankTicks later each, for as long as the
// group has no leader. Raft's timers stay the fallback. All campaigns are
// pre-votes: false evidence disturbs nobody, because the others still hear the
// leader.
type leadership struct {
	order []uint64 // the voters by preference for this group
	heard []int    // ticks since a voter was heard of or closed, per index of order
	gone  []bool   // its connection closed and nothing new was heard since

	turn  int             // ticks until this node campaigns; 0: no turn
	until int             // ticks for which turns go on
	early *raftpb.Message // a vote asked for while the leader was believed to live
	age   int             // of early, in ticks

	led      int // ticks since the leader or the term changed
	steady   int // ticks for which the preferred voter could have led
	draining bool
}

// hearTicks is after how many ticks of silence a voter counts as away.
const hearTicks = 5

// maxLag is how many committed entries may not be handed out when a node
// campaigns.
const maxLag = 1000

func (l *leadership) init(c *core) {
	n := len(c.cfg.Voters)
	first := int(uint64(c.group) % uint64(n))
	l.order = append(slices.Clone(c.cfg.Voters[first:]), c.cfg.Voters[:first]...)
	l.heard = make([]int, n)
	l.gone = make([]bool, n)
	// A group that starts has no leader, as far as this node knows.
	l.turn = 1 + rankTicks*l.rank(c.cfg.ID)
	l.until = 2 * c.cfg.ElectionTicks
}

func (l *leadership) index(id uint64) int { return slices.Index(l.order, id) }

// rank counts the voters that are there and preferred to id.
func (l *leadership) rank(id uint64) int {
	n := 0
	for i, v := range l.order {
		if v == id {
			break
		}
		if !l.gone[i] {
			n++
		}
	}
	return n
}

// hear notes that a voter lives.
func (l *leadership) hear(id uint64) {
	if i := l.index(id); i >= 0 {
		l.heard[i], l.gone[i] = 0, false
	}
}

// lastWords says whether what a voter says now may be from before its death:
// its connection closed a moment ago.
func (l *leadership) lastWords(id uint64) bool {
	i := l.index(id)
	return i >= 0 && l.gone[i] && l.heard[i] < rankTicks
}

// hears says whether a voter was heard of lately.
func (l *leadership) hears(id uint64) bool {
	i := l.index(id)
	return i >= 0 && !l.gone[i] && l.heard[i] <= hearTicks
}

// suffice says whether the other voters that are there are a majority: without
// this node they could elect a leader. A leader that is new may not have heard
// of all of them yet.
func (l *leadership) suffice(self uint64) bool {
	n := 0
	for i, id := range l.order {
		if id != self && !l.gone[i] && (l.led <= hearTicks || l.hears(id)) {
			n++
		}
	}
	return n > len(l.order)/2
}

// changed ends the turns when there is a leader.
func (l *leadership) changed(s State) {
	l.steady, l.led = 0, 0
	if s.Leader != 0 {
		l.turn, l.until = 0, 0
	}
}

// peerClosed takes the evidence that a peer died.
func (c *core) peerClosed(peer uint64) {
	l := &c.lead
	i := l.index(peer)
	if i < 0 || peer == c.cfg.ID {
		return
	}
	l.gone[i], l.heard[i] = true, 0
	s := c.look()
	if s.Role == Leader {
		c.unreachable(peer)
		return
	}
	if s.Leader != peer {
		return
	}
	_ = c.rn.ForgetLeader()
	c.touch()
	l.until = 2 * c.cfg.ElectionTicks
	l.turn = rankTicks * l.rank(c.cfg.ID)
	// Another follower may have seen it a moment earlier, and asked already.
	if early := l.early; early != nil && l.age < rankTicks && early.GetFrom() != peer {
		l.early = nil
		c.receiveVote(early)
	}
	if l.turn == 0 {
		l.turn = c.nextTurn()
		c.campaign()
	}
}

// receiveLastWords takes what a leader said that probably died since. Its
// entries count, and its claim to lead does not: a campaign goes on.
func (c *core) receiveLastWords(m *raftpb.Message) {
	was := c.look()
	c.step(m)
	if now := c.look(); now.Leader != m.GetFrom() || was.Leader == now.Leader {
		return
	}
	_ = c.rn.ForgetLeader()
	if was.Role == Candidate {
		c.campaign()
	}
}

// nextTurn is after everybody else's.
func (c *core) nextTurn() int {
	n := 0
	for _, gone := range c.lead.gone {
		if !gone {
			n++
		}
	}
	return rankTicks * max(n, 1)
}

// campaign asks for pre-votes, unless there is a leader, or much to hand out
// first: raft looks through all of that for changes of the configuration.
func (c *core) campaign() {
	b := c.rn.BasicStatus()
	if b.RaftState == raft.StateLeader || b.Lead != raft.None || b.GetCommit() > c.stable+maxLag {
		return
	}
	_ = c.rn.Campaign()
	c.touch()
}

// receiveVote takes a request for a vote or a pre-vote. One that comes while
// the leader is believed to live is ignored by raft without an answer; it is
// kept, in case the evidence that the leader died is only a moment behind.
// One from a voter whose log lacks what this one has cannot succeed with this
// voter's help: instead of waiting for its turn, this node campaigns.
func (c *core) receiveVote(m *raftpb.Message) {
	l := &c.lead
	s := c.look()
	if s.Leader != 0 && s.Role != Leader {
		l.early, l.age = m, 0
	}
	c.step(m)
	if s.Leader == 0 && s.Role == Follower && l.until > 0 && m.GetType() == raftpb.MsgPreVote && c.longerThan(m) {
		c.campaign()
	}
}

// longerThan says whether this node's log on disk is ahead of a candidate's.
func (c *core) longerThan(m *raftpb.Message) bool {
	last, err := c.log.LastIndex()
	if err != nil {
		return false
	}
	term, err := c.log.Term(last)
	if err != nil {
		return false
	}
	return term > m.GetLogTerm() || term == m.GetLogTerm() && last > m.GetIndex()
}

// tickLeadership counts turns down and hands the group on.
func (c *core) tickLeadership() {
	l := &c.lead
	for i := range l.heard {
		l.heard[i]++
	}
	l.led++
	if l.age++; l.age >= rankTicks {
		l.early = nil
	}
	if l.until > 0 {
		l.until--
	}
	if l.until > 0 && l.turn > 0 {
		if l.turn--; l.turn == 0 {
			l.turn = c.nextTurn()
			c.campaign()
		}
	}
	if b := c.rn.BasicStatus(); b.RaftState == raft.StateLeader && b.LeadTransferee == raft.None {
		if l.draining {
			c.drain()
		} else {
			c.spread()
		}
	}
}

// spread gives the group to its preferred voter when that has been there and
// caught up for a while. A try that fails is repeated ten times later.
func (c *core) spread() {
	l := &c.lead
	to := l.order[0]
	if to == c.cfg.ID || !l.hears(to) || !c.caughtUp(to) {
		l.steady = min(l.steady, 0)
		return
	}
	if l.steady++; l.steady < c.cfg.SpreadTicks {
		return
	}
	l.steady = -10 * c.cfg.SpreadTicks
	c.transfer(to)
}

// caughtUp says whether a voter has all that is committed.
func (c *core) caughtUp(id uint64) bool {
	ok, commit := false, c.rn.BasicStatus().GetCommit()
	c.rn.WithProgress(func(v uint64, _ raft.ProgressType, pr tracker.Progress) {
		if v == id {
			ok = pr.State == tracker.StateReplicate && pr.Match >= commit
		}
	})
	return ok
}

// drain gives the group to the voter that has most of the log.
func (c *core) drain() {
	var to, match uint64
	c.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id == c.cfg.ID || !c.lead.hears(id) {
			return
		}
		if to == 0 || pr.Match > match || pr.Match == match && c.lead.index(id) < c.lead.index(to) {
			to, match = id, pr.Match
		}
	})
	if to != 0 {
		c.transfer(to)
	}
}

func (c *core) transfer(to uint64) {
	if b := c.rn.BasicStatus(); b.RaftState == raft.StateLeader && to != c.cfg.ID {
		c.rn.TransferLeader(to)
		c.touch()
	}
}

func (c *core) unreachable(peer uint64) {
	if c.look().Role == Leader {
		c.rn.ReportUnreachable(peer)
		c.touch()
	}
}
