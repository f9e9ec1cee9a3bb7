package topics

import (
	"fmt"
	"testing"

	"github.com/wiber/wiber/topics/batch"
)

// makeBatch returns a record batch of n records with the given value.
func makeBatch(t testing.TB, n int, value string) []byte {
	t.Helper()
	records := make([]batch.Record, n)
	for i := range records {
		records[i].Value = []byte(value)
	}
	b, err := batch.Build(nil, records)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// group is one replica of a shard with a leader in front of it, a log in memory
// and a clock that is set by hand.
type group struct {
	t      testing.TB
	cat    *Catalogue
	broker *Broker
	leader *Leader
	log    *memoryLog
	now    int64
	eps    int64
	index  uint64
	term   uint64
	catIdx uint64
}

func newGroup(t testing.TB) *group {
	g := &group{t: t, cat: NewCatalogue(), broker: NewBroker(), log: newMemoryLog(), now: 1_000_000, eps: -1}
	var err error
	g.leader, err = NewLeader(LeaderOptions{Machine: g.broker, View: g.cat, Reference: func() (int64, int64) { return g.now, g.eps }})
	if err != nil {
		t.Fatal(err)
	}
	g.catalogue(NewForm(Form{ClusterInfo: ClusterInfo{ID: [16]byte{1}, Shards: 1}}))
	g.lead(1)
	return g
}

// catalogue applies requests to the catalogue as one entry.
func (g *group) catalogue(requests ...Request) []Result {
	g.t.Helper()
	var data []byte
	for i, r := range requests {
		ts := g.cat.last.TS + 1 + uint64(i)
		data = AppendCommand(data, Command{
			Kind: r.Kind, Origin: Origin{9, g.catIdx + 1}, Number: uint64(i + 1), Stamp: Stamp{TS: ts, EPS: -1}, Body: r.Body,
		})
	}
	g.catIdx++
	outs, err := g.cat.Apply(Entry{Index: g.catIdx, Term: 1, Data: data})
	if err != nil {
		g.t.Fatal(err)
	}
	if len(outs) != len(requests) {
		g.t.Fatalf("%d outcomes of %d catalogue requests", len(outs), len(requests))
	}
	var rs []Result
	for _, o := range outs {
		rs = append(rs, o.Result)
	}
	return rs
}

// topic creates or changes a topic and returns its uid.
func (g *group) topic(name string, change func(*Spec)) uint64 {
	g.t.Helper()
	s := DefaultSpec
	if change != nil {
		change(&s)
	}
	r := g.catalogue(NewPut(TopicChange{Name: name, Spec: s}))[0]
	if r.Code != OK {
		g.t.Fatalf("put %s: %v", name, r.Code.Text(0))
	}
	return r.UID
}

// lead makes the leader lead a term: the empty entry, then the reset.
func (g *group) lead(term uint64) {
	g.t.Helper()
	g.term = term
	g.leader.Reset(term)
	g.apply(nil)
}

// apply appends an entry to the log and applies it.
func (g *group) apply(data []byte) []Outcome {
	g.t.Helper()
	g.index++
	e := Entry{Index: g.index, Term: g.term, Data: data, Pos: g.log.append(data)}
	g.log.entries = append(g.log.entries, e)
	outs, err := g.broker.Apply(e)
	if err != nil {
		g.t.Fatal(err)
	}
	return outs
}

// step forms and applies entries until nothing waits.
func (g *group) step() []Outcome {
	g.t.Helper()
	var all []Outcome
	for {
		data := g.leader.NextEntry(g.term)
		if data == nil {
			return all
		}
		all = append(all, g.apply(data)...)
	}
}

// send hands requests of an origin to the leader, numbered from first on.
func (g *group) send(from Origin, first uint64, requests ...Request) ([]Result, *Nack) {
	for i := range requests {
		requests[i].Number = first + uint64(i)
		if requests[i].Catalogue == 0 {
			requests[i].Catalogue = g.catIdx
		}
	}
	return g.leader.Receive(from, requests)
}

// publish sends one publish of an origin's next number and returns its result.
func (g *group) publish(p Publish) Result {
	g.t.Helper()
	o := Origin{1, 1}
	next, _ := g.broker.NextNumber(o)
	if _, nack := g.send(o, next, NewPublish(p, 0, 0)); nack != nil {
		g.t.Fatalf("nack %+v", *nack)
	}
	outs := g.step()
	if len(outs) != 1 {
		g.t.Fatalf("%d outcomes of one publish", len(outs))
	}
	return outs[0].Result
}

// message is a batch of one for a stream.
func (g *group) message(s Stream, value string) Publish {
	return Publish{UID: s.UID, Partition: s.Partition, Batch: makeBatch(g.t, 1, value)}
}

// memoryLog is a HotLog over byte slices: one per segment.
type memoryLog struct {
	segments map[uint64][]byte
	current  uint64
	limit    int
	index    map[uint64][]StreamRecord // of segments with an index file
	entries  []Entry
	reads    int
}

func newMemoryLog() *memoryLog {
	return &memoryLog{segments: map[uint64][]byte{}, current: 1, limit: 1 << 30, index: map[uint64][]StreamRecord{}}
}

func (l *memoryLog) append(data []byte) Pos {
	if len(l.segments[l.current]) >= l.limit {
		l.current++
	}
	seg := l.segments[l.current]
	seg = append(seg, "entry head"...)
	pos := Pos{Segment: l.current, Offset: int64(len(seg))}
	l.segments[l.current] = append(seg, data...)
	return pos
}

func (l *memoryLog) ReadAt(p []byte, pos Pos) error {
	l.reads++
	seg := l.segments[pos.Segment]
	if pos.Offset < 0 || pos.Offset+int64(len(p)) > int64(len(seg)) {
		return fmt.Errorf("read beyond segment %d", pos.Segment)
	}
	copy(p, seg[pos.Offset:])
	return nil
}

// each calls fn for the indexed batches of a stream in order.
func (l *memoryLog) each(s Stream, fn func(Located)) {
	for n := uint64(1); n <= l.current; n++ {
		for _, r := range l.index[n] {
			if r.Stream == s {
				fn(Located{StreamRecord: r, Pos: Pos{Segment: n, Offset: r.Offset}})
			}
		}
	}
}

func (l *memoryLog) FindTime(s Stream, ts uint64) (r StreamRecord, p Pos, ok bool, err error) {
	l.each(s, func(f Located) {
		if !ok && f.TS >= ts {
			r, p, ok = f.StreamRecord, f.Pos, true
		}
	})
	return r, p, ok, nil
}

func (l *memoryLog) Scan(s Stream, from uint64, limit int) (found []Located, err error) {
	l.each(s, func(f Located) {
		if f.Base+uint64(f.Count) > from && len(found) < limit {
			found = append(found, f)
		}
	})
	return found, nil
}

func (l *memoryLog) ScanBack(s Stream, until uint64, limit int) (found []Located, err error) {
	var all []Located
	l.each(s, func(f Located) {
		if f.Base < until {
			all = append(all, f)
		}
	})
	for i := len(all) - 1; i >= 0 && len(found) < limit; i-- {
		found = append(found, all[i])
	}
	return found, nil
}
