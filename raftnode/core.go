package raftnode

import (
	"errors"
	"fmt"

	"github.com/wiber/wiber/raftnode/wal"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// storage is a group's part of the log, as raft reads it.
type storage interface {
	raft.Storage
	// Pos returns where an entry's data lies.
	Pos(index uint64) (wal.Pos, error)
}

// core is one group of a node.
//
// A Ready is taken, and its record waits for the next append or is in the
// outstanding one; only then the Ready is advanced and the next one taken.
// Messages and ticks are stepped at any time. A Ready with nothing to write,
// or only a new commit index, is advanced at once: the commit is carried by the
// next append and costs no sync.
type core struct {
	group GroupID
	cfg   *Config
	rn    *raft.RawNode
	log   storage
	state State // as last reported

	// The Ready under way.
	taken  bool // a Ready was taken and is not advanced
	rd     raft.Ready
	held   []Message         // leave when the append is durable
	record wal.Record        // what it wants on the disk
	hard   *raftpb.HardState // of the last Ready: what the log shall hold
	behind bool              // hard has a commit that was not given to any append
	quiet  []quiet           // commit-only MsgApp kept back, per voter
	sent   []uint64          // highest commit sent in this term, per voter
	dirty  bool              // raft may have more than committed entries
	idle   bool              // nothing happened since run had nothing to do

	// Applying. Indexes up to stable are committed and on this disk.
	stable   uint64
	next     uint64 // the next index to hand out
	applied  uint64 // truly applied
	recent   []*raftpb.Entry
	out      []outstanding
	outBytes uint64

	// Proposing.
	proposer Proposer
	wake     bool   // the proposer may have work
	kept     []byte // taken from the proposer and dropped by raft, to be offered again
	keptTerm uint64
	stuck    bool // raft dropped it and nothing happened since
	ownTerm  uint64
	ownIndex uint64 // of the empty entry with which this node began ownTerm; 0 until it is known

	reads readQueue
	lead  leadership
}

// entryOverhead is what an entry takes of memory besides its data.
const entryOverhead = 256

// outstanding is a run of entries that was handed out and is not applied.
type outstanding struct{ last, bytes uint64 }

// newCore starts a group from its log. It verifies what raft would panic about.
func newCore(g GroupID, cfg *Config, log storage) (*core, error) {
	hs, cs, err := log.InitialState()
	if err != nil {
		return nil, fmt.Errorf("raftnode: group %s: read the hard state: %w", g, err)
	}
	last, err := log.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("raftnode: group %s: read the last index: %w", g, err)
	}
	// A commit index alone is never synced, so the state may be ahead of the
	// log's hard state; what is applied was committed.
	applied := cfg.Applied(g)
	if applied > last {
		return nil, fmt.Errorf("raftnode: group %s: the state has applied index %d and the log ends at %d: %w", g, applied, last, ErrLost)
	}
	if hs.GetCommit() > last {
		return nil, fmt.Errorf("raftnode: group %s: the log has committed index %d and ends at %d: %w", g, hs.GetCommit(), last, ErrLost)
	}
	hard := &raftpb.HardState{Term: new(hs.GetTerm()), Vote: new(hs.GetVote()), Commit: new(max(hs.GetCommit(), applied))}
	c := &core{
		group: g, cfg: cfg, log: log, hard: hard, behind: hard.GetCommit() > hs.GetCommit(),
		applied: applied, stable: applied, next: applied + 1,
		proposer: cfg.Proposer(g), wake: true,
		quiet: make([]quiet, len(cfg.Voters)),
		sent:  make([]uint64, len(cfg.Voters)),
	}
	c.lead.init(c)
	c.rn, err = raft.NewRawNode(&raft.Config{
		ID:                        cfg.ID,
		ElectionTick:              cfg.ElectionTicks,
		HeartbeatTick:             cfg.HeartbeatTicks,
		Storage:                   raised{log, hard, cs},
		Applied:                   applied,
		MaxSizePerMsg:             cfg.MaxMessageBytes,
		MaxCommittedSizePerReady:  cfg.MaxMessageBytes,
		MaxUncommittedEntriesSize: cfg.MaxUncommittedBytes,
		MaxInflightMsgs:           cfg.MaxInflightMessages,
		MaxInflightBytes:          cfg.MaxInflightBytes,
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    raftLogger{cfg.Logger, g},
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
	})
	if err != nil {
		return nil, fmt.Errorf("raftnode: group %s: %w", g, err)
	}
	c.state = c.look()
	return c, nil
}

// raised is a log whose hard state has the commit of the applied state.
type raised struct {
	storage
	hard *raftpb.HardState
	conf *raftpb.ConfState
}

func (r raised) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return r.hard, r.conf, nil
}

// step gives raft a message. Its errors say that the message came at a bad
// moment, which the sender learns by other ways.
func (c *core) step(m *raftpb.Message) {
	_ = c.rn.Step(m)
	c.touch()
}

// touch says that raft may have something new.
func (c *core) touch() { c.idle, c.dirty, c.stuck = false, true, false }

// run does all that can be done now without the disk: it asks for work, takes
// Readys, and advances those that have nothing to write. It stops at a Ready
// that has; the Host takes its record.
func (c *core) run(out *Output) {
	if c.idle {
		return
	}
	for !c.taken {
		c.observe(out)
		c.propose()
		// With a full backlog committed entries are no reason for a Ready: they
		// are read from the log later, and reading them now would be for nothing.
		if c.full() && !c.dirty || !c.rn.HasReady() {
			break
		}
		c.take(out)
		c.handOut(out)
	}
	c.observe(out)
	c.handOut(out)
	c.idle = true
}

// take takes one Ready and deals out what does not wait for its append.
func (c *core) take(out *Output) {
	rd := c.rn.Ready()
	c.dirty = false
	if !raft.IsEmptySnap(rd.Snapshot) {
		panic(fmt.Sprintf("raftnode: group %s: a snapshot at index %d, and none is ever sent", c.group, rd.Snapshot.GetMetadata().GetIndex()))
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		c.behind = c.behind || rd.HardState.GetCommit() != c.hard.GetCommit()
		c.hard = rd.HardState
	}
	c.findOwn(rd.Entries)
	c.answered(out, rd.ReadStates)
	for _, m := range rd.Messages {
		if leavesAtOnce(m.GetType()) || !rd.MustSync || plantedAckBeforeFsync {
			c.send(out, m)
		} else {
			c.held = append(c.held, Message{To: m.GetTo(), Group: c.group, Raft: m})
		}
	}
	c.rd, c.taken = rd, true
	if !rd.MustSync {
		c.advance(out)
		return
	}
	// What this Ready commits and an earlier one wrote is on the disk already.
	if n := committedBelow(rd.CommittedEntries, rd.Entries); n > 0 {
		c.committed(rd.CommittedEntries[:n])
	}
	c.record = wal.Record{Group: uint64(c.group), Entries: rd.Entries}
	if c.behind || !raft.IsEmptyHardState(rd.HardState) {
		c.record.HardState = c.hardState()
	}
	if plantedAckBeforeFsync && len(rd.Entries) > 0 && c.rn.BasicStatus().RaftState == raft.StateLeader {
		c.step(&raftpb.Message{
			Type: raftpb.MsgAppResp.Enum(), From: new(c.cfg.ID), To: new(c.cfg.ID),
			Term: new(c.hard.GetTerm()), Index: rd.Entries[len(rd.Entries)-1].Index,
		})
	}
}

// leavesAtOnce says which messages do not depend on the append of their Ready.
//
// MsgApp and MsgHeartbeat: a leader's term and vote are durable before it leads,
// it counts its own entries only after its append, and the commit index it
// tells is one that a majority made durable. MsgPreVote promises nothing.
//
// MsgVote is not among them, though raft does not demand that it wait. The
// request names the candidate's term and the end of its log. A candidate that
// crashes before either is durable may come back with a shorter log, campaign
// in the very same term, and count votes that were given to its former, longer
// log; an entry committed meanwhile would be lost. One fdatasync per election
// buys the certainty that a term is asked for with one log only.
//
// Heartbeat responses and the rest wait like acknowledgements do: it costs
// nothing when there is nothing to write, and leaves nothing to prove.
func leavesAtOnce(t raftpb.MessageType) bool {
	return t == raftpb.MsgApp || t == raftpb.MsgHeartbeat || t == raftpb.MsgPreVote
}

// hardState is what an append writes as the group's hard state.
func (c *core) hardState() *raftpb.HardState {
	c.behind = false
	if plantedVoteNotPersisted {
		return &raftpb.HardState{Term: c.hard.Term, Commit: c.hard.Commit}
	}
	return c.hard
}

// advance ends the Ready under way: all it wrote is durable.
func (c *core) advance(out *Output) {
	for _, m := range c.held {
		c.send(out, m.Raft)
	}
	clear(c.held)
	c.held = c.held[:0]
	c.committed(c.rd.CommittedEntries)
	c.rn.Advance(c.rd)
	// Advancing what only hands out entries brings nothing but more entries.
	if c.rd.MustSync || c.rd.SoftState != nil || len(c.rd.Messages) > 0 || !raft.IsEmptyHardState(c.rd.HardState) {
		c.dirty = true
	}
	c.rd, c.record, c.taken = raft.Ready{}, wal.Record{}, false
	c.idle, c.stuck = false, false
}

// committedBelow counts the committed entries that lie below what is appended.
func committedBelow(committed, appended []*raftpb.Entry) int {
	if len(appended) == 0 {
		return len(committed)
	}
	n := 0
	for n < len(committed) && committed[n].GetIndex() < appended[0].GetIndex() {
		n++
	}
	return n
}

// committed says that entries may be applied. Those that can be handed out
// soon are kept; what does not follow the kept ones is read from the log.
func (c *core) committed(ents []*raftpb.Entry) {
	if len(ents) == 0 {
		return
	}
	last := ents[len(ents)-1].GetIndex()
	if last <= c.stable {
		return
	}
	for len(ents) > 0 && ents[0].GetIndex() <= c.stable {
		ents = ents[1:]
	}
	if c.stable+1 == c.next {
		c.recent = ents
	}
	c.stable = last
}

func (c *core) full() bool { return c.outBytes >= c.cfg.MaxApplyBytes }

// handOut gives committed entries to be applied, as many as the backlog holds.
func (c *core) handOut(out *Output) {
	for c.next <= c.stable && !c.full() {
		ents := c.recent
		c.recent = nil
		if len(ents) == 0 || ents[0].GetIndex() != c.next {
			var err error
			ents, err = c.log.Entries(c.next, c.stable+1, min(c.cfg.MaxMessageBytes, c.cfg.MaxApplyBytes-c.outBytes))
			if err != nil || len(ents) == 0 || ents[0].GetIndex() != c.next {
				panic(fmt.Sprintf("raftnode: group %s: read committed entries %d..%d of the log: got %d: %v", c.group, c.next, c.stable, len(ents), err))
			}
		}
		a := Apply{Group: c.group, Entries: make([]Entry, len(ents))}
		var bytes uint64
		for i, e := range ents {
			a.Entries[i] = c.entry(e)
			bytes += entryOverhead + uint64(len(e.GetData()))
		}
		last := ents[len(ents)-1].GetIndex()
		a.Synced, a.Replicas = c.synced(last)
		c.next = last + 1
		c.out = append(c.out, outstanding{last, bytes})
		c.outBytes += bytes
		out.Apply = append(out.Apply, a)
	}
}

func (c *core) entry(e *raftpb.Entry) Entry {
	if e.GetType() != raftpb.EntryNormal {
		panic(fmt.Sprintf("raftnode: group %s: entry %d changes the configuration, and no version of this program proposes that", c.group, e.GetIndex()))
	}
	pos, err := c.log.Pos(e.GetIndex())
	if err != nil {
		panic(fmt.Sprintf("raftnode: group %s: position of entry %d in the log: %v", c.group, e.GetIndex(), err))
	}
	x := Entry{Index: e.GetIndex(), Term: e.GetTerm(), Pos: pos}
	if len(e.GetData()) > 0 {
		x.Data = e.GetData()
	}
	return x
}

// synced counts the voters known to have an index on disk.
func (c *core) synced(index uint64) (n, of int) {
	if c.rn.BasicStatus().RaftState != raft.StateLeader {
		return 0, 0
	}
	c.rn.WithProgress(func(_ uint64, _ raft.ProgressType, pr tracker.Progress) {
		of++
		if pr.Match >= index {
			n++
		}
	})
	return n, of
}

// appliedTo takes the true progress of applying.
func (c *core) appliedTo(index uint64) {
	if index >= c.next {
		panic(fmt.Sprintf("raftnode: group %s: index %d is said to be applied and only %d were handed out", c.group, index, c.next-1))
	}
	c.applied = max(c.applied, index)
	n := 0
	for n < len(c.out) && c.out[n].last <= index {
		c.outBytes -= c.out[n].bytes
		n++
	}
	if c.out = c.out[n:]; len(c.out) == 0 {
		c.out = nil
	}
	c.idle, c.stuck = false, false
	c.park()
}

// findOwn notes where the empty entry of a new leader's term lies.
func (c *core) findOwn(ents []*raftpb.Entry) {
	b := c.rn.BasicStatus()
	if b.RaftState != raft.StateLeader || c.ownTerm == b.GetTerm() {
		return
	}
	for _, e := range ents {
		if e.GetTerm() == b.GetTerm() {
			c.ownTerm, c.ownIndex, c.wake = b.GetTerm(), e.GetIndex(), true
			return
		}
	}
}

// propose asks for work once, when this node may propose. Between two calls
// lies an append, and all that is waiting at its end should be in the next
// entry; asking earlier would only make more and smaller entries, because
// nothing leaves before the next Ready.
func (c *core) propose() {
	b := c.rn.BasicStatus()
	if c.kept != nil && (b.RaftState != raft.StateLeader || b.GetTerm() != c.keptTerm) {
		c.kept = nil
	}
	if c.proposer == nil || c.stuck || b.LeadTransferee != 0 || !c.proposing(b) || c.kept == nil && !c.wake {
		return
	}
	data := c.kept
	if data == nil {
		if data = c.proposer.NextEntry(b.GetTerm()); data == nil {
			c.wake = false
			return
		}
		if len(data) > MaxEntryBytes {
			panic(fmt.Sprintf("raftnode: group %s: an entry of %d bytes is proposed, and no message could carry it: at most %d", c.group, len(data), MaxEntryBytes))
		}
	}
	c.kept, c.keptTerm = nil, b.GetTerm()
	if err := c.rn.Propose(data); err != nil {
		if !errors.Is(err, raft.ErrProposalDropped) {
			panic(fmt.Sprintf("raftnode: group %s: propose in term %d: %v", c.group, c.keptTerm, err))
		}
		c.kept, c.stuck = data, true
		return
	}
	c.dirty = true
}

// proposing says whether this node leads and has applied all of earlier terms.
func (c *core) proposing(b raft.BasicStatus) bool {
	return b.RaftState == raft.StateLeader && c.ownTerm == b.GetTerm() && c.applied >= c.ownIndex
}

// look returns the group's state of now.
func (c *core) look() State {
	b := c.rn.BasicStatus()
	s := State{Group: c.group, Leader: b.Lead, Term: b.GetTerm(), Commit: b.GetCommit(), Proposing: c.proposing(b)}
	switch b.RaftState {
	case raft.StateLeader:
		s.Role = Leader
	case raft.StateCandidate, raft.StatePreCandidate:
		s.Role = Candidate
	}
	return s
}

// observe reports a changed state and lets go of what belonged to the old one.
func (c *core) observe(out *Output) {
	now, was := c.look(), c.state
	if now.Role == was.Role && now.Leader == was.Leader && now.Term == was.Term && now.Proposing == was.Proposing {
		return
	}
	c.state = now
	out.States = append(out.States, now)
	if now.Leader != was.Leader || now.Term != was.Term {
		c.dropReads(out, ErrReadDropped)
		c.lead.changed(now)
		clear(c.sent)
	}
}

// status returns the group's snapshot for status pages.
func (c *core) status() GroupStatus {
	s := c.look()
	g := GroupStatus{Group: c.group, Role: s.Role, Leader: s.Leader, Term: s.Term, Commit: s.Commit, Applied: c.applied}
	g.Last, _ = c.log.LastIndex()
	if s.Role != Leader {
		return g
	}
	g.Peers = make([]PeerStatus, 0, len(c.cfg.Voters))
	c.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id != c.cfg.ID {
			g.Peers = append(g.Peers, PeerStatus{ID: id, Match: pr.Match, Active: c.lead.hears(id)})
		}
	})
	return g
}
