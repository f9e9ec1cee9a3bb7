package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// Three leaders, the clock of one of them 200 ms ahead of the others' and then
// 200 ms behind: what a subscription in order of time gets is ordered by ts but for
// what is late, and nothing is missing, also from the topics of the node that is
// stopped in between. What it costs is measured against a subscription that waits
// for nothing, on the same node.
func TestOrderByTimeAcrossLeaders(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	c := newCluster(t, manifest{})
	nodes := map[string]*exec.Cmd{}
	start := func(node, clock string) {
		cmd := c.command("node", "--id", node, "--config", "cluster.yaml", "--data-root", ".data")
		cmd.Env = append(cmd.Environ(), "WIBER_TEST_CLOCK="+clock)
		cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		nodes[node] = cmd
	}
	stop := func(node string) {
		cmd := nodes[node]
		delete(nodes, node)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	t.Cleanup(func() {
		for node := range nodes {
			stop(node)
		}
	})
	start("n1", "+0ms")
	start("n2", "+200ms")
	start("n3", "+0ms")

	cl := c.client(client.Options{}, c.names...)
	var topics []string
	for i := range 8 { // on four shards, which three nodes lead
		topics = append(topics, fmt.Sprint("order.", i))
		publish(t, cl, topics[i], "first")
	}
	leadersAre := func(n int) {
		t.Helper()
		eventually(t, 60*time.Second, fmt.Sprintf("%d nodes lead", n), func() error {
			lines, err := c.topics()
			leaders := map[string]bool{}
			for _, l := range lines {
				leaders[l.Leader] = true
			}
			if err == nil && (len(leaders) != n || leaders[""]) {
				err = fmt.Errorf("leaders: %v", leaders)
			}
			return err
		})
	}
	leadersAre(3)

	from := wire.Position{Kind: wire.Earliest}
	byTime := c.collect(client.SubscribeOptions{ByTime: true, From: from})
	plain := c.collect(client.SubscribeOptions{From: from})
	total := len(topics)
	for _, s := range []*collected{byTime, plain} {
		eventually(t, 60*time.Second, "what is there comes", func() error { return s.has(total) })
	}
	byTime.against(plain)
	for _, ahead := range []bool{true, false} {
		if !ahead {
			stop("n2")
			leadersAre(2)
			start("n2", "-200ms")
			leadersAre(3)
		}
		n := publishAtRandom(t, cl, topics, 4*time.Second)
		total += n
		for _, s := range []*collected{byTime, plain} {
			eventually(t, 60*time.Second, "all messages come", func() error { return s.has(total) })
		}
		byTime.check(t)
		added, late := byTime.against(plain)
		fmt.Printf("order=time, n2 200 ms %s: %d messages, %d late, added delay p50 %s p99 %s max %s\n", map[bool]string{true: "ahead", false: "behind"}[ahead], len(added), late,
			added[len(added)/2].Round(10*time.Microsecond), added[len(added)*99/100].Round(10*time.Microsecond), added[len(added)-1].Round(10*time.Microsecond))
	}
	byTime.end()
	plain.end()
	if byTime.err != nil || plain.err != nil {
		t.Error(byTime.err, plain.err)
	}
}

func publish(t *testing.T, cl *client.Client, topic, value string) {
	t.Helper()
	if _, err := cl.Publish(t.Context(), client.Message{Topic: topic, Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

// publishAtRandom publishes to one topic after the other, a message each few
// milliseconds, and returns how many were acknowledged: all.
func publishAtRandom(t *testing.T, cl *client.Client, topics []string, d time.Duration) int {
	t.Helper()
	n := 0
	var acks sync.WaitGroup
	ticker := clock.NewTicker(3 * time.Millisecond)
	defer ticker.Stop()
	for end := clock.Mono() + d; clock.Mono() < end; n++ {
		<-ticker.C()
		acks.Add(1)
		err := cl.Send(t.Context(), client.Message{Topic: topics[rand.IntN(len(topics))], Value: strconv.AppendInt(nil, int64(n), 10)}, func(r client.Result) {
			defer acks.Done()
			if r.Err != nil {
				t.Errorf("message %d: %v", r.N, r.Err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	acks.Wait()
	return n
}

// collected is what one subscription through n1 got so far.
type collected struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	got  []arrival
	err  error
	seen int // by against
}

type arrival struct {
	topic      string
	offset, ts uint64
	late       bool
	at         time.Duration
}

// collect subscribes to all topics of the test.
func (c *cluster) collect(o client.SubscribeOptions) *collected {
	c.t.Helper()
	cl := c.client(client.Options{}, "n1")
	ctx, cancel := context.WithCancel(context.Background())
	s := &collected{cancel: cancel, done: make(chan struct{})}
	sub := cl.Subscribe(ctx, "order.*", o)
	go func() {
		defer close(s.done)
		for sub.Next() {
			m := sub.Message()
			s.mu.Lock()
			s.got = append(s.got, arrival{m.Topic, m.Offset, m.TS, m.Late, clock.Mono()})
			s.mu.Unlock()
		}
		if err := sub.Err(); !errors.Is(err, context.Canceled) {
			s.err = err
		}
	}()
	c.t.Cleanup(s.end)
	return s
}

func (s *collected) end() {
	s.cancel()
	<-s.done
}

// has says whether so many messages have come.
func (s *collected) has(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) != n {
		return fmt.Errorf("%d of %d have come", len(s.got), n)
	}
	return nil
}

// check says that each partition came whole and in order, and everything by ts
// but what is late.
func (s *collected) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]uint64{}
	high := uint64(0)
	for i, a := range s.got {
		if a.offset != next[a.topic] || a.late != (a.ts < high) {
			t.Fatalf("message %d: %+v, after %d and %d", i, a, next[a.topic], high)
		}
		next[a.topic]++
		high = max(high, a.ts)
	}
}

// against returns how much later than in another subscription messages came, those
// that came since the last time, in ascending order; and how many of them are late.
func (s *collected) against(o *collected) (added []time.Duration, late int) {
	at := map[string]time.Duration{}
	o.mu.Lock()
	for _, a := range o.got {
		at[fmt.Sprint(a.topic, a.offset)] = a.at
	}
	o.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.got[s.seen:] {
		added = append(added, a.at-at[fmt.Sprint(a.topic, a.offset)])
		if a.late {
			late++
		}
	}
	s.seen = len(s.got)
	slices.Sort(added)
	return added, late
}
