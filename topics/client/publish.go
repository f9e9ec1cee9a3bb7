package client

import (
	"context"
	"crypto/rand"
	"sync"

	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/wire"
)

// Publish publishes one message and waits for its receipt. A message with an ID
// is sent again, to other nodes too, until Options.Deadline; one without is never
// sent again once its outcome is unknown. The error is a *PublishError; when ctx
// ends first its class is Unknown, and the message may still be written.
func (c *Client) Publish(ctx context.Context, m Message) (wire.Receipt, error) {
	return wait(ctx, func(done func(Result)) error { return c.Send(ctx, m, done) })
}

// Send is Publish without waiting: done is called once, with the outcome, and may
// be nil. Send waits while the window is full; if it returns an error, done is not
// called. The calls of done come from one goroutine and must not block. Messages
// are sent in the order of the calls, but one that is tried again may be
// overtaken. The bytes of m may be used again when Send returns.
func (c *Client) Send(ctx context.Context, m Message, done func(Result)) error {
	q, err := request(&m)
	if err != nil {
		return err
	}
	p, err := c.sharedPipe()
	if err != nil {
		return &PublishError{Class: wire.NotWritten, Err: err}
	}
	return p.send(ctx, q, nil, done)
}

func (c *Client) sharedPipe() (*pipe, error) {
	c.mu.Lock()
	p := c.shared
	c.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := c.newPipe(false, 0)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	other := c.shared
	if other == nil {
		c.shared = p
	}
	c.mu.Unlock()
	if other != nil {
		p.close()
		return other, nil
	}
	return p, nil
}

func request(m *Message) (*wire.Request, error) {
	topic, err := wire.ParseTopic(m.Topic)
	if err != nil {
		return nil, &PublishError{Class: wire.NotWritten, Err: err}
	}
	return &wire.Request{Verb: wire.Pubn, Topic: topic, Key: m.Key, ID: m.ID, Headers: m.Headers, Payload: m.Value, Timeout: m.Timeout}, nil
}

func wait(ctx context.Context, send func(done func(Result)) error) (wire.Receipt, error) {
	outcome := make(chan Result, 1)
	if err := send(func(r Result) { outcome <- r }); err != nil {
		return wire.Receipt{}, err
	}
	select {
	case r := <-outcome:
		return r.Receipt, r.Err
	case <-ctx.Done():
		return wire.Receipt{}, &PublishError{Class: wire.Unknown, Err: context.Cause(ctx)}
	}
}

// ProducerOptions configure a Producer.
type ProducerOptions struct {
	// Name is the producer's name in the cluster (p=); default a random one. A
	// name must be used by one Producer only, ever: numbers start at 1.
	Name string
}

// Producer publishes under a name of its own with numbers without gap, so that
// whatever breaks, each message is stored once and in the order of the calls of
// Send (per partition). Methods may be called concurrently.
type Producer struct {
	c    *Client
	pipe *pipe
	name string

	mu     sync.Mutex // guards topics; taken before the pipe's, held while asking a node
	topics map[string]*producerTopic
}

// producerTopic is guarded by the pipe's mu, but for partitions, which never changes.
type producerTopic struct {
	partitions int            // 1 for a topic that did not exist when it was asked for
	seq        map[int]uint64 // by partition: the number given last
	turn       int            // for messages without key and id
}

// Producer starts a producer with a connection of its own. Close it.
func (c *Client) Producer(opt ProducerOptions) (*Producer, error) {
	name := opt.Name
	if name == "" {
		name = rand.Text()
	}
	if len(name) > wire.MaxProducerBytes {
		return nil, wire.Errorf(wire.Syntax, "a producer's name has at most %d bytes, this one %d", wire.MaxProducerBytes, len(name))
	}
	p, err := c.newPipe(true, 0)
	if err != nil {
		return nil, err
	}
	return &Producer{c: c, pipe: p, name: name, topics: make(map[string]*producerTopic)}, nil
}

// Name returns the producer's name in the cluster.
func (p *Producer) Name() string { return p.name }

// Send takes a message and calls done once, when its outcome is known, in the
// order of the calls of Send, from one goroutine; done must not block and may be
// nil. Send waits while the window is full; if it returns an error, the message
// was not taken and done is not called. The bytes of m may be used again when
// Send returns.
//
// A message is sent again under its number until Options.Deadline. The first
// message that fails, refused or not answered in time, ends the Producer: all
// after it fail too, with the class that holds for each, and so does Send.
func (p *Producer) Send(ctx context.Context, m Message, done func(Result)) error {
	q, err := request(&m)
	if err != nil {
		return err
	}
	t, err := p.topic(ctx, q.Topic)
	if err != nil {
		return &PublishError{Class: wire.NotWritten, Err: err}
	}
	q.Producer = p.name
	return p.pipe.send(ctx, q, func() { t.number(q) }, done)
}

// number gives the message its partition and its number there.
func (t *producerTopic) number(q *wire.Request) {
	if q.Topic.Partition == wire.AnyPartition && t.partitions > 1 {
		switch {
		case q.Key != nil:
			q.Topic.Partition = batch.Partition(q.Key, t.partitions)
		case q.ID != nil:
			q.Topic.Partition = batch.Partition(q.ID, t.partitions)
		default:
			q.Topic.Partition = t.turn
			t.turn = (t.turn + 1) % t.partitions
		}
	}
	partition := max(q.Topic.Partition, 0)
	t.seq[partition]++
	q.Seq = t.seq[partition]
}

// topic returns what is known of a topic, after asking a node the first time if
// the partition is left to the producer.
func (p *Producer) topic(ctx context.Context, asked wire.Topic) (*producerTopic, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.topics[asked.Name]
	if t == nil {
		t = &producerTopic{seq: make(map[int]uint64)}
		p.topics[asked.Name] = t
	}
	if asked.Partition == wire.AnyPartition && t.partitions == 0 {
		lines, err := p.c.Topics(ctx, asked.Name)
		if err != nil {
			return nil, err
		}
		t.partitions = 1
		for _, l := range lines {
			if l.Topic == asked.Name {
				t.partitions = max(l.Partitions, 1)
			}
		}
	}
	return t, nil
}

// Publish is Send that waits for the outcome. When ctx ends first, the error is
// a *PublishError of class Unknown, and the message may still be written.
func (p *Producer) Publish(ctx context.Context, m Message) (wire.Receipt, error) {
	return wait(ctx, func(done func(Result)) error { return p.Send(ctx, m, done) })
}

// Flush waits until everything taken before has its outcome. It returns ctx's
// error, or an error that wraps ErrProducerEnded if a message failed.
func (p *Producer) Flush(ctx context.Context) error { return p.pipe.flush(ctx) }

// Close ends the producer. What is unanswered fails; call Flush before. It must
// not be called from a done function.
func (p *Producer) Close() error {
	p.pipe.close()
	return nil
}
