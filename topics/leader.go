package topics

import (
	"cmp"
	"errors"
	"slices"

	"github.com/wiber/wiber/timesvc"
)

// CatalogueView is what a shard's Leader reads of the node's copy of the
// catalogue. It is called under the shard's lock, so it must not wait for one
// (lock order: shard, then catalogue). *Catalogue is one, if the caller sees to
// the locking.
type CatalogueView interface {
	// Version is the applied index of the copy.
	Version() uint64
	// NextUID is above every uid that the copy knows. A uid below it that the
	// copy does not hold is a deleted topic; one at or above it is not known yet.
	NextUID() uint64
	// Topic returns the topic with this uid.
	Topic(uid uint64) (Topic, bool)
	// DeletedSince appends the uids of the topics deleted after index; false
	// if that is no longer known and everything must be compared.
	DeletedSince(index uint64, uids []uint64) ([]uint64, bool)
}

// LeaderOptions says what a Leader stands in front of.
type LeaderOptions struct {
	// Machine is the group's *Broker or *Catalogue.
	Machine Machine
	// View is the node's copy of the catalogue; needed in front of a *Broker.
	View CatalogueView
	// Reference returns the cluster's reference time in microseconds and its
	// half-width, -1 when unsynchronised.
	Reference func() (us, eps int64)
	// DedupIDs is the cluster's dedupIds (default 1,000,000). A leader writes it
	// into the log where the log says otherwise.
	DedupIDs uint64
	// EntryBytes bounds what is joined into one entry (default 1 MiB); a larger
	// command goes alone. More is better throughput and worse latency.
	EntryBytes int
	// QueueBytes bounds the requests that wait (default 64 MiB); beyond it they
	// are refused with a Nack that is Busy.
	QueueBytes int
}

func (o LeaderOptions) withDefaults() (LeaderOptions, error) {
	b, isBroker := o.Machine.(*Broker)
	switch {
	case o.Machine == nil || isBroker && b == nil:
		return o, errors.New("topics: a Leader needs a Machine")
	case isBroker && o.View == nil:
		return o, errors.New("topics: a shard's Leader needs a View")
	case o.Reference == nil:
		return o, errors.New("topics: a Leader needs a Reference")
	case o.EntryBytes < 0 || o.QueueBytes < 0 || o.DedupIDs > MaxDedupIDs:
		return o, errors.New("topics: a limit of a Leader is out of range")
	}
	if o.DedupIDs == 0 {
		o.DedupIDs = DefaultDedupIDs
	}
	if o.EntryBytes == 0 {
		o.EntryBytes = 1 << 20
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 64 << 20
	}
	return o, nil
}

// requestOverhead is what a waiting request counts for besides its body.
const requestOverhead = 96

// clockEveryUS is the least reference time between two Clock commands.
const clockEveryUS = 1_000_000

// Leader is the queue of a group on the node that leads it. It takes the
// requests of every origin in order, stamps them, and joins them into entries.
// It never answers what it has not seen applied.
//
// It shares the lock of its machine.
type Leader struct {
	o      LeaderOptions
	broker *Broker // nil in front of the catalogue
	term   uint64  // 0: not leading

	streams []*inbound // sorted by raft id
	turn    int        // whose request is taken next
	queued  int        // bytes that wait
	stamper timesvc.Stamper
	given   int64 // the largest stamp in an entry; promises may lie above it

	// Of a shard only.
	catalogue  uint64 // the node's catalogue copy has applied up to here
	compared   uint64 // topics deleted up to here are in drops, or were
	drops      []uint64
	configured map[uint64]uint64 // uid -> generation proposed in this term
	limits     bool              // DedupIDs was compared in this term
	clockDue   bool
	clocked    int64 // reference time of the last Clock
}

// inbound is the stream of one origin in this term.
type inbound struct {
	origin Origin
	next   uint64 // the number that is taken next
	queue  []Request
	head   int
}

// NewLeader returns a Leader that does not lead yet.
func NewLeader(o LeaderOptions) (*Leader, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Leader{o: o}
	l.broker, _ = o.Machine.(*Broker)
	return l, nil
}

// Reset says that this node leads the group in this term, or, with term 0, that
// it leads no more. What waited is dropped: its origins send it again.
func (l *Leader) Reset(term uint64) {
	*l = Leader{o: l.o, broker: l.broker, term: term, catalogue: l.catalogue}
	l.look()
}

// look takes note of how far the node's copy of the catalogue is.
func (l *Leader) look() {
	if l.broker != nil && l.term != 0 {
		l.catalogue = max(l.catalogue, l.o.View.Version())
	}
}

// Receive takes requests with consecutive numbers. What is in the queue or on
// its way already is ignored. answers are the results of those that were
// applied before, valid as long as the caller likes. nack, if not nil, tells
// the origin where to go on.
func (l *Leader) Receive(from Origin, requests []Request) (answers []Result, nack *Nack) {
	if l.term == 0 || from.RaftID == 0 || len(requests) == 0 {
		return nil, nil
	}
	applied, ok := l.o.Machine.NextNumber(from)
	if !ok {
		return nil, nil // a dead incarnation
	}
	if _, term := l.o.Machine.Applied(); term != l.term {
		// Entries of earlier terms are still to be applied: what this origin's
		// next number is will be known then.
		return nil, &Nack{Expect: applied, Busy: true}
	}
	s := l.stream(from)
	if s == nil {
		return nil, nil
	}
	s.next = max(s.next, applied)
	for i := range requests {
		r := &requests[i]
		switch {
		case r.Number < applied:
			if a, ok := l.o.Machine.Remembered(from, r.Number); ok {
				answers = append(answers, a)
			}
		case r.Number < s.next:
		case r.Number > s.next:
			return answers, &Nack{Expect: s.next}
		case l.queued > 0 && l.queued+len(r.Body)+requestOverhead > l.o.QueueBytes:
			return answers, &Nack{Expect: s.next, Busy: true}
		default:
			s.push(*r)
			s.next++
			l.queued += len(r.Body) + requestOverhead
		}
	}
	return answers, nil
}

// stream returns the inbound stream of an origin, nil if a newer incarnation
// has one. A newer incarnation starts anew; what waits of the older one would be
// answered to nobody.
func (l *Leader) stream(from Origin) *inbound {
	i, ok := slices.BinarySearchFunc(l.streams, from.RaftID, func(s *inbound, id uint64) int { return cmp.Compare(s.origin.RaftID, id) })
	if !ok {
		l.streams = slices.Insert(l.streams, i, &inbound{origin: from})
	}
	s := l.streams[i]
	if s.origin.Counter > from.Counter {
		return nil
	}
	if s.origin.Counter < from.Counter {
		for s.waiting() {
			l.pop(s)
		}
		*s = inbound{origin: from}
	}
	return s
}

func (s *inbound) waiting() bool { return s.head < len(s.queue) }

func (s *inbound) push(r Request) {
	if s.head > 64 && s.head*2 > len(s.queue) {
		n := copy(s.queue, s.queue[s.head:])
		clear(s.queue[n:])
		s.queue, s.head = s.queue[:n], 0
	}
	s.queue = append(s.queue, r)
}

func (l *Leader) pop(s *inbound) Request {
	r := s.queue[s.head]
	s.queue[s.head] = Request{}
	s.head++
	if s.head == len(s.queue) {
		s.queue, s.head = s.queue[:0], 0
	}
	l.queued -= len(r.Body) + requestOverhead
	return r
}

// CatalogueApplied says that the node's copy of the catalogue has applied up to
// index. Requests that were resolved up to there go on, and topics deleted since
// are dropped from the shard. It saves asking: Pending and NextEntry look at the
// View themselves.
func (l *Leader) CatalogueApplied(index uint64) { l.catalogue = max(l.catalogue, index) }

// Tick proposes a Clock when the shard is quiet and the time has come to forget
// something. Call it a few times a second.
func (l *Leader) Tick() {
	if l.term == 0 || l.broker == nil || l.clockDue {
		return
	}
	now, _ := l.o.Reference()
	due, ok := l.broker.NextExpiry()
	if ok && int64(due) <= now && max(uint64(l.given), l.broker.last.TS) < due && now >= l.clocked+clockEveryUS {
		l.clockDue = true
	}
}

// Pending reports whether NextEntry would form an entry. When it becomes true
// the Host must be woken.
func (l *Leader) Pending() bool {
	if l.term == 0 {
		return false
	}
	l.look()
	if l.broker != nil && (!l.limits || l.clockDue || l.compared != l.catalogue || len(l.drops) > 0) {
		return true
	}
	for _, s := range l.streams {
		if s.waiting() && s.queue[s.head].Catalogue <= l.known() {
			return true
		}
	}
	return false
}

// known is the catalogue index up to which requests may be looked at.
func (l *Leader) known() uint64 {
	if l.broker == nil {
		return ^uint64(0)
	}
	return l.catalogue
}

// Promise is what a leader says about the stamps to come: behind what is stamped
// After, the last that it has stamped, its log gets nothing in this term that is
// stamped at or before Safe. So who has applied all up to After knows that nothing
// older than Safe will follow. Another term's leader is not bound by it.
type Promise struct{ Term, After, Safe uint64 }

// Promise promises as much as costs nothing: all up to the reference time. What
// is stamped from now on lies above it. ok is false while this node does not
// lead, or has entries of earlier terms to apply.
func (l *Leader) Promise() (p Promise, ok bool) {
	if l.term == 0 {
		return Promise{}, false
	}
	if _, term := l.o.Machine.Applied(); term != l.term {
		return Promise{}, false
	}
	l.given = max(l.given, int64(l.o.Machine.LastStamp().TS))
	now, _ := l.o.Reference()
	safe := max(l.given, l.stamper.Last(), now-1) // now itself may still be given
	l.stamper.Observe(timesvc.Stamp{TS: safe})
	p = Promise{Term: l.term, After: uint64(l.given), Safe: uint64(safe)}
	if plantedPromiseUnbound {
		p.After = l.o.Machine.LastStamp().TS
	}
	return p, true
}

// Above makes this node stamp above ts while it leads in this term. Nobody needs
// it to: but what an earlier leader promised is then kept by the next one as well,
// where that one has heard of it.
func (l *Leader) Above(ts uint64) {
	if l.term != 0 {
		l.stamper.Observe(timesvc.Stamp{TS: int64(ts)})
	}
}

// NextEntry forms the payload of the next entry of this term, nil if nothing
// waits. It is called only after every entry of earlier terms is applied, and
// what it returns is proposed in order, or the term ends.
func (l *Leader) NextEntry(term uint64) []byte {
	if term != l.term || term == 0 {
		return nil
	}
	l.look()
	f := forming{l: l}
	f.us, f.eps = l.o.Reference()
	applied := l.o.Machine.LastStamp()
	l.stamper.Observe(timesvc.Stamp{TS: int64(applied.TS), Lamport: applied.Lamport})
	l.given = max(l.given, int64(applied.TS))
	if l.broker != nil {
		l.upkeep(&f)
	}
	l.join(&f)
	if cap(f.data)-len(f.data) > len(f.data)/2 {
		return slices.Clone(f.data) // the log keeps it for a while
	}
	return f.data
}

// forming is an entry in the making.
type forming struct {
	l       *Leader
	data    []byte
	us, eps int64 // the reference time
	closed  bool  // what comes next would not fit
}

// command appends one command. The shard's own bookkeeping takes no stamp of its
// own, so that the message behind it is not stamped ahead of the clock.
func (f *forming) command(k Kind, o Origin, number, lamport uint64, body []byte) {
	if f.data == nil {
		f.data = append(make([]byte, 0, f.l.entrySize(len(body))), 1)
	}
	f.data[0] = max(f.data[0], k.version())
	stamper := &f.l.stamper
	s := Stamp{TS: uint64(f.l.given), EPS: timesvc.Unsynchronised, Lamport: stamper.Lamport()}
	if !k.repeatsStamp() {
		stamper.Merge(lamport)
		next := stamper.Next(f.us, f.eps)
		s = Stamp{TS: uint64(next.TS), EPS: next.Eps, Lamport: next.Lamport}
		f.l.given = next.TS
	}
	f.data = appendHeader(f.data, k, o, number, s, len(body))
	f.data = append(f.data, body...)
}

// entrySize guesses the size of the entry that is about to be formed, so that
// it is seldom moved while it grows.
func (l *Leader) entrySize(first int) int {
	n := 0
	for _, s := range l.streams {
		n += (len(s.queue) - s.head) * (HeaderBytes - requestOverhead)
	}
	return 1 + HeaderBytes + max(first, min(l.queued+n+first, l.o.EntryBytes))
}

func (f *forming) full() bool { return f.closed || len(f.data) >= f.l.o.EntryBytes }

// upkeep puts the shard's own commands first: its limit, the topics that are
// gone, the clock.
func (l *Leader) upkeep(f *forming) {
	if !l.limits {
		l.limits = true
		if l.broker.dedupIDs != l.o.DedupIDs {
			f.command(KindLimits, Origin{}, 0, 0, appendLimits(nil, l.o.DedupIDs))
		}
	}
	if l.compared != l.catalogue {
		l.compare()
	}
	for len(l.drops) > 0 && !f.full() {
		uid := l.drops[0]
		l.drops = l.drops[1:]
		_, proposed := l.configured[uid]
		if _, known := l.broker.Generation(uid); known || proposed {
			delete(l.configured, uid)
			f.command(KindDrop, Origin{}, 0, 0, appendDrop(nil, uid))
		}
	}
	if l.clockDue {
		l.clockDue, l.clocked = false, f.us
		f.command(KindClock, Origin{}, 0, 0, clock{l.broker.applied, l.broker.chain}.append(nil))
	}
}

// compare notes the topics that are gone from the catalogue: all of the shard's
// at the beginning of a term, later those that were deleted since.
func (l *Leader) compare() {
	uids, ok := []uint64(nil), false
	if l.compared != 0 {
		uids, ok = l.o.View.DeletedSince(l.compared, nil)
	}
	if !ok {
		uids = l.broker.TopicUIDs(uids[:0])
		for uid := range l.configured {
			if l.broker.gone(uid) {
				uids = append(uids, uid)
			}
		}
		slices.Sort(uids)
	}
	for _, uid := range uids {
		if l.deleted(uid) {
			l.drops = append(l.drops, uid)
		}
	}
	l.compared = l.catalogue
}

// deleted reports whether the catalogue had this topic and has it no more. One
// that the node's copy does not know yet is not deleted.
func (l *Leader) deleted(uid uint64) bool {
	if _, ok := l.o.View.Topic(uid); ok {
		return false
	}
	return uid < l.o.View.NextUID()
}

// join takes waiting requests, one of each origin in turn, until the entry is
// full or nothing can go on.
func (l *Leader) join(f *forming) {
	idle := 0
	for idle < len(l.streams) && !f.full() {
		s := l.streams[l.turn%len(l.streams)]
		if l.take(f, s) {
			idle = 0
		} else {
			idle++
		}
		l.turn++
	}
}

// take moves the stream's next request into the entry, if it may go on and fits.
func (l *Leader) take(f *forming, s *inbound) bool {
	applied, ok := l.o.Machine.NextNumber(s.origin)
	for s.waiting() && (!ok || s.queue[s.head].Number < applied) {
		l.pop(s) // an earlier leader's entry carried it
	}
	if !s.waiting() {
		return false
	}
	r := &s.queue[s.head]
	if r.Catalogue > l.known() {
		return false
	}
	if f.data != nil && len(f.data)+HeaderBytes+len(r.Body) > l.o.EntryBytes {
		f.closed = true
		return false
	}
	if l.broker != nil {
		l.prepare(f, s.origin, r)
	} else {
		f.command(r.Kind, s.origin, r.Number, r.Lamport, r.Body)
	}
	l.pop(s)
	return true
}

// prepare puts a publish into the entry: behind the topic's settings if the
// shard has older ones, or as a refusal if the topic is gone.
func (l *Leader) prepare(f *forming, o Origin, r *Request) {
	refuse := func(c Code, s Stream) {
		f.command(KindRefused, o, r.Number, r.Lamport, refused{c, s.UID, s.Partition}.append(nil))
	}
	p, err := decodePublish(r.Body)
	if r.Kind != KindPublish || err != nil {
		refuse(Malformed, Stream{})
		return
	}
	s := stream(p.UID, p.Partition)
	t, ok := l.o.View.Topic(p.UID)
	switch {
	case !ok:
		refuse(NoTopic, s)
		return
	case p.Partition >= t.Spec.Partitions:
		refuse(OutOfRange, s)
		return
	}
	l.settings(f, &t)
	f.command(KindPublish, o, r.Number, r.Lamport, r.Body)
}

// settings proposes the topic's settings if the shard's are older, counting what
// was proposed in this term.
func (l *Leader) settings(f *forming, t *Topic) {
	if g, ok := l.broker.Generation(t.UID); ok && g >= t.Generation || l.configured[t.UID] >= t.Generation {
		return
	}
	if l.configured == nil || len(l.configured) >= 1<<16 {
		l.configured = l.stillProposed()
	}
	l.configured[t.UID] = t.Generation
	c := configure{t.UID, t.Spec.Partitions, t.Generation, t.Spec.DedupWindowUS}
	f.command(KindConfigure, Origin{}, 0, 0, c.append(nil))
}

// stillProposed returns l.configured without what is applied.
func (l *Leader) stillProposed() map[uint64]uint64 {
	m := make(map[uint64]uint64)
	for uid, g := range l.configured {
		if have, ok := l.broker.Generation(uid); !ok || have < g {
			m[uid] = g
		}
	}
	return m
}
