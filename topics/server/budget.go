package server

import (
	"context"
	"sync"
)

// budget bounds bytes. Those who wait get theirs in the order in which they
// came, so that a large request is not overtaken for ever by small ones.
type budget struct {
	total int64

	mu    sync.Mutex
	used  int64
	queue []*budgetWaiter
}

type budgetWaiter struct {
	n     int64
	grant chan struct{} // closed with the bytes given
}

func newBudget(total int) *budget { return &budget{total: int64(total)} }

// acquire takes n bytes, waiting for them until ctx ends. It returns what was
// taken and must be released: n, or the whole budget where n is more than that.
func (b *budget) acquire(ctx context.Context, n int64) (int64, error) {
	n = min(n, b.total)
	b.mu.Lock()
	if len(b.queue) == 0 && b.used+n <= b.total {
		b.used += n
		b.mu.Unlock()
		return n, nil
	}
	w := &budgetWaiter{n, make(chan struct{})}
	b.queue = append(b.queue, w)
	b.mu.Unlock()
	select {
	case <-w.grant:
		return n, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.grant: // granted in between: give it back
		b.used -= n
	default:
		for i := range b.queue {
			if b.queue[i] == w {
				b.queue = append(b.queue[:i], b.queue[i+1:]...)
				break
			}
		}
	}
	b.grantLocked()
	return 0, ctx.Err()
}

// release gives back what acquire returned.
func (b *budget) release(n int64) {
	b.mu.Lock()
	b.used -= n
	b.grantLocked()
	b.mu.Unlock()
}

func (b *budget) grantLocked() {
	for len(b.queue) > 0 && b.used+b.queue[0].n <= b.total {
		b.used += b.queue[0].n
		close(b.queue[0].grant)
		b.queue = b.queue[1:]
	}
}

// inUse returns the bytes that are taken.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
