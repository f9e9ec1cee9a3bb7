package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// The settings of the long tests, from the environment, as the Makefile gives
// them.
var (
	runs    = setting("WIBER_E2E_RUNS", 1)     // runs of TestEndToEnd
	seed    = setting("WIBER_E2E_SEED", 0)     // the seed of the first run; 0: a random one
	gapRuns = setting("WIBER_E2E_GAP_RUNS", 3) // leaders killed to measure the gap
)

func setting(name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(fmt.Sprintf("%s=%q is not a number", name, text))
	}
	return n
}

// publishEvery is the rhythm of one publisher.
const publishEvery = 2 * time.Millisecond

// endToEndTopics are published to by one publisher with ids and one with
// numbers each.
var endToEndTopics = []struct {
	name       string
	partitions int
}{{"alpha", 1}, {"beta", 1}, {"gamma", 3}}

// TestEndToEnd publishes through all nodes while leaders are killed, a node
// hangs, and once everything dies at the same moment; in the end every node
// holds exactly what was acknowledged, where the receipts say.
func TestEndToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("a run takes most of a minute")
	}
	first := uint64(seed)
	if first == 0 {
		first = rand.Uint64N(1_000_000) + 1
	}
	for i := range runs {
		t.Run(fmt.Sprintf("seed=%d", first+uint64(i)), func(t *testing.T) { endToEnd(t, first+uint64(i)) })
	}
}

// endToEnd is one run. Its order of events follows from the seed; when exactly
// they happen does not.
func endToEnd(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	c := newCluster(t, manifest{})
	c.start()
	c.write("topics.yaml", topicsManifest())
	c.run("apply", "-f", "topics.yaml")

	h := newHistory()
	load := startPublishers(c, h)
	kills := 0
	progress := func(least int) {
		t.Helper()
		target := h.acked() + least + random.IntN(least)
		eventually(t, 60*time.Second, "publishing goes on", func() error {
			if n := h.acked(); n < target {
				return fmt.Errorf("%d of %d acknowledgements", n, target)
			}
			return nil
		})
	}
	again := func() { sendAgain(c, h, random) }
	killLeader := func() {
		t.Helper()
		leader := c.leader(endToEndTopics[random.IntN(len(endToEndTopics))].name)
		c.signal(leader, syscall.SIGKILL)
		kills++
		progress(300)
		again()
		if random.IntN(2) == 0 {
			c.awaitReady(c.names...)
		}
	}
	hang := func() {
		t.Helper()
		c.awaitReady(c.names...)
		node := c.names[random.IntN(len(c.names))]
		if random.IntN(2) == 0 {
			node = c.leader(endToEndTopics[random.IntN(len(endToEndTopics))].name)
		}
		pid := c.pid(node)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatalf("stop %s: %v", node, err)
		}
		wait(5 * time.Second)
		syscall.Kill(pid, syscall.SIGCONT) // it may have been killed and replaced meanwhile
		progress(300)
		again()
	}
	killEverything := func() {
		t.Helper()
		kills += c.killEverything()
		c.start()
		progress(300)
		again()
	}

	progress(500)
	events := []func(){killLeader, killLeader, killLeader, hang, killEverything}
	random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	for _, event := range events {
		event()
	}
	load.stop()
	c.awaitReady(c.names...)
	again()
	unknowns := h.unknown
	settleUnknown(c, h)
	c.awaitSettled()

	for _, node := range c.names {
		for _, err := range h.check(node, c.contents(node)) {
			t.Error(err)
		}
	}
	fmt.Printf("seed=%d acked=%d unknown=%d suppressed=%d kills=%d longest-gap=%s\n",
		seed, h.ackedCount, unknowns, h.duplicates, kills, h.longestGap.Round(time.Millisecond))
	if h.duplicates == 0 || kills == 0 || h.ackedCount == 0 {
		t.Error("the run proves nothing: it acknowledged, suppressed or killed nothing")
	}
	c.run("down")
}

func topicsManifest() string {
	var b strings.Builder
	for _, topic := range endToEndTopics {
		fmt.Fprintf(&b, "---\napiVersion: wiber.dev/v1alpha1\nkind: Topic\nmetadata: {name: %s}\nspec: {partitions: %d}\n", topic.name, topic.partitions)
	}
	return b.String()
}

// killEverything kills all nodes and the controller at one moment and returns
// how many processes that were.
func (c *cluster) killEverything() int {
	c.t.Helper()
	pids := c.processes()
	c.up.Process.Kill()
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	c.up.Wait()
	c.up = nil
	eventually(c.t, 10*time.Second, "everything is dead", func() error {
		if left := c.processes(); len(left) > 0 {
			return fmt.Errorf("still alive: %v", left)
		}
		return nil
	})
	return len(pids) + 1
}

// load is the publishers that run.
type load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// stop lets the publishers finish what they sent and returns when they have.
func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

// startPublishers starts six publishers: for each topic one with ids and one
// with numbers, each beginning with another node.
func startPublishers(c *cluster, h *history) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel}
	c.t.Cleanup(l.stop)
	for i := range 2 * len(endToEndTopics) {
		names := append(append([]string{}, c.names[i%len(c.names):]...), c.names[:i%len(c.names)]...)
		p := &publisher{index: i, topic: endToEndTopics[i%len(endToEndTopics)].name, history: h}
		if i < len(endToEndTopics) {
			// The first one gives up early, so that outcomes stay unknown.
			cl := c.client(client.Options{Stall: 500 * time.Millisecond, Deadline: time.Duration(1+4*i) * time.Second}, names...)
			l.wg.Go(func() { p.withIDs(ctx, cl) })
			continue
		}
		cl := c.client(client.Options{Stall: time.Second}, names...)
		l.wg.Go(func() { p.withNumbers(ctx, c.t, cl) })
	}
	return l
}

// publisher publishes to one topic until it is told to stop.
type publisher struct {
	index   int
	topic   string
	history *history
	next    int
}

// attempt makes the next message.
func (p *publisher) attempt(withID bool) (*attempt, client.Message) {
	a := &attempt{publisher: p.index, number: p.next, topic: p.topic}
	p.next++
	m := client.Message{Topic: a.topic, Value: []byte(a.value())}
	if withID {
		a.id = "id-" + a.key()
		m.ID = []byte(a.id)
	} else {
		m.Key = []byte(fmt.Sprint("key-", a.number%7))
	}
	return a, m
}

// finish records what became of a message.
func (p *publisher) finish(a *attempt, r client.Result) {
	a.outcome, a.receipt = outcomeOf(r.Err), r.Receipt
	p.history.record(a, clock.Mono())
}

// outcomeOf says what a publisher may conclude.
func outcomeOf(err error) outcome {
	var failed *client.PublishError
	switch {
	case err == nil:
		return acked
	case errors.As(err, &failed) && failed.Class == wire.NotWritten:
		return refused
	}
	return unknown
}

// withIDs publishes messages with ids. Some outcomes stay unknown, when the
// client gives up.
func (p *publisher) withIDs(ctx context.Context, cl *client.Client) {
	ticker := clock.NewTicker(publishEvery)
	defer ticker.Stop()
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	for ctx.Err() == nil {
		a, m := p.attempt(true)
		inFlight.Add(1)
		if err := cl.Send(context.Background(), m, func(r client.Result) { p.finish(a, r); inFlight.Done() }); err != nil {
			p.finish(a, client.Result{Err: err})
			inFlight.Done()
		}
		<-ticker.C()
	}
}

// withNumbers publishes under a producer's name. After a failure, which ends a
// producer, it goes on with a new one.
func (p *publisher) withNumbers(ctx context.Context, t testing.TB, cl *client.Client) {
	ticker := clock.NewTicker(publishEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		producer, err := cl.Producer(client.ProducerOptions{})
		if err != nil {
			t.Errorf("publisher %d: %v", p.index, err)
			return
		}
		for ctx.Err() == nil {
			a, m := p.attempt(false)
			if err := producer.Send(context.Background(), m, func(r client.Result) { p.finish(a, r) }); err != nil {
				a.outcome = refused // it was not taken
				p.history.record(a, clock.Mono())
				break
			}
			<-ticker.C()
		}
		producer.Flush(context.Background()) // its errors are those of the messages
		producer.Close()
	}
}

// sendAgain sends some acknowledged ids again, through every node, and compares
// the receipts with the first ones.
func sendAgain(c *cluster, h *history, random *rand.Rand) {
	c.t.Helper()
	h.mu.Lock()
	var chosen []*attempt
	for range min(30, len(h.ackedIDs)) {
		// Half of them from the newest, which the failure may have touched.
		from := 0
		if random.IntN(2) == 0 {
			from = max(0, len(h.ackedIDs)-500)
		}
		chosen = append(chosen, h.ackedIDs[from+random.IntN(len(h.ackedIDs)-from)])
	}
	h.mu.Unlock()
	for i, a := range chosen {
		names := append(append([]string{}, c.names[i%len(c.names):]...), c.names[:i%len(c.names)]...)
		cl, err := client.New(client.Options{Nodes: c.addresses(names...), Clock: clock, Stall: time.Second})
		if err != nil {
			c.t.Fatal(err)
		}
		receipt, err := cl.Publish(context.Background(), client.Message{Topic: a.topic, ID: []byte(a.id), Value: []byte(a.value())})
		cl.Close()
		if err != nil {
			c.t.Errorf("send %s again: %v", a.id, err)
			continue
		}
		if err := sameReceipt(a.receipt, receipt); err != nil {
			c.t.Errorf("%s through %s: %v", a.id, names[0], err)
			continue
		}
		h.mu.Lock()
		h.duplicates++
		h.mu.Unlock()
	}
}

// settleUnknown sends every id with an unknown outcome again. Whether the first
// try was stored or not, it is there once then, where the receipt says.
func settleUnknown(c *cluster, h *history) {
	c.t.Helper()
	cl := c.client(client.Options{Stall: time.Second}, c.names...)
	h.mu.Lock()
	var open []*attempt
	for _, a := range h.attempts {
		if a.outcome == unknown && a.id != "" {
			open = append(open, a)
		}
	}
	h.mu.Unlock()
	var inFlight sync.WaitGroup // there may be thousands, after many failures
	for _, a := range open {
		inFlight.Add(1)
		settled := func(r client.Result) {
			defer inFlight.Done()
			if r.Err != nil {
				c.t.Errorf("send %s again, whose outcome was unknown: %v", a.id, r.Err)
				return
			}
			h.mu.Lock()
			a.outcome, a.receipt = acked, r.Receipt
			h.mu.Unlock()
		}
		if err := cl.Send(context.Background(), client.Message{Topic: a.topic, ID: []byte(a.id), Value: []byte(a.value())}, settled); err != nil {
			settled(client.Result{Err: err})
		}
	}
	inFlight.Wait()
}

// awaitSettled waits until all nodes have applied the same and checks that the
// chain hashes of every group are equal.
func (c *cluster) awaitSettled() {
	c.t.Helper()
	eventually(c.t, 60*time.Second, "all nodes have applied the same", func() error {
		var first []groupStatus
		for _, node := range c.names {
			groups, err := c.status(node)
			if err != nil {
				return err
			}
			if first == nil {
				first = groups
			}
			if len(groups) != len(first) {
				return fmt.Errorf("%s has %d groups, %s %d", node, len(groups), c.names[0], len(first))
			}
			for i, g := range groups {
				if g.ID != first[i].ID || g.Applied != first[i].Applied || g.Applied != g.Commit {
					return fmt.Errorf("group %s: %s applied %d of %d, %s %d", g.ID, node, g.Applied, g.Commit, c.names[0], first[i].Applied)
				}
				if g.Chain != first[i].Chain || g.Chain == "" {
					c.t.Fatalf("group %s at %d: chain %q on %s, %q on %s", g.ID, g.Applied, g.Chain, node, first[i].Chain, c.names[0])
				}
			}
		}
		return nil
	})
}

// contents reads everything that a node holds, by asking this node for what it
// has applied.
func (c *cluster) contents(node string) map[stream][]stored {
	c.t.Helper()
	streams := map[stream][]stored{}
	for _, topic := range endToEndTopics {
		for partition := range topic.partitions {
			streams[stream{topic.name, partition}] = c.messages(node, fmt.Sprintf("%s/%d", topic.name, partition))
		}
	}
	return streams
}

// messages reads one partition on one node.
func (c *cluster) messages(node, topic string) []stored {
	c.t.Helper()
	cmd := c.command("history", topic, "--node", node, "--read", "local", "-o", "json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	var problem strings.Builder
	cmd.Stderr = &problem
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	var messages []stored
	decoder := json.NewDecoder(bufio.NewReader(out))
	for decoder.More() {
		var m stored
		if err := decoder.Decode(&m); err != nil {
			c.t.Fatalf("history %s of %s: %v", topic, node, err)
		}
		messages = append(messages, m)
	}
	if err := cmd.Wait(); err != nil {
		c.t.Fatalf("history %s of %s: %v\n%s", topic, node, err, problem.String())
	}
	return messages
}
