package member

import (
	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/topics"
)

// Receive takes a message that is not raft's. Anything malformed is ignored: a
// request is sent again, a result asked for again.
func (e *Engine) Receive(from uint64, m transport.Message) {
	if m.Group >= uint64(len(e.groups)) {
		return
	}
	g := e.groups[m.Group]
	var calls []func()
	switch m.Kind {
	case transport.KindRequests:
		origin, requests, err := topics.DecodeRequests(m.Body)
		if err != nil || origin.RaftID != from {
			e.c.Logger.Warn("malformed requests", "peer", from, "group", g.id.String(), "err", err)
			return
		}
		g.mu.Lock()
		switch {
		case g.state.Proposing:
			calls = e.receiveLocked(g, origin, requests)
		case g.state.Role == raftnode.Leader && g.nearly+len(requests) <= maxEarlyRequests:
			g.early = append(g.early, earlyRequests{origin, requests})
			g.nearly += len(requests)
		}
		g.mu.Unlock()
	case transport.KindResults:
		to, results, err := topics.DecodeResults(m.Body)
		if err != nil {
			e.c.Logger.Warn("malformed results", "peer", from, "group", g.id.String(), "err", err)
			return
		}
		g.mu.Lock()
		calls = g.completeLocked(g.forward.Results(to, results))
		g.mu.Unlock()
	case transport.KindNack:
		to, nack, err := topics.DecodeNack(m.Body)
		if err != nil {
			e.c.Logger.Warn("malformed nack", "peer", from, "group", g.id.String(), "err", err)
			return
		}
		g.mu.Lock()
		g.forward.Nack(to, nack)
		g.mu.Unlock()
	case transport.KindAsk:
		e.receiveAsk(g, from, m.Body)
		return
	case transport.KindPromise:
		e.receivePromise(g, from, m.Body)
		return
	default:
		return
	}
	g.dirty.Store(true)
	run(calls)
	e.c.Wake()
}

func (e *Engine) receiveLocked(g *group, from topics.Origin, requests []topics.Request) []func() {
	answers, nack := g.leader.Receive(from, requests)
	if nack != nil {
		e.c.Transport.Send(from.RaftID, transport.Message{Kind: transport.KindNack, Group: uint64(g.id),
			Body: topics.EncodeNack(nil, from, *nack)})
	}
	return e.answerLocked(g, from, answers)
}

// answerLocked answers requests that were applied before. First receipts of
// duplicates are read back from the log, so it is done without the lock.
func (e *Engine) answerLocked(g *group, to topics.Origin, answers []topics.Result) []func() {
	if len(answers) == 0 {
		return nil
	}
	return []func(){func() {
		for i := range answers {
			answers[i].Synced, answers[i].Replicas = e.syncedAt(g.id, answers[i].Index)
		}
		e.deliver(g, to, answers)
	}}
}

// deliver brings results to their origin.
func (e *Engine) deliver(g *group, to topics.Origin, results []topics.Result) {
	e.firstReceipts(g, results)
	if to != e.origin {
		e.c.Transport.Send(to.RaftID, transport.Message{Kind: transport.KindResults, Group: uint64(g.id),
			Body: topics.EncodeResults(nil, to, results)})
		return
	}
	g.mu.Lock()
	calls := g.completeLocked(g.forward.Results(to, results))
	g.dirty.Store(true) // the window moved
	g.mu.Unlock()
	run(calls)
	e.c.Wake()
}

// firstReceipts gives duplicates the stamp and place of their first writing. It
// reads the log, in whatever goroutine delivers: an apply loop, a link's, or, for
// answers to requests that came again, the raft loop.
func (e *Engine) firstReceipts(g *group, results []topics.Result) {
	for i := range results {
		r := &results[i]
		if !r.Duplicate || r.NoOffset || g.reader == nil {
			continue
		}
		first, err := g.reader.At(topics.Stream{UID: r.UID, Partition: r.Partition}, r.Base)
		if err != nil {
			e.c.Logger.Error("first receipt of a duplicate", "group", g.id.String(), "offset", r.Base, "err", err)
			r.NoOffset = true // it was written; where and when cannot be said
			continue
		}
		r.TS, r.EPS, r.Lamport = first.Stamp.TS, first.Stamp.EPS, first.Stamp.Lamport
		r.Term, r.Index = first.Term, first.Index
		r.Synced, r.Replicas = e.syncedAt(g.id, r.Index)
	}
}
