package topics

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// cluster is a few nodes with one shard, a raft that is only a shared log with a
// leader, and a network that loses, repeats and reorders. Every step is drawn
// from one seed.
type cluster struct {
	t     *testing.T
	rng   *rand.Rand
	calm  bool
	nodes []*clusterNode
	now   int64

	catalogue []Entry
	log       []Entry // of the shard; up to commit it never changes
	commit    int
	leader    int // index in nodes, the newest term's
	term      uint64
	flying    []flight

	submitted map[uint64]Publish // token ->
	completed map[uint64]Result
	withdrawn map[uint64]bool
	owner     map[uint64]Origin
	tokens    uint64
	stats     struct{ lost, repeated, elections, cut, restarts, resent, refused, nacks int }
}

type clusterNode struct {
	c         *cluster
	id        uint64
	counter   uint64
	catalogue *Catalogue
	broker    *Broker
	leader    *Leader
	forwarder *Forwarder
	term      uint64            // as which it believes to lead, 0: not
	tickets   map[uint64]uint64 // token -> ticket of what was submitted
}

// flight is a message on its way.
type flight struct {
	from, to int
	body     []byte
	kind     byte
}

func newCluster(t *testing.T, seed uint64) *cluster {
	c := &cluster{
		t: t, rng: rand.New(rand.NewPCG(seed, 2)), now: 1e6,
		submitted: map[uint64]Publish{}, completed: map[uint64]Result{}, withdrawn: map[uint64]bool{}, owner: map[uint64]Origin{},
	}
	for i := range 3 {
		n := &clusterNode{c: c, id: uint64(i + 1)}
		c.nodes = append(c.nodes, n)
		n.start()
	}
	c.command(NewForm(Form{ClusterInfo: ClusterInfo{Shards: 1}}))
	c.elect()
	return c
}

// start begins a new incarnation of a node; its log is what the cluster has.
func (n *clusterNode) start() {
	var err error
	n.counter++
	n.term = 0
	n.tickets = map[uint64]uint64{}
	n.catalogue, n.broker = NewCatalogue(), NewBroker()
	n.leader, err = NewLeader(LeaderOptions{
		Machine: n.broker, View: n.catalogue, Reference: func() (int64, int64) { return n.c.now, -1 },
		EntryBytes: 1000, QueueBytes: 4000,
	})
	if err == nil {
		n.forwarder, err = NewForwarder(ForwarderOptions{Origin: n.origin(), Window: 20, WindowBytes: 10000, MessageBytes: 1500, ResendTicks: 3})
	}
	if err != nil {
		n.c.t.Fatal(err)
	}
}

func (n *clusterNode) origin() Origin { return Origin{RaftID: n.id, Counter: n.counter} }

// command commits one catalogue command.
func (c *cluster) command(r Request) {
	i := uint64(len(c.catalogue) + 1)
	data := AppendCommand(nil, Command{Kind: r.Kind, Origin: Origin{9, i}, Number: 1, Stamp: Stamp{TS: i}, Body: r.Body})
	c.catalogue = append(c.catalogue, Entry{Index: i, Term: 1, Data: data})
}

// elect begins a new term: the new leader has all that is committed and, with
// luck, some of what is not.
func (c *cluster) elect() {
	c.stats.elections++
	keep := c.commit + c.rng.IntN(len(c.log)-c.commit+1)
	c.stats.cut += len(c.log) - keep
	c.log = c.log[:keep]
	c.term++
	c.leader = c.rng.IntN(len(c.nodes))
	n := c.nodes[c.leader]
	n.term = c.term
	n.leader.Reset(c.term)
	n.leader.CatalogueApplied(n.catalogue.Version())
	c.append(nil)
}

func (c *cluster) append(data []byte) {
	c.log = append(c.log, Entry{Index: uint64(len(c.log) + 1), Term: c.term, Data: data, Pos: Pos{Segment: 1}})
}

func (c *cluster) send(from, to int, kind byte, body []byte) {
	copies := 1
	if !c.calm {
		switch c.rng.IntN(10) {
		case 0:
			copies = 0
			c.stats.lost++
		case 1:
			copies = 2
			c.stats.repeated++
		}
	}
	for range copies {
		c.flying = append(c.flying, flight{from, to, body, kind})
	}
}

// step does one random thing.
func (c *cluster) step() {
	n := c.nodes[c.rng.IntN(len(c.nodes))]
	switch k := c.rng.IntN(100); {
	case k < 15:
		if !c.calm {
			n.submit()
		}
	case k < 40:
		n.flush()
	case k < 65:
		c.deliver()
	case k < 75:
		n.propose()
	case k < 80:
		if c.commit < len(c.log) {
			c.commit += 1 + c.rng.IntN(len(c.log)-c.commit)
		}
	case k < 90:
		n.apply()
	case k < 92:
		c.now += c.rng.Int64N(1e6)
		n.leader.Tick()
		n.forwarder.Tick()
	case k < 94:
		// Who leads is heard of sooner or later, wrongly at times.
		if c.calm || c.rng.IntN(4) > 0 {
			n.forwarder.SetLeader(c.nodes[c.leader].id, c.term)
		} else {
			n.forwarder.SetLeader(uint64(c.rng.IntN(4)), c.term)
		}
		if n.term != 0 && n.term != c.term {
			n.term = 0
			n.leader.Reset(0)
		}
	case k < 95:
		n.forwarder.Broken()
	case c.calm:
	case k < 96:
		c.elect()
	case k < 97 && c.rng.IntN(10) == 0:
		c.stats.restarts++
		n.start()
		if n == c.nodes[c.leader] {
			c.elect()
		}
	case k < 98 && c.rng.IntN(3) == 0:
		name := fmt.Sprint("t", c.rng.IntN(4))
		if c.rng.IntN(3) == 0 {
			c.command(NewDelete(Delete{Name: name}))
		} else {
			s := DefaultSpec
			s.DedupWindowUS = 1e6 * (1 + c.rng.Uint64N(4))
			c.command(NewPut(TopicChange{Name: name, Spec: s}))
		}
	case k < 99 && len(n.tickets) > 0:
		n.withdraw()
	}
}

func (n *clusterNode) submit() {
	t, ok := n.catalogue.Lookup(fmt.Sprint("t", n.c.rng.IntN(4)))
	if !ok {
		return
	}
	n.c.tokens++
	token := n.c.tokens
	p := Publish{UID: t.UID, Batch: makeBatch(n.c.t, 1, fmt.Sprintf("%040d", token))}
	r := NewPublish(p, n.c.rng.Uint64N(50), n.catalogue.Version())
	ticket, err := n.forwarder.Submit(r, token)
	if err != nil {
		n.c.t.Fatal(err)
	}
	n.tickets[token] = ticket
	n.c.submitted[token], n.c.owner[token] = p, n.origin()
}

func (n *clusterNode) withdraw() {
	tokens := make([]uint64, 0, len(n.tickets))
	for token := range n.tickets {
		tokens = append(tokens, token)
	}
	slices.Sort(tokens)
	token := tokens[n.c.rng.IntN(len(tokens))]
	if n.forwarder.Withdraw(n.tickets[token]) {
		n.c.withdrawn[token] = true
	}
	delete(n.tickets, token)
}

func (n *clusterNode) flush() {
	for {
		to, requests := n.forwarder.Outgoing()
		if len(requests) == 0 {
			return
		}
		n.c.send(int(n.id-1), int(to-1), 'q', EncodeRequests(nil, n.origin(), requests))
	}
}

// deliver hands over one message, any of those on their way.
func (c *cluster) deliver() {
	if len(c.flying) == 0 {
		return
	}
	i := 0
	if !c.calm && c.rng.IntN(4) == 0 {
		i = c.rng.IntN(len(c.flying))
	}
	m := c.flying[i]
	c.flying = slices.Delete(c.flying, i, i+1)
	n := c.nodes[m.to]
	switch m.kind {
	case 'q':
		from, requests, err := DecodeRequests(m.body)
		if err != nil {
			c.t.Fatal(err)
		}
		answers, nack := n.leader.Receive(from, requests)
		if len(answers) > 0 {
			c.stats.resent++
			c.send(m.to, m.from, 'r', EncodeResults(nil, from, answers))
		}
		if nack != nil {
			c.stats.nacks++
			c.send(m.to, m.from, 'n', EncodeNack(nil, from, *nack))
		}
	case 'r':
		to, results, err := DecodeResults(m.body)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, done := range n.forwarder.Results(to, results) {
			if _, again := c.completed[done.Token]; again || c.withdrawn[done.Token] {
				c.t.Fatalf("token %d is completed again, or was withdrawn", done.Token)
			}
			c.completed[done.Token] = done.Result
			delete(n.tickets, done.Token)
		}
	case 'n':
		to, nack, err := DecodeNack(m.body)
		if err != nil {
			c.t.Fatal(err)
		}
		n.forwarder.Nack(to, nack)
	}
}

// propose forms an entry if the node leads and has applied its empty entry; what
// a deposed leader forms gets nowhere.
func (n *clusterNode) propose() {
	if _, term := n.broker.Applied(); n.term == 0 || term != n.term {
		return
	}
	pending := n.leader.Pending()
	data := n.leader.NextEntry(n.term)
	if data != nil && !pending {
		n.c.t.Fatal("an entry though nothing was pending")
	}
	if data != nil && n.term == n.c.term {
		n.c.append(data)
	}
}

func (n *clusterNode) apply() {
	c := n.c
	if v := int(n.catalogue.Version()); v < len(c.catalogue) {
		if _, err := n.catalogue.Apply(c.catalogue[v]); err != nil {
			c.t.Fatal(err)
		}
		n.leader.CatalogueApplied(n.catalogue.Version())
	}
	at, _ := n.broker.Applied()
	if int(at) >= c.commit {
		return
	}
	outs, err := n.broker.Apply(c.log[at])
	if err != nil {
		c.t.Fatal(err)
	}
	if n.term == 0 {
		return
	}
	for _, o := range outs {
		if o.Code != OK {
			c.stats.refused++
		}
		c.send(int(n.id-1), int(o.Origin.RaftID-1), 'r', EncodeResults(nil, o.Origin, []Result{o.Result}))
	}
}

// TestOnceInOrder: over a network that loses, repeats and reorders, through
// changes of leader that cut the log, and through restarts, every request that
// was sent takes effect exactly once, in the order of its node, and its answer
// is what the log says.
func TestOnceInOrder(t *testing.T) {
	var refused, cut, resent, restarts int
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			c := newCluster(t, seed)
			for range 6000 {
				c.step()
			}
			c.calm = true
			for i := 0; !c.settled(); i++ {
				if i > 200_000 {
					t.Fatalf("seed %d: not settled", seed)
				}
				c.step()
			}
			c.check()
			refused, cut, resent, restarts = refused+c.stats.refused, cut+c.stats.cut, resent+c.stats.resent, restarts+c.stats.restarts
		})
	}
	if refused == 0 || cut == 0 || resent == 0 || restarts == 0 {
		t.Fatalf("too little happened: %d refused, %d entries cut, %d answered again, %d restarts", refused, cut, resent, restarts)
	}
}

func (c *cluster) settled() bool {
	for _, n := range c.nodes {
		sent, waiting := n.forwarder.Pending()
		at, _ := n.broker.Applied()
		if sent+waiting > 0 || int(at) < len(c.log) || n.leader.Pending() && n.term == c.term {
			return false
		}
	}
	return true
}

// check compares the answers with a plain reading of the log.
func (c *cluster) check() {
	t := c.t
	for _, n := range c.nodes[1:] {
		if n.broker.Chain() != c.nodes[0].broker.Chain() {
			t.Fatalf("chains differ: %s and %s", n.broker.Chain(), c.nodes[0].broker.Chain())
		}
	}
	type sighting struct {
		token  uint64
		result Result
	}
	seen := map[uint64]sighting{}
	last := map[Origin]uint64{}
	b := NewBroker()
	var lastTS uint64
	for _, e := range c.log {
		for it := Commands(e.Data); it.Next(); {
			if ts := it.Command.Stamp.TS; ts < lastTS || ts == lastTS && it.Command.Kind == KindPublish {
				t.Fatalf("Rising: stamp %d after %d", it.Command.Stamp.TS, lastTS)
			}
			lastTS = it.Command.Stamp.TS
		}
		outs, err := b.Apply(e)
		if err != nil {
			t.Fatal(err)
		}
		took := map[Origin]map[uint64]Result{}
		for _, o := range outs {
			if took[o.Origin] == nil {
				took[o.Origin] = map[uint64]Result{}
			}
			took[o.Origin][o.Number] = o.Result
		}
		for it := Commands(e.Data); it.Next(); {
			r, ok := took[it.Command.Origin][it.Command.Number]
			if !ok || it.Command.Kind != KindPublish || r.TS != it.Command.Stamp.TS {
				continue
			}
			p, err := decodePublish(it.Command.Body)
			if err != nil {
				t.Fatal(err)
			}
			token := findToken(p.Batch)
			if before, again := seen[token]; again {
				t.Fatalf("token %d is applied twice: %+v and %+v", token, before.result, r)
			}
			if token <= last[it.Command.Origin] {
				t.Fatalf("token %d of %v after token %d", token, it.Command.Origin, last[it.Command.Origin])
			}
			last[it.Command.Origin] = token
			seen[token] = sighting{token, r}
		}
	}
	for token := range c.submitted {
		r, done := c.completed[token]
		s, applied := seen[token]
		alive := c.nodes[c.owner[token].RaftID-1].origin() == c.owner[token]
		switch {
		case c.withdrawn[token] && applied:
			t.Fatalf("token %d was withdrawn and is applied", token)
		case alive && !done && !c.withdrawn[token]:
			t.Fatalf("token %d has no answer", token)
		case done && r.Code == OK && (!applied || s.result != r):
			t.Fatalf("token %d was answered %+v, the log says %+v", token, r, s.result)
		case done && r.Code != OK && applied && s.result.Code == OK:
			t.Fatalf("token %d was refused and is applied", token)
		}
	}
}

// findToken reads the 40 digits that are the value of a batch of one.
func findToken(b []byte) (token uint64) {
	run := 0
	for _, ch := range b {
		if ch < '0' || ch > '9' {
			run, token = 0, 0
			continue
		}
		token = token*10 + uint64(ch-'0')
		if run++; run == 40 {
			return token
		}
	}
	return 0
}
