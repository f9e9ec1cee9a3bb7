package member

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/wiber/wiber/raftnode/wal"
)

const (
	idleAfter   = 100 * time.Millisecond // of no append, until the log says that it is durable
	holdCommits = time.Millisecond
	settleEvery = 250 * time.Millisecond
	spareAgain  = 5 * time.Second // after the next segment could not be prepared
)

// runLoops runs an engine with goroutines until ctx ends or one of them fails;
// it returns when all have ended. drained is called once after a drain.
func (n *node) runLoops(ctx context.Context, e *Engine, drained func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	start := func(loop func(context.Context) error) {
		wg.Go(func() {
			if err := loop(ctx); err != nil {
				cancel(err)
			}
		})
	}
	appendc := make(chan []wal.Record, 1) // one append is outstanding at most
	sparec := make(chan struct{}, 1)
	queues := make([]*applyQueue, len(e.groups))
	for i := range queues {
		queues[i] = newApplyQueue()
		start(func(ctx context.Context) error { return n.applyLoop(ctx, e, queues[i]) })
	}
	start(func(ctx context.Context) error { return n.raftLoop(ctx, e, appendc, queues, drained) })
	start(func(ctx context.Context) error { return n.appendLoop(ctx, e, appendc, sparec) })
	start(func(ctx context.Context) error { return n.spareLoop(ctx, e, sparec) })
	start(func(ctx context.Context) error { return n.settleLoop(ctx, e) })
	wg.Wait()
	if err := context.Cause(ctx); err != nil && ctx.Err() != nil && err != context.Canceled {
		return err
	}
	return nil
}

// raftLoop owns the engine's raft side: it takes what comes, pumps, and hands
// the slow work to the other loops. It waits for no write and no sync.
//
// Rarely it reads the log: when raft wants entries that are older than the log's
// tail in memory (after a start, for a follower that was away, where applying is
// far behind); and when a request comes again, after a break or a change of
// leader, that was applied as a duplicate: its first receipt is in the log
// (Engine.firstReceipts).
func (n *node) raftLoop(ctx context.Context, e *Engine, appendc chan<- []wal.Record, queues []*applyQueue, drained func()) error {
	ticker := n.clock.NewTicker(n.tick)
	defer ticker.Stop()
	hold := n.clock.NewTimer(time.Hour)
	hold.Stop()
	defer hold.Stop()
	held := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
			e.Tick()
		case <-hold.C():
			held = false
			e.Release()
		case <-n.inbox.wakec:
			// Who can run already may have more for this round: under load that
			// joins several requests in one message to their leader.
			runtime.Gosched()
		}
		n.takeInbox(e)
		w := e.Pump()
		if w.Append != nil {
			appendc <- w.Append
		}
		for _, a := range w.Apply {
			queues[a.Group].push(a)
		}
		if w.Held && !held {
			held = true
			hold.Reset(holdCommits)
		}
		if w.Drained && drained != nil {
			drained()
			drained = nil
		}
	}
}

func (n *node) takeInbox(e *Engine) {
	in := n.inbox.take()
	if in.appended {
		e.Appended()
	}
	for _, a := range in.applied {
		e.Applied(a.group, a.index)
	}
	for _, m := range in.messages {
		if err := e.Step(m); err != nil {
			n.log.Warn("a message was refused", "peer", m.Raft.GetFrom(), "group", m.Group, "err", err)
		}
	}
	for _, p := range in.peers {
		if p.up {
			e.PeerUp(p.peer)
		} else {
			e.PeerDown(p.peer)
		}
	}
	if in.drain {
		e.TransferAll()
	}
}

// appendLoop owns the log's writer. A failed write or sync ends the process
// (D3).
func (n *node) appendLoop(ctx context.Context, e *Engine, appendc <-chan []wal.Record, sparec chan<- struct{}) error {
	idle := n.clock.NewTimer(idleAfter)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case recs := <-appendc:
			if err := e.Append(recs); err != nil {
				return fmt.Errorf("the log cannot be written, so this node ends (nothing acknowledged is lost; look at the disk, then start it again): %w", err)
			}
			n.inbox.put(func(i *items) { i.appended = true })
			if e.log.NeedsSpare() {
				select {
				case sparec <- struct{}{}:
				default:
				}
			}
			idle.Reset(idleAfter)
		case <-idle.C():
			if err := e.log.Idle(); err != nil {
				return fmt.Errorf("the log cannot be written, so this node ends: %w", err)
			}
		}
	}
}

// spareLoop prepares the log's next segment before it is needed. When that
// fails, the append that needs one makes it, and says what is wrong.
func (n *node) spareLoop(ctx context.Context, e *Engine, sparec <-chan struct{}) error {
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sparec:
			err := e.log.PrepareSpare()
			if err == nil {
				said = ""
				continue
			}
			if text := err.Error(); text != said {
				said = text
				n.log.Warn("the log's next segment could not be prepared", "err", err)
			}
			pause := n.clock.NewTimer(spareAgain)
			select {
			case <-ctx.Done():
			case <-pause.C():
			}
			pause.Stop()
		}
	}
}

// settleLoop makes index files and checkpoints of what the log has sealed.
func (n *node) settleLoop(ctx context.Context, e *Engine) error {
	ticker := n.clock.NewTicker(settleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = e.Settle(); err != nil {
				return err
			}
		}
	}
}

// applyLoop applies one group's committed entries.
func (n *node) applyLoop(ctx context.Context, e *Engine, q *applyQueue) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.c:
		}
		for _, a := range q.take() {
			if err := e.Apply(a); err != nil {
				return refusal(fmt.Errorf("apply: %w", err))
			}
			last := a.Entries[len(a.Entries)-1].Index
			n.inbox.put(func(i *items) { i.applied = append(i.applied, appliedItem{a.Group, last}) })
		}
	}
}
