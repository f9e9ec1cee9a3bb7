package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wiber/wiber/topics/wire"
)

// SubscribeOptions say what a Subscription delivers.
type SubscribeOptions struct {
	// From is where to begin; unset means Latest. An offset needs a topic of one
	// partition, or topic/partition.
	From wire.Position
	// Limit ends the subscription after so many messages; 0: none.
	Limit uint64
	// ByTime merges everything that is subscribed to by its stamps. A message that
	// came after something younger was delivered has Late set.
	ByTime bool
	// MaxDelay is how long, by order of time, a message waits for others at most;
	// wire.DefaultMaxDelay if 0.
	MaxDelay time.Duration
}

// Subscription is an endless History of what is published, for one goroutine.
//
// It subscribes to each partition on its own and keeps that one's next offset,
// so that it goes on with another node where each partition was. What it does
// not know yet (a topic that begins to match a pattern, a new partition) it
// finds by asking every two seconds, and reads from its beginning.
//
// By order of time it is one SUB, which names each partition with its own next
// offset, and behind them what was asked for, for what is to come.
type Subscription struct {
	c      *Client
	ctx    context.Context // of the iteration: Next cannot be given another one
	cancel context.CancelCauseFunc
	opt    SubscribeOptions
	asked  []wire.Topic

	link    *link
	cursors map[stream]*cursor // of partitions, and of awaited topics under anyPartition
	bySID   map[string]*cursor // on this connection
	merged  cursor             // the one SUB by order of time: its sid, and whether it was accepted
	high    uint64             // by order of time: the youngest stamp delivered
	sids    int
	lines   []wire.TopicLine // of the TOPICS being answered
	begun   bool             // a node has answered a TOPICS: From has been applied

	reply wire.Reply
	got   uint64
	wait  backoff
	since time.Duration // on the clock's Mono: when Next was first called
	over  bool
	err   error

	using sync.Mutex // held by Next, and by Close once it has made Next return
}

// stream is one partition of a topic, or wire.AnyPartition of an awaited one.
type stream struct {
	topic     string
	partition int
}

// cursor is where a stream goes on.
type cursor struct {
	topic wire.Topic
	from  wire.Position // for SUB, until next is known
	next  uint64
	ts    uint64 // of the message before next
	known bool
	held  bool          // a SUB of it was accepted once: a later RANGE is a node that lags
	await bool          // the topic did not exist when it was subscribed to
	lags  bool          // the nodes asked say that next is past the end,
	since time.Duration // on the clock's Mono: since then
	sid   string
}

func (c *cursor) position() wire.Position {
	if c.known {
		return wire.OffsetPosition(c.next)
	}
	return c.from
}

// Subscribe subscribes to a comma-separated list of topics, topics with
// partition, and patterns. The question is sent with the first Next.
func (c *Client) Subscribe(ctx context.Context, topics string, opt SubscribeOptions) *Subscription {
	s := &Subscription{c: c, opt: opt, cursors: make(map[stream]*cursor), wait: backoff{free: len(c.opt.Nodes)}, since: -1}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if s.opt.From.Kind == wire.Unset {
		s.opt.From.Kind = wire.Latest
	}
	if s.opt.ByTime && s.opt.MaxDelay == 0 {
		s.opt.MaxDelay = wire.DefaultMaxDelay
	}
	if s.opt.MaxDelay < 0 || s.opt.MaxDelay > wire.MaxMaxDelay || s.opt.MaxDelay != 0 && !s.opt.ByTime {
		s.stop(fmt.Errorf("client: MaxDelay %v: belongs to ByTime, and is up to %v", s.opt.MaxDelay, wire.MaxMaxDelay))
		return s
	}
	for arg := range strings.SplitSeq(topics, ",") {
		t, err := wire.ParsePattern(arg)
		if err != nil {
			s.stop(err)
			return s
		}
		s.asked = append(s.asked, t)
	}
	if err := c.opened(s, func() { s.Close() }); err != nil {
		s.stop(err)
	}
	return s
}

// Begin returns when the subscription has its place: Latest is then before what
// is published next. False means the end, as with Next, which does the same where
// nobody called Begin.
func (s *Subscription) Begin() bool { return s.advance(true) }

// Next waits for the next message; false means the end: Limit, ctx, Close, or an error.
func (s *Subscription) Next() bool { return s.advance(false) }

// advance goes on to the next message, or until the subscription has begun.
func (s *Subscription) advance(begin bool) bool {
	s.using.Lock()
	defer s.using.Unlock()
	if s.since < 0 {
		s.since = s.c.opt.Clock.Mono()
	}
	for !s.over {
		if s.opt.Limit > 0 && s.got >= s.opt.Limit {
			s.stop(nil)
			return false
		}
		err := s.connect()
		for err == nil {
			if begin && s.begun {
				return true
			}
			var message bool
			if message, err = s.step(); message {
				s.got++
				s.wait.reset()
				return true
			}
		}
		s.disconnect()
		if err := s.final(err); err != nil {
			s.stop(err)
			return false
		}
		sleep(s.ctx, s.c.opt.Clock, s.wait.next())
	}
	return false
}

// final returns the error to end with, or nil when another attempt is due. Once
// a node has answered, attempts go on until ctx ends; only a node that is behind
// the cursor is believed after a while: the topic was deleted and made anew.
func (s *Subscription) final(err error) error {
	var refused *wire.Error
	switch {
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case errors.As(err, &refused) && !refused.Code.Later() && !errors.Is(err, errLags):
		return refused
	case !s.begun && s.c.opt.Clock.Mono()-s.since > s.c.opt.Timeout:
		return fmt.Errorf("client: SUB: no answer within %v: last: %w", s.c.opt.Timeout, err)
	}
	return nil
}

var errLags = errors.New("the node is behind")

func (s *Subscription) stop(err error) {
	s.over, s.err = true, err
	s.cancel(ErrClosed)
	s.disconnect()
	s.c.ended(s)
}

func (s *Subscription) connect() error {
	if s.link != nil {
		return nil
	}
	cn, err := s.c.dialAny(s.ctx)
	if err != nil {
		return err
	}
	s.link = newLink(s.ctx, cn, s.c.opt.Clock, s.c.opt.Stall, s.asked)
	s.bySID = make(map[string]*cursor)
	s.lines = nil
	for _, c := range s.cursors {
		c.sid = ""
	}
	s.merged.sid = ""
	return nil
}

func (s *Subscription) disconnect() {
	if s.link == nil {
		return
	}
	s.link.close()
	s.c.avoid(s.link.cn.addr)
	s.link = nil
}

// step reads one reply and reports whether it is a message to deliver.
func (s *Subscription) step() (bool, error) {
	if err := s.link.read(&s.reply); err != nil {
		return false, err
	}
	switch s.reply.Kind {
	case wire.KindMessage:
		return s.deliver(&s.reply.Message), nil
	case wire.KindTopic:
		s.lines = append(s.lines, s.reply.Topic)
		return false, nil
	case wire.KindEnd:
		s.link.answered()
		return false, s.found()
	case wire.KindSub:
		if c := s.link.answered(); c != nil {
			c.held, c.lags = true, false
			if c.await && c.from.Kind == wire.Latest {
				c.from.Kind = wire.Earliest // all of it will be new
			}
		}
		return false, nil
	case wire.KindError:
		return false, s.refused(s.reply.Err)
	}
	return false, fmt.Errorf("%w: no answer to SUB or TOPICS", wire.ErrMalformed)
}

// deliver moves the message's cursor and reports whether it is new.
func (s *Subscription) deliver(m *wire.Message) bool {
	key := stream{m.Topic, m.Partition}
	c := s.cursors[key]
	if c == nil { // of an awaited topic
		c = &cursor{topic: wire.Topic{Name: m.Topic, Partition: m.Partition}}
		s.cursors[key] = c
	}
	if c.known && m.Offset < c.next && m.TS <= c.ts {
		return false // else the topic was deleted and made anew
	}
	c.next, c.ts, c.known = m.Offset+1, m.TS, true
	if s.opt.ByTime {
		m.Late = m.Late || m.TS < s.high // what went before a break, this node does not know
		s.high = max(s.high, m.TS)
	}
	return true
}

// found compares the topics that exist with those that are subscribed to.
func (s *Subscription) found() error {
	defer func() { s.lines, s.begun = nil, true }()
	for i := range s.lines {
		l := &s.lines[i]
		ask := s.wants(l)
		if ask == nil {
			continue
		}
		key := stream{l.Topic, l.Partition}
		c := s.cursors[key]
		if c == nil {
			c = &cursor{topic: wire.Topic{Name: l.Topic, Partition: l.Partition}, from: wire.Position{Kind: wire.Earliest}}
			if !s.begun {
				if err := s.begin(c, l, ask); err != nil {
					return err
				}
			}
			s.cursors[key] = c
		}
		if s.opt.ByTime {
			continue
		}
		// The SUB of an awaited topic goes on for the partitions that it has now.
		if awaited := s.cursors[stream{l.Topic, wire.AnyPartition}]; awaited == nil || awaited.sid == "" {
			s.subscribe(c)
		}
	}
	if s.opt.ByTime {
		s.subscribeMerged()
		return nil
	}
	for _, t := range s.asked {
		key := stream{t.Name, t.Partition}
		if t.Wild() || s.exists(t) || t.Partition != wire.AnyPartition && s.asks(t.Name) {
			continue
		}
		c := s.cursors[key]
		if c == nil {
			c = &cursor{topic: t, from: s.opt.From, await: true}
			s.cursors[key] = c
		}
		s.subscribe(c)
	}
	return nil
}

// wants returns the argument that asks for a partition, or nil.
func (s *Subscription) wants(l *wire.TopicLine) *wire.Topic {
	for i := range s.asked {
		if s.asked[i].Matches(l.Topic, l.Partition) {
			return &s.asked[i]
		}
	}
	return nil
}

// asks reports whether the whole topic of that name is asked for.
func (s *Subscription) asks(name string) bool {
	return slices.Contains(s.asked, wire.Topic{Name: name, Partition: wire.AnyPartition})
}

func (s *Subscription) exists(t wire.Topic) bool {
	for i := range s.lines {
		if t.Matches(s.lines[i].Topic, s.lines[i].Partition) {
			return true
		}
	}
	return false
}

// begin applies From to a partition that exists when the subscription begins.
func (s *Subscription) begin(c *cursor, l *wire.TopicLine, ask *wire.Topic) error {
	c.from = s.opt.From
	switch s.opt.From.Kind {
	case wire.Latest:
		c.next, c.known = l.Next, true
	case wire.AtOffset:
		if l.Partitions > 1 && ask.Partition == wire.AnyPartition {
			return wire.Errorf(wire.Range, "topic %s has %d partitions: an offset needs %s/<partition>", l.Topic, l.Partitions, l.Topic)
		}
	case wire.BackInTime:
		micros, _ := s.opt.From.Time(s.link.cn.hello.Now)
		c.from = wire.Position{Kind: wire.AtTime, Micros: micros}
	}
	return nil
}

// subscribe sends the SUB of a cursor, unless it is subscribed to.
func (s *Subscription) subscribe(c *cursor) {
	if c.sid != "" {
		return
	}
	s.sids++
	c.sid = strconv.Itoa(s.sids)
	s.bySID[c.sid] = c
	s.link.send(&wire.Request{Verb: wire.Sub, Topics: []wire.Topic{c.topic}, SID: c.sid, From: c.position()}, c)
}

// subscribeMerged sends the SUB by order of time, unless it stands on this
// connection: what it does not name, the node takes in by itself.
func (s *Subscription) subscribeMerged() {
	if s.merged.sid != "" {
		return
	}
	s.sids++
	s.merged.sid = strconv.Itoa(s.sids)
	s.bySID[s.merged.sid] = &s.merged
	q := wire.Request{Verb: wire.Sub, SID: s.merged.sid, ByTime: true, MaxDelay: s.opt.MaxDelay}
	keys := slices.SortedFunc(maps.Keys(s.cursors), func(a, b stream) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
	for _, key := range keys {
		q.Topics = append(q.Topics, s.cursors[key].topic)
		q.Froms = append(q.Froms, s.cursors[key].position())
	}
	for _, t := range s.asked {
		from := s.opt.From // of what is not there yet, all will be new
		if from.Kind == wire.Latest || from.Kind == wire.AtOffset && (t.Wild() || s.exists(t)) {
			from = wire.Position{Kind: wire.Earliest}
		}
		q.Topics = append(q.Topics, t)
		q.Froms = append(q.Froms, from)
	}
	if len(q.Froms) == 1 {
		q.From, q.Froms = q.Froms[0], nil
	}
	s.link.send(&q, &s.merged)
}

// refused handles an -ERR: of a subscription that fell behind, which is made
// anew, or of the oldest unanswered request.
func (s *Subscription) refused(e *wire.Error) error {
	if sid, ok := e.Field("sub"); ok && e.Code == wire.Busy {
		if c := s.bySID[sid]; c != nil {
			delete(s.bySID, sid)
			c.sid = ""
			if s.opt.ByTime {
				s.subscribeMerged()
			} else {
				s.subscribe(c)
			}
		}
		return nil
	}
	c := s.link.answered()
	_, trimmed := e.Field("first")
	if c == nil || !c.held || e.Code != wire.Range || trimmed {
		return e
	}
	now := s.c.opt.Clock.Mono()
	if !c.lags {
		c.lags, c.since = true, now
	}
	if now-c.since > s.c.opt.Deadline {
		return e
	}
	return fmt.Errorf("%w: %w", errLags, e)
}

// Message returns the current message; its bytes are overwritten by Next.
func (s *Subscription) Message() *wire.Message { return &s.reply.Message }

// Err returns why Next stopped; nil after Limit messages.
func (s *Subscription) Err() error { return s.err }

// Close ends the subscription; it may be called from another goroutine, and Next
// then returns false.
func (s *Subscription) Close() error {
	s.cancel(ErrClosed)
	s.using.Lock()
	defer s.using.Unlock()
	if !s.over {
		s.stop(ErrClosed)
	}
	return nil
}
