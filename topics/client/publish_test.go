package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/wire"
)

func numbered(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

// trouble makes a script that fails about one request in every, in all the ways
// a node can.
func trouble(seed uint64, every int) func(int, *wire.Request) fakeAction {
	rng := rand.New(rand.NewPCG(seed, 7))
	var mu sync.Mutex
	return func(n int, q *wire.Request) fakeAction {
		mu.Lock()
		defer mu.Unlock()
		if q.Verb != wire.Pubn || rng.IntN(every) != 0 {
			return fakeAction{}
		}
		switch rng.IntN(7) {
		case 0:
			return fakeAction{drop: true}
		case 1:
			return fakeAction{lose: true}
		case 2:
			return fakeAction{refuse: &wire.Error{Code: wire.NoQuorum, Text: "no leader"}}
		case 3:
			return fakeAction{refuse: &wire.Error{Code: wire.Busy}}
		case 4:
			return fakeAction{refuse: &wire.Error{Code: wire.Timeout}}
		case 5:
			return fakeAction{late: &wire.Error{Code: wire.Timeout}}
		default:
			return fakeAction{late: &wire.Error{Code: wire.Internal}}
		}
	}
}

// Twenty thousand messages through nodes that break, refuse, answer late and lie
// about nothing: all are there once, in order, and the receipts say where.
func TestResendsInOrder(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeCluster("a", "b", "c")
				c.set("b", func(n *fakeNode) { n.down = true })
				c.set("a", func(n *fakeNode) { n.script = trouble(seed, 200) })
				c.set("c", func(n *fakeNode) { n.script = trouble(seed+100, 300) })
				cl := c.client(t, func(o *Options) { o.WindowMessages = 100 + int(seed)*200 }, "a", "b", "c")
				p, err := cl.Producer(ProducerOptions{})
				if err != nil {
					t.Fatal(err)
				}
				const total = 20_000
				var last uint64
				for i := range total {
					err := p.Send(t.Context(), Message{Topic: "numbers", Value: fmt.Appendf(nil, "%d", i)}, func(r Result) {
						if r.Err != nil || r.N != last+1 || r.Receipt.Offset != last {
							t.Errorf("result %d after %d: offset %d, %v", r.N, last, r.Receipt.Offset, r.Err)
						}
						last = r.N
					})
					if err != nil {
						t.Fatalf("message %d: %v", i, err)
					}
				}
				if err := p.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				if last != total {
					t.Fatalf("%d of %d have an outcome", last, total)
				}
				if got := c.values("numbers", 0); !slices.Equal(got, numbered(total)) {
					t.Fatalf("%d messages are stored, or out of order", len(got))
				}
				if c.duplicates() == 0 || c.dials("a") < 5 || c.dials("c") < 5 {
					t.Errorf("nothing happened: %d duplicates, %d and %d connections", c.duplicates(), c.dials("a"), c.dials("c"))
				}
			})
		})
	}
}

func TestEachPartitionHasNumbersOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a", "b")
		c.create("orders", 3, 0)
		c.set("a", func(n *fakeNode) { n.script = trouble(1, 50) })
		cl := c.client(t, nil, "a", "b")
		p, err := cl.Producer(ProducerOptions{Name: "me"})
		if err != nil {
			t.Fatal(err)
		}
		want := make([][]string, 3)
		for i := range 900 {
			m := Message{Topic: "orders", Value: fmt.Appendf(nil, "%d", i)}
			to := 0
			switch i % 4 {
			case 0:
				m.Key = fmt.Appendf(nil, "k%d", i)
				to = batch.Partition(m.Key, 3)
			case 1:
				m.ID = fmt.Appendf(nil, "i%d", i)
				to = batch.Partition(m.ID, 3)
			case 2:
				m.Topic, to = "orders/1", 1
			case 3:
				to = i / 4 % 3 // in turn
			}
			want[to] = append(want[to], string(m.Value))
			if err := p.Send(t.Context(), m, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if got := c.values("orders", i); !slices.Equal(got, want[i]) {
				t.Errorf("partition %d: %v\nwant %v", i, got, want[i])
			}
		}
		if c.questions("TOPICS") != 1 || c.duplicates() == 0 {
			t.Errorf("TOPICS was asked %d times, %d duplicates", c.questions("TOPICS"), c.duplicates())
		}
	})
}

// wantClass checks a publish's failure.
func wantClass(t *testing.T, err error, class wire.Class, is error) {
	t.Helper()
	var failed *PublishError
	if !errors.As(err, &failed) || failed.Class != class {
		t.Errorf("got %v, want class %v", err, class)
	}
	if is != nil && !errors.Is(err, is) {
		t.Errorf("got %v, want %v", err, is)
	}
}

func code(err error) wire.Code {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// A message that is refused leaves a hole: those behind it are certainly not
// written, and the producer says so for each.
func TestARefusalEndsTheProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		c.set("a", func(n *fakeNode) {
			n.script = func(i int, q *wire.Request) fakeAction {
				if q.Verb == wire.Pubn && q.Seq == 3 {
					return fakeAction{refuse: wire.Errorf(wire.TooLarge, "the topic takes less")}
				}
				return fakeAction{}
			}
		})
		p, err := c.client(t, nil, "a").Producer(ProducerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var results []Result
		for i := range 6 {
			if err := p.Send(t.Context(), Message{Topic: "t", Value: []byte{byte('0' + i)}}, func(r Result) { results = append(results, r) }); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Flush(t.Context()); !errors.Is(err, ErrProducerEnded) || code(err) != wire.TooLarge {
			t.Errorf("Flush: %v", err)
		}
		if len(results) != 6 || results[0].Err != nil || results[1].Err != nil {
			t.Fatalf("%+v", results)
		}
		wantClass(t, results[2].Err, wire.NotWritten, nil)
		if code(results[2].Err) != wire.TooLarge {
			t.Errorf("the refused one: %v", results[2].Err)
		}
		for _, r := range results[3:] {
			wantClass(t, r.Err, wire.NotWritten, nil)
		}
		wantClass(t, p.Send(t.Context(), Message{Topic: "t"}, nil), wire.NotWritten, ErrProducerEnded)
		if got := c.values("t", 0); !slices.Equal(got, []string{"0", "1"}) {
			t.Errorf("stored: %v", got)
		}
	})
}

// A refusal of the second try says nothing about the first.
func TestDoubtStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		tries := 0
		c.set("a", func(n *fakeNode) {
			n.script = func(i int, q *wire.Request) fakeAction {
				if tries++; tries == 1 {
					return fakeAction{lose: true}
				}
				return fakeAction{refuse: wire.Errorf(wire.TooLarge, "the limit was lowered")}
			}
		})
		p, err := c.client(t, nil, "a").Producer(ProducerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Publish(t.Context(), Message{Topic: "t/0"})
		wantClass(t, err, wire.Unknown, nil)
		if code(err) != wire.TooLarge || tries != 2 {
			t.Errorf("%d tries: %v", tries, err)
		}
	})
}

// A topic that was deleted and made again knows no number: GAP is told, not retried.
func TestAGapWithoutReasonIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		p, err := c.client(t, nil, "a").Producer(ProducerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Publish(t.Context(), Message{Topic: "t", Value: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		clear(c.producers)
		c.mu.Unlock()
		_, err = p.Publish(t.Context(), Message{Topic: "t", Value: []byte("y")})
		wantClass(t, err, wire.NotWritten, nil)
		var gap *wire.Error
		if !errors.As(err, &gap) || gap.Code != wire.Gap {
			t.Fatalf("got %v", err)
		}
		if n, _ := gap.Expected(); n != 1 {
			t.Errorf("expected=%d", n)
		}
	})
}

// A node that stops answering is left for the next one after Options.Stall.
func TestASilentNodeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a", "b")
		c.set("a", func(n *fakeNode) {
			n.script = func(i int, q *wire.Request) fakeAction { return fakeAction{silent: i > 3} }
		})
		cl := c.client(t, nil, "a", "b")
		p, err := cl.Producer(ProducerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		within(t, 7*time.Second, func() {
			for i := range 10 {
				if err := p.Send(t.Context(), Message{Topic: "t/0", Value: fmt.Append(nil, i)}, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		if got := c.values("t", 0); !slices.Equal(got, numbered(10)) {
			t.Errorf("stored: %v", got)
		}
	})
}

// At the deadline the outcome of what was sent is unknown, and of the rest known.
func TestTheDeadlineTellsWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		c.set("a", func(n *fakeNode) { n.down = true })
		cl := c.client(t, func(o *Options) { o.Deadline = 30 * time.Second }, "a")
		p, err := cl.Producer(ProducerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		within(t, 32*time.Second, func() {
			_, err = p.Publish(t.Context(), Message{Topic: "t/0", Value: []byte("never sent")})
		})
		wantClass(t, err, wire.NotWritten, ErrDeadline)

		c.set("a", func(n *fakeNode) {
			n.down = false
			n.script = func(int, *wire.Request) fakeAction { return fakeAction{silent: true} }
		})
		if p, err = cl.Producer(ProducerOptions{}); err != nil {
			t.Fatal(err)
		}
		within(t, 35*time.Second, func() {
			_, err = p.Publish(t.Context(), Message{Topic: "t/0", Value: []byte("sent")})
		})
		wantClass(t, err, wire.Unknown, ErrDeadline)
	})
}

// Without an id a message is sent once: what came of it stays unknown, and only
// a node that says "not written" gets it again.
func TestNeverUnderNoName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a", "b")
		sent := make(map[string]int)
		c.set("a", func(n *fakeNode) {
			n.script = func(i int, q *wire.Request) fakeAction {
				sent[string(q.Payload)]++
				switch string(q.Payload) {
				case "lost":
					return fakeAction{lose: true}
				case "dropped":
					return fakeAction{drop: true}
				case "late":
					return fakeAction{late: &wire.Error{Code: wire.Timeout}}
				case "busy":
					if sent["busy"] < 4 {
						return fakeAction{refuse: &wire.Error{Code: wire.Busy}}
					}
				}
				return fakeAction{}
			}
		})
		c.set("b", func(n *fakeNode) {
			n.script = func(i int, q *wire.Request) fakeAction { sent[string(q.Payload)]++; return fakeAction{} }
		})
		cl := c.client(t, nil, "a")
		both := c.client(t, nil, "a", "b")
		for _, text := range []string{"lost", "dropped", "late"} {
			_, err := both.Publish(t.Context(), Message{Topic: "t", Value: []byte(text)})
			_, alone := cl.Publish(t.Context(), Message{Topic: "t", Value: []byte(text)})
			if sent[text] > 2 {
				t.Errorf("%s was sent %d times by two clients", text, sent[text])
			}
			for _, err := range []error{err, alone} {
				if err != nil { // "both" may have been with the good node already
					wantClass(t, err, wire.Unknown, nil)
				}
			}
			wantClass(t, alone, wire.Unknown, nil)
		}
		if _, err := cl.Publish(t.Context(), Message{Topic: "t", Value: []byte("busy")}); err != nil || sent["busy"] != 4 {
			t.Errorf("busy: sent %d times, %v", sent["busy"], err)
		}
		_, err := cl.Publish(t.Context(), Message{Topic: "bad topic"})
		wantClass(t, err, wire.NotWritten, nil)
		if code(err) != wire.BadTopic {
			t.Errorf("bad topic: %v", err)
		}
	})
}

// With an id it is sent until a receipt comes, which is the first one's.
func TestAnIDIsSentUntilItIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a", "b")
		c.set("a", func(n *fakeNode) {
			n.script = func(i int, q *wire.Request) fakeAction { return fakeAction{lose: true} }
		})
		cl := c.client(t, nil, "a", "b")
		c.publish("t", 0, "before")
		r, err := cl.Publish(t.Context(), Message{Topic: "t", ID: []byte("id"), Value: []byte("v")})
		if err != nil || !r.Duplicate || r.Offset != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		if got := c.values("t", 0); !slices.Equal(got, []string{"before", "v"}) {
			t.Errorf("stored: %v", got)
		}
	})
}

// What a node would not even read is refused before it is sent.
func TestTooLargeNeverLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		cl := c.client(t, nil, "a")
		p, err := cl.Producer(ProducerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		err = p.Send(t.Context(), Message{Topic: "t/0", Value: make([]byte, 5*fakeMax)}, nil)
		wantClass(t, err, wire.NotWritten, nil)
		if code(err) != wire.TooLarge {
			t.Errorf("got %v", err)
		}
		if _, err := p.Publish(t.Context(), Message{Topic: "t/0", Value: make([]byte, fakeMax)}); err != nil {
			t.Errorf("after it: %v", err)
		}
		c.set("a", func(n *fakeNode) { n.down = true })
		c.cut("a")
		other := c.client(t, nil, "a")
		within(t, 2*time.Minute, func() {
			_, err = other.Publish(t.Context(), Message{Topic: "t", Value: make([]byte, 5000)})
		})
		wantClass(t, err, wire.NotWritten, ErrDeadline)
	})
}

func TestAFullWindowWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		c.set("a", func(n *fakeNode) { n.down = true })
		for _, change := range []func(*Options){
			func(o *Options) { o.WindowMessages = 3 },
			func(o *Options) { o.WindowBytes = 300 },
		} {
			cl := c.client(t, change, "a")
			p, err := cl.Producer(ProducerOptions{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			n := 0
			for ; n < 10; n++ {
				if err = p.Send(ctx, Message{Topic: "t/0", Value: make([]byte, 50)}, nil); err != nil {
					break
				}
			}
			cancel()
			wantClass(t, err, wire.NotWritten, context.DeadlineExceeded)
			if n < 2 || n > 4 {
				t.Errorf("%d messages were taken", n)
			}
		}
	})
}

func TestCloseFailsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		c.set("a", func(n *fakeNode) {
			n.script = func(int, *wire.Request) fakeAction { return fakeAction{silent: true} }
		})
		cl := c.client(t, nil, "a")
		p, err := cl.Producer(ProducerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var results []Result
		if err := p.Send(t.Context(), Message{Topic: "t/0"}, func(r Result) { results = append(results, r) }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cl.Close()
		if len(results) != 1 {
			t.Fatalf("%d results", len(results))
		}
		wantClass(t, results[0].Err, wire.Unknown, nil)
		wantClass(t, p.Send(t.Context(), Message{Topic: "t/0"}, nil), wire.NotWritten, ErrClosed)
		_, err = cl.Publish(t.Context(), Message{Topic: "t"})
		wantClass(t, err, wire.NotWritten, ErrClosed)
		if _, err := cl.Producer(ProducerOptions{}); !errors.Is(err, ErrClosed) {
			t.Errorf("Producer: %v", err)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {Nodes: []string{"a"}}, {Clock: nil, Nodes: []string{"a"}}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
