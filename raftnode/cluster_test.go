package raftnode

import (
	"cmp"
	"container/heap"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/raftnode/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// cluster is some Hosts in one goroutine, over virtual time, a virtual network
// and disks that forget what was not synced. It checks, at every step:
// election safety (one leader per group and term), log matching (the same
// entry at the same index everywhere, applied in order), and D1 (what leaves
// depends on nothing that is not durable; what is applied is on the disks of a
// majority).
type cluster struct {
	t     testing.TB
	o     options
	rnd   *rand.Rand
	net   *transport.Mem
	now   time.Duration
	seq   uint64
	queue events
	nodes []*node

	leaders map[[2]uint64]uint64 // group, term -> leader
	chosen  map[GroupID][]chosen // by index-1
	done    map[string]bool      // proposals that were applied somewhere
	elected int
	sends   map[raftpb.MessageType]int
	spy     func(Message) // sees what is sent, if set
}

type chosen struct {
	term uint64
	data string
}

type options struct {
	nodes  int
	groups int
	seed   uint64
	faults transport.MemFaults
	// sync is how long a disk takes, at most; 1 ms by default.
	sync time.Duration
	// wal gives the nodes real logs on disks that lose power. Without it a
	// node's log is a slice per group.
	wal    bool
	change func(*Config)
}

// node is one process of the cluster and its disk, which survives it.
type node struct {
	c       *cluster
	id      uint64
	disk    disk
	host    *Host
	ep      *transport.MemNode
	gen     uint64
	up      bool
	frozen  bool // its disk stands still: an append does not end
	pending []wal.Record
	work    map[GroupID]*backlog
	applied map[GroupID]uint64
	lazy    bool // it does not report what it applied
	reads   map[uint64]Read
	states  map[GroupID]State
	drained bool
	applies []Apply
	appends int
	entries int // appended, in all appends
}

func newCluster(t testing.TB, o options) *cluster {
	t.Helper()
	if tt, ok := t.(*testing.T); ok {
		cryptotest.SetGlobalRandom(tt, o.seed)
	}
	if o.groups == 0 {
		o.groups = 1
	}
	if o.sync == 0 {
		o.sync = time.Millisecond
	}
	c := &cluster{
		t: t, o: o, rnd: rand.New(rand.NewPCG(o.seed, 7)),
		leaders: make(map[[2]uint64]uint64), chosen: make(map[GroupID][]chosen),
		done: make(map[string]bool), sends: make(map[raftpb.MessageType]int),
	}
	c.net = transport.NewMem(transport.MemOptions{Schedule: c.after, Rand: c.rnd, Faults: o.faults})
	for id := range uint64(o.nodes) {
		n := &node{c: c, id: id + 1, disk: newSliceDisk(c), work: make(map[GroupID]*backlog)}
		if o.wal {
			n.disk = newWALDisk(c)
		}
		c.nodes = append(c.nodes, n)
		n.start()
	}
	return c
}

func (c *cluster) voters() []uint64 {
	v := make([]uint64, c.o.nodes)
	for i := range v {
		v[i] = uint64(i) + 1
	}
	return v
}

func (c *cluster) node(id uint64) *node { return c.nodes[id-1] }

// start begins a new incarnation from the disk.
func (n *node) start() {
	n.gen++
	n.up, n.frozen, n.drained, n.pending = true, false, false, nil
	n.applied = make(map[GroupID]uint64)
	n.reads, n.states = make(map[uint64]Read), make(map[GroupID]State)
	cfg := Config{
		ID: n.id, Voters: n.c.voters(), Incarnation: n.gen,
		Proposer: func(g GroupID) Proposer { n.work[g] = &backlog{}; return n.work[g] },
	}
	for g := range n.c.o.groups {
		cfg.Groups = append(cfg.Groups, GroupID(g))
	}
	if n.c.o.change != nil {
		n.c.o.change(&cfg)
	}
	var err error
	if n.host, err = n.disk.start(cfg); err != nil {
		n.c.t.Fatalf("start node %d: %v (seed %d)", n.id, err, n.c.o.seed)
	}
	n.ep = n.c.net.Attach(n.id, transport.Receiver{
		OnMessage: func(from uint64, m transport.Message) {
			if err := n.host.Receive(GroupID(m.Group), m.Raft); err != nil {
				n.c.t.Fatalf("node %d: %v", n.id, err)
			}
			n.pump()
		},
		OnDown: func(peer uint64) { n.host.PeerClosed(peer); n.pump() },
	})
	n.tick()
	n.pump()
}

func (n *node) tick() {
	n.later(100*time.Millisecond, func() {
		n.host.Tick()
		n.tick()
	})
}

// later runs an event of this incarnation.
func (n *node) later(after time.Duration, event func()) {
	gen := n.gen
	n.c.after(after, func() {
		if n.up && n.gen == gen {
			event()
			n.pump()
		}
	})
}

// crash cuts the power. An append under way reaches the disk or does not.
func (n *node) crash() {
	n.disk.crash(n.pending)
	n.up = false
	n.c.net.Crash(n.id)
}

// pump does what the Host wants done.
func (n *node) pump() {
	for n.up {
		out, ok := n.host.Next()
		if !ok {
			return
		}
		for _, s := range out.States {
			n.states[s.Group] = s
			n.c.checkLeader(n, s)
		}
		for _, m := range out.Send {
			n.c.checkSend(n, m)
			n.ep.Send(m.To, transport.Message{Kind: transport.KindRaft, Group: uint64(m.Group), Raft: m.Raft})
		}
		for _, a := range out.Apply {
			n.apply(a)
		}
		for _, r := range out.Reads {
			if _, twice := n.reads[r.Ctx]; twice {
				n.c.t.Fatalf("node %d: read %d was answered twice", n.id, r.Ctx)
			}
			n.reads[r.Ctx] = r
		}
		if out.Append != nil {
			if n.pending != nil {
				n.c.t.Fatalf("node %d: an append while another is outstanding", n.id)
			}
			n.pending = out.Append
			n.later(time.Duration(n.c.rnd.Int64N(int64(n.c.o.sync)))+1, n.finish)
		}
		if out.Held {
			n.later(time.Millisecond, func() { n.host.Release() })
		}
		n.drained = n.drained || out.Drained
	}
}

// finish ends the append, unless the disk stands still.
func (n *node) finish() {
	if n.frozen {
		n.later(10*time.Millisecond, n.finish)
		return
	}
	recs := n.pending
	n.pending = nil
	n.write(recs)
	n.appends++
	n.host.Appended()
}

func (n *node) write(recs []wal.Record) {
	seen := make(map[uint64]bool)
	for _, r := range recs {
		if seen[r.Group] {
			n.c.t.Fatalf("node %d: two records of group %d in one append", n.id, r.Group)
		}
		seen[r.Group] = true
		n.entries += len(r.Entries)
	}
	if err := n.disk.append(recs); err != nil {
		n.c.t.Fatalf("node %d: %v (seed %d)", n.id, err, n.c.o.seed)
	}
}

func (n *node) apply(a Apply) {
	for _, e := range a.Entries {
		n.c.checkApply(n, a, e)
		n.applied[a.Group] = e.Index
	}
	n.applies = append(n.applies, a)
	if n.lazy {
		return
	}
	g, index := a.Group, a.Entries[len(a.Entries)-1].Index
	n.later(time.Duration(n.c.rnd.Int64N(int64(200*time.Microsecond))), func() { n.host.Applied(g, index) })
}

// propose gives a node's proposer work.
func (n *node) propose(g GroupID, data string) {
	n.work[g].wait = append(n.work[g].wait, data)
	n.host.Wake(g)
	n.pump()
}

// read asks for a read index and returns its ctx.
func (n *node) read(g GroupID) uint64 {
	n.c.seq++
	ctx := n.c.seq
	n.host.ReadIndex(g, ctx)
	n.pump()
	return ctx
}

// backlog is a Proposer that joins all that waits.
type backlog struct {
	wait  []string
	calls int
	terms []uint64
}

func (b *backlog) NextEntry(term uint64) []byte {
	b.calls++
	if len(b.wait) == 0 {
		return nil
	}
	b.terms = append(b.terms, term)
	data := []byte(strings.Join(b.wait, " "))
	b.wait = nil
	return data
}

func (c *cluster) checkLeader(n *node, s State) {
	if s.Role != Leader {
		return
	}
	k := [2]uint64{uint64(s.Group), s.Term}
	if was, ok := c.leaders[k]; ok && was != n.id {
		c.t.Fatalf("group %s term %d has two leaders: %d and %d", s.Group, s.Term, was, n.id)
	} else if !ok {
		c.leaders[k] = n.id
		c.elected++
	}
}

// checkSend is D1 for what leaves.
func (c *cluster) checkSend(n *node, m Message) {
	c.sends[m.Raft.GetType()]++
	if c.spy != nil {
		c.spy(m)
	}
	d, r := n.disk.group(m.Group), m.Raft
	hard, _, _ := d.InitialState()
	term, vote := hard.GetTerm(), hard.GetVote()
	last, _ := d.LastIndex()
	ok := true
	switch r.GetType() {
	case raftpb.MsgAppResp:
		ok = term >= r.GetTerm() && (r.GetReject() || last >= r.GetIndex())
	case raftpb.MsgVoteResp:
		ok = term >= r.GetTerm() && (r.GetReject() || term > r.GetTerm() || vote == m.To)
	case raftpb.MsgVote:
		ok = term >= r.GetTerm() && (term > r.GetTerm() || vote == n.id) && last >= r.GetIndex()
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgTimeoutNow:
		ok = term >= r.GetTerm()
	}
	if !ok {
		c.t.Fatalf("D1: node %d sends %s for term %d index %d to %d, and its disk has term %d vote %d last %d", n.id, r.GetType(), r.GetTerm(), r.GetIndex(), m.To, term, vote, last)
	}
}

// checkApply is D1 and log matching for what is applied.
func (c *cluster) checkApply(n *node, a Apply, e Entry) {
	if e.Index != n.applied[a.Group]+1 {
		c.t.Fatalf("node %d group %s: entry %d is applied after %d", n.id, a.Group, e.Index, n.applied[a.Group])
	}
	if got := n.disk.read(e); got != string(e.Data) {
		c.t.Fatalf("node %d group %s: entry %d has position %v, and there lies %q", n.id, a.Group, e.Index, e.Pos, got)
	}
	all := c.chosen[a.Group]
	got := chosen{e.Term, string(e.Data)}
	if e.Index <= uint64(len(all)) {
		if all[e.Index-1] != got {
			c.t.Fatalf("node %d group %s: entry %d is %v, and another node applied %v", n.id, a.Group, e.Index, got, all[e.Index-1])
		}
		return
	}
	on := 0
	for _, o := range c.nodes {
		if t, err := o.disk.group(a.Group).Term(e.Index); err == nil && t == e.Term {
			on++
		}
	}
	if on <= c.o.nodes/2 {
		c.t.Fatalf("D1: group %s: entry %d is applied and on the disks of %d nodes", a.Group, e.Index, on)
	}
	c.chosen[a.Group] = append(all, got)
	for _, p := range strings.Fields(got.data) {
		c.done[p] = true
	}
}

// leader returns the node that leads a group in the highest term, nil if none.
func (c *cluster) leader(g GroupID) *node {
	var best *node
	for _, n := range c.nodes {
		if s := n.states[g]; n.up && s.Role == Leader && (best == nil || s.Term > best.states[g].Term) {
			best = n
		}
	}
	return best
}

// run lets time pass.
func (c *cluster) run(d time.Duration) {
	end := c.now + d
	for len(c.queue) > 0 && c.queue[0].at <= end {
		c.step()
	}
	c.now = end
}

func (c *cluster) step() {
	e := heap.Pop(&c.queue).(event)
	c.now = e.at
	e.do()
}

// until lets time pass until ok, at most d.
func (c *cluster) until(d time.Duration, what string, ok func() bool) time.Duration {
	c.t.Helper()
	begin := c.now
	for !ok() {
		if len(c.queue) == 0 || c.queue[0].at > begin+d {
			c.t.Fatalf("%s: not within %v (seed %d)", what, d, c.o.seed)
		}
		c.step()
	}
	return c.now - begin
}

func (c *cluster) untilLeader(g GroupID) *node {
	c.t.Helper()
	c.until(10*time.Second, "a leader that may propose", func() bool {
		n := c.leader(g)
		return n != nil && n.states[g].Proposing
	})
	return c.leader(g)
}

func (c *cluster) untilDone(p string) {
	c.t.Helper()
	c.until(10*time.Second, "proposal "+p, func() bool { return c.done[p] })
}

func (c *cluster) after(d time.Duration, do func()) {
	c.seq++
	heap.Push(&c.queue, event{c.now + d, c.seq, do})
}

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	x := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return x
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
