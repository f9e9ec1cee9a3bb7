package raftnode

import (
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

func entries(n int) (ents []*raftpb.Entry) {
	for i := range uint64(n) {
		ents = append(ents, &raftpb.Entry{Term: new(uint64(1)), Index: new(i + 1), Data: []byte("x")})
	}
	return ents
}

// The state may have applied more than the log's hard state knows to be
// committed, because commits alone are not synced: then the commit is raised.
// It cannot have applied more than there is.
func TestTheCheckpointMayBeAheadOfTheCommit(t *testing.T) {
	for _, x := range []struct {
		name                  string
		last, commit, applied uint64
		err                   string
	}{
		{"the commit is ahead", 10, 8, 5, ""},
		{"the state is ahead", 10, 3, 7, ""},
		{"the state has lost its log", 10, 3, 11, "applied index 11 and the log ends at 10"},
		{"the commit has lost its log", 10, 12, 5, "committed index 12 and ends at 10"},
	} {
		t.Run(x.name, func(t *testing.T) {
			log := &memLog{
				hard: &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(1)), Commit: new(x.commit)},
				conf: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}, ents: entries(int(x.last)),
			}
			cfg, err := Config{ID: 1, Voters: []uint64{1, 2, 3}, Groups: []GroupID{0}, Incarnation: 1, Applied: func(GroupID) uint64 { return x.applied }}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			h, err := newHost(cfg, func(GroupID) storage { return log })
			if x.err != "" {
				if err == nil || !strings.Contains(err.Error(), x.err) {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s := h.Status()[0]; s.Commit != max(x.commit, x.applied) || s.Applied != x.applied || s.Last != x.last {
				t.Errorf("%+v", s)
			}
			next := x.applied + 1
			for {
				out, ok := h.Next()
				if !ok {
					break
				}
				for _, a := range out.Apply {
					for _, e := range a.Entries {
						if e.Index != next {
							t.Errorf("entry %d is handed out, want %d", e.Index, next)
						}
						next++
					}
				}
			}
			if next != max(x.commit, x.applied)+1 {
				t.Errorf("handed out up to %d", next-1)
			}
		})
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	good := Config{ID: 1, Voters: []uint64{1, 2, 3}, Groups: []GroupID{0, 1}, Incarnation: 1}
	for name, change := range map[string]func(*Config){
		"not one of the voters":   func(c *Config) { c.ID = 4 },
		"each must be there once": func(c *Config) { c.Voters = []uint64{1, 2, 2} },
		"groups":                  func(c *Config) { c.Groups = nil },
		"each once":               func(c *Config) { c.Groups = []GroupID{1, 1} },
		"incarnation":             func(c *Config) { c.Incarnation = 0 },
		"longer than a heartbeat": func(c *Config) { c.HeartbeatTicks = 10 },
		"do not hold one message": func(c *Config) { c.MaxInflightBytes, c.MaxMessageBytes = 1, 2 },
		"do not fit a frame":      func(c *Config) { c.MaxMessageBytes = MaxEntryBytes + 1 },
		"negative":                func(c *Config) { c.SpreadTicks = -1 },
		"has no log":              func(*Config) {},
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if good.Voters[2] != 3 {
		t.Error("the caller's slice was changed")
	}
}

// Nothing that a peer could send stops the node or reaches raft unless a Host
// would send it.
func TestWrongMessagesAreRefused(t *testing.T) {
	c := newCluster(t, options{nodes: 3, seed: 1})
	c.untilLeader(0)
	good := func() *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: new(uint64(3)), To: new(uint64(2)), Term: new(uint64(1)), Index: new(uint64(0)), LogTerm: new(uint64(0)), Entries: entries(2)}
	}
	for name, change := range map[string]func(*raftpb.Message){
		"for node 1":          func(m *raftpb.Message) { m.To = new(uint64(1)) },
		"no other voter":      func(m *raftpb.Message) { m.From = new(uint64(2)) },
		"its sender is no":    func(m *raftpb.Message) { m.From = new(uint64(4)) },
		"no term":             func(m *raftpb.Message) { m.Term = nil },
		"entry 2 of term 1":   func(m *raftpb.Message) { m.Entries = m.Entries[1:] },
		"entry 1 of term 1":   func(m *raftpb.Message) { m.Index = new(uint64(5)) },
		"of term 7":           func(m *raftpb.Message) { m.Entries[1].Term = new(uint64(7)) },
		"no node sends that":  func(m *raftpb.Message) { m.Type = raftpb.MsgSnap.Enum() },
		"MsgProp":             func(m *raftpb.Message) { m.Type = raftpb.MsgProp.Enum() },
		"MsgStorageAppend":    func(m *raftpb.Message) { m.Type = raftpb.MsgStorageAppend.Enum() },
		"MsgTransferLeader":   func(m *raftpb.Message) { m.Type = raftpb.MsgTransferLeader.Enum() },
		"context has 3 bytes": func(m *raftpb.Message) { m.Type, m.Context = raftpb.MsgHeartbeatResp.Enum(), []byte("abc") },
		"does not hold one":   func(m *raftpb.Message) { m.Type = raftpb.MsgReadIndex.Enum() },
		"MsgReadIndexResp":    func(m *raftpb.Message) { m.Type, m.Entries = raftpb.MsgReadIndexResp.Enum(), nil },
	} {
		m := good()
		change(m)
		if err := c.node(2).host.Receive(0, m); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.node(2).host.Receive(9, good()); err == nil || !strings.Contains(err.Error(), "not here") {
		t.Errorf("another group: %v", err)
	}
	if err := c.node(2).host.Receive(0, good()); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

func TestGroupNames(t *testing.T) {
	if Catalogue.String() != "catalogue" || Shard(0).String() != "0" || Shard(3).String() != "3" || Shard(0) == Catalogue {
		t.Error(Catalogue, Shard(0), Shard(3))
	}
}
