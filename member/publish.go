package member

import (
	"time"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/topics"
	"github.com/wiber/wiber/topics/server"
	"github.com/wiber/wiber/topics/wire"
)

// Publish implements server.Backend.
func (e *Engine) Publish(p *server.Publish) {
	t, ok := e.cat.Topic(p.UID)
	if !ok {
		p.Done.Complete(server.Receipt{}, server.ErrTopicGone)
		return
	}
	if p.Partition >= t.Spec.Partitions {
		p.Done.Complete(server.Receipt{}, wire.Errorf(wire.Range, "topic %s has %d partitions, from 0", t.Name, t.Spec.Partitions))
		return
	}
	stream := topics.Stream{UID: p.UID, Partition: p.Partition}
	g := e.groups[raftnode.Shard(int(e.cat.Shard(stream)))]
	cmd := topics.Publish{UID: p.UID, Partition: p.Partition, Batch: p.Batch}
	if p.ID != "" {
		cmd.HasID, cmd.ID = true, topics.HashID(stream, p.ID)
	}
	if p.Producer != "" {
		cmd.HasProducer, cmd.Producer, cmd.Seq = true, topics.HashProducer(p.Producer), p.Seq
	}
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = e.c.RequestTimeout
	}
	done := func(r topics.Result, err error) {
		if err == nil {
			err = resultError(r)
			if r.Code == topics.NoTopic {
				e.cat.refuse(r.UID)
			}
		}
		p.Done.Complete(receipt(g.id, r), err)
	}
	r := topics.NewPublish(cmd, p.Lamport, e.cat.Version())
	g.mu.Lock()
	err := g.submitLocked(r, e.c.Mono()+timeout, done)
	g.mu.Unlock()
	if err != nil {
		p.Done.Complete(server.Receipt{}, err)
		return
	}
	e.c.Wake()
}

// Change submits a command to the catalogue; done may be called from any
// goroutine, before this node has applied the change.
func (e *Engine) Change(r topics.Request, timeout time.Duration, done func(topics.Result, error)) {
	if timeout <= 0 {
		timeout = e.c.RequestTimeout
	}
	g := e.groups[raftnode.Catalogue]
	g.mu.Lock()
	err := g.submitLocked(r, e.c.Mono()+timeout, done)
	g.mu.Unlock()
	if err != nil {
		done(topics.Result{}, err)
		return
	}
	e.c.Wake()
}

func receipt(id raftnode.GroupID, r topics.Result) server.Receipt {
	out := server.Receipt{
		Offset: r.Base, TS: r.TS, Eps: r.EPS, Lamport: r.Lamport, Group: uint64(id), Term: r.Term, Index: r.Index,
		Synced: int(r.Synced), Replicas: int(r.Replicas), Duplicate: r.Duplicate,
	}
	if r.NoOffset {
		out.Unknown, out.Offset, out.TS, out.Eps, out.Lamport, out.Term, out.Index = true, 0, 0, 0, 0, 0, 0
	}
	return out
}

// resultError is what a session tells its client of a refused command.
func resultError(r topics.Result) error {
	switch r.Code {
	case topics.OK:
		return nil
	case topics.NoTopic:
		return server.ErrTopicGone
	case topics.Gap:
		return wire.GapError(r.Expected)
	}
	return wire.Errorf(wire.Code(r.Code.Word()), "%s", r.Code.Text(r.Expected))
}
