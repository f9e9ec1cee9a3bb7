package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wiber/wiber/topics/wire"
)

// outcome is what a publisher was told about a message.
type outcome int

const (
	acked   outcome = iota
	unknown         // it may be there, once
	refused         // it certainly is not there
)

// attempt is one message that a publisher tried to publish. Its value names the
// publisher and its number, so that every value is tried once.
type attempt struct {
	publisher int
	number    int
	topic     string
	id        string // empty: the publisher numbers its messages
	outcome   outcome
	receipt   wire.Receipt // of an acknowledged one
}

// value is what the attempt publishes.
func (a *attempt) value() string {
	return fmt.Sprintf("%d.%d %s", a.publisher, a.number, strings.Repeat("x", a.number%200))
}

// key is the part of a value that names its attempt.
func (a *attempt) key() string { return fmt.Sprintf("%d.%d", a.publisher, a.number) }

// history is everything that publishers tried and were told. All methods may be
// called concurrently.
type history struct {
	mu         sync.Mutex
	attempts   map[string]*attempt
	ackedIDs   []*attempt // acknowledged ones with an id, in the order of their receipts
	ackedCount int
	unknown    int
	duplicates int // receipts with dup=1: the cluster recognised what was sent again
	lastAck    map[int]time.Duration
	longestGap time.Duration // between two receipts of one publisher
}

func newHistory() *history {
	return &history{attempts: map[string]*attempt{}, lastAck: map[int]time.Duration{}}
}

// record takes the outcome of an attempt at the time now.
func (h *history) record(a *attempt, now time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts[a.key()] = a
	switch a.outcome {
	case acked:
		h.ackedCount++
		if a.receipt.Duplicate {
			h.duplicates++
		}
		if a.id != "" {
			h.ackedIDs = append(h.ackedIDs, a)
		}
		if last, ok := h.lastAck[a.publisher]; ok {
			h.longestGap = max(h.longestGap, now-last)
		}
		h.lastAck[a.publisher] = now
	case unknown:
		h.unknown++
	}
}

func (h *history) acked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ackedCount
}

// stored is a message as a node returned it.
type stored struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Offset    uint64 `json:"offset"`
	TS        uint64 `json:"ts"`
	Eps       int64  `json:"eps"`
	Lamport   uint64 `json:"lamport"`
	ID        string `json:"id"`
	Value     string `json:"value"`
}

// stream is one partition of a topic.
type stream struct {
	topic     string
	partition int
}

// check compares what one node holds with what was tried. It returns every
// violation, up to a screenful.
func (h *history) check(node string, streams map[stream][]stored) []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	fail := func(format string, args ...any) {
		if len(errs) < 20 {
			errs = append(errs, fmt.Errorf(node+": "+format, args...))
		}
	}
	seen := map[string]stored{}
	for s, messages := range streams {
		newest := map[int]int{} // number by publisher that numbers its messages
		for i, m := range messages {
			if m.Offset != uint64(i) {
				fail("%s/%d: offset %d where %d was due", s.topic, s.partition, m.Offset, i)
			}
			if i > 0 && m.TS <= messages[i-1].TS {
				fail("%s/%d@%d: ts %d is not above the %d before it", s.topic, s.partition, m.Offset, m.TS, messages[i-1].TS)
			}
			key, _, _ := strings.Cut(m.Value, " ")
			a := h.attempts[key]
			switch {
			case a == nil:
				fail("%s/%d@%d: nobody published %q", s.topic, s.partition, m.Offset, m.Value)
				continue
			case a.value() != m.Value || a.topic != s.topic || a.id != m.ID:
				fail("%s/%d@%d: %q with id %q is not what was published", s.topic, s.partition, m.Offset, m.Value, m.ID)
			case a.outcome == refused:
				fail("%s/%d@%d: %s is there and was certainly not written", s.topic, s.partition, m.Offset, key)
			}
			if first, again := seen[key]; again {
				fail("%s/%d@%d: %s is there a second time, first at %s/%d@%d", s.topic, s.partition, m.Offset, key, first.Topic, first.Partition, first.Offset)
			}
			seen[key] = m
			if a.id == "" {
				if before, ok := newest[a.publisher]; ok && a.number < before {
					fail("%s/%d@%d: %d.%d comes after %d.%d", s.topic, s.partition, m.Offset, a.publisher, a.number, a.publisher, before)
				}
				newest[a.publisher] = a.number
			}
		}
	}
	for key, a := range h.attempts {
		if a.outcome != acked {
			continue
		}
		m, ok := seen[key]
		r := a.receipt
		switch {
		case !ok && r.Offset == wire.NoOffset:
			fail("%s was acknowledged as a duplicate and is lost", key)
		case !ok:
			fail("%s was acknowledged at %s/%d@%d and is lost", key, r.Topic, r.Partition, r.Offset)
		case r.Offset == wire.NoOffset && r.Duplicate && a.id == "":
			// Sent again after a thousand others of its producer: the cluster
			// knows that it is there, and not where any more.
		case r.Topic != m.Topic || r.Partition != m.Partition || r.Offset != m.Offset:
			fail("%s was acknowledged at %s/%d@%d and is at %s/%d@%d", key, r.Topic, r.Partition, r.Offset, m.Topic, m.Partition, m.Offset)
		case r.TS != m.TS || r.Eps != m.Eps || r.Lamport != m.Lamport:
			fail("%s: the receipt says ts=%d eps=%d lamport=%d, the message %d, %d, %d", key, r.TS, r.Eps, r.Lamport, m.TS, m.Eps, m.Lamport)
		}
	}
	return errs
}

// sameReceipt says whether a receipt for something that was sent again is the
// first one but for what may differ.
func sameReceipt(first, again wire.Receipt) error {
	if !again.Duplicate {
		return fmt.Errorf("the second receipt is no duplicate: %+v after %+v", again, first)
	}
	again.Duplicate, again.Synced, again.Replicas = first.Duplicate, first.Synced, first.Replicas
	if again != first {
		return fmt.Errorf("the second receipt differs: %+v after %+v", again, first)
	}
	return nil
}

// A check that finds nothing proves nothing, unless it finds what was planted.
func TestCheckFindsEveryViolation(t *testing.T) {
	record := func(h *history, publisher, number int, id string, o outcome, offset uint64) {
		h.record(&attempt{publisher: publisher, number: number, topic: "a", id: id, outcome: o,
			receipt: wire.Receipt{Topic: "a", Offset: offset, TS: 100 + offset, Eps: -1, Lamport: offset}}, 0)
	}
	fresh := func() (*history, map[stream][]stored) {
		h := newHistory()
		record(h, 0, 0, "", acked, 0)
		record(h, 0, 1, "", acked, 1)
		record(h, 1, 0, "x", unknown, 0)
		record(h, 1, 1, "y", refused, 0)
		value := func(key string) string { return h.attempts[key].value() }
		return h, map[stream][]stored{{"a", 0}: {
			{Topic: "a", Offset: 0, TS: 100, Eps: -1, Lamport: 0, Value: value("0.0")},
			{Topic: "a", Offset: 1, TS: 101, Eps: -1, Lamport: 1, Value: value("0.1")},
			{Topic: "a", Offset: 2, TS: 102, Eps: -1, Lamport: 2, ID: "x", Value: value("1.0")},
		}}
	}
	h, streams := fresh()
	if errs := h.check("n1", streams); len(errs) > 0 {
		t.Fatalf("a right history: %v", errs)
	}
	at := stream{"a", 0}
	for name, c := range map[string]struct {
		plant func(*history, []stored) []stored
		want  string
	}{
		"lost":        {func(_ *history, m []stored) []stored { return m[:1] }, "0.1 was acknowledged at a/0@1 and is lost"},
		"twice":       {func(_ *history, m []stored) []stored { m[2].ID, m[2].Value = "", m[0].Value; return m }, "a second time"},
		"moved":       {func(h *history, m []stored) []stored { h.attempts["0.1"].receipt.Offset = 5; return m }, "and is at a/0@1"},
		"gap":         {func(_ *history, m []stored) []stored { m[2].Offset = 3; return m }, "offset 3 where 2 was due"},
		"stamp":       {func(_ *history, m []stored) []stored { m[2].TS = 101; return m }, "is not above"},
		"receipt":     {func(_ *history, m []stored) []stored { m[0].Lamport = 9; return m }, "the receipt says"},
		"phantom":     {func(_ *history, m []stored) []stored { m[2].Value = "7.7 "; return m }, "nobody published"},
		"changed":     {func(_ *history, m []stored) []stored { m[1].Value += "!"; return m }, "is not what was published"},
		"refused":     {func(h *history, m []stored) []stored { m[2].ID, m[2].Value = "y", h.attempts["1.1"].value(); return m }, "certainly not written"},
		"disordered":  {func(_ *history, m []stored) []stored { m[0].Value, m[1].Value = m[1].Value, m[0].Value; return m }, "0.0 comes after 0.1"},
		"foreign id":  {func(_ *history, m []stored) []stored { m[0].ID = "z"; return m }, "is not what was published"},
		"other topic": {func(h *history, m []stored) []stored { h.attempts["1.0"].topic = "b"; return m }, "is not what was published"},
	} {
		h, streams := fresh()
		streams[at] = c.plant(h, streams[at])
		text := ""
		for _, err := range h.check("n1", streams) {
			text += err.Error() + "\n"
		}
		if !strings.Contains(text, c.want) {
			t.Errorf("%s: %q was not found in %q", name, c.want, text)
		}
	}
	first := wire.Receipt{Topic: "a", Offset: 4, TS: 9, Term: 2, Index: 8, Synced: 2, Replicas: 3}
	again := first
	again.Duplicate, again.Synced = true, 3
	if err := sameReceipt(first, again); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*wire.Receipt){
		func(r *wire.Receipt) { r.Duplicate = false },
		func(r *wire.Receipt) { r.Offset++ },
		func(r *wire.Receipt) { r.TS++ },
		func(r *wire.Receipt) { r.Index++ },
	} {
		changed := again
		change(&changed)
		if sameReceipt(first, changed) == nil {
			t.Errorf("%s passes as the same receipt", strconv.Quote(fmt.Sprint(changed)))
		}
	}
}
