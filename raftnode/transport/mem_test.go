package transport

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// virtual is a smallest simulation: a queue of events.
type virtual struct {
	now time.Duration
	seq int
	due dueEvents
}

type dueEvent struct {
	at  time.Duration
	seq int
	do  func()
}

type dueEvents []dueEvent

func (d dueEvents) Len() int { return len(d) }
func (d dueEvents) Less(i, j int) bool {
	return d[i].at < d[j].at || d[i].at == d[j].at && d[i].seq < d[j].seq
}
func (d dueEvents) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *dueEvents) Push(x any)   { *d = append(*d, x.(dueEvent)) }
func (d *dueEvents) Pop() any {
	x := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return x
}

func (v *virtual) schedule(after time.Duration, do func()) {
	v.seq++
	heap.Push(&v.due, dueEvent{v.now + after, v.seq, do})
}

func (v *virtual) run() {
	for len(v.due) > 0 {
		e := heap.Pop(&v.due).(dueEvent)
		v.now = e.at
		e.do()
	}
}

// network is a Mem of three nodes and a trace of what arrived.
type network struct {
	*Mem
	v     virtual
	nodes []*MemNode
	trace []string
}

func newNetwork(seed uint64, f MemFaults) *network {
	n := &network{}
	n.Mem = NewMem(MemOptions{Schedule: n.v.schedule, Rand: rand.New(rand.NewPCG(seed, 0)), Faults: f})
	for id := range uint64(3) {
		n.nodes = append(n.nodes, n.attach(id+1))
	}
	n.v.run()
	return n
}

func (n *network) attach(id uint64) *MemNode {
	say := func(format string, v ...any) {
		n.trace = append(n.trace, fmt.Sprintf("%v: ", n.v.now)+fmt.Sprintf(format, v...))
	}
	return n.Attach(id, Receiver{
		OnMessage: func(from uint64, m Message) { say("%d->%d %s", from, id, m.Body) },
		OnUp:      func(p uint64) { say("%d sees %d up", id, p) },
		OnDown:    func(p uint64) { say("%d sees %d down", id, p) },
	})
}

// The same seed gives the same faults, another one others, and each fault that
// is asked for happens.
func TestMemRepeatsExactly(t *testing.T) {
	play := func(seed uint64) ([]string, MemStats) {
		n := newNetwork(seed, MemFaults{MinDelay: time.Millisecond, MaxDelay: 9 * time.Millisecond, Loss: 0.1, Duplicate: 0.1, Late: 0.1, LateBy: time.Second})
		for i := range 300 {
			n.nodes[i%3].Send(uint64(i%2)+1, Message{Kind: KindNack, Body: fmt.Append(nil, i)})
		}
		n.v.run()
		return n.trace, n.Stats()
	}
	a, stats := play(1)
	b, _ := play(1)
	c, _ := play(2)
	if !slices.Equal(a, b) {
		t.Error("the same seed gave two traces")
	}
	if slices.Equal(a, c) {
		t.Error("two seeds gave the same trace")
	}
	if stats.Sent != 300 || stats.Lost == 0 || stats.Duplicated == 0 || stats.Late == 0 || stats.Overtaken == 0 || stats.Delivered != stats.Sent-stats.Lost+stats.Duplicated {
		t.Errorf("%+v", stats)
	}
}

func TestMemCutsOneDirection(t *testing.T) {
	n := newNetwork(1, MemFaults{})
	n.trace = nil
	n.Cut(1, 2)
	n.nodes[0].Send(2, Message{Kind: KindNack, Body: []byte("lost")})
	n.nodes[1].Send(1, Message{Kind: KindNack, Body: []byte("there")})
	n.v.run()
	n.Heal(1, 2)
	n.Isolate(3)
	n.nodes[2].Send(1, Message{Kind: KindNack, Body: []byte("lost")})
	n.nodes[0].Send(3, Message{Kind: KindNack, Body: []byte("lost")})
	n.nodes[0].Send(2, Message{Kind: KindNack, Body: []byte("back")})
	n.v.run()
	if want := []string{"200µs: 2->1 there", "300µs: 1->2 back"}; !slices.Equal(n.trace, want) || n.Stats().Cut != 3 {
		t.Errorf("%v, %+v", n.trace, n.Stats())
	}
}

func TestMemCrashIsSeenByThoseWhoCanSee(t *testing.T) {
	n := newNetwork(1, MemFaults{})
	n.trace = nil
	n.Cut(1, 3)
	n.nodes[1].Send(1, Message{Kind: KindNack, Body: []byte("for the next one")})
	n.Crash(1)
	n.nodes[0].Send(2, Message{Kind: KindNack, Body: []byte("from the dead")})
	n.attach(1)
	n.nodes[0].Close() // the old incarnation's end
	n.v.run()
	want := []string{"200µs: 2->1 for the next one", "200µs: 2 sees 1 down", "200µs: 2 sees 1 up"}
	if !slices.Equal(n.trace, want) {
		t.Errorf("%q", n.trace)
	}
}

func TestMemSharesNoMemory(t *testing.T) {
	n := newNetwork(1, MemFaults{})
	var got Message
	n.Attach(2, Receiver{OnMessage: func(_ uint64, m Message) { got = m }})
	m := raftMessage(1, 2, "data")
	n.nodes[0].Send(2, m)
	m.Raft.Entries[0].Data[0] = 'X'
	n.v.run()
	if !same(got, raftMessage(1, 2, "data")) {
		t.Errorf("%v", got)
	}
}
