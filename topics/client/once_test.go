package client

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wiber/wiber/topics/wire"
)

// Many publish at the same time through nodes that break, refuse and answer late:
// every message is stored once, and its receipt says where.
func TestOnceForOthers(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeCluster("a", "b", "c")
				c.create("many", 3, 0)
				c.set("a", func(n *fakeNode) { n.script = trouble(seed, 20) })
				c.set("b", func(n *fakeNode) { n.down = true })
				c.set("c", func(n *fakeNode) { n.script = trouble(seed+100, 30) })
				cl := c.client(t, func(o *Options) { o.Lanes = 5 }, "a", "b", "c")
				var all sync.WaitGroup
				for w := range 12 {
					all.Go(func() {
						for i := range 60 {
							m := Message{Topic: []string{"one", "many"}[i%2], Value: fmt.Appendf(nil, "%d.%d", w, i)}
							if i%3 == 0 {
								m.Key = fmt.Appendf(nil, "k%d", i)
							}
							r, err := cl.PublishOnce(t.Context(), m)
							if err != nil || r.Duplicate {
								t.Errorf("%s: %+v, %v", m.Value, r, err)
								return
							}
							if got := c.values(r.Topic, r.Partition)[r.Offset]; got != string(m.Value) {
								t.Errorf("%s has the receipt of %s", m.Value, got)
							}
						}
					})
				}
				all.Wait()
				stored := slices.Concat(c.values("one", 0), c.values("many", 0), c.values("many", 1), c.values("many", 2))
				slices.Sort(stored)
				if once := slices.Compact(slices.Clone(stored)); len(stored) != 12*60 || len(once) != len(stored) {
					t.Errorf("%d are stored, %d different ones, of %d", len(stored), len(once), 12*60)
				}
				if c.duplicates() == 0 {
					t.Error("nothing was sent twice: the nodes were too good")
				}
			})
		})
	}
}

func TestARefusedMessageGivesItsNumberBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		var sent []string
		c.set("a", func(n *fakeNode) {
			n.script = func(_ int, q *wire.Request) fakeAction {
				if q.Verb == wire.Pubn {
					sent = append(sent, fmt.Sprint(q.Producer != "", q.Seq))
					if string(q.Payload) == "bad" {
						return fakeAction{refuse: wire.Errorf(wire.TooLarge, "too large here")}
					}
				}
				return fakeAction{}
			}
		})
		cl := c.client(t, nil, "a")
		for _, text := range []string{"1", "bad", "2", "bad", "3"} {
			_, err := cl.PublishOnce(t.Context(), Message{Topic: "t", Value: []byte(text)})
			if (err != nil) != (text == "bad") {
				t.Errorf("%s: %v", text, err)
			}
		}
		if want := []string{"true 1", "true 2", "true 2", "true 3", "true 3"}; !slices.Equal(sent, want) {
			t.Errorf("sent %v, want %v", sent, want)
		}
		// The topic is made anew: no producer is known there any more.
		c.remake("t")
		c.mu.Lock()
		clear(c.producers)
		c.mu.Unlock()
		if r, err := cl.PublishOnce(t.Context(), Message{Topic: "t", Value: []byte("4")}); err != nil || r.Offset != 0 {
			t.Errorf("after a GAP: %+v, %v", r, err)
		}
	})
}

func TestWhatWasNeverSentIsCertainlyNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a", "b")
		c.set("a", func(n *fakeNode) { n.down = true })
		c.set("b", func(n *fakeNode) { n.down = true })
		cl := c.client(t, nil, "a", "b")
		at := time.Now()
		_, err := cl.PublishOnce(t.Context(), Message{Topic: "t/0", Value: []byte("x"), Timeout: 2 * time.Second})
		var pe *PublishError
		if !errors.As(err, &pe) || pe.Class != wire.NotWritten || !errors.Is(err, ErrDeadline) || time.Since(at) > 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(at))
		}
		// A node that takes it and never answers leaves the outcome unknown.
		c.set("a", func(n *fakeNode) {
			n.down, n.script = false, func(int, *wire.Request) fakeAction { return fakeAction{silent: true} }
		})
		_, err = cl.PublishOnce(t.Context(), Message{Topic: "t/0", Value: []byte("x"), Timeout: 2 * time.Second})
		if !errors.As(err, &pe) || pe.Class != wire.Unknown {
			t.Errorf("%v", err)
		}
	})
}

func TestIdleLanesCloseTheirConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		cl := c.client(t, nil, "a")
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if _, err := cl.PublishOnce(t.Context(), Message{Topic: "t", Value: fmt.Append(nil, i)}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		open := func() int {
			synctest.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.nodes["a"].conns)
		}
		before := open()
		time.Sleep(2 * laneIdle)
		for i := range before {
			if _, err := cl.PublishOnce(t.Context(), Message{Topic: "t", Value: fmt.Append(nil, i)}); err != nil {
				t.Error(err)
			}
		}
		if after := open(); before < 2 || after != 1 {
			t.Errorf("%d connections, and %d when one at a time publishes", before, after)
		}
	})
}
