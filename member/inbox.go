package member

import (
	"sync"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/transport"
)

// inbox is how the other goroutines reach the raft loop. Putting something in
// never waits; raft's messages are dropped when too many wait, because raft
// repeats them.
type inbox struct {
	wakec chan struct{} // holds one: something is in the inbox, or Wake was called

	mu sync.Mutex // guards items
	items
}

// items are what the raft loop takes at once.
type items struct {
	messages []transport.Message
	applied  []appliedItem
	peers    []peerItem
	appended bool
	drain    bool
}

type appliedItem struct {
	group raftnode.GroupID
	index uint64
}

type peerItem struct {
	peer uint64
	up   bool
}

const maxInboxMessages = 8192

func newInbox() *inbox { return &inbox{wakec: make(chan struct{}, 1)} }

// wake makes the raft loop look.
func (b *inbox) wake() {
	select {
	case b.wakec <- struct{}{}:
	default:
	}
}

func (b *inbox) put(f func(*items)) {
	b.mu.Lock()
	f(&b.items)
	b.mu.Unlock()
	b.wake()
}

func (b *inbox) message(m transport.Message) {
	b.put(func(i *items) {
		if len(i.messages) < maxInboxMessages {
			i.messages = append(i.messages, m)
		}
	})
}

// take empties the inbox.
func (b *inbox) take() items {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.items
	b.items = items{}
	return got
}

// applyQueue holds what one group's apply loop has to do. The Host bounds it.
type applyQueue struct {
	c    chan struct{} // holds one: the queue is not empty
	mu   sync.Mutex    // guards jobs
	jobs []raftnode.Apply
}

func newApplyQueue() *applyQueue { return &applyQueue{c: make(chan struct{}, 1)} }

func (q *applyQueue) push(a raftnode.Apply) {
	q.mu.Lock()
	q.jobs = append(q.jobs, a)
	q.mu.Unlock()
	select {
	case q.c <- struct{}{}:
	default:
	}
}

func (q *applyQueue) take() []raftnode.Apply {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := q.jobs
	q.jobs = nil
	return jobs
}
