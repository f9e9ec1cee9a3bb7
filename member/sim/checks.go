package sim

import (
	"errors"
	"fmt"
	"strings"

	"github.com/wiber/wiber/member"
	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/raftnode/wal"
	"github.com/wiber/wiber/topics"
	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/server"
	"github.com/wiber/wiber/topics/store"
)

// checks watch a run and keep the first violation.
type checks struct {
	w         *world
	violation error

	leaderOf map[termKey]*node             // election safety
	votes    map[*node]map[uint64]vote     // group -> newest vote given
	chains   map[indexKey]topics.Chain     // D5
	terms    map[indexKey]uint64           // log matching, of what was applied
	durable  map[*node]map[uint64][]uint64 // group -> term of each synced index, from 1
	content  map[topics.Stream][]string    // by offset: what anybody has read there
	floor    map[topics.Stream]floor       // what was acknowledged
	resends  map[resendKey]uint64          // highest number sent
	damaged  map[*node]bool                // must not open
	erased   map[*node]bool                // must be refused
	behind   map[*node]uint64              // entries to catch up after a start
	promised map[promiseKey]promised       // what a node said that no older stamp follows
}

type (
	termKey struct {
		group raftnode.GroupID
		term  uint64
	}
	indexKey struct {
		group raftnode.GroupID
		index uint64
	}
	promiseKey struct {
		node  *node
		life  uint64
		group raftnode.GroupID
	}
	// promised was believed in a term; known was in the log by then.
	promised  struct{ term, safe, known uint64 }
	vote      struct{ term, to uint64 }
	floor     struct{ next, index uint64 }
	resendKey struct {
		group  uint64
		origin topics.Origin
	}
)

func newChecks(w *world) *checks {
	return &checks{w: w,
		leaderOf: map[termKey]*node{}, votes: map[*node]map[uint64]vote{}, chains: map[indexKey]topics.Chain{},
		terms: map[indexKey]uint64{}, durable: map[*node]map[uint64][]uint64{},
		content: map[topics.Stream][]string{}, floor: map[topics.Stream]floor{}, resends: map[resendKey]uint64{},
		damaged: map[*node]bool{}, erased: map[*node]bool{}, behind: map[*node]uint64{},
		promised: map[promiseKey]promised{},
	}
}

func (c *checks) fail(format string, args ...any) {
	if c.violation == nil {
		c.violation = fmt.Errorf("%s: %s", c.w, fmt.Sprintf(format, args...))
	}
}

// leaders checks that a term has one leader.
func (c *checks) leaders(n *node) {
	for _, s := range n.engine.Status() {
		if s.Role != raftnode.Leader {
			continue
		}
		k := termKey{s.Group, s.Term}
		switch other := c.leaderOf[k]; {
		case other == nil:
			c.leaderOf[k] = n
			c.w.report.Elections++
		case other != n:
			c.fail("group %s has two leaders in term %d: %s and %s", s.Group, s.Term, other.name, n.name)
		}
	}
}

// sent looks at what leaves a node.
func (c *checks) sent(n *node, to uint64, m transport.Message) {
	switch m.Kind {
	case transport.KindRaft:
		if m.Raft.GetType().String() == "MsgVoteResp" && !m.Raft.GetReject() {
			c.voted(n, m.Group, vote{m.Raft.GetTerm(), to})
		}
	case transport.KindRequests:
		origin, requests, err := topics.DecodeRequests(m.Body)
		if err != nil {
			c.fail("%s sends requests that cannot be read: %v", n.name, err)
			return
		}
		k := resendKey{m.Group, origin}
		for _, r := range requests {
			if r.Number <= c.resends[k] {
				c.w.report.Reproposals++
			}
			c.resends[k] = max(c.resends[k], r.Number)
		}
	}
}

func (c *checks) voted(n *node, group uint64, v vote) {
	if c.votes[n] == nil {
		c.votes[n] = map[uint64]vote{}
	}
	if before := c.votes[n][group]; before.term == v.term && before.to != v.to {
		c.fail("%s votes for %d and for %d in term %d of group %d", n.name, before.to, v.to, v.term, group)
	}
	c.votes[n][group] = v
	nemesis{c.w}.afterVote(n)
}

// appended sees what is synced.
func (c *checks) appended(n *node, recs []wal.Record) {
	if c.durable[n] == nil {
		c.durable[n] = map[uint64][]uint64{}
	}
	for _, r := range recs {
		terms := c.durable[n][r.Group]
		for _, e := range r.Entries {
			terms = append(terms[:e.GetIndex()-1], e.GetTerm())
		}
		c.durable[n][r.Group] = terms
	}
}

// recovered checks what a start has found: nothing that was synced is missing,
// and no vote or term is forgotten.
func (c *checks) recovered(n *node, log *wal.WAL) {
	if c.damaged[n] {
		c.fail("%s starts although its synced log is damaged", n.name)
	}
	manifest, err := store.OpenState(store.StateOptions{FS: n.disk, Dir: stateDir, Meta: n.meta})
	if err != nil {
		c.fail("%s: the manifest: %v", n.name, err)
		return
	}
	behind := uint64(0)
	for id := range uint64(c.w.o.Shards + 1) {
		g := log.Group(id)
		last, _ := g.LastIndex()
		terms := c.durable[n][id]
		if last < uint64(len(terms)) {
			c.fail("%s lost synced entries of group %d: the log ends at %d, %d were synced", n.name, id, last, len(terms))
			return
		}
		for i, want := range terms {
			if got, err := g.Term(uint64(i) + 1); err == nil && got < want {
				c.fail("%s: entry %d of group %d has term %d, synced was %d", n.name, i+1, id, got, want)
				return
			}
		}
		// What a write that failed left behind is on the disk too.
		terms = terms[:0]
		for i := uint64(1); i <= last; i++ {
			term, err := g.Term(i)
			if err != nil {
				c.fail("%s: term of entry %d of group %d: %v", n.name, i, id, err)
				return
			}
			terms = append(terms, term)
		}
		if c.durable[n] == nil {
			c.durable[n] = map[uint64][]uint64{}
		}
		c.durable[n][id] = terms
		hs, _, _ := g.InitialState()
		if m, ok := manifest.Manifest(id); ok && m.Applied > hs.GetCommit() {
			c.fail("%s: the checkpoint of group %d stands at %d, but its log knows only %d to be committed (D2)", n.name, id, m.Applied, hs.GetCommit())
		}
		if v := c.votes[n][id]; v.term > hs.GetTerm() || v.term == hs.GetTerm() && v.term != 0 && v.to != hs.GetVote() {
			c.fail("%s forgot its vote in group %d: gave it to %d in term %d, the log says %d in term %d", n.name, id, v.to, v.term, hs.GetVote(), hs.GetTerm())
		}
		var most uint64
		for _, o := range c.w.nodes {
			most = max(most, uint64(len(c.durable[o][id])))
		}
		if most > last {
			behind += most - last
		}
	}
	c.behind[n] = behind
}

// applied checks that all replicas come to the same state (D5), and that they
// apply the same entries.
func (c *checks) applied(n *node, a raftnode.Apply) {
	for _, e := range a.Entries {
		k := indexKey{a.Group, e.Index}
		if term, ok := c.terms[k]; ok && term != e.Term {
			c.fail("group %s: %s applies entry %d of term %d, another node that of term %d", a.Group, n.name, e.Index, e.Term, term)
		}
		c.terms[k] = e.Term
	}
	chain, index := n.engine.Chain(a.Group)
	k := indexKey{a.Group, index}
	if other, ok := c.chains[k]; ok && other != chain {
		c.fail("group %s: the chain of %s at %d is %s, another node's %s", a.Group, n.name, index, chain, other)
	}
	c.chains[k] = chain
	if c.behind[n] > lateBy {
		c.behind[n] = 0
		c.w.report.CatchUps++
	}
}

// promise notes what a node believes now about the stamps to come.
func (c *checks) promise(n *node, g raftnode.GroupID) {
	safe, known, term := n.engine.Safe(uint64(g)), n.engine.LastStamp(g).TS, n.engine.Status()[g].Term
	k := promiseKey{n, n.life, g}
	if was := c.promised[k]; was.term == term && safe < was.safe {
		c.fail("%s: the safe time of group %s went back from %d to %d in term %d", n.name, g, was.safe, safe, term)
	}
	c.promised[k] = promised{term, safe, known}
	if safe > known {
		c.w.report.Promises++
	}
}

// kept checks that what a node applies is younger than what it believed would be
// the oldest: above the log it had, whoever leads; above a promise, in its term.
func (c *checks) kept(n *node, a raftnode.Apply) {
	p, ok := c.promised[promiseKey{n, n.life, a.Group}]
	if !ok {
		return
	}
	for _, e := range a.Entries {
		for it := topics.Commands(e.Data); it.Next(); {
			ts := it.Command.Stamp.TS
			if it.Command.Kind == topics.KindPublish && (ts <= p.known || e.Term == p.term && ts <= p.safe) {
				c.fail("%s: group %s: stamp %d in term %d, although nothing up to %d (log %d) was to come in term %d", n.name, a.Group, ts, e.Term, p.safe, p.known, p.term)
			}
		}
	}
}

// lateBy is from how many missing entries a start counts as a late catch-up.
const lateBy = 30

// acked checks an acknowledgement against what is on the disks (D1) and against
// what was said before.
func (c *checks) acked(a *attempt, r server.Receipt) {
	m := a.m
	have := 0
	for _, n := range c.w.nodes {
		if terms := c.durable[n][r.Group]; uint64(len(terms)) >= r.Index && r.Index > 0 && terms[r.Index-1] == r.Term {
			have++
		}
	}
	if !r.Unknown && have <= len(c.w.nodes)/2 {
		c.fail("%s is acknowledged at index %d of group %d, but only %d nodes have it on disk", m.payload[:min(len(m.payload), 20)], r.Index, r.Group, have)
	}
	if r.Duplicate {
		c.w.report.Suppressed++
		if m.by.kind == plain {
			c.fail("a message without identity is called a duplicate: %.20s", m.payload)
		}
	}
	if m.acked {
		before := m.receipt
		before.Synced, before.Duplicate, r.Synced, r.Duplicate = 0, false, 0, false
		if before != r && !r.Unknown {
			c.fail("the receipt of %.20s was %+v, now it is %+v", m.payload, before, r)
		}
		return
	}
	m.acked, m.receipt, m.ackedAt = true, r, c.w.now
	c.w.report.Acked++
	f := c.floor[m.stream]
	c.floor[m.stream] = floor{max(f.next, r.Offset+1), max(f.index, r.Index)}
}

// newest is what was acknowledged in a stream: the offset behind the last, and
// its index.
func (c *checks) newest(s topics.Stream) (next, index uint64) {
	f := c.floor[s]
	return f.next, f.index
}

// read checks that a node shows at least what lies below floor, and that what
// it shows is what others have read there.
func (c *checks) read(n *node, s topics.Stream, floor uint64) {
	_, next, err := n.engine.Bounds(server.Stream(s))
	if err != nil {
		if floor > 0 {
			c.fail("%s cannot read %v, where %d were acknowledged: %v", n.name, s, floor, err)
		}
		return
	}
	if next < floor {
		c.fail("%s shows %v only to %d, but %d was acknowledged before the read", n.name, s, next, floor)
		return
	}
	if next > 0 {
		from := uint64(c.w.rnd.Int64N(int64(next)))
		if floor > 0 && c.w.chance(0.5) {
			from = floor - 1
		}
		c.contents(n, s, from)
	}
}

// contents reads batches and compares them; it returns the offset behind them.
func (c *checks) contents(n *node, s topics.Stream, from uint64) uint64 {
	batches, err := n.engine.Read(server.Stream(s), from, 8<<10)
	if errors.Is(err, server.ErrTopicGone) {
		return from
	}
	if err != nil {
		c.fail("%s: read %v at %d: %v", n.name, s, from, err)
		return from
	}
	for _, b := range batches {
		if b.Base+uint64(b.Count) <= from || b.Base > from {
			c.fail("%s: %v: a batch of %d at %d where %d is expected", n.name, s, b.Count, b.Base, from)
			return from
		}
		payload, err := value(b.Batch)
		if err != nil {
			c.fail("%s: %v at %d: %v", n.name, s, b.Base, err)
			return from
		}
		c.same(n, s, b.Base, payload)
		from = b.Base + uint64(b.Count)
	}
	return from
}

// same checks that an offset holds the same message whoever reads it, whenever.
func (c *checks) same(n *node, s topics.Stream, offset uint64, payload string) {
	known := c.content[s]
	for uint64(len(known)) <= offset {
		known = append(known, "")
	}
	c.content[s] = known
	if known[offset] == "" {
		known[offset] = payload
	} else if known[offset] != payload {
		c.fail("%s: %v at %d holds %.20q, it held %.20q", n.name, s, offset, payload, known[offset])
	}
}

// follow reads on for a subscriber.
func (c *checks) follow(n *node, s topics.Stream, next uint64) uint64 {
	_, end, err := n.engine.Bounds(server.Stream(s))
	if err != nil || end <= next {
		return next // this node may be behind; the subscriber waits
	}
	c.w.report.Followed++
	return c.contents(n, s, next)
}

func value(b []byte) (string, error) {
	if err := batch.Check(b, batch.Limits{}); err != nil {
		return "", err
	}
	it := batch.Iterate(b, 1<<20)
	if !it.Next() {
		return "", fmt.Errorf("an empty batch: %v", it.Err())
	}
	return string(it.Record().Value), nil
}

// Damage and refusals.

func (c *checks) expectDamage(n *node)  { c.damaged[n] = true }
func (c *checks) expectRefusal(n *node) { c.erased[n] = true }
func (c *checks) expected(n *node)      { delete(c.erased, n) }

func (c *checks) damageSeen(n *node) {
	if c.damaged[n] {
		c.fail("%s did not say that its log is damaged", n.name)
	}
}

// openFailed judges a start that failed.
func (c *checks) openFailed(n *node, err error) {
	var corrupt *wal.CorruptError
	if errors.As(err, &corrupt) && c.damaged[n] {
		delete(c.damaged, n)
		return
	}
	c.fail("%s does not start: %v", n.name, err)
}

// refused judges a bootstrap that ended with an error.
func (c *checks) refused(n *node, err error) {
	if c.erased[n] && errors.Is(err, member.ErrNotRestartable) && strings.Contains(err.Error(), "erased") {
		c.w.report.Refused++
		return
	}
	c.fail("%s is refused: %v", n.name, err)
}

// atRest says whether all nodes have come to the same state.
func (c *checks) atRest() bool {
	for id := range c.w.o.Shards + 1 {
		var chain topics.Chain
		var at uint64
		for i, n := range c.w.nodes {
			if n.engine == nil {
				return false
			}
			ch, index := n.engine.Chain(raftnode.GroupID(id))
			if i > 0 && (index != at || ch != chain) {
				return false
			}
			chain, at = ch, index
		}
	}
	return true
}

// final checks every node's whole log against what was acknowledged and sent.
func (c *checks) final() {
	for _, n := range c.w.nodes {
		c.finalNode(n)
	}
}

func (c *checks) finalNode(n *node) {
	at := map[string]uint64{} // payload -> offset
	for _, name := range c.w.work.streams {
		t, ok := n.engine.Topic(name.topic)
		if !ok {
			continue
		}
		s := topics.Stream{UID: t.UID, Partition: name.partition}
		_, end, err := n.engine.Bounds(server.Stream(s))
		if err != nil {
			c.fail("%s: bounds of %v: %v", n.name, name, err)
			return
		}
		for next := uint64(0); next < end && c.violation == nil; {
			after := c.contents(n, s, next)
			if after == next {
				c.fail("%s: %v ends at %d, not at %d", n.name, name, next, end)
			}
			next = after
		}
		var stamp uint64
		for next := uint64(0); next < end && c.violation == nil; {
			batches, err := n.engine.Read(server.Stream(s), next, 64<<10)
			if err != nil || len(batches) == 0 {
				c.fail("%s: read %v at %d: %v", n.name, name, next, err)
				break
			}
			for _, b := range batches {
				if b.TS <= stamp {
					c.fail("%s: %v at %d: stamp %d after %d", n.name, name, b.Base, b.TS, stamp)
				}
				stamp, next = b.TS, b.Base+uint64(b.Count)
			}
		}
		for offset, payload := range c.content[s] {
			if offset >= int(end) {
				c.fail("%s: somebody read offset %d of %v, this node has %d", n.name, offset, name, end)
			}
			if before, twice := at[payload]; twice {
				c.fail("%.20q stands twice: at %d and at %d of %v", payload, before, offset, name)
			}
			at[payload] = uint64(offset)
		}
	}
	sent := 0
	for _, p := range c.w.work.publishers {
		for _, m := range p.messages {
			offset, there := at[m.payload]
			if there {
				sent++
			}
			switch {
			case m.acked && !there:
				c.fail("%s lost %.20q, acknowledged at %d", n.name, m.payload, m.receipt.Offset)
			case m.acked && !m.receipt.Unknown && m.receipt.Offset != offset:
				c.fail("%s has %.20q at %d, acknowledged was %d", n.name, m.payload, offset, m.receipt.Offset)
			}
		}
	}
	if sent != len(at) {
		c.fail("%s has %d messages, of which %d were sent by anybody", n.name, len(at), sent)
	}
}
