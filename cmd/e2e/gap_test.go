package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/wiber/wiber/topics/client"
)

// A publisher that sends a message each 5 ms through a node that survives waits
// less than 3 s when the leader of the topic is killed.
func TestLeaderKillStopsAPublisherForLessThan3s(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	c := newCluster(t, manifest{})
	c.start()
	c.run("pub", "ticks", "first")
	var gaps []time.Duration
	for range gapRuns {
		gaps = append(gaps, c.leaderKillGap("ticks"))
		c.awaitReady(c.names...)
	}
	median, longest := medianAndMax(gaps)
	fmt.Printf("leader kill: %d runs, median gap %s, longest %s\n", len(gaps), median.Round(time.Millisecond), longest.Round(time.Millisecond))
	if longest >= 3*time.Second {
		t.Errorf("a publisher was stopped for %s; all gaps: %v", longest, gaps)
	}
}

// leaderKillGap kills the leader with "wiberctl kill" under a publisher and
// returns the longest time without a receipt.
func (c *cluster) leaderKillGap(topic string) time.Duration {
	c.t.Helper()
	leader := c.leader(topic)
	survivor := c.others(leader)[0]
	cl, err := client.New(client.Options{Nodes: c.addresses(survivor), Clock: clock})
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	producer, err := cl.Producer(client.ProducerOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer producer.Close()

	receiptc := make(chan time.Duration, 1<<20)
	ctx, stop := context.WithCancel(context.Background())
	endc := make(chan struct{})
	go func() {
		defer close(endc)
		ticker := clock.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			err := producer.Send(context.Background(), client.Message{Topic: topic, Value: strconv.AppendInt(nil, int64(n), 10)}, func(r client.Result) {
				if r.Err != nil {
					c.t.Errorf("message %d: %v", r.N, r.Err)
					return
				}
				receiptc <- clock.Mono()
			})
			if err != nil {
				return
			}
			<-ticker.C()
		}
	}()
	await := func(n int) {
		eventually(c.t, 30*time.Second, "receipts come", func() error {
			if len(receiptc) < n {
				return fmt.Errorf("%d of %d", len(receiptc), n)
			}
			return nil
		})
	}
	await(100)
	c.run("kill", leader)
	await(len(receiptc) + 200)
	stop()
	<-endc
	if err := producer.Flush(context.Background()); err != nil {
		c.t.Error(err)
	}
	longest, last := time.Duration(0), <-receiptc
	for len(receiptc) > 0 {
		at := <-receiptc
		longest, last = max(longest, at-last), at
	}
	return longest
}

func medianAndMax(values []time.Duration) (median, longest time.Duration) {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2], sorted[len(sorted)-1]
}
