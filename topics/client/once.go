package client

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/wire"
)

const (
	// laneIdle is how long a lane keeps its connection unused.
	laneIdle = 30 * time.Second
	// laneStreams bounds the partitions that a lane remembers its numbers of.
	laneStreams = 4096
	// partitionsFor is how long a topic's number of partitions is believed. A topic
	// that grows has its keys in other partitions that much later.
	partitionsFor = 5 * time.Second
	// knownTopics bounds the topics whose number of partitions is remembered.
	knownTopics = 10_000
)

// lanes are what PublishOnce sends on.
type lanes struct {
	tokens chan struct{} // one for each message on its way

	mu         sync.Mutex // guards what follows; not held across I/O
	idle       []*lane    // the one used last at the end
	made       int
	turn       int // for messages without key
	partitions map[string]counted
}

// lane carries one message at a time: a connection and a producer's name. A
// message that was certainly not written gives its number back; after an unknown
// outcome the name is never used again.
type lane struct {
	at   int
	pipe *pipe // nil while it has no connection
	name string
	seq  map[stream]uint64 // the number used last
	used time.Duration     // on Mono
}

type counted struct {
	partitions int
	at         time.Duration // on Mono
}

func newLanes(most int) *lanes {
	return &lanes{tokens: make(chan struct{}, most), partitions: make(map[string]counted)}
}

// PublishOnce publishes a message on behalf of somebody else. It is tried on one
// node after the other until m.Timeout (Options.Timeout if that is 0) has passed.
// A message without ID gets an identity that nobody sees, so that it is stored
// once at most; its failure is that of no other message. Messages that are
// published at the same time have no order. The error is a *PublishError; its
// class is Unknown only if the message may have been written.
func (c *Client) PublishOnce(ctx context.Context, m Message) (wire.Receipt, error) {
	q, err := request(&m)
	if err != nil {
		return wire.Receipt{}, err
	}
	timeout := m.Timeout
	if timeout == 0 {
		timeout = c.opt.Timeout
	}
	until := c.opt.Clock.Mono() + timeout
	ctx, cancel := context.WithTimeoutCause(ctx, timeout+2*answerGrace, ErrDeadline)
	defer cancel()
	l, err := c.lane(ctx)
	if err != nil {
		return wire.Receipt{}, &PublishError{Class: wire.NotWritten, Err: err}
	}
	defer c.lanes.put(l, c.opt.Clock.Mono)
	for try := 0; ; try++ {
		receipt, err := l.publish(ctx, c, *q, until)
		if err == nil || try == maxRenamed || !l.again(c, q.Topic, err) {
			return receipt, err
		}
	}
}

// maxRenamed is how often a message is published again under other circumstances:
// another name, another partition.
const maxRenamed = 2

// again says whether the error comes from what this side believed, and forgets it:
// that the producer is known (7 days of silence; a topic that was made anew), that
// the topic has one partition.
func (l *lane) again(c *Client, t wire.Topic, err error) bool {
	var pe *PublishError
	var refused *wire.Error
	if !errors.As(err, &pe) || pe.Class != wire.NotWritten || !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case wire.Gap:
		l.rename()
	case wire.Syntax, wire.Range:
		if t.Partition != wire.AnyPartition || c.opt.Direct {
			return false
		}
		c.lanes.mu.Lock()
		delete(c.lanes.partitions, t.Name)
		c.lanes.mu.Unlock()
	default:
		return false
	}
	return true
}

func (l *lane) rename() { l.name, l.seq = rand.Text(), make(map[stream]uint64) }

// lane takes a lane, or waits for one.
func (c *Client) lane(ctx context.Context) (*lane, error) {
	ls := c.lanes
	select {
	case ls.tokens <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if n := len(ls.idle); n > 0 {
		l := ls.idle[n-1]
		ls.idle = ls.idle[:n-1]
		return l, nil
	}
	l := &lane{at: ls.made}
	l.rename()
	ls.made++
	return l, nil
}

// put gives a lane back, and closes the connection of one that nobody needs.
func (ls *lanes) put(l *lane, mono func() time.Duration) {
	now := mono()
	var unused *pipe
	ls.mu.Lock()
	l.used = now
	ls.idle = append(ls.idle, l)
	for _, old := range ls.idle {
		if old.pipe != nil && now-old.used > laneIdle {
			unused, old.pipe = old.pipe, nil
			break
		}
	}
	ls.mu.Unlock()
	<-ls.tokens
	if unused != nil {
		unused.close()
	}
}

// publish sends one message and waits for its outcome.
func (l *lane) publish(ctx context.Context, c *Client, q wire.Request, until time.Duration) (wire.Receipt, error) {
	var to stream
	numbered := q.ID == nil && !c.opt.Direct
	if numbered {
		var err error
		if to, err = c.choose(ctx, &q); err != nil {
			return wire.Receipt{}, &PublishError{Class: wire.NotWritten, Err: err}
		}
		if len(l.seq) >= laneStreams {
			l.rename()
		}
		q.Producer, q.Seq = l.name, l.seq[to]+1
	}
	if l.pipe == nil {
		p, err := c.newPipe(false, l.at)
		if err != nil {
			return wire.Receipt{}, &PublishError{Class: wire.NotWritten, Err: err}
		}
		l.pipe = p
	}
	q.Timeout = max(until-c.opt.Clock.Mono(), time.Millisecond)
	outcome := make(chan Result, 1)
	if err := l.pipe.send(ctx, &q, nil, func(r Result) { outcome <- r }); err != nil {
		return wire.Receipt{}, err
	}
	var r Result
	select {
	case r = <-outcome:
	case <-ctx.Done():
		// What was not sent yet is certainly not written; only the pipe knows.
		l.pipe.close()
		l.pipe = nil
		r = <-outcome
		var pe *PublishError
		if errors.As(r.Err, &pe) && errors.Is(pe.Err, ErrClosed) {
			r.Err = &PublishError{Class: pe.Class, Err: context.Cause(ctx)}
		}
	}
	var pe *PublishError
	switch {
	case !numbered:
	case r.Err == nil:
		l.seq[to] = q.Seq
		r.Receipt.Duplicate = false // it was sent twice by nobody but this side
	case !errors.As(r.Err, &pe) || pe.Class != wire.NotWritten:
		l.rename()
	}
	return r.Receipt, r.Err
}

// choose gives the message its partition, if its topic has several.
func (c *Client) choose(ctx context.Context, q *wire.Request) (stream, error) {
	t := &q.Topic
	if t.Partition == wire.AnyPartition {
		n, err := c.partitions(ctx, t.Name)
		if err != nil {
			return stream{}, err
		}
		switch {
		case n == 1:
		case q.Key != nil:
			t.Partition = batch.Partition(q.Key, n)
		default:
			c.lanes.mu.Lock()
			t.Partition = c.lanes.turn % n
			c.lanes.turn++
			c.lanes.mu.Unlock()
		}
	}
	return stream{t.Name, max(t.Partition, 0)}, nil
}

// partitions returns how many partitions a topic has; 1 for one that is not there.
func (c *Client) partitions(ctx context.Context, name string) (int, error) {
	ls, now := c.lanes, c.opt.Clock.Mono()
	ls.mu.Lock()
	known, ok := ls.partitions[name]
	ls.mu.Unlock()
	if ok && now-known.at < partitionsFor {
		return known.partitions, nil
	}
	lines, err := c.Topics(ctx, name)
	if err != nil {
		return 0, err
	}
	known = counted{1, now}
	for i := range lines {
		known.partitions = max(known.partitions, lines[i].Partitions)
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if len(ls.partitions) >= knownTopics {
		clear(ls.partitions)
	}
	ls.partitions[name] = known
	return known.partitions, nil
}
