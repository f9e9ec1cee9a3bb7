package member

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/raftnode/wal"
	"github.com/wiber/wiber/topics"
	"github.com/wiber/wiber/topics/server"
	"github.com/wiber/wiber/topics/store"
	"github.com/wiber/wiber/topics/wire"
)

// lonely is an engine without loops and without peers: the test says what its
// groups have committed.
type lonely struct {
	*Engine
	t       *testing.T
	index   uint64 // of the catalogue's last entry
	numbers uint64 // of the requests in them
}

// outside takes what an engine sends.
type outside func(to uint64, m transport.Message)

func (f outside) Send(to uint64, m transport.Message) { f(to, m) }
func (outside) Close()                                {}

func newLonely(t *testing.T, id uint64, send outside) *lonely {
	t.Helper()
	m := &Membership{ClusterID: "c", Cluster: "demo", Shards: 2}
	for i, name := range []string{"n1", "n2", "n3"} {
		m.Nodes = append(m.Nodes, NodeIdentity{Name: name, RaftID: uint64(i + 1), UID: UID("uid-" + name)})
	}
	disk := vfs.NewMem(rand.New(rand.NewPCG(id, 0)))
	log, err := wal.Open(wal.Options{FS: disk, Dir: "log", SegmentBytes: 64 << 10, FirstSegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewEngine(EngineConfig{
		Identity:  Identity{Node: m.Nodes[id-1].Name, UID: m.Nodes[id-1].UID, Counter: 1, Member: m},
		Log:       log,
		Transport: send, Meta: store.NewMem(), FS: disk, Dir: "state",
		Reference: func() (int64, int64) { return 1_000_000, -1 },
		Mono:      func() time.Duration { return 0 },
		Wake:      func() {}, Logger: slog.New(slog.DiscardHandler),
		ElectionTicks: 10, HeartbeatTicks: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &lonely{Engine: e, t: t}
}

func quiet(uint64, transport.Message) {}

// entry is the catalogue's next entry, with one request of node 3.
func (e *lonely) entry(r topics.Request) topics.Entry {
	e.index++
	e.numbers++
	return topics.Entry{Index: e.index, Term: 1, Data: topics.AppendCommand(nil, topics.Command{
		Kind: r.Kind, Origin: topics.Origin{RaftID: 3, Counter: 7}, Number: e.numbers,
		Stamp: topics.Stamp{TS: e.index, EPS: -1, Lamport: e.index}, Body: r.Body,
	})}
}

// commit applies requests to the catalogue.
func (e *lonely) commit(requests ...topics.Request) {
	e.t.Helper()
	a := raftnode.Apply{Group: raftnode.Catalogue}
	for _, r := range requests {
		a.Entries = append(a.Entries, raftnode.Entry(e.entry(r)))
	}
	if err := e.Apply(a); err != nil {
		e.t.Fatal(err)
	}
}

func formed() topics.Request {
	return topics.NewForm(topics.Form{ClusterInfo: topics.ClusterInfo{Shards: 2}})
}

func made(name string) topics.Request {
	return topics.NewCreate(topics.TopicChange{Name: name, Spec: topics.DefaultSpec})
}

// A subscriber that looks for new topics while an entry is being applied is told
// of that entry's topics the next time at the latest.
func TestASubscriberThatLooksTooEarlyIsToldLater(t *testing.T) {
	e := newLonely(t, 1, quiet)
	e.commit(formed(), made("a"))
	_, version := e.TopicChanges(0)

	g := e.groups[raftnode.Catalogue]
	g.mu.Lock()
	outcomes, err := e.cat.cat.Apply(e.entry(made("b"))) // the first half of Apply
	g.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	told, version := e.TopicChanges(version)
	e.catalogueApplied(outcomes) // the other half
	more, _ := e.TopicChanges(version)
	if !slices.ContainsFunc(append(told, more...), func(c server.TopicChange) bool { return c.Name == "b" }) {
		t.Errorf("told of %v, then of %v, and never of topic b", told, more)
	}
}

// answered keeps how a publish ended.
type answered struct{ err error }

func (a *answered) Complete(_ server.Receipt, err error) { a.err = err }

// A leader whose catalogue is newer says that the topic is gone. This node, which
// still has it, does not offer it again: it makes the topic anew.
func TestATopicThatALeaderCalledGoneIsNotOfferedAgain(t *testing.T) {
	e := newLonely(t, 1, quiet)
	e.commit(formed(), made("a"))
	a, _ := e.Topic("a")
	var got answered
	e.Publish(&server.Publish{Topic: "a", UID: a.UID, Batch: []byte("b"), Done: &got})
	g := e.groups[raftnode.Shard(int(e.Shard(a.UID, 0)))]
	g.forward.SetLeader(2, 1)
	_, sent := g.forward.Outgoing()
	e.Receive(2, transport.Message{Kind: transport.KindResults, Group: uint64(g.id), Body: topics.EncodeResults(nil, e.origin,
		[]topics.Result{{Number: sent[0].Number, Code: topics.NoTopic, UID: a.UID}})})
	if !errors.Is(got.err, server.ErrTopicGone) {
		t.Fatal(got.err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if again, err := e.EnsureTopic(ctx, "a"); err == nil {
		t.Fatalf("offered topic a with uid %d again", again.UID)
	}
	e.commit(topics.NewDelete(topics.Delete{Name: "a", UID: a.UID}), made("a"))
	anew, err := e.EnsureTopic(context.Background(), "a")
	if err != nil || anew.UID == a.UID {
		t.Fatalf("topic %v, %v", anew, err)
	}
	if len(e.cat.refused) != 0 {
		t.Errorf("%v is remembered for nothing", e.cat.refused)
	}
}

// A node that may be behind does not say of a topic that it does not exist, nor
// that its data may go, before a majority has confirmed what it knows.
func TestANodeThatMayBeBehindDoesNotDenyATopic(t *testing.T) {
	e := newLonely(t, 1, quiet)
	e.commit(formed())
	for what, ask := range map[string]func(ctx context.Context) error{
		"publish, where none is made by that": func(ctx context.Context) error {
			_, err := e.EnsureTopic(ctx, "a")
			return err
		},
		"delete": func(ctx context.Context) error { return e.DeleteTopic(ctx, "a", true) },
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		err := ask(ctx)
		cancel()
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != wire.NoQuorum {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What was handed out while this node followed and is applied when it leads has
// a receipt with numbers that are true.
func TestAReceiptOfANewLeaderCountsReplicas(t *testing.T) {
	e := newLonely(t, 3, quiet)
	e.origin = topics.Origin{RaftID: 3, Counter: 7}
	g := e.groups[raftnode.Catalogue]
	f, err := topics.NewForwarder(topics.ForwarderOptions{Origin: e.origin})
	if err != nil {
		t.Fatal(err)
	}
	g.forward = f
	var got topics.Result
	e.Change(formed(), time.Second, func(r topics.Result, err error) { got = r })
	f.SetLeader(2, 1)
	f.Outgoing()
	g.state.Role = raftnode.Leader
	e.commit(formed()) // without Synced and Replicas, as a follower hands out
	if got.Synced != 2 || got.Replicas != 3 {
		t.Errorf("sync=%d/%d", got.Synced, got.Replicas)
	}
}

// A new leader knows that it leads before its first message tells the others,
// who send it what waits: that must not fall on deaf ears.
func TestALeaderKnowsItBeforeItSaysSo(t *testing.T) {
	var nodes [3]*lonely
	var queue []func()
	said := 0
	for i := range nodes {
		nodes[i] = newLonely(t, uint64(i+1), func(to uint64, m transport.Message) {
			if m.Kind != transport.KindRaft {
				return
			}
			if m.Raft.GetType().String() == "MsgApp" {
				said++
				if g := nodes[i].groups[m.Group]; g.state.Role != raftnode.Leader {
					t.Errorf("node %d tells node %d that it leads group %s, and is %s there", i+1, to, g.id, g.state.Role)
				}
			}
			queue = append(queue, func() {
				if err := nodes[to-1].Step(m); err != nil {
					t.Error(err)
				}
			})
		})
	}
	for range 40 {
		for _, e := range nodes {
			e.Tick()
		}
		for range 10 {
			now := queue
			queue = nil
			run(now)
			for _, e := range nodes {
				w := e.Pump()
				if w.Append != nil {
					if err := e.Append(w.Append); err != nil {
						t.Fatal(err)
					}
					e.Appended()
				}
				for _, a := range w.Apply {
					if err := e.Apply(a); err != nil {
						t.Fatal(err)
					}
					e.Applied(a.Group, a.Entries[len(a.Entries)-1].Index)
				}
			}
		}
	}
	if said == 0 {
		t.Error("nobody was elected")
	}
}

// A node that answers before it has begun to form is asked again, and no reason
// to refuse.
func TestANodeThatHasOnlyJustBegunIsAskedAgain(t *testing.T) {
	w := newFolders(t, "n1", "n2")
	w.start("n1", "n1", "n2")
	b := w.nodes["n1"].boot
	b.Handle("n2", Answer{Cluster: "demo", Node: "n2", UID: "uid-n2"})
	if b.Err() != nil || b.Decided() != nil {
		t.Fatalf("err = %v, decided = %v", b.Err(), b.Decided())
	}
	w.start("n2", "n1", "n2")
	w.settle()
	if w.nodes["n1"].id.Member == nil || w.nodes["n2"].id.Member == nil {
		t.Error("the cluster is not formed")
	}
}

// Where the first writing of a duplicate cannot be read back, the answer does
// not pass off the repetition's stamp as the first one.
func TestADuplicateWhoseFirstReceiptIsLostSaysSo(t *testing.T) {
	e := newLonely(t, 1, quiet)
	again := []topics.Result{{Duplicate: true, UID: 9, Base: 4, TS: 77, Index: 12}}
	e.firstReceipts(e.groups[1], again)
	if got := receipt(1, again[0]); !got.Unknown || got.TS != 0 || !got.Duplicate {
		t.Errorf("receipt %+v", got)
	}
}
