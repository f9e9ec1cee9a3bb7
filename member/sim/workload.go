package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/topics"
	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/server"
	"github.com/wiber/wiber/topics/wire"
)

// workload is the clients: publishers with seqs, with ids and with neither;
// readers of each level; subscribers.
type workload struct {
	w           *world
	streams     []streamName
	publishers  []*publisher
	subscribers []*subscriber
	outstanding []*attempt
	stopped     bool // no new messages; what is begun is brought to its end
}

// streamName is a partition as clients name it.
type streamName struct {
	topic     string
	partition uint32
}

type identity uint8

const (
	withSeq identity = iota
	withID
	plain
)

// message is one message that somebody wants to be in the log.
type message struct {
	by      *publisher
	number  uint64 // from 1, per publisher: its seq
	payload string
	id      string

	acked     bool
	receipt   server.Receipt
	stream    topics.Stream
	ackedAt   time.Duration
	abandoned bool // without an identity, and nobody knows what became of it
	tries     int
	flying    bool // the first sending has no end yet
}

// publisher sends its messages in order through one node at a time.
type publisher struct {
	w        *world
	name     string
	kind     identity
	to       streamName
	at       *node
	messages []*message
	first    int // messages before it are ended
	flying   int
	next     int // index of the next message to send
	pausing  bool
	arrives  time.Duration // when what was sent last reaches the node
}

// attempt is one sending of a message through a node; it ends once.
type attempt struct {
	m     *message
	n     *node
	again bool // a repetition of an acknowledged message
	ended bool
}

const (
	publisherWindow = 16
	patience        = 12 * time.Second
)

var errLost = errors.New("the connection broke")

func newWorkload(w *world) *workload {
	l := &workload{w: w}
	l.streams = []streamName{{"orders", 0}, {"wide", 0}, {"wide", 1}, {"wide", 2}}
	for i := range 9 {
		kind := identity(i % 3)
		p := &publisher{w: w, name: fmt.Sprintf("p%d", i), kind: kind, to: l.streams[i%len(l.streams)]}
		l.publishers = append(l.publishers, p)
		w.after(w.between(0, time.Second), p.produce)
	}
	for _, s := range l.streams {
		sub := &subscriber{w: w, of: s}
		l.subscribers = append(l.subscribers, sub)
		w.after(time.Second, sub.follow)
	}
	w.after(100*time.Millisecond, l.makeTopics)
	w.after(2*time.Second, l.read)
	return l
}

// makeTopics asks for the topics until some node shows them.
func (l *workload) makeTopics() {
	n := l.anyNode()
	missing := false
	for _, s := range []struct {
		name string
		spec topics.Spec
	}{{"orders", topics.DefaultSpec}, {"wide", topics.Spec{Partitions: 3, DedupWindowUS: 120e6, MaxMessageBytes: 1 << 20}}} {
		if n == nil || n.engine == nil {
			missing = true
			break
		}
		if _, ok := n.engine.Topic(s.name); !ok {
			missing = true
			n.engine.Change(topics.NewPut(topics.TopicChange{Name: s.name, Spec: s.spec}), time.Second, func(topics.Result, error) {})
		}
	}
	if missing {
		l.w.after(300*time.Millisecond, l.makeTopics)
	}
}

// anyNode picks a node that answers, or nil.
func (l *workload) anyNode() *node {
	var up []*node
	for _, n := range l.w.nodes {
		if n.up && n.engine != nil {
			up = append(up, n)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[l.w.rnd.IntN(len(up))]
}

// produce makes new messages at the publisher's own pace.
func (p *publisher) produce() {
	if p.w.work.stopped {
		return
	}
	for range 1 + p.w.rnd.IntN(6) {
		m := &message{by: p, number: uint64(len(p.messages) + 1)}
		m.payload = fmt.Sprintf("%s:%d", p.name, m.number)
		if p.w.chance(0.02) {
			m.payload += string(make([]byte, p.w.rnd.IntN(20_000)))
		}
		if p.kind == withID {
			m.id = fmt.Sprintf("id-%s-%d", p.name, m.number)
		}
		p.messages = append(p.messages, m)
	}
	p.send()
	p.w.after(p.w.between(5*time.Millisecond, 150*time.Millisecond), p.produce)
}

// send keeps the window full.
func (p *publisher) send() {
	for !p.pausing && p.flying < publisherWindow && p.next < len(p.messages) {
		m := p.messages[p.next]
		if m.acked || m.abandoned || m.flying && p.kind == plain {
			p.next++ // without an identity nothing is sent twice
			continue
		}
		if !p.attempt(m, false) {
			p.pause()
			return
		}
		p.next++
	}
}

// pause takes another node in a while and sends again what has no end yet.
func (p *publisher) pause() {
	if p.pausing {
		return
	}
	p.pausing = true
	p.w.after(p.w.between(20*time.Millisecond, 300*time.Millisecond), func() {
		p.pausing, p.at = false, p.w.work.anyNode()
		for p.first < len(p.messages) && (p.messages[p.first].acked || p.messages[p.first].abandoned) {
			p.first++
		}
		p.next = p.first
		p.send()
	})
}

// attempt sends a message; false when the publisher's node does not take it.
func (p *publisher) attempt(m *message, again bool) bool {
	n := p.at
	if again {
		n = p.w.work.anyNode()
	}
	if n == nil || !n.up || n.engine == nil {
		return false
	}
	t, ok := n.engine.Topic(p.to.topic)
	if !ok || p.to.partition >= t.Partitions {
		return false
	}
	b, err := batch.Build(nil, []batch.Record{{Value: []byte(m.payload)}})
	if err != nil {
		p.w.checks.fail("build a batch: %v", err)
		return false
	}
	a := &attempt{m: m, n: n, again: again}
	m.stream = topics.Stream{UID: t.UID, Partition: p.to.partition}
	m.tries++
	if !again {
		p.flying++
		m.flying = true
	}
	p.w.work.outstanding = append(p.w.work.outstanding, a)
	pub := &server.Publish{Topic: t.Name, UID: t.UID, Partition: p.to.partition, Batch: b, ID: m.id, Timeout: 10 * time.Second, Done: a}
	if p.kind == withSeq {
		pub.Producer, pub.Seq = p.name, m.number
	}
	// What one connection carries arrives in order.
	p.arrives = max(p.arrives, p.w.now+p.w.between(20*time.Microsecond, 500*time.Microsecond))
	p.w.after(p.arrives-p.w.now, n.do(func() {
		n.engine.Publish(pub)
		n.wake()
	}))
	p.w.after(patience, func() { a.end(server.Receipt{}, errLost) })
	return true
}

// Complete implements server.Completer.
func (a *attempt) Complete(r server.Receipt, err error) { a.end(r, err) }

func (a *attempt) end(r server.Receipt, err error) {
	if a.ended {
		return
	}
	a.ended = true
	p := a.m.by
	l := p.w.work
	l.outstanding = slices.DeleteFunc(l.outstanding, func(x *attempt) bool { return x == a })
	if !a.again {
		p.flying--
		a.m.flying = false
	}
	p.w.note(3, a.m.number, r.Offset, r.TS)
	if err == nil {
		p.w.checks.acked(a, r)
		if a.m.tries == 1 && p.kind != plain && p.w.chance(0.05) {
			p.w.after(p.w.between(time.Millisecond, 8*time.Second), func() { p.attempt(a.m, true) })
		}
		p.send()
		return
	}
	if a.again {
		return // the acknowledgement stands; the repetition is not needed
	}
	var e *wire.Error
	switch known := errors.As(err, &e) && e.Code.Class() == wire.NotWritten || errors.Is(err, server.ErrTopicGone); {
	case p.kind == plain && !known:
		a.m.abandoned = true
		p.w.report.Unknown++
	case !known:
		p.w.report.Unknown++
	}
	p.pause()
}

// lost ends what was under way through a node that died.
func (l *workload) lost(n *node) {
	for _, a := range slices.Clone(l.outstanding) {
		if a.n == n {
			a.end(server.Receipt{}, errLost)
		}
	}
}

// done says whether every message has an end.
func (l *workload) done() bool {
	for _, p := range l.publishers {
		for ; p.first < len(p.messages); p.first++ {
			if m := p.messages[p.first]; !m.acked && !m.abandoned {
				return false
			}
		}
	}
	return len(l.outstanding) == 0
}

// read asks a node at one of the levels, again and again.
func (l *workload) read() {
	defer l.w.after(l.w.between(5*time.Millisecond, 60*time.Millisecond), l.read)
	n := l.anyNode()
	if n == nil {
		return
	}
	s := l.streams[l.w.rnd.IntN(len(l.streams))]
	level := l.w.rnd.IntN(3)
	n.do(func() { l.readAt(n, s, level) })()
}

func (l *workload) readAt(n *node, s streamName, level int) {
	t, ok := n.engine.Topic(s.topic)
	if !ok || s.partition >= t.Partitions {
		return
	}
	stream := topics.Stream{UID: t.UID, Partition: s.partition}
	group := raftnode.Shard(int(n.engine.Shard(stream.UID, stream.Partition)))
	switch level {
	case 0:
		l.w.report.LocalReads++
		l.w.checks.read(n, stream, 0)
	case 1: // a session that has just written
		floor, index := l.w.checks.newest(stream)
		n.engine.WhenApplied(group, index, n.do(func() {
			l.w.report.SessionReads++
			l.w.checks.read(n, stream, floor)
		}))
	default:
		floor, _ := l.w.checks.newest(stream)
		n.engine.Linearizable(group, n.do(func() {
			l.w.report.LinearizableReads++
			l.w.checks.read(n, stream, floor)
		}))
	}
	n.wake()
}

// subscriber follows a stream from its start, over the deaths of nodes.
type subscriber struct {
	w    *world
	of   streamName
	next uint64
}

// follow reads what there is at some node and goes on later, perhaps elsewhere.
func (s *subscriber) follow() {
	defer s.w.after(s.w.between(20*time.Millisecond, 400*time.Millisecond), s.follow)
	n := s.w.work.anyNode()
	if n == nil || n.paused {
		return
	}
	if t, ok := n.engine.Topic(s.of.topic); ok && s.of.partition < t.Partitions {
		s.next = s.w.checks.follow(n, topics.Stream{UID: t.UID, Partition: s.of.partition}, s.next)
	}
}
