package sim

import (
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math/rand/v2"
	"time"

	"github.com/wiber/wiber/raftnode/transport"
)

// world is the queue of events and everything in it.
type world struct {
	o      Options
	rnd    *rand.Rand
	now    time.Duration
	queue  eventQueue
	seq    uint64
	trace  hash.Hash
	net    *transport.Mem
	nodes  []*node
	work   *workload
	checks *checks
	report Report
	calm   bool // the faults are over
}

type event struct {
	at  time.Duration
	seq uint64 // ties are run in the order of their making
	run func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// after puts an event into the queue.
func (w *world) after(d time.Duration, run func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + max(d, 0), w.seq, run})
}

// until runs events up to a time, or until stop says so.
func (w *world) until(end time.Duration, stop func() bool) {
	for len(w.queue) > 0 && w.queue[0].at <= end && w.checks.violation == nil && !stop() {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.report.Events++
		e.run()
	}
	if w.checks.violation == nil && !stop() {
		w.now = max(w.now, end)
	}
}

// note makes something part of the run's trace, which must repeat exactly.
func (w *world) note(words ...uint64) {
	var b []byte
	b = binary.LittleEndian.AppendUint64(b, uint64(w.now))
	for _, x := range words {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	w.trace.Write(b)
}

// between draws a duration.
func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rnd.Int64N(int64(hi-lo)+1))
}

func (w *world) chance(p float64) bool { return w.rnd.Float64() < p }

func newTrace() hash.Hash { return sha256.New() }

// reader makes a rand.Rand an io.Reader.
type reader struct{ *rand.Rand }

func (r reader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return len(b), nil
}

func (w *world) String() string { return fmt.Sprintf("seed %d at %v", w.o.Seed, w.now) }
