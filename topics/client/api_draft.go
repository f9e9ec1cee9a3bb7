package client

import (
	"context"

	"github.com/wiber/wiber/topics/wire"
)

// Client publishes to and reads from one cluster. All methods may be called
// concurrently. It connects when something is first asked of it.
type Client struct{ opt Options }

// New returns a Client; no connection is made yet. Close it.
func New(opt Options) (*Client, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client{opt: opt}, nil
}

// Close fails what is unanswered and closes all connections, those of Producers,
// Histories and Subscriptions too.
func (c *Client) Close() error { return nil }

// Publish publishes one message and waits for its receipt. A message with an ID
// is sent again, to other nodes too, until Options.Deadline or ctx; one without
// is never sent again once its outcome is unknown. The error is a *PublishError.
func (c *Client) Publish(ctx context.Context, m Message) (wire.Receipt, error) {
	return wire.Receipt{}, ErrClosed
}

// Send is Publish without waiting: done is called once, with the outcome. It
// returns an error, and does not call done, if ctx ends while the window is full.
// The calls of done come from one goroutine and must not block. Messages are sent
// in the order of the calls, but one that is tried again may be overtaken.
func (c *Client) Send(ctx context.Context, m Message, done func(Result)) error { return ErrClosed }

// ProducerOptions configure a Producer.
type ProducerOptions struct {
	// Name is the producer's name in the cluster (p=); default a random one. A
	// name must be used by one Producer only, ever: numbers start at 1.
	Name string
}

// Producer publishes under a name of its own with numbers without gap, so that
// whatever breaks, each message is stored once and in the order of the calls of
// Send (per partition). Methods may be called concurrently.
type Producer struct{}

// Producer starts a producer with a connection of its own. Close it.
func (c *Client) Producer(opt ProducerOptions) (*Producer, error) { return nil, ErrClosed }

// Send takes a message and calls done once, when its outcome is known, in the
// order of the calls of Send, from one goroutine; done must not block and may be nil. Send
// waits while the window is full; if ctx ends then, it returns its error and the
// message is not taken. The bytes of m may be used again when Send returns.
//
// A message is sent again under its number until Options.Deadline. The first
// message that fails, refused or not answered in time, ends the Producer: all
// after it fail too, with the class that holds for each.
func (p *Producer) Send(ctx context.Context, m Message, done func(Result)) error { return ErrClosed }

// Publish is Send that waits for the outcome. When ctx ends first, the error is
// a *PublishError of class Unknown, and the message may still be written.
func (p *Producer) Publish(ctx context.Context, m Message) (wire.Receipt, error) {
	return wire.Receipt{}, ErrClosed
}

// Flush waits until everything sent before has its outcome. It returns ctx's
// error, or that of the first message that failed.
func (p *Producer) Flush(ctx context.Context) error { return ErrClosed }

// Close ends the producer. What is unanswered fails; call Flush before.
func (p *Producer) Close() error { return nil }

// HistoryOptions select what a History returns, as the options of HISTORY do.
type HistoryOptions struct {
	From, Until wire.Position
	Last, Limit uint64
	Reverse     bool
	Read        wire.ReadLevel
}

// History is a stream of messages with an end:
//
//	h := c.History(ctx, "orders", client.HistoryOptions{})
//	defer h.Close()
//	for h.Next() {
//		use(h.Message())
//	}
//	err := h.Err()
//
// It is for one goroutine. After a break it goes on with another node where it
// was, if the topic's partition is clear; a merged topic is only asked anew as
// long as nothing was delivered.
type History struct{}

// History asks for the messages of topic (name or name/partition). The question
// is sent with the first Next.
func (c *Client) History(ctx context.Context, topic string, opt HistoryOptions) *History {
	return &History{}
}

// Next reads the next message and reports whether there is one.
func (h *History) Next() bool { return false }

// Message returns the current message; its bytes are overwritten by Next.
func (h *History) Message() *wire.Message { return nil }

// End returns the closing line, once Next has returned false and Err is nil. N
// counts the messages delivered.
func (h *History) End() wire.End { return wire.End{} }

// Err returns why Next stopped early: a *wire.Error, or ctx's or the connection's error.
func (h *History) Err() error { return ErrClosed }

// Close ends the reading early.
func (h *History) Close() error { return nil }

// SubscribeOptions say what a Subscription delivers.
type SubscribeOptions struct {
	// From is where to begin; unset means Latest.
	From wire.Position
	// Limit ends the subscription after so many messages; 0: none.
	Limit uint64
}

// Subscription is an endless History of what is published, for one goroutine.
// It goes on with another node after a break, where each partition was.
type Subscription struct{}

// Subscribe subscribes to a comma-separated list of topics, topics with
// partition, and patterns. The question is sent with the first Next.
func (c *Client) Subscribe(ctx context.Context, topics string, opt SubscribeOptions) *Subscription {
	return &Subscription{}
}

// Next waits for the next message; false means the end: Limit, ctx, Close, or an error.
func (s *Subscription) Next() bool { return false }

// Message returns the current message; its bytes are overwritten by Next.
func (s *Subscription) Message() *wire.Message { return nil }

// Err returns why Next stopped; nil after Limit messages.
func (s *Subscription) Err() error { return ErrClosed }

// Close ends the subscription; it may be called from another goroutine, and Next
// then returns false.
func (s *Subscription) Close() error { return nil }

// Topics lists topics, a line for each partition, sorted by topic and partition;
// patterns (a topic, or with * and >) select some, none means all.
func (c *Client) Topics(ctx context.Context, patterns ...string) ([]wire.TopicLine, error) {
	return nil, ErrClosed
}

// Info lists nodes.
func (c *Client) Info(ctx context.Context) ([]wire.NodeLine, error) { return nil, ErrClosed }
