package client

import (
	"context"
	"sync"
	"time"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

// refreshEvery is how often a link asks TOPICS anew.
const refreshEvery = 2 * time.Second

// link is the connection of a Subscription. Requests leave through run, so that
// nobody who reads ever waits for a node that waits for its reader; their order
// is kept in pending, because replies have it. TOPICS is sent at once and every
// two seconds, which also shows that the node is alive.
//
// The Subscription's goroutine calls read, answered, send and close.
type link struct {
	cn     *conn
	clock  timesvc.Clock
	stall  time.Duration
	topics wire.Request
	wakec  chan struct{} // holds one: out is not empty
	quit   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex // guards the fields below; not held across I/O
	out     []byte
	pending []*cursor     // requests without an answer; nil is TOPICS
	asking  bool          // TOPICS is among them
	waiting bool          // read has nothing at hand
	since   time.Duration // on Mono: since when
}

func newLink(ctx context.Context, cn *conn, clock timesvc.Clock, stall time.Duration, asked []wire.Topic) *link {
	ctx, quit := context.WithCancel(ctx)
	l := &link{cn: cn, clock: clock, stall: stall, topics: wire.Request{Verb: wire.Topics, Topics: asked},
		wakec: make(chan struct{}, 1), quit: quit, done: make(chan struct{})}
	l.send(&l.topics, nil)
	go l.run(ctx)
	return l
}

func (l *link) close() {
	l.quit()
	l.cn.Close()
	<-l.done
}

func (l *link) run(ctx context.Context) {
	defer close(l.done)
	defer context.AfterFunc(ctx, func() { l.cn.Close() })()
	tick := l.clock.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.cn.Close()
			return
		case <-tick.C():
			if l.silent() {
				l.cn.Close()
				return
			}
			l.refresh()
		case <-l.wakec:
			l.mu.Lock()
			out := l.out
			l.out = nil
			l.mu.Unlock()
			if _, err := l.cn.Write(out); err != nil {
				l.cn.Close()
				return
			}
		}
	}
}

// silent reports whether the node owes an answer for too long. Time in which
// nobody reads does not count.
func (l *link) silent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting && len(l.pending) > 0 && l.clock.Mono()-l.since >= l.stall
}

func (l *link) refresh() {
	l.mu.Lock()
	asking := l.asking
	l.mu.Unlock()
	if !asking {
		l.send(&l.topics, nil)
	}
}

// send queues a request; of is the cursor of a SUB, nil for TOPICS.
func (l *link) send(q *wire.Request, of *cursor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = wire.AppendRequest(l.out, q)
	l.pending = append(l.pending, of)
	l.asking = l.asking || of == nil
	select {
	case l.wakec <- struct{}{}:
	default:
	}
}

// answered takes the oldest request off pending and returns its cursor.
func (l *link) answered() *cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return nil
	}
	c := l.pending[0]
	l.pending = l.pending[1:]
	if c == nil {
		l.asking = false
	}
	return c
}

func (l *link) read(reply *wire.Reply) error {
	if l.cn.in.Buffered() == 0 {
		l.wait(true)
		defer l.wait(false)
	}
	return l.cn.in.Next(reply)
}

func (l *link) wait(waiting bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting, l.since = waiting, l.clock.Mono()
}
