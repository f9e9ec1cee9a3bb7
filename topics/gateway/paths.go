package gateway

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

const (
	publishTimeout = 10 * time.Second // the protocol's default
	// answerGrace is how long after its timeout a publish waits for what the node
	// says about it.
	answerGrace = 5 * time.Second
	// historyTimeout bounds the way to a history's first message, and to its end.
	historyTimeout = 2 * time.Minute

	historyLimit    = 1_000 // unless told
	historyMost     = 10_000
	historyBuffered = 64 << 10
)

// slot takes one of the places for what runs at the same time, or answers that
// there is none. Who got one gives it back.
func slot(w http.ResponseWriter, places chan struct{}, what string) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
		fail(w, wire.Errorf(wire.Busy, "%d %s are under way, the maximum: try again", cap(places), what))
		return false
	}
}

// publish answers POST /topics/{topic}/messages.
func (g *Gateway) publish(w http.ResponseWriter, r *http.Request) {
	if !slot(w, g.publishes, "publishes") {
		return
	}
	defer func() { <-g.publishes }()
	m, err := g.message(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	c, release, ok := g.client(w, r)
	if !ok {
		return
	}
	defer release()
	_, cancel := g.within(w, r, m.Timeout+answerGrace)
	defer cancel()
	// Who leaves early has sent it all the same.
	receipt, err := c.PublishOnce(context.WithoutCancel(r.Context()), m)
	if err != nil {
		fail(w, err)
		return
	}
	head(w)
	_, _ = w.Write(append(receipt.AppendJSON(nil), '\n')) // the client left
}

func (g *Gateway) message(w http.ResponseWriter, r *http.Request) (m client.Message, err error) {
	q, err := g.query(r, "partition", "key", "id", "timeout")
	if err != nil {
		return m, err
	}
	t, err := topic(r)
	if err != nil {
		return m, err
	}
	if q.Has("partition") {
		n, err := strconv.ParseUint(q.Get("partition"), 10, 31)
		if err != nil {
			return m, wire.Errorf(wire.Range, "partition=%q is not the number of a partition", q.Get("partition"))
		}
		if t.Partition != wire.AnyPartition && t.Partition != int(n) {
			return m, wire.Errorf(wire.Syntax, "the path says partition %d and the query %d", t.Partition, n)
		}
		t.Partition = int(n)
	}
	timeout := publishTimeout
	if q.Has("timeout") {
		timeout, err = time.ParseDuration(q.Get("timeout"))
		if err != nil || timeout < time.Millisecond || timeout > wire.MaxTimeout {
			return m, wire.Errorf(wire.Syntax, "timeout=%q is not a duration from 1ms to %v, such as 10s", q.Get("timeout"), wire.MaxTimeout)
		}
	}
	if m, err = readMessage(w, r, q); err != nil {
		return m, err
	}
	m.Topic, m.Timeout = t.String(), timeout
	return m, nil
}

// history answers GET /topics/{topic}/messages. The messages are sent as they
// come, so that any number of them needs little memory. What fails after the
// first part was sent can only break the connection off.
func (g *Gateway) history(w http.ResponseWriter, r *http.Request) {
	if !slot(w, g.reads, "reads") {
		return
	}
	defer func() { <-g.reads }()
	t, opt, err := g.historyOptions(r)
	if err != nil {
		fail(w, err)
		return
	}
	c, release, ok := g.client(w, r)
	if !ok {
		return
	}
	defer release()
	ctx, cancel := g.within(w, r, historyTimeout)
	defer cancel()
	h := c.History(ctx, t.String(), opt)
	defer h.Close()
	out := &late{w: w}
	buf := bufio.NewWriterSize(out, historyBuffered)
	_, _ = buf.WriteString(`{"messages":[`)
	var line []byte
	for n := 0; h.Next(); n++ {
		line = line[:0]
		if n > 0 {
			line = append(line, ',')
		}
		line = h.Message().AppendJSON(line)
		if _, err := buf.Write(line); err != nil {
			return // the client left
		}
	}
	if err := h.Err(); err != nil {
		if out.began {
			panic(http.ErrAbortHandler) // an answer that looks whole would be a lie
		}
		fail(w, err)
		return
	}
	end := h.End()
	_, _ = buf.WriteString(`],"next":`)
	if end.Next == wire.NoOffset {
		_, _ = buf.WriteString("null") // several partitions: there is no one offset to go on from
	} else {
		_, _ = buf.WriteString(strconv.FormatUint(end.Next, 10))
	}
	_, _ = buf.WriteString(`,"asOf":` + strconv.FormatUint(end.AsOf, 10) + "}\n")
	_ = buf.Flush() // the client left
}

// late sends its head with the first part of the body: until then an error can
// still be answered.
type late struct {
	w     http.ResponseWriter
	began bool
}

func (l *late) Write(p []byte) (int, error) {
	if !l.began {
		head(l.w)
		l.began = true
	}
	return l.w.Write(p)
}

func (g *Gateway) historyOptions(r *http.Request) (t wire.Topic, opt client.HistoryOptions, err error) {
	q, err := g.query(r, "from", "until", "last", "limit", "reverse", "read")
	if err != nil {
		return t, opt, err
	}
	if t, err = topic(r); err != nil {
		return t, opt, err
	}
	if opt.From, err = position(q, "from"); err != nil {
		return t, opt, err
	}
	if opt.Until, err = position(q, "until"); err != nil {
		return t, opt, err
	}
	if opt.Last, err = number(q, "last", historyMost); err != nil {
		return t, opt, err
	}
	if opt.Limit, err = number(q, "limit", historyMost); err != nil {
		return t, opt, err
	}
	if opt.Limit == 0 {
		opt.Limit = historyLimit
		if opt.Last > 0 { // who says how many newest ones, means all of them
			opt.Limit = opt.Last
		}
	}
	switch v := q.Get("reverse"); {
	case v == "true" || v == "1" || v == "" && q.Has("reverse"):
		opt.Reverse = true
	case v != "false" && v != "0" && q.Has("reverse"):
		return t, opt, wire.Errorf(wire.Syntax, "reverse=%q is not true or false", v)
	}
	opt.Read = wire.ReadLinearizable
	if q.Has("read") {
		level, err := wire.ParseReadLevel(q.Get("read"))
		if err != nil {
			return t, opt, wire.Errorf(err.Code, "read: %s", err.Text)
		}
		opt.Read = level
	}
	return t, opt, nil
}

// list answers GET /topics.
func (g *Gateway) list(w http.ResponseWriter, r *http.Request) {
	if !slot(w, g.reads, "reads") {
		return
	}
	defer func() { <-g.reads }()
	if _, err := g.query(r); err != nil {
		fail(w, err)
		return
	}
	c, release, ok := g.client(w, r)
	if !ok {
		return
	}
	defer release()
	ctx, cancel := g.within(w, r, answerGrace+publishTimeout)
	defer cancel()
	out := &late{w: w}
	buf := bufio.NewWriterSize(out, historyBuffered)
	_ = buf.WriteByte('[')
	topic := ""
	var line []byte
	err := c.EachTopic(ctx, func(l *wire.TopicLine) {
		line = appendTopic(line[:0], l, topic)
		topic = l.Topic
		_, _ = buf.Write(line) // the client left
	})
	if err != nil {
		if out.began {
			panic(http.ErrAbortHandler)
		}
		fail(w, err)
		return
	}
	if topic != "" {
		_, _ = buf.WriteString("]}")
	}
	_, _ = buf.WriteString("]\n")
	_ = buf.Flush()
}

// appendTopic writes a line of TOPICS, which come by topic, as JSON; before is the
// topic of the line before, "" for the first.
func appendTopic(b []byte, l *wire.TopicLine, before string) []byte {
	switch {
	case before == l.Topic:
		b = append(b, ',')
	case before != "":
		b = append(b, "]},"...)
		fallthrough
	default:
		b = append(append(append(b, `{"name":"`...), l.Topic...), `","partitions":[`...) // names need no escape
	}
	b = strconv.AppendInt(append(b, `{"partition":`...), int64(l.Partition), 10)
	b = strconv.AppendInt(append(b, `,"shard":`...), int64(l.Shard), 10)
	b = append(append(append(b, `,"leader":"`...), l.Leader...), '"')
	b = strconv.AppendUint(append(b, `,"first":`...), l.First, 10)
	return append(strconv.AppendUint(append(b, `,"next":`...), l.Next, 10), '}')
}
