package raftnode

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/cockroachdb/datadriven"
	"github.com/wiber/wiber/raftnode/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// The stories step Hosts by hand: nothing is delivered, written or applied
// before the story says so, and each step prints what the Hosts want done.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		cryptotest.SetGlobalRandom(t, 1)
		var s *story
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "cluster" {
				s = newStory(t, d)
				return s.said()
			}
			return s.do(t, d)
		})
	})
}

type story struct {
	hosts  []*Host
	logs   []map[GroupID]*memLog
	work   []map[GroupID]*backlog
	append [][]wal.Record // outstanding, per node
	wire   []Message      // under way, in order
	apply  []map[GroupID]uint64
	quiet  bool // print no messages and appends
	out    strings.Builder
}

func newStory(t *testing.T, d *datadriven.TestData) *story {
	s := &story{}
	size, groups := 3, 1
	d.MaybeScanArgs(t, "nodes", &size)
	d.MaybeScanArgs(t, "groups", &groups)
	var voters []uint64
	for i := range size {
		voters = append(voters, uint64(i)+1)
	}
	for _, id := range voters {
		logs, work := make(map[GroupID]*memLog), make(map[GroupID]*backlog)
		cfg := Config{ID: id, Voters: voters, Incarnation: 1, Proposer: func(g GroupID) Proposer { return work[g] }}
		for g := range groups {
			cfg.Groups = append(cfg.Groups, GroupID(g))
			logs[GroupID(g)] = &memLog{conf: &raftpb.ConfState{Voters: voters}}
			work[GroupID(g)] = &backlog{}
		}
		cfg, err := cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		h, err := newHost(cfg, func(g GroupID) storage { return logs[g] })
		if err != nil {
			t.Fatal(err)
		}
		s.hosts, s.logs, s.work = append(s.hosts, h), append(s.logs, logs), append(s.work, work)
		s.append, s.apply = append(s.append, nil), append(s.apply, make(map[GroupID]uint64))
		s.pump(int(id) - 1)
	}
	return s
}

func (s *story) said() string {
	text := s.out.String()
	s.out.Reset()
	if text == "" {
		return "nothing\n"
	}
	return text
}

// do runs one command; NODE counts from 1.
func (s *story) do(t *testing.T, d *datadriven.TestData) string {
	node := func() int {
		var n int
		if _, err := fmt.Sscan(d.CmdArgs[0].Key, &n); err != nil || n < 1 || n > len(s.hosts) {
			d.Fatalf(t, "which node? %v", d.CmdArgs)
		}
		return n - 1
	}
	var g, ctx, to uint64
	d.MaybeScanArgs(t, "group", &g)
	d.MaybeScanArgs(t, "ctx", &ctx)
	d.MaybeScanArgs(t, "to", &to)
	switch d.Cmd {
	case "tick":
		s.hosts[node()].Tick()
	case "alone":
		ticks := 1
		d.MaybeScanArgs(t, "ticks", &ticks)
		s.alone(node(), ticks)
		return s.said()
	case "deliver", "lose":
		s.deliver(t, d)
		return s.said()
	case "appended":
		n := node()
		for _, r := range s.append[n] {
			s.logs[n][GroupID(r.Group)].write(r)
		}
		s.append[n] = nil
		s.hosts[n].Appended()
	case "applied":
		s.hosts[node()].Applied(GroupID(g), s.apply[node()][GroupID(g)])
	case "propose":
		w := s.work[node()][GroupID(g)]
		w.wait = append(w.wait, strings.Fields(d.Input)...)
		s.hosts[node()].Wake(GroupID(g))
	case "read":
		s.hosts[node()].ReadIndex(GroupID(g), ctx)
	case "release":
		s.hosts[node()].Release()
	case "closed":
		s.hosts[node()].PeerClosed(to)
	case "transfer":
		s.hosts[node()].Transfer(GroupID(g), to)
	case "drain":
		s.hosts[node()].TransferAll()
	case "status":
		for _, g := range s.hosts[node()].Status() {
			fmt.Fprintf(&s.out, "%s: %s, leader %d, term %d, commit %d, applied %d, last %d, peers %v\n", g.Group, g.Role, g.Leader, g.Term, g.Commit, g.Applied, g.Last, g.Peers)
		}
	default:
		d.Fatalf(t, "no command %s", d.Cmd)
	}
	s.pump(node())
	return s.said()
}

// alone lets time pass for a node that nobody hears, and prints only what
// becomes of it and its reads.
func (s *story) alone(i, ticks int) {
	for range ticks {
		s.hosts[i].Tick()
		s.quiet = true
		s.pump(i)
		s.quiet = false
		s.wire = nil
		if s.append[i] != nil {
			s.append[i] = nil
			s.hosts[i].Appended()
		}
	}
}

// deliver takes what is under way off the wire, now, not what comes of it;
// "to=N" and "type=T" choose some of it, and the rest stays under way.
func (s *story) deliver(t *testing.T, d *datadriven.TestData) {
	var to uint64
	var kind string
	d.MaybeScanArgs(t, "to", &to)
	d.MaybeScanArgs(t, "type", &kind)
	wire := s.wire
	s.wire = nil
	var stay []Message
	for _, m := range wire {
		if to != 0 && m.To != to || kind != "" && m.Raft.GetType().String() != kind {
			stay = append(stay, m)
			continue
		}
		if d.Cmd == "lose" {
			continue
		}
		if err := s.hosts[m.To-1].Receive(m.Group, m.Raft); err != nil {
			fmt.Fprintf(&s.out, "%d refuses: %v\n", m.To, err)
		}
		s.pump(int(m.To) - 1)
	}
	s.wire = append(stay, s.wire...)
}

// pump prints what a Host wants done and notes it.
func (s *story) pump(i int) {
	say := func(format string, v ...any) {
		fmt.Fprintf(&s.out, "%d: %s\n", i+1, fmt.Sprintf(format, v...))
	}
	for {
		out, ok := s.hosts[i].Next()
		if !ok {
			return
		}
		for _, x := range out.States {
			say("%s: %s, leader %d, term %d, proposing %v", x.Group, x.Role, x.Leader, x.Term, x.Proposing)
		}
		for _, m := range out.Send {
			if !s.quiet {
				say("send %s", describe(m))
			}
		}
		if out.Append != nil {
			var recs []string
			for _, r := range out.Append {
				recs = append(recs, describeRecord(r))
			}
			if !s.quiet {
				say("append %s", strings.Join(recs, "; "))
			}
			s.append[i] = out.Append
		}
		for _, a := range out.Apply {
			var ents []string
			for _, e := range a.Entries {
				ents = append(ents, fmt.Sprintf("%d/%d %q", e.Term, e.Index, e.Data))
				s.apply[i][a.Group] = e.Index
			}
			say("apply %s: %s, on %d of %d", a.Group, strings.Join(ents, ", "), a.Synced, a.Replicas)
		}
		for _, r := range out.Reads {
			say("read %d of %s: index %d, %v", r.Ctx, r.Group, r.Index, r.Err)
		}
		if out.Held {
			say("holds back commits")
		}
		if out.Drained {
			say("drained")
		}
		s.wire = append(s.wire, out.Send...)
	}
}

func describe(m Message) string {
	r := m.Raft
	var b strings.Builder
	fmt.Fprintf(&b, "%s to %d: group %s, term %d", r.GetType(), m.To, m.Group, r.GetTerm())
	switch r.GetType() {
	case raftpb.MsgApp:
		fmt.Fprintf(&b, ", after %d/%d, commit %d", r.GetLogTerm(), r.GetIndex(), r.GetCommit())
		for _, e := range r.GetEntries() {
			fmt.Fprintf(&b, ", %d/%d %q", e.GetTerm(), e.GetIndex(), e.GetData())
		}
	case raftpb.MsgAppResp:
		fmt.Fprintf(&b, ", index %d", r.GetIndex())
	case raftpb.MsgVote, raftpb.MsgPreVote:
		fmt.Fprintf(&b, ", log ends %d/%d", r.GetLogTerm(), r.GetIndex())
	case raftpb.MsgHeartbeat:
		fmt.Fprintf(&b, ", commit %d", r.GetCommit())
	}
	if r.GetReject() {
		b.WriteString(", reject")
	}
	return b.String()
}

func describeRecord(r wal.Record) string {
	parts := []string{"group " + GroupID(r.Group).String()}
	if h := r.HardState; h != nil {
		parts = append(parts, fmt.Sprintf("term %d vote %d commit %d", h.GetTerm(), h.GetVote(), h.GetCommit()))
	}
	for _, e := range r.Entries {
		parts = append(parts, fmt.Sprintf("%d/%d %q", e.GetTerm(), e.GetIndex(), e.GetData()))
	}
	return strings.Join(slices.Clip(parts), ", ")
}
