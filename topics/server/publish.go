package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/wire"
)

// publish is a PUB or PUBN on its way: its reply and what the backend gets.
type publish struct {
	reply
	Publish
	s *session

	to       wire.Topic
	hashed   bool // by key, else by id
	hash     uint32
	bytes    int           // what maxMessageBytes counts
	deadline time.Duration // on the monotonic clock
	since    time.Duration // likewise: when it came
	noack    bool
	tries    int
	flight   *flight // guarded by session.mu; nil: the backend does not have it

	topic   *Topic
	receipt Receipt
}

// flight is the publishes for one topic's name that the backend has. Those that
// meet ErrTopicGone wait until the others have their outcome, and what comes
// meanwhile waits behind them, so that a topic which is made anew gets them in
// the order in which they were sent. session.mu guards it.
type flight struct {
	uid      uint64
	out      int        // the backend has them
	again    []*publish // to be routed again when out is 0
	resuming bool
}

const (
	maxTries    = 3  // a topic that goes away under a publish so often is gone
	maxEnsuring = 64 // topics that one session makes at the same time
)

// publish sends a message on its way. It waits for memory, and where the session
// makes maxEnsuring topics already, for one of them; otherwise never for an
// earlier request.
func (s *session) publish(ctx context.Context, q *wire.Request) error {
	if q.Lamport > timesvc.MaxLamport {
		return s.answer(ctx, &reply{tag: q.Tag, err: wire.Errorf(wire.Range, "lam=%d is over %d", q.Lamport, timesvc.MaxLamport)})
	}
	p := &publish{s: s, to: q.Topic, bytes: q.MessageBytes(), noack: q.NoAck}
	p.tag, p.pub = q.Tag, p
	record := batch.Record{Key: q.Key, ID: q.ID, Value: q.Payload, Timestamp: s.srv.clock.Now().UnixMilli()}
	for _, h := range q.Headers {
		record.Headers = append(record.Headers, batch.Header{Name: h.Name, Value: h.Value})
	}
	size := batch.HeaderBytes + 32 + 8*len(q.Headers) + p.bytes + len(q.ID) + len(batch.IDHeader)
	if err := s.admit(ctx, &p.reply, size); err != nil {
		return err
	}
	timeout := q.Timeout
	if timeout == 0 {
		timeout = s.srv.opts.PublishTimeout
	}
	p.since = s.srv.clock.Mono()
	p.deadline = p.since + timeout
	p.Topic = q.Topic.Name
	p.Batch = batch.AppendRecord(make([]byte, 0, size), &record)
	p.ID, p.Producer, p.Seq, p.Lamport = string(q.ID), q.Producer, q.Seq, q.Lamport
	p.Done = p
	switch {
	case q.Key != nil:
		p.hashed, p.hash = true, keyHash(q.Key)
	case q.ID != nil:
		p.hashed, p.hash = true, keyHash(q.ID)
	}

	s.mu.Lock()
	if p.tag == "" {
		s.pushLocked(&p.reply)
	} else {
		s.expectTaggedLocked(&p.reply)
	}
	s.mu.Unlock()
	s.route(p)
	return nil
}

// route is the publishes that wait until their topic is there.
type route struct{ waiting []*publish }

// route gives a publish to the backend, behind those that wait for the same topic.
func (s *session) route(p *publish) {
	s.routeMu.Lock()
	defer s.routeMu.Unlock()
	for {
		if r, ok := s.routes[p.Topic]; ok {
			r.waiting = append(r.waiting, p)
			return
		}
		if t, ok := s.srv.backend.Topic(p.Topic); ok {
			s.submit(p, t)
			return
		}
		if len(s.routes) < maxEnsuring {
			s.ensureLocked(p.Topic, []*publish{p})
			return
		}
		s.routed.Wait()
	}
}

// ensureLocked has the topic made and the publishes wait for it, until the first
// of them has waited long enough.
func (s *session) ensureLocked(name string, waiting []*publish) {
	r := &route{waiting: waiting}
	timeout := waiting[0].deadline
	for _, p := range waiting {
		timeout = min(timeout, p.deadline)
	}
	timeout -= s.srv.clock.Mono()
	s.mu.Lock()
	ok := s.goLocked(func() {
		ctx, cancel := context.WithTimeout(s.ctx, timeout)
		defer cancel()
		t, err := s.srv.backend.EnsureTopic(ctx, name)
		s.routeMu.Lock()
		defer s.routeMu.Unlock()
		delete(s.routes, name)
		s.routed.Broadcast()
		now, late := s.srv.clock.Mono(), ctx.Err() != nil && s.ctx.Err() == nil
		var left []*publish // have time to try it again
		for _, p := range r.waiting {
			switch {
			case err == nil:
				s.submit(p, t)
			case late && now < p.deadline:
				left = append(left, p)
			default:
				p.refuse(err)
			}
		}
		if len(left) > 0 {
			s.ensureLocked(name, left)
		}
	})
	s.mu.Unlock()
	if ok {
		s.routes[name] = r
		return
	}
	for _, p := range waiting {
		p.refuse(context.Canceled)
	}
}

// submit chooses the partition and hands the publish to the backend.
func (s *session) submit(p *publish, t *Topic) {
	p.topic, p.UID = t, t.UID
	p.Timeout = p.deadline - s.srv.clock.Mono()
	switch {
	case p.Timeout <= 0:
		p.refuse(context.DeadlineExceeded)
		return
	case p.bytes > t.MaxMessageBytes:
		p.fail(wire.Errorf(wire.TooLarge, "a message of %s has at most %d bytes (payload, key and headers), this one %d", t.Name, t.MaxMessageBytes, p.bytes))
		return
	case p.to.Partition != wire.AnyPartition:
		if uint64(p.to.Partition) >= uint64(t.Partitions) {
			p.fail(noPartition(t, p.to.Partition))
			return
		}
		p.Partition = uint32(p.to.Partition)
	case t.Partitions == 1:
		p.Partition = 0
	case p.Producer != "":
		p.fail(wire.Errorf(wire.Syntax, "%s has %d partitions and p= counts in one: name it, as in %s/0", t.Name, t.Partitions, t.Name))
		return
	case p.hashed:
		p.Partition = p.hash % t.Partitions
	default:
		p.Partition = s.nextPartition(t)
	}
	if s.launch(p) {
		s.srv.backend.Publish(&p.Publish)
	}
}

// launch says whether the publish may go to the backend now. The caller holds
// routeMu.
func (s *session) launch(p *publish) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flightLocked(p)
	if len(f.again) > 0 || f.uid != p.UID {
		f.again = append(f.again, p)
		return false
	}
	f.out++
	p.flight = f
	return true
}

// flightLocked returns the flight of the publish's topic; a new one has the
// publish's uid.
func (s *session) flightLocked(p *publish) *flight {
	f := s.flights[p.Topic]
	if f == nil {
		f = &flight{uid: p.UID}
		s.flights[p.Topic] = f
	}
	return f
}

// landLocked notes that the backend has the publish no more.
func (s *session) landLocked(p *publish) {
	f := p.flight
	if f == nil {
		return
	}
	p.flight = nil
	f.out--
	s.landedLocked(p.Topic, f)
}

// landedLocked routes again what waits in a flight once all of it has landed.
func (s *session) landedLocked(name string, f *flight) {
	switch {
	case f.out > 0 || f.resuming:
		return
	case len(f.again) > 0 && s.goLocked(func() { s.resume(name, f) }):
		f.resuming = true
		return
	}
	delete(s.flights, name)
	for _, p := range f.again { // the session has ended
		p.err = s.srv.problem(context.Canceled, wire.NoQuorum)
		s.doneLocked(&p.reply)
	}
}

// resume routes a flight's publishes again, in the order of their requests.
func (s *session) resume(name string, f *flight) {
	s.routeMu.Lock()
	defer s.routeMu.Unlock()
	s.mu.Lock()
	delete(s.flights, name)
	again := f.again
	s.mu.Unlock()
	r, ok := s.routes[name]
	if ok {
		again = append(again, r.waiting...)
	}
	slices.SortFunc(again, func(a, b *publish) int { return cmp.Compare(a.number, b.number) })
	if ok {
		r.waiting = again
	} else {
		s.ensureLocked(name, again)
	}
}

// nextPartition goes round the topic's partitions. Sessions begin at different
// ones. The caller holds routeMu.
func (s *session) nextPartition(t *Topic) uint32 {
	const remembered = 4096
	turn, ok := s.turn[t.UID]
	if !ok {
		if len(s.turn) >= remembered {
			clear(s.turn)
		}
		turn = s.srv.turn.Add(1) - 1
	}
	s.turn[t.UID] = turn + 1
	return turn % t.Partitions
}

func noPartition(t *Topic, partition int) *wire.Error {
	return wire.Errorf(wire.Range, "%s has no partition %d: it has %d, counted from 0", t.Name, partition, t.Partitions)
}

// Complete implements Completer.
func (p *publish) Complete(r Receipt, err error) {
	if err != nil {
		p.fail(err)
		return
	}
	s := p.s
	s.mu.Lock()
	if p.done {
		s.mu.Unlock()
		s.srv.log.Error("a publish was completed twice", "topic", p.Topic, "offset", r.Offset)
		return
	}
	p.receipt = r
	s.floors[r.Group] = max(s.floors[r.Group], r.Index)
	s.landLocked(p)
	bytes, since := p.bytes, p.since
	wake := s.doneLocked(&p.reply)
	s.mu.Unlock()
	s.srv.metrics.acknowledged(r.Duplicate, bytes, s.srv.clock.Mono()-since)
	if wake {
		s.wake()
	}
}

// fail ends the publish with an error, or routes it again where its topic was
// deleted under it.
func (p *publish) fail(err error) {
	s := p.s
	s.mu.Lock()
	if errors.Is(err, ErrTopicGone) && p.tries < maxTries && !s.ended {
		p.tries++
		f := p.flight
		if f == nil {
			f = s.flightLocked(p)
		} else {
			f.out--
			p.flight = nil
		}
		f.again = append(f.again, p)
		s.landedLocked(p.Topic, f)
		s.mu.Unlock()
		return
	}
	s.landLocked(p)
	s.mu.Unlock()
	e := s.srv.problem(err, wire.Timeout)
	s.srv.metrics.refused(e.Code)
	s.finish(&p.reply, e)
}

// refuse ends a publish that never reached the backend. Whatever is unknown about
// the topic, the message was not written.
func (p *publish) refuse(err error) {
	var e *wire.Error
	unknown := errors.As(err, &e) && e.Code.Class() == wire.Unknown
	if unknown || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = wire.Errorf(wire.NoQuorum, "topic %s could not be found or made in time: nothing was written, try again", p.Topic)
	}
	p.fail(err)
}

// appendAck appends the receipt, or nothing where none was asked for.
func (p *publish) appendAck(dst []byte) []byte {
	if p.noack {
		return dst
	}
	r := &p.receipt
	ack := wire.Receipt{
		Topic: p.topic.Name, Partition: int(p.Partition), Partitioned: p.topic.Partitions > 1,
		Offset: r.Offset, TS: r.TS, Eps: r.Eps, Lamport: r.Lamport, Term: r.Term, Index: r.Index,
		Synced: r.Synced, Replicas: r.Replicas, Duplicate: r.Duplicate,
	}
	if r.Unknown {
		ack.Offset = wire.NoOffset
	}
	return wire.AppendAck(dst, &ack, p.tag)
}
