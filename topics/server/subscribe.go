package server

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

// subscription is a SUB. prepare resolves it in a goroutine of its own; from
// emit on it belongs to writeLoop.
type subscription struct {
	s     *session
	sid   string
	want  []wire.Topic
	from  wire.Position   // of all of want,
	froms []wire.Position // or of each
	limit uint64
	order *ordered // nil: each partition for itself

	left    uint64 // messages that may still be given
	version uint64 // of the catalogue, up to which sources are right
	sources map[Stream]*source
	found   []*source // by prepare, in the order of topics and partitions
}

// source is one partition that a subscription follows: a position in the log,
// and whether there is news behind it.
type source struct {
	sub    *subscription
	r      *reader
	stop   func()
	active bool // in session.active
	dead   bool

	// In order of time.
	merged *timesvc.MergeSource
	came   []arrival // ascending; what lies below the first was given
	head   uint64    // offset of what is offered to the merge
	parked bool      // its bytes are not held
	fresh  bool      // in ordered.fresh

	queued bool // in session.news; guarded by session.mu
}

// position is the offset that the client gets next.
func (src *source) position() uint64 {
	if src.merged != nil && src.merged.Waiting() {
		return src.head
	}
	return src.r.lo
}

func newSubscription(s *session, q *wire.Request) *subscription {
	sub := &subscription{
		s: s, sid: q.SID, from: q.From, limit: q.Limit, left: math.MaxUint64,
		want: append([]wire.Topic(nil), q.Topics...), sources: make(map[Stream]*source),
	}
	if len(q.Froms) > 0 {
		sub.froms = append(sub.froms, q.Froms...)
	}
	if q.Limit > 0 {
		sub.left = q.Limit
	}
	if q.ByTime {
		sub.order = newOrdered(sub, q.MaxDelay)
	}
	return sub
}

// start returns where a partition begins: at the position of what names it first.
func (sub *subscription) start(name string, partition uint32) wire.Position {
	for i, w := range sub.want {
		if i < len(sub.froms) && w.Matches(name, int(partition)) {
			return sub.froms[i]
		}
	}
	return sub.from
}

// prepare implements job: it finds out where to begin.
func (sub *subscription) prepare(ctx context.Context) *wire.Error {
	ctx, cancel := context.WithTimeout(ctx, sub.s.srv.opts.ReadTimeout)
	defer cancel()
	if err := sub.begin(ctx); err != nil {
		return sub.s.srv.problem(err, wire.NoQuorum)
	}
	return nil
}

func (sub *subscription) begin(ctx context.Context) error {
	b := sub.s.srv.backend
	for i, w := range sub.want {
		from, several := sub.from, len(sub.want) > 1
		if i < len(sub.froms) {
			from, several = sub.froms[i], false
		}
		if from.Kind == wire.AtOffset && (several || w.Wild()) {
			return wire.Errorf(wire.Syntax, "from=%d: an offset belongs to one partition of one topic", from.Offset)
		}
	}
	sub.version = b.CatalogueVersion()
	for _, t := range sub.topics() {
		for p := range t.Partitions {
			if !sub.wants(t.Name, p) {
				continue
			}
			from := sub.start(t.Name, p)
			if from.Kind == wire.AtOffset && t.Partitions > 1 && !sub.names(t.Name, p) {
				return wire.Errorf(wire.Syntax, "%s has %d partitions, each with offsets of its own: name one, as in %s/0", t.Name, t.Partitions, t.Name)
			}
			if len(sub.sources) >= sub.s.srv.opts.MaxSources {
				return sub.tooMany()
			}
			if _, err := b.Barrier(ctx, Session, sub.s.floorsOf(t, int(p), Session)); err != nil {
				return err
			}
			src, err := sub.add(t, p, from)
			switch {
			case err == nil:
				sub.found = append(sub.found, src)
			case !errors.Is(err, ErrTopicGone):
				return err
			}
		}
		for _, want := range sub.want {
			if !want.Wild() && want.Name == t.Name && want.Partition != wire.AnyPartition && uint64(want.Partition) >= uint64(t.Partitions) {
				return noPartition(t, want.Partition)
			}
		}
	}
	return nil
}

func (sub *subscription) tooMany() *wire.Error {
	return wire.Errorf(wire.Busy, "a connection follows at most %d partitions: subscribe to less, or on several connections", sub.s.srv.opts.MaxSources)
}

// topics returns the topics that exist and are wanted.
func (sub *subscription) topics() []*Topic {
	const page = 1024
	var found []*Topic
	seen := make(map[string]bool)
	for _, want := range sub.want {
		if !want.Wild() {
			if t, ok := sub.s.srv.backend.Topic(want.Name); ok && !seen[t.Name] {
				seen[t.Name] = true
				found = append(found, t)
			}
			continue
		}
		for after := ""; ; {
			list := sub.s.srv.backend.Topics(after, page)
			if len(list) == 0 {
				break
			}
			for _, t := range list {
				if want.MatchesName(t.Name) && !seen[t.Name] {
					seen[t.Name] = true
					found = append(found, t)
				}
			}
			after = list[len(list)-1].Name
		}
	}
	return found
}

func (sub *subscription) wants(name string, partition uint32) bool {
	for _, w := range sub.want {
		if w.Matches(name, int(partition)) {
			return true
		}
	}
	return false
}

// names says whether what names a partition first names it alone.
func (sub *subscription) names(name string, partition uint32) bool {
	for _, w := range sub.want {
		if w.Matches(name, int(partition)) {
			return w.Partition != wire.AnyPartition
		}
	}
	return false
}

// add follows one more partition, from a position in it.
func (sub *subscription) add(t *Topic, p uint32, from wire.Position) (*source, error) {
	b := sub.s.srv.backend
	stream := Stream{t.UID, p}
	first, next, err := b.Bounds(stream)
	if err != nil {
		return nil, err
	}
	now, _ := b.Now()
	at, err := offsetOf(b, stream, from, next, first, next, now)
	if err != nil {
		return nil, err
	}
	src := &source{sub: sub, r: newReader(b, t, p, at, math.MaxUint64, false, turnBytes)}
	src.r.since, _ = from.Time(now) // a time to come leaves out what comes before it
	sub.sources[stream] = src
	if sub.order != nil {
		sub.order.add(src)
	}
	return src, nil
}

// emit implements job: the subscription begins.
func (sub *subscription) emit(dst []byte) ([]byte, bool) {
	s := sub.s
	if sub.sid == "" {
		for sub.sid == "" || s.subs[sub.sid] != nil {
			s.names++
			sub.sid = strconv.FormatUint(s.names, 10)
		}
	}
	switch {
	case s.subs[sub.sid] != nil:
		return wire.AppendError(dst, wire.Errorf(wire.Syntax, "subscription %s exists already: choose another sid", sub.sid)), false
	case s.sources+len(sub.sources) > s.srv.opts.MaxSources:
		return wire.AppendError(dst, sub.tooMany()), false
	}
	s.subs[sub.sid] = sub
	s.srv.subscriptions.Add(1)
	if sub.order != nil {
		s.ordered = append(s.ordered, sub.order)
	}
	if s.watch == nil {
		s.watch = s.srv.backend.WatchTopics(func() {
			s.update(func() { s.topicsChanged = true })
		})
	}
	s.sources += len(sub.sources)
	for _, src := range sub.found {
		src.follow()
	}
	sub.found = nil
	s.update(func() { s.topicsChanged = true }) // what changed since prepare
	return wire.AppendSub(dst, sub.sid), false
}

// follow wakes the session when the source has news; it may have some already.
func (src *source) follow() {
	src.stop = src.sub.s.srv.backend.Watch(src.r.stream, src.wake)
	src.wake()
}

// wake is called by the backend and must not block.
func (src *source) wake() {
	s := src.sub.s
	s.mu.Lock()
	first := !src.queued
	if first {
		src.queued = true
		s.news = append(s.news, src)
	}
	s.mu.Unlock()
	if first {
		s.wake()
	}
}

// pump writes what subscriptions have, a chunk of each source in turn, until out
// is full. It returns whether it did anything.
func (s *session) pump() bool {
	if s.draining.Load() {
		return false
	}
	for _, o := range s.ordered {
		o.promises()
	}
	s.mu.Lock()
	changed := s.topicsChanged
	s.topicsChanged = false
	news := s.news
	s.news = nil
	for _, src := range news {
		src.queued = false
	}
	s.mu.Unlock()
	for _, src := range news {
		if src.merged != nil {
			src.sub.order.news(src)
		} else if !src.active && !src.dead {
			src.active = true
			s.active = append(s.active, src)
		}
	}
	if changed {
		for _, sub := range s.subs {
			s.refresh(sub)
		}
	}
	worked := changed
	for _, o := range slices.Clone(s.ordered) { // a turn may end the subscription
		worked = o.turn() || worked
	}
	for len(s.active) > 0 && len(s.out) < flushBytes {
		src := s.active[0]
		s.active = s.active[1:]
		src.active = false
		if src.dead {
			continue
		}
		worked = true
		if s.read(src) {
			src.active = true
			s.active = append(s.active, src)
		}
	}
	return worked
}

// holding says whether messages wait for others, that are older.
func (s *session) holding() bool {
	return !s.draining.Load() && slices.ContainsFunc(s.ordered, (*ordered).pending)
}

// turnBytes is how much one source writes before others get their turn.
const turnBytes = 16 << 10

// read writes a chunk of one source. It returns whether there may be more. A
// source holds nothing between its turns but its position.
func (s *session) read(src *source) bool {
	sub := src.sub
	defer src.r.rest()
	most := len(s.out) + turnBytes
	for len(s.out) < most || len(src.r.batches) > 0 {
		m, err := src.r.next()
		switch {
		case errors.Is(err, ErrTopicGone):
			s.forget(src)
			return false
		case err != nil:
			s.fail(sub, err)
			return false
		case m == nil:
			return false
		}
		s.out = wire.AppendMessage(s.out, sub.sid, m)
		if sub.left--; sub.left == 0 {
			s.drop(sub)
			return false
		}
	}
	return true
}

// fail ends a subscription that cannot be read, and says so.
func (s *session) fail(sub *subscription, err error) {
	e := *s.srv.problem(err, wire.NoQuorum)
	e.Text = "sub=" + sub.sid + " next=" + sub.next() + " " + e.Text
	s.out = wire.AppendError(s.out, &e)
	s.drop(sub)
}

// refresh follows what the catalogue has gained and forgets what it has lost.
func (s *session) refresh(sub *subscription) {
	changes, version := s.srv.backend.TopicChanges(sub.version)
	sub.version = version
	for _, c := range changes {
		matches := false
		for _, w := range sub.want {
			matches = matches || w.MatchesName(c.Name)
		}
		if !matches {
			continue
		}
		for _, src := range sub.sources {
			if src.r.msg.Topic == c.Name && (c.Topic == nil || src.r.stream.UID != c.Topic.UID) {
				s.forget(src)
			}
		}
		if c.Topic == nil {
			continue
		}
		for p := range c.Topic.Partitions {
			src := sub.sources[Stream{c.Topic.UID, p}]
			if src != nil {
				src.r.msg.Partitioned = c.Topic.Partitions > 1
				continue
			}
			if !sub.wants(c.Name, p) {
				continue
			}
			if s.sources >= s.srv.opts.MaxSources {
				s.out = wire.AppendError(s.out, wire.Errorf(wire.Busy, "sub=%s next=%s %s", sub.sid, sub.next(), sub.tooMany().Text))
				s.drop(sub)
				return
			}
			s.join(sub, c.Topic, p)
		}
	}
}

// join follows a partition that was made after the SUB: from its start, or from
// the offset or time that the SUB named.
func (s *session) join(sub *subscription, t *Topic, p uint32) {
	from := sub.start(t.Name, p)
	asked := from
	if from.Kind == wire.Unset || from.Kind == wire.Latest || from.Kind == wire.AtOffset {
		from = wire.Position{Kind: wire.Earliest}
	}
	src, err := sub.add(t, p, from)
	if err != nil {
		return // gone again: the catalogue will say so
	}
	if asked.Kind == wire.AtOffset {
		src.r.lo = max(src.r.lo, asked.Offset)
	}
	s.sources++
	src.follow()
}

// forget follows one source no longer.
func (s *session) forget(src *source) {
	if src.dead {
		return
	}
	src.dead = true
	if src.stop != nil {
		src.stop()
		s.sources--
	}
	delete(src.sub.sources, src.r.stream)
	if src.merged != nil {
		src.sub.order.remove(src)
	}
}

// drop ends a subscription.
func (s *session) drop(sub *subscription) {
	for _, src := range sub.sources {
		s.forget(src)
	}
	if s.subs[sub.sid] == sub {
		delete(s.subs, sub.sid)
		s.srv.subscriptions.Add(-1)
	}
	if sub.order != nil {
		sub.order.stopWaits()
		s.ordered = slices.DeleteFunc(s.ordered, func(o *ordered) bool { return o == sub.order })
	}
}

// endSlow ends the subscriptions that are too far behind, and says so.
func (s *session) endSlow() {
	for sid, sub := range s.subs {
		if behind := sub.behind(); behind >= s.srv.opts.SlowBehind {
			s.srv.metrics.slow.Inc()
			s.out = wire.AppendError(s.out, wire.SlowError(sid, sub.next(), behind))
			s.drop(sub)
		}
	}
}

// behind returns how many messages the client has not been sent.
func (sub *subscription) behind() uint64 {
	total := uint64(0)
	for _, src := range sub.sources {
		if _, next, err := sub.s.srv.backend.Bounds(src.r.stream); err == nil && next > src.position() {
			total += next - src.position()
		}
	}
	return total
}

// next returns the offset to go on from, "-" where there is not just one source.
func (sub *subscription) next() string {
	if len(sub.sources) != 1 {
		return "-"
	}
	for _, src := range sub.sources {
		return strconv.FormatUint(src.position(), 10)
	}
	return "-"
}

// unsubscribe is an UNSUB.
type unsubscribe struct {
	s   *session
	sid string
}

// prepare implements job; there is nothing to wait for.
func (*unsubscribe) prepare(context.Context) *wire.Error { return nil }

// emit implements job.
func (u *unsubscribe) emit(dst []byte) ([]byte, bool) {
	sub := u.s.subs[u.sid]
	if sub == nil {
		return wire.AppendError(dst, wire.Errorf(wire.Range, "no subscription %s: it never was, or has ended", u.sid)), false
	}
	u.s.drop(sub)
	return wire.AppendOK(dst), false
}
