package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

const fakeMax = 10_000

// fakeCluster is what several fake nodes share: topics, ids and producers, with
// the semantics of interface.md section 4.
type fakeCluster struct {
	mu        sync.Mutex
	topics    map[string][]*fakePartition
	producers map[string]uint64                  // name, topic and partition -> last number
	receipts  map[string]map[uint64]wire.Receipt // of the producers
	ids       map[string]wire.Receipt
	asked     map[string]int // requests by verb
	nodes     map[string]*fakeNode
	grown     *sync.Cond // a message or topic came
	dups      int
	age       uint64 // added to stamps
}

type fakePartition struct{ messages []wire.Message }

// fakeNode is one address. Its fields are set under the cluster's mu.
type fakeNode struct {
	c    *fakeCluster
	addr string
	down bool // connections are refused
	// script decides about the n-th request of a connection, from 1; nil answers.
	script func(n int, q *wire.Request) fakeAction
	// behind hides that many messages of each partition, as a node that lags.
	behind int
	conns  map[net.Conn]bool
	dialed int
}

// fakeAction is what a node does with a request.
type fakeAction struct {
	drop   bool        // close the connection without doing anything
	lose   bool        // do it, and close without an answer
	silent bool        // do nothing at all, from now on
	refuse *wire.Error // answer this, without doing it
	late   *wire.Error // do it, and answer this
}

func newFakeCluster(nodes ...string) *fakeCluster {
	c := &fakeCluster{topics: make(map[string][]*fakePartition), producers: make(map[string]uint64), receipts: make(map[string]map[uint64]wire.Receipt),
		ids: make(map[string]wire.Receipt), asked: make(map[string]int), nodes: make(map[string]*fakeNode)}
	c.grown = sync.NewCond(&c.mu)
	for _, addr := range nodes {
		c.nodes[addr] = &fakeNode{c: c, addr: addr, conns: make(map[net.Conn]bool)}
	}
	return c
}

// create makes a topic with messages of the given partition counts.
func (c *fakeCluster) create(name string, partitions, messages int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range partitions {
		c.topics[name] = append(c.topics[name], &fakePartition{})
	}
	for i := range messages {
		c.appendLocked(wire.Topic{Name: name, Partition: i % partitions}, &wire.Request{Payload: fmt.Appendf(nil, "%d", i)})
	}
	c.grown.Broadcast()
}

// remake deletes a topic and makes it anew.
func (c *fakeCluster) remake(name string) {
	c.mu.Lock()
	delete(c.topics, name)
	c.age += 1_000_000
	c.mu.Unlock()
	c.create(name, 1, 0)
}

func (c *fakeCluster) publish(name string, partition int, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.appendLocked(wire.Topic{Name: name, Partition: partition}, &wire.Request{Payload: []byte(text)})
}

// duplicates, dials and questions are what happened so far: how often a message
// came again, a node was dialled, a verb was asked. Nodes may still be at work.
func (c *fakeCluster) duplicates() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dups
}

func (c *fakeCluster) dials(node string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[node].dialed
}

func (c *fakeCluster) questions(verb string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[verb]
}

func (c *fakeCluster) values(name string, partition int) (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if partition < len(c.topics[name]) {
		for _, m := range c.topics[name][partition].messages {
			out = append(out, string(m.Value))
		}
	}
	return out
}

func (c *fakeCluster) appendLocked(t wire.Topic, q *wire.Request) wire.Receipt {
	if c.topics[t.Name] == nil {
		c.topics[t.Name] = []*fakePartition{{}}
	}
	all := c.topics[t.Name]
	p := all[max(t.Partition, 0)]
	m := wire.Message{Topic: t.Name, Partition: max(t.Partition, 0), Partitioned: len(all) > 1, Offset: uint64(len(p.messages)), Key: q.Key, ID: q.ID,
		Headers: q.Headers, Value: q.Payload}
	m = m.Clone()
	m.TS = c.age + 1000 + uint64(len(p.messages))
	p.messages = append(p.messages, m)
	c.grown.Broadcast()
	return wire.Receipt{Topic: m.Topic, Partition: m.Partition, Partitioned: m.Partitioned, Offset: m.Offset, TS: m.TS, Synced: 2, Replicas: 3}
}

// apply does a PUBN once.
func (c *fakeCluster) apply(q *wire.Request) (wire.Receipt, *wire.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := max(1, len(c.topics[q.Topic.Name]))
	if q.Topic.Partition >= n {
		return wire.Receipt{}, wire.Errorf(wire.Range, "topic has %d partitions", n)
	}
	if q.Producer != "" && n > 1 && q.Topic.Partition == wire.AnyPartition {
		return wire.Receipt{}, wire.Errorf(wire.Syntax, "p= needs topic/partition")
	}
	key := fmt.Sprintf("%s %s/%d", q.Producer, q.Topic.Name, max(q.Topic.Partition, 0))
	if q.Producer != "" {
		if last := c.producers[key]; q.Seq > last+1 {
			return wire.Receipt{}, wire.GapError(last + 1)
		} else if q.Seq <= last {
			c.dups++
			r := c.receipts[key][q.Seq]
			r.Duplicate = true
			return r, nil
		}
	}
	if r, ok := c.ids[string(q.ID)]; ok && q.ID != nil {
		c.dups++
		r.Duplicate = true
		return r, nil
	}
	r := c.appendLocked(q.Topic, q)
	if q.Producer != "" {
		c.producers[key] = q.Seq
		if c.receipts[key] == nil {
			c.receipts[key] = make(map[uint64]wire.Receipt)
		}
		c.receipts[key][q.Seq] = r
	}
	if q.ID != nil {
		c.ids[string(q.ID)] = r
	}
	return r, nil
}

func (c *fakeCluster) dial(_ context.Context, addr string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[addr]
	if n == nil || n.down {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	n.conns[far] = true
	n.dialed++
	go n.serve(far)
	return near, nil
}

// set changes a node's behaviour.
func (c *fakeCluster) set(addr string, change func(n *fakeNode)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c.nodes[addr])
}

// cut breaks all connections of a node.
func (c *fakeCluster) cut(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.nodes[addr].conns {
		conn.Close()
	}
}

// serve is a session. Replies go through a queue without end, so that reading
// never waits for the client.
func (n *fakeNode) serve(conn net.Conn) {
	out := newFakeQueue()
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			p := out.take()
			if p == nil {
				return
			}
			if _, err := conn.Write(p); err != nil {
				return
			}
		}
	})
	var subs sync.WaitGroup
	over := make(chan struct{})
	defer func() {
		n.c.mu.Lock()
		close(over)
		delete(n.conns, conn)
		n.c.grown.Broadcast()
		n.c.mu.Unlock()
		conn.Close()
		subs.Wait()
		out.put(nil)
		writer.Wait()
	}()
	out.put(wire.AppendHello(nil, &wire.Hello{Node: n.addr, Cluster: "fake", Now: 5_000_000, Eps: -1, Max: fakeMax}))
	in := wire.NewReader(conn, fakeMax)
	var q wire.Request
	for i := 1; ; i++ {
		err := in.Next(&q)
		var refused *wire.Error
		if errors.As(err, &refused) {
			out.put(wire.AppendError(nil, refused))
			if refused.Close {
				return
			}
			continue
		}
		if err != nil {
			return
		}
		n.c.mu.Lock()
		script := n.script
		n.c.asked[q.Verb.String()]++
		n.c.mu.Unlock()
		var do fakeAction
		if script != nil {
			do = script(i, &q)
		}
		switch {
		case do.drop:
			return
		case do.silent:
			_, _ = io.Copy(io.Discard, conn)
			return
		case do.refuse != nil:
			out.put(wire.AppendError(nil, do.refuse))
			continue
		}
		switch q.Verb {
		case wire.Pubn:
			r, gap := n.c.apply(&q)
			switch {
			case do.lose:
				return
			case do.late != nil:
				out.put(wire.AppendError(nil, do.late))
			case gap != nil:
				out.put(wire.AppendError(nil, gap))
			default:
				out.put(wire.AppendAck(nil, &r, ""))
			}
		case wire.Topics:
			out.put(n.topics(q.Topics))
		case wire.Info:
			out.put(wire.AppendEndCount(wire.AppendNodeLine(nil, &wire.NodeLine{Node: n.addr}), 1))
		case wire.Time:
			out.put(wire.AppendEndCount(wire.AppendClockLine(nil, &wire.ClockLine{Node: n.addr, State: "synchronised"}), 1))
		case wire.History:
			answer, cut := n.history(&q, do.lose)
			out.put(answer)
			if cut {
				out.put([]byte{}) // the writer has taken the answer when it takes this
				out.drained()
				return
			}
		case wire.Sub:
			if q.ByTime {
				m, refused := n.subscribeMerged(&q)
				if refused != nil {
					out.put(wire.AppendError(nil, refused))
					continue
				}
				out.put(wire.AppendSub(nil, m.sid))
				subs.Go(func() { n.deliverMerged(m, out, over) })
				continue
			}
			topic, sid, from := q.Topics[0], q.SID, q.From
			first, refused := n.subscribe(topic, from)
			if refused != nil {
				out.put(wire.AppendError(nil, refused))
				continue
			}
			out.put(wire.AppendSub(nil, sid))
			subs.Go(func() { n.deliver(topic, sid, first, out, over) })
		default:
			out.put(wire.AppendError(nil, wire.Errorf(wire.UnknownVerb, "%v", q.Verb)))
		}
	}
}

func (n *fakeNode) topics(asked []wire.Topic) (out []byte) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	count := 0
	for name, all := range n.c.topics {
		for i, p := range all {
			wanted := len(asked) == 0
			for _, t := range asked {
				wanted = wanted || t.Matches(name, i)
			}
			if wanted {
				count++
				out = wire.AppendTopicLine(out, &wire.TopicLine{Topic: name, Partition: i, Partitions: len(all), Leader: "n1", Next: uint64(n.end(p))})
			}
		}
	}
	return wire.AppendEndCount(out, count)
}

func (n *fakeNode) end(p *fakePartition) int { return max(0, len(p.messages)-n.behind) }

// history answers; with half set, only the first half of the messages is sent.
func (n *fakeNode) history(q *wire.Request, half bool) (out []byte, cut bool) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	all := n.c.topics[q.Topic.Name]
	if all == nil {
		return wire.AppendError(nil, wire.Errorf(wire.NoTopic, "no topic %s", q.Topic.Name)), false
	}
	var found []wire.Message
	for i, p := range all {
		if q.Topic.Partition == wire.AnyPartition || q.Topic.Partition == i {
			end := uint64(n.end(p))
			from, until := uint64(0), end
			if q.From.Kind == wire.AtOffset {
				if from = q.From.Offset; from > end {
					return wire.AppendError(nil, wire.PastEndError(from, end)), false
				}
			}
			if q.Until.Kind == wire.AtOffset {
				until = min(until, q.Until.Offset)
			}
			if from < until {
				found = append(found, p.messages[from:until]...)
			}
		}
	}
	if q.Last > 0 && uint64(len(found)) > q.Last {
		found = found[uint64(len(found))-q.Last:]
	}
	if q.Reverse {
		for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
			found[i], found[j] = found[j], found[i]
		}
	}
	if q.Limit > 0 && uint64(len(found)) > q.Limit {
		found = found[:q.Limit]
	}
	if half {
		found = found[:(len(found)+1)/2]
	}
	for i := range found {
		out = wire.AppendMessage(out, "-", &found[i])
	}
	if half {
		return out, true
	}
	return wire.AppendEnd(out, &wire.End{Topic: q.Topic.Name, N: uint64(len(found)), AsOf: 77}), false
}

func (n *fakeNode) subscribe(t wire.Topic, from wire.Position) (first uint64, _ *wire.Error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	all := n.c.topics[t.Name]
	if all == nil || t.Partition == wire.AnyPartition && len(all) > 1 {
		return 0, nil
	}
	if t.Partition >= len(all) {
		return 0, wire.Errorf(wire.Range, "topic has %d partitions", len(all))
	}
	end := uint64(n.end(all[max(t.Partition, 0)]))
	switch from.Kind {
	case wire.Latest, wire.Unset:
		return end, nil
	case wire.AtOffset:
		if from.Offset > end {
			return 0, wire.PastEndError(from.Offset, end)
		}
		return from.Offset, nil
	case wire.AtTime, wire.BackInTime:
		micros, _ := from.Time(5_000_000)
		return min(end, uint64(max(0, int64(micros)-1000))), nil
	default:
		return 0, nil
	}
}

func (n *fakeNode) deliver(t wire.Topic, sid string, next uint64, out *fakeQueue, over chan struct{}) {
	at := map[int]uint64{max(t.Partition, 0): next}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	known := slices.Clone(n.c.topics[t.Name])
	for {
		select {
		case <-over:
			return
		default:
		}
		for i, p := range n.c.topics[t.Name] {
			if t.Partition != wire.AnyPartition && t.Partition != i {
				continue
			}
			if i < len(known) && known[i] != p {
				known[i], at[i] = p, 0
			}
			for ; at[i] < uint64(n.end(p)); at[i]++ {
				out.put(wire.AppendMessage(nil, sid, &p.messages[at[i]]))
			}
		}
		n.c.grown.Wait()
	}
}

// fakeQueue hands byte slices on; nil ends it.
type fakeQueue struct {
	mu    sync.Mutex
	cond  *sync.Cond
	items [][]byte
	idle  bool
}

func newFakeQueue() *fakeQueue {
	q := &fakeQueue{}
	q.cond = sync.NewCond(&q.mu)
	return q
}

func (q *fakeQueue) put(p []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, p)
	q.cond.Broadcast()
}

func (q *fakeQueue) take() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.idle = true
	q.cond.Broadcast()
	for len(q.items) == 0 {
		q.cond.Wait()
	}
	q.idle = false
	p := q.items[0]
	q.items = q.items[1:]
	return p
}

// drained waits until all has been written.
func (q *fakeQueue) drained() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) > 0 || !q.idle {
		q.cond.Wait()
	}
}

// client returns a client of the cluster's nodes, in the order given.
func (c *fakeCluster) client(t testing.TB, change func(*Options), nodes ...string) *Client {
	t.Helper()
	opt := Options{Nodes: nodes, Clock: timesvc.NewSystem(timesvc.Skew{}), Dial: c.dial}
	if change != nil {
		change(&opt)
	}
	cl, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl
}

// within fails the test unless f returns in d of the bubble's time.
func within(t *testing.T, d time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > d {
		t.Errorf("took %v, more than %v", took, d)
	}
}

// merged is a SUB by order of time: the fake delivers its partitions in turn.
type merged struct {
	sid    string
	topics []wire.Topic
	froms  []wire.Position
	at     map[string]uint64 // by topic/partition
}

func (n *fakeNode) subscribeMerged(q *wire.Request) (*merged, *wire.Error) {
	m := &merged{sid: q.SID, topics: slices.Clone(q.Topics), froms: slices.Clone(q.Froms), at: map[string]uint64{}}
	if len(m.froms) == 0 {
		m.froms = slices.Repeat([]wire.Position{q.From}, len(m.topics))
	}
	for i, t := range m.topics {
		if t.Wild() || t.Partition == wire.AnyPartition {
			continue
		}
		first, err := n.subscribe(t, m.froms[i])
		if err != nil {
			return nil, err
		}
		if key := fmt.Sprintf("%s/%d", t.Name, t.Partition); m.at[key] == 0 {
			m.at[key] = first
		}
	}
	return m, nil
}

func (n *fakeNode) deliverMerged(m *merged, out *fakeQueue, over chan struct{}) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	for {
		select {
		case <-over:
			return
		default:
		}
		for name, all := range n.c.topics {
			for i, p := range all {
				if !slices.ContainsFunc(m.topics, func(t wire.Topic) bool { return t.Matches(name, i) }) {
					continue
				}
				key := fmt.Sprintf("%s/%d", name, i)
				for ; m.at[key] < uint64(n.end(p)); m.at[key]++ {
					out.put(wire.AppendMessage(nil, m.sid, &p.messages[m.at[key]]))
				}
			}
		}
		n.c.grown.Wait()
	}
}
