package client

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wiber/wiber/topics/wire"
)

func drain(h *History) (out []string) {
	for h.Next() {
		out = append(out, string(h.Message().Value))
	}
	return out
}

func offset(n uint64) wire.Position { return wire.OffsetPosition(n) }

// Every answer of node a breaks in its middle; what is read is what would have
// been read from one node.
func TestAHistoryGoesOnAfterABreak(t *testing.T) {
	reversed := numbered(100)
	slices.Reverse(reversed)
	for _, tt := range []struct {
		name string
		opt  HistoryOptions
		want []string
		next uint64
	}{
		{"all", HistoryOptions{}, numbered(100), 0},
		{"a range", HistoryOptions{From: offset(10), Until: offset(30)}, numbered(100)[10:30], 0},
		{"a limit", HistoryOptions{From: offset(10), Limit: 7}, numbered(100)[10:17], 0},
		{"the last", HistoryOptions{Last: 9}, numbered(100)[91:], 0},
		{"the last, limited", HistoryOptions{Last: 9, Limit: 4}, numbered(100)[91:95], 0},
		{"reverse", HistoryOptions{Reverse: true}, reversed, 0},
		{"reverse, limited", HistoryOptions{Reverse: true, Limit: 5}, reversed[:5], 0},
		{"the last, reverse", HistoryOptions{Reverse: true, Last: 5, Limit: 3}, reversed[:3], 0},
		{"one", HistoryOptions{Last: 1}, numbered(100)[99:], 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeCluster("a", "b", "c")
				c.create("t", 1, 100)
				c.set("a", func(n *fakeNode) {
					n.script = func(int, *wire.Request) fakeAction { return fakeAction{lose: true} }
				})
				c.set("b", func(n *fakeNode) { n.down = true })
				c.set("c", func(n *fakeNode) {
					n.script = func(int, *wire.Request) fakeAction { return fakeAction{lose: true} }
				})
				h := c.client(t, nil, "a", "b", "c").History(t.Context(), "t", tt.opt)
				defer h.Close()
				var got []string
				for h.Next() {
					got = append(got, string(h.Message().Value))
					if len(got) == 7 {
						c.set("c", func(n *fakeNode) { n.script = nil })
					}
				}
				if !slices.Equal(got, tt.want) || h.Err() != nil {
					t.Errorf("read %v, %v\nwant %v", got, h.Err(), tt.want)
				}
				if h.End().N != uint64(len(tt.want)) {
					t.Errorf("end %+v", h.End())
				}
				if len(tt.want) > 1 && c.dials("a")+c.dials("c") < 2 {
					t.Error("nothing broke")
				}
			})
		})
	}
}

func TestAMergedHistoryIsNotContinued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a", "b")
		c.create("t", 2, 10)
		first := true
		c.set("a", func(n *fakeNode) {
			n.script = func(int, *wire.Request) fakeAction { return fakeAction{drop: first, lose: !first} }
		})
		cl := c.client(t, nil, "a", "b")
		h := cl.History(t.Context(), "t", HistoryOptions{})
		if got := drain(h); len(got) != 10 || h.Err() != nil {
			t.Errorf("a break before the first message: %d, %v", len(got), h.Err())
		}
		first = false
		cl = c.client(t, nil, "a", "b")
		h = cl.History(t.Context(), "t", HistoryOptions{})
		if got := drain(h); len(got) != 5 || h.Err() == nil {
			t.Errorf("a break behind it: %d, %v", len(got), h.Err())
		}
		h = cl.History(t.Context(), "t/1", HistoryOptions{})
		if got := drain(h); len(got) != 5 || h.Err() != nil {
			t.Errorf("one partition: %d, %v", len(got), h.Err())
		}
	})
}

func TestWhatEndsAHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a", "b")
		c.create("t", 1, 10)
		cl := c.client(t, nil, "a", "b")
		for topic, want := range map[string]wire.Code{"nope": wire.NoTopic, "bad topic": wire.BadTopic, "t/x": wire.Range} {
			h := cl.History(t.Context(), topic, HistoryOptions{})
			if h.Next() || code(h.Err()) != want {
				t.Errorf("%s: %v", topic, h.Err())
			}
			h.Close()
		}
		h := cl.History(t.Context(), "t", HistoryOptions{From: offset(11)})
		if h.Next() || code(h.Err()) != wire.Range {
			t.Errorf("past the end: %v", h.Err())
		}

		c.set("a", func(n *fakeNode) { n.script = func(int, *wire.Request) fakeAction { return fakeAction{silent: true} } })
		h = cl.History(t.Context(), "t", HistoryOptions{})
		within(t, 14*time.Second, func() {
			if got := drain(h); len(got) != 10 || h.Err() != nil {
				t.Errorf("a silent node first: %d, %v", len(got), h.Err())
			}
		})

		for _, n := range []string{"a", "b"} {
			c.set(n, func(n *fakeNode) { n.down = true })
		}
		h = cl.History(t.Context(), "t", HistoryOptions{})
		within(t, 12*time.Second, func() {
			if h.Next() || h.Err() == nil {
				t.Errorf("no node: %v", h.Err())
			}
		})
		h = cl.History(t.Context(), "t", HistoryOptions{})
		cl.Close()
		if h.Next() || !errors.Is(h.Err(), ErrClosed) {
			t.Errorf("after Close: %v", h.Err())
		}
	})
}

func TestTopicsAndInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a", "b")
		c.create("orders.eu", 2, 5)
		c.create("logs", 1, 1)
		c.set("a", func(n *fakeNode) { n.script = func(int, *wire.Request) fakeAction { return fakeAction{drop: true} } })
		cl := c.client(t, nil, "a", "b")
		lines, err := cl.Topics(t.Context())
		if err != nil || len(lines) != 3 {
			t.Errorf("%v, %v", lines, err)
		}
		lines, err = cl.Topics(t.Context(), "orders.*")
		if err != nil || len(lines) != 2 || lines[0].Topic != "orders.eu" || lines[0].Next != 3 {
			t.Errorf("%v, %v", lines, err)
		}
		nodes, err := cl.Info(t.Context())
		if err != nil || len(nodes) != 1 || nodes[0].Node != "b" {
			t.Errorf("%v, %v", nodes, err)
		}
		clocks, err := cl.Time(t.Context())
		if err != nil || len(clocks) != 1 || clocks[0].Node != "b" || clocks[0].State != "synchronised" {
			t.Errorf("%v, %v", clocks, err)
		}
		if _, err := cl.Topics(t.Context(), "a..b*"); code(err) != wire.BadTopic {
			t.Errorf("a bad pattern: %v", err)
		}
		c.set("b", func(n *fakeNode) { n.down = true })
		within(t, 12*time.Second, func() {
			if _, err := cl.Info(t.Context()); err == nil {
				t.Error("Info of no node")
			}
		})
	})
}

// follow checks that each partition's messages come once and in order.
type follow struct {
	t    *testing.T
	next map[string]uint64
}

func (f *follow) take(m *wire.Message) {
	f.t.Helper()
	key := fmt.Sprintf("%s/%d", m.Topic, m.Partition)
	if want, ok := f.next[key]; ok && m.Offset != want {
		f.t.Errorf("%s: offset %d, want %d", key, m.Offset, want)
	}
	f.next[key] = m.Offset + 1
}

// Nodes break while messages are published: each partition is delivered whole.
func TestNoGapNoRepeat(t *testing.T) {
	for name, tt := range map[string]struct {
		topics string
		from   wire.Position
		want   map[string]uint64 // first offset by partition, of 400 each
	}{
		"one topic":          {"a", wire.Position{Kind: wire.Earliest}, map[string]uint64{"a/0": 0}},
		"from latest":        {"a", wire.Position{}, map[string]uint64{"a/0": 20}},
		"an offset":          {"a", offset(7), map[string]uint64{"a/0": 7}},
		"a time":             {"a", wire.Position{Kind: wire.AtTime, Micros: 1005}, map[string]uint64{"a/0": 5}},
		"a missing topic":    {"new", wire.Position{}, map[string]uint64{"new/0": 0}},
		"several partitions": {"b", wire.Position{}, map[string]uint64{"b/0": 20, "b/1": 20}},
		"one partition":      {"b/1", offset(3), map[string]uint64{"b/1": 3}},
		"a list":             {"a,b,new", wire.Position{Kind: wire.Earliest}, map[string]uint64{"a/0": 0, "b/0": 0, "b/1": 0, "new/0": 0}},
		"a pattern":          {">", wire.Position{}, map[string]uint64{"a/0": 20, "b/0": 20, "b/1": 20, "new/0": 0}},
	} {
		for _, byTime := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " by time=", byTime), func(t *testing.T) { noGapNoRepeat(t, tt.topics, tt.from, tt.want, byTime) })
		}
	}
}

func noGapNoRepeat(t *testing.T, topics string, from wire.Position, want map[string]uint64, byTime bool) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a", "b", "c")
		c.create("a", 1, 20)
		c.create("b", 2, 40)
		cl := c.client(t, nil, "a", "b", "c")
		c.set("b", func(n *fakeNode) { n.behind = 3 })
		s := cl.Subscribe(t.Context(), topics, SubscribeOptions{From: from, ByTime: byTime})
		done := make(chan bool)
		f := follow{t, make(map[string]uint64)}
		first := make(map[string]uint64)
		left, high := 0, uint64(0)
		for _, from := range want {
			left += 400 - int(from)
		}
		go func() {
			defer close(done)
			for ; left > 0 && s.Next(); left-- {
				m := s.Message()
				key := fmt.Sprintf("%s/%d", m.Topic, m.Partition)
				if _, ok := first[key]; !ok {
					first[key] = m.Offset
				}
				f.take(m)
				if byTime && m.Late != (m.TS < high) {
					t.Errorf("%s %d: late=%v", key, m.Offset, m.Late)
				}
				high = max(high, m.TS)
			}
		}()
		synctest.Wait()
		c.create("new", 1, 0)
		for i := range 400 {
			for _, p := range []struct {
				topic     string
				partition int
			}{{"a", 0}, {"b", 0}, {"b", 1}, {"new", 0}} {
				if i >= 20 || p.topic == "new" {
					c.publish(p.topic, p.partition, fmt.Sprint(i))
				}
			}
			if i%23 == 0 {
				c.cut([]string{"a", "b", "c"}[i/23%3])
			}
			time.Sleep(50 * time.Millisecond)
		}
		c.set("b", func(n *fakeNode) { n.behind = 0 })
		c.mu.Lock()
		c.grown.Broadcast()
		c.mu.Unlock()
		time.Sleep(10 * time.Second)
		s.Close()
		<-done
		if left != 0 {
			t.Errorf("%d messages are missing, %v", left, s.Err())
		}
		for key, from := range want {
			if first[key] != from || f.next[key] != 400 {
				t.Errorf("%s: from %d to %d, want from %d to 400", key, first[key], f.next[key], from)
			}
		}
		if len(first) != len(want) {
			t.Errorf("delivered of %v", first)
		}
		if broke := c.dials("a") + c.dials("b") + c.dials("c"); broke < 8 {
			t.Errorf("%d connections: hardly anything broke", broke)
		}
	})
}

func TestWhatEndsASubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		c.create("t", 1, 10)
		c.create("two", 2, 10)
		cl := c.client(t, nil, "a")
		for _, tt := range []struct {
			topics string
			from   wire.Position
			want   wire.Code
		}{{"t,", wire.Position{}, wire.BadTopic}, {"t", offset(11), wire.Range}, {"two", offset(1), wire.Range}, {"two/2", wire.Position{}, wire.Range}} {
			s := cl.Subscribe(t.Context(), tt.topics, SubscribeOptions{From: tt.from})
			if s.Next() || code(s.Err()) != tt.want {
				t.Errorf("%s: %v", tt.topics, s.Err())
			}
			s.Close()
		}
		for _, o := range []SubscribeOptions{{MaxDelay: time.Second}, {ByTime: true, MaxDelay: 2 * time.Minute}, {ByTime: true, MaxDelay: -1}} {
			if s := cl.Subscribe(t.Context(), "t", o); s.Next() || s.Err() == nil {
				t.Errorf("%+v: %v", o, s.Err())
			}
		}
		s := cl.Subscribe(t.Context(), "t", SubscribeOptions{From: offset(0), Limit: 3})
		n := 0
		for s.Next() {
			n++
		}
		if n != 3 || s.Err() != nil {
			t.Errorf("limit 3: %d messages, %v", n, s.Err())
		}
		c.set("a", func(n *fakeNode) { n.down = true })
		c.cut("a")
		s = cl.Subscribe(t.Context(), "t", SubscribeOptions{})
		within(t, 12*time.Second, func() {
			if s.Next() || s.Err() == nil {
				t.Errorf("no node: %v", s.Err())
			}
		})
	})
}

// A node that is alive and says nothing is left after Options.Stall.
func TestASubscriptionLeavesASilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a", "b")
		c.create("t", 1, 3)
		c.set("a", func(n *fakeNode) {
			n.script = func(i int, _ *wire.Request) fakeAction { return fakeAction{silent: i > 2} }
		})
		s := c.client(t, nil, "a", "b").Subscribe(t.Context(), "t", SubscribeOptions{From: offset(0)})
		defer s.Close()
		within(t, 15*time.Second, func() {
			for i := range 10 {
				if i == 3 {
					c.set("a", func(n *fakeNode) { n.behind = 1000 }) // nothing more from here
					for j := range 7 {
						c.publish("t", 0, fmt.Sprint(3+j))
					}
				}
				if !s.Next() || s.Message().Offset != uint64(i) {
					t.Fatalf("message %d: %+v, %v", i, s.Message(), s.Err())
				}
			}
		})
	})
}

// A topic that is deleted and made anew begins at 0 again, in the same
// subscription; if that happens during a break, it is told after a while.
func TestATopicMadeAnewIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		c.create("t", 1, 3)
		s := c.client(t, nil, "a").Subscribe(t.Context(), "t", SubscribeOptions{From: offset(0)})
		defer s.Close()
		for i := range 3 {
			if !s.Next() || s.Message().Offset != uint64(i) {
				t.Fatalf("%+v, %v", s.Message(), s.Err())
			}
		}
		c.remake("t")
		c.publish("t", 0, "anew")
		if !s.Next() || s.Message().Offset != 0 || string(s.Message().Value) != "anew" {
			t.Fatalf("%+v, %v", s.Message(), s.Err())
		}
		c.remake("t")
		c.cut("a")
		within(t, 90*time.Second, func() {
			if s.Next() || code(s.Err()) != wire.Range {
				t.Errorf("made anew during a break: %+v, %v", s.Message(), s.Err())
			}
		})
	})
}

// One that fell behind is told so, and subscribes again where it was.
func TestASlowSubscriptionIsMadeAgain(t *testing.T) {
	for _, byTime := range []bool{false, true} {
		t.Run(fmt.Sprint("by time=", byTime), func(t *testing.T) { slowIsMadeAgain(t, byTime) })
	}
}

func slowIsMadeAgain(t *testing.T, byTime bool) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster("a")
		c.create("t", 1, 5)
		subs := 0
		c.set("a", func(n *fakeNode) {
			n.script = func(_ int, q *wire.Request) fakeAction {
				if q.Verb != wire.Sub {
					return fakeAction{}
				}
				subs++
				if subs == 1 { // accepted, and over at once
					return fakeAction{refuse: wire.SlowError(q.SID, "0", 5)}
				}
				return fakeAction{}
			}
		})
		s := c.client(t, nil, "a").Subscribe(t.Context(), "t", SubscribeOptions{From: offset(0), Limit: 5, ByTime: byTime})
		f := follow{t, map[string]uint64{"t/0": 0}}
		for s.Next() {
			f.take(s.Message())
		}
		if s.Err() != nil || f.next["t/0"] != 5 || subs != 2 {
			t.Errorf("%v, %v, %d subscriptions", f.next, s.Err(), subs)
		}
	})
}
