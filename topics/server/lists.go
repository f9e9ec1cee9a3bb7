package server

import (
	"context"
	"strconv"
	"strings"

	"github.com/wiber/wiber/topics/wire"
)

// topicList is a TOPICS: a line for each partition, topic by topic.
type topicList struct {
	s     *session
	b     Backend
	want  []wire.Topic // none: all
	after string
	n     int
}

func newTopicList(s *session, q *wire.Request) *topicList {
	return &topicList{s: s, b: s.srv.backend, want: append([]wire.Topic(nil), q.Topics...)}
}

// prepare implements job: the offsets include what the connection has written.
func (l *topicList) prepare(ctx context.Context) *wire.Error {
	ctx, cancel := context.WithTimeout(ctx, l.s.srv.opts.ReadTimeout)
	defer cancel()
	if _, err := l.b.Barrier(ctx, Session, l.s.written()); err != nil {
		return l.s.srv.problem(err, wire.NoQuorum)
	}
	return nil
}

// emit implements job.
func (l *topicList) emit(dst []byte) ([]byte, bool) {
	const page = 128
	for len(dst) < flushBytes {
		list := l.b.Topics(l.after, page)
		if len(list) == 0 {
			return wire.AppendEndCount(dst, l.n), false
		}
		for _, t := range list {
			dst = l.lines(dst, t)
		}
		l.after = list[len(list)-1].Name
	}
	return dst, true
}

func (l *topicList) lines(dst []byte, t *Topic) []byte {
	for p := range t.Partitions {
		if !l.wants(t.Name, p) {
			continue
		}
		first, next, err := l.b.Bounds(Stream{t.UID, p})
		if err != nil {
			continue // gone meanwhile
		}
		shard := l.b.Shard(t.UID, p)
		dst = wire.AppendTopicLine(dst, &wire.TopicLine{
			Topic: t.Name, Partition: int(p), Partitions: int(t.Partitions), Shard: int(shard),
			Leader: l.b.Leader(ShardGroup(shard)), First: first, Next: next,
		})
		l.n++
	}
	return dst
}

func (l *topicList) wants(name string, partition uint32) bool {
	for _, w := range l.want {
		if w.Matches(name, int(partition)) {
			return true
		}
	}
	return len(l.want) == 0
}

// nodeList is an INFO.
type nodeList struct{ b Backend }

// prepare implements job; there is nothing to wait for.
func (*nodeList) prepare(context.Context) *wire.Error { return nil }

// emit implements job.
func (l *nodeList) emit(dst []byte) ([]byte, bool) {
	nodes := l.b.Nodes()
	for _, n := range nodes {
		leads := strings.Join(n.LeaderOf, ",")
		if leads == "" {
			leads = "-"
		}
		dst = wire.AppendNodeLine(dst, &wire.NodeLine{Node: n.ID, Fields: []wire.Field{
			{Name: "role", Value: n.Role},
			{Name: "term", Value: strconv.FormatUint(n.Term, 10)},
			{Name: "gossip", Value: n.Gossip},
			{Name: "leads", Value: leads},
		}})
	}
	return wire.AppendEndCount(dst, len(nodes)), false
}

// clockList is a TIME.
type clockList struct{ b Backend }

// prepare implements job; there is nothing to wait for.
func (*clockList) prepare(context.Context) *wire.Error { return nil }

// emit implements job.
func (l *clockList) emit(dst []byte) ([]byte, bool) {
	clocks := l.b.Clocks()
	for i := range clocks {
		dst = wire.AppendClockLine(dst, &clocks[i])
	}
	return wire.AppendEndCount(dst, len(clocks)), false
}
