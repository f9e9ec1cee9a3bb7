package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// byHand is a cluster whose nodes are started without a controller, each with a
// clock of its own.
type byHand struct {
	*cluster
	clocks  map[string]string // WIBER_TEST_CLOCK by node
	cmds    map[string]*exec.Cmd
	started map[string]time.Time // when the process was started
}

// newByHand makes a cluster and starts its nodes.
func newByHand(t *testing.T, clocks map[string]string) *byHand {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	h := &byHand{cluster: newCluster(t, manifest{}), clocks: clocks, cmds: map[string]*exec.Cmd{}, started: map[string]time.Time{}}
	t.Cleanup(func() { h.end(h.names...) })
	h.begin(h.names...)
	h.awaitNodes(h.names...)
	return h
}

func (h *byHand) begin(nodes ...string) {
	h.t.Helper()
	for _, node := range nodes {
		out, err := os.OpenFile(h.output(node), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			h.t.Fatal(err)
		}
		defer out.Close()
		cmd := h.command("node", "--id", node, "--config", "cluster.yaml", "--data-root", ".data")
		cmd.Env = append(cmd.Env, "WIBER_TEST_CLOCK="+h.clocks[node])
		cmd.Stdout, cmd.Stderr = out, out
		h.started[node] = time.Now()
		if err := cmd.Start(); err != nil {
			h.t.Fatal(err)
		}
		h.cmds[node] = cmd
	}
}

func (h *byHand) output(node string) string { return filepath.Join(h.dir, node+".out") }

func (h *byHand) said(node, text string) error {
	out, err := os.ReadFile(h.output(node))
	if err == nil && !strings.Contains(string(out), text) {
		err = fmt.Errorf("%s has not said %q:\n%s", node, text, out)
	}
	return err
}

func (h *byHand) kill(node string, sig syscall.Signal) {
	h.t.Helper()
	if err := h.cmds[node].Process.Signal(sig); err != nil {
		h.t.Fatal(err)
	}
}

// end kills nodes and waits for their end.
func (h *byHand) end(nodes ...string) {
	for _, node := range nodes {
		if cmd := h.cmds[node]; cmd != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			delete(h.cmds, node)
		}
	}
}

func (h *byHand) url(node, path string) string {
	return fmt.Sprintf("http://%s%s", net.JoinHostPort(h.host, strconv.Itoa(h.port[node]+200)), path)
}

func (h *byHand) awaitNodes(nodes ...string) {
	h.t.Helper()
	eventually(h.t, 60*time.Second, strings.Join(nodes, ", ")+" are ready", func() error {
		for _, node := range nodes {
			if err := getJSON(h.url(node, "/readyz"), new(any)); err != nil {
				return err
			}
		}
		return nil
	})
}

// nodeClock is clock of a node's /v1/status.
type nodeClock struct {
	State        string   `json:"state"`
	Reason       string   `json:"reason"`
	OffsetMicros int64    `json:"offsetMicros"`
	Eps          int64    `json:"eps"`
	DriftPPM     *float64 `json:"driftPpm"`
	Reference    int64    `json:"reference"`
	TestClock    string   `json:"testClock"`
	Ahead        []struct {
		Group  string `json:"group"`
		Micros int64  `json:"micros"`
	} `json:"ahead"`
}

// clockOf asks a node for its clock; before and after are the driver's clock
// around it, in microseconds.
func (h *byHand) clockOf(node string) (c nodeClock, before, after int64, err error) {
	var status struct {
		Clock nodeClock `json:"clock"`
	}
	before = time.Now().UnixMicro()
	err = getJSON(h.url(node, "/v1/status"), &status)
	return status.Clock, before, time.Now().UnixMicro(), err
}

// publish publishes one message and checks its stamp: it was given between
// before and after, give or take eps.
func (h *byHand) publish(cl *client.Client, m client.Message) wire.Receipt {
	h.t.Helper()
	before := time.Now().UnixMicro()
	r, err := cl.Publish(context.Background(), m)
	after := time.Now().UnixMicro()
	if err != nil {
		h.t.Fatal(err)
	}
	ts := int64(r.TS)
	switch {
	case r.Duplicate:
	case r.Eps < 0:
		h.t.Errorf("%s@%d is unsynchronised", r.Topic, r.Offset)
	case ts+r.Eps < before || ts-r.Eps > after:
		h.t.Errorf("%s@%d is stamped %d, eps %d; it was published between %d and %d", r.Topic, r.Offset, ts, r.Eps, before, after)
	}
	return r
}

// ledBy makes topics until the named node leads one, and returns that.
func (h *byHand) ledBy(node string) string {
	h.t.Helper()
	topic := ""
	next := 0
	eventually(h.t, 30*time.Second, node+" leads a topic", func() error {
		lines, err := h.topics()
		if err != nil {
			return err
		}
		for _, line := range lines {
			if line.Leader == node {
				topic = line.Topic
				return nil
			}
		}
		if next++; next <= 16 {
			h.run("pub", fmt.Sprintf("led-%d", next), "first", "--nodes", h.addresses(h.names[0])[0])
		}
		return errors.New("it leads none")
	})
	return topic
}

const ppm = 1_000_000

// TestClockOff: one of three clocks is 250 ms ahead and runs 300 ppm too fast.
// The node says so; its stamps, and everybody's, are right to within eps; without
// the others eps grows by the declared drift.
func TestClockOff(t *testing.T) {
	h := newByHand(t, map[string]string{"n2": "+250ms,300ppm"})
	// Its clock began between the start of the process and its first word.
	began := h.started["n2"]
	words, err := os.Stat(h.output("n2"))
	if err != nil || words.Size() == 0 {
		t.Fatal("n2 has said nothing", err)
	}
	cl := h.client(client.Options{}, h.names...)

	t.Run("offset", func(t *testing.T) {
		eventually(t, 30*time.Second, "n2 shows its offset and drift", func() error {
			c, before, after, err := h.clockOf("n2")
			if err != nil {
				return err
			}
			if c.State != "synchronised" || c.DriftPPM == nil || c.TestClock != "+250ms,300ppm" {
				return fmt.Errorf("%+v", c)
			}
			// A second after the process started its clock was there.
			least := 250_000 + 300*(before-began.UnixMicro()-1_000_000)/ppm
			most := 250_000 + 300*(after-began.UnixMicro())/ppm
			if c.OffsetMicros+c.Eps < least || c.OffsetMicros-c.Eps > most || c.Eps > 20_000 {
				t.Fatalf("offset %d, eps %d; it is %d to %d", c.OffsetMicros, c.Eps, least, most)
			}
			if *c.DriftPPM < 250 || *c.DriftPPM > 350 {
				return fmt.Errorf("drift %.1f ppm", *c.DriftPPM)
			}
			return nil
		})
		for _, node := range h.names {
			lines, err := h.client(client.Options{}, node).Time(t.Context())
			if err != nil || len(lines) != 3 {
				t.Fatalf("%v %v", lines, err)
			}
			for i, l := range lines {
				off := int64(0)
				if i == 1 {
					off = 250_000 + 300*(time.Now().UnixMicro()-began.UnixMicro())/ppm
				}
				if l.Node != h.names[i] || l.State != "synchronised" || l.Test != (i == 1) || !l.Known || l.Offset < off-l.Eps-1000 || l.Offset > off+l.Eps+1000 {
					t.Errorf("%s says %+v", node, l)
				}
			}
		}
	})

	t.Run("stamps", func(t *testing.T) {
		for _, node := range h.names {
			topic := h.ledBy(node)
			last := uint64(0)
			for range 30 {
				r := h.publish(cl, client.Message{Topic: topic, Value: []byte("when")})
				if r.TS <= last {
					t.Errorf("%s: %d after %d", topic, r.TS, last)
				}
				last = r.TS
			}
		}
	})

	t.Run("paused", func(t *testing.T) {
		h.kill("n2", syscall.SIGSTOP)
		wait(2 * time.Second)
		h.kill("n2", syscall.SIGCONT)
		for range 20 { // at once, and while it is read again
			c, before, after, err := h.clockOf("n2")
			if err != nil {
				t.Fatal(err)
			}
			if c.Eps >= 0 && (c.Reference+c.Eps < before || c.Reference-c.Eps > after) {
				t.Fatalf("after a pause: %+v, between %d and %d", c, before, after)
			}
		}
	})

	t.Run("alone", func(t *testing.T) {
		h.kill("n1", syscall.SIGSTOP)
		h.kill("n3", syscall.SIGSTOP)
		var first nodeClock
		var from int64
		eventually(t, 20*time.Second, "n2 no longer reads the others", func() (err error) {
			if first, from, _, err = h.clockOf("n2"); err == nil && first.State != "holdover" {
				err = fmt.Errorf("%+v", first)
			}
			return err
		})
		wait(3 * time.Second)
		c, _, to, err := h.clockOf("n2")
		if err != nil {
			t.Fatal(err)
		}
		if grown, most := c.Eps-first.Eps, 500*(to-from)/ppm+100; grown < 1300 || grown > most || c.State != "holdover" {
			t.Errorf("eps grew by %d within %d us: %+v", grown, to-from, c)
		}
		h.kill("n1", syscall.SIGCONT)
		h.kill("n3", syscall.SIGCONT)
		eventually(t, 30*time.Second, "n2 is synchronised again", func() error {
			c, _, _, err := h.clockOf("n2")
			if err == nil && (c.State != "synchronised" || c.Eps > first.Eps+2000) {
				err = fmt.Errorf("%+v", c)
			}
			return err
		})
	})
}

// TestStrobedClock: the wall clock of a leader is stepped by three seconds to
// and fro, ten times a second. Nothing follows from it.
func TestStrobedClock(t *testing.T) {
	h := newByHand(t, map[string]string{"n2": "+0s,0ppm,strobe=3s@10Hz"})
	if err := h.said("n2", "strobe=3s@10Hz"); err != nil {
		t.Fatal(err)
	}
	topic := h.ledBy("n2")
	cl := h.client(client.Options{}, h.names...)
	terms := func() map[string]string {
		groups, err := h.status("n2")
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		for _, g := range groups {
			m[g.ID] = fmt.Sprint(g.Leader, g.Term)
		}
		return m
	}
	before := terms()
	var first []wire.Receipt
	last := wire.Receipt{}
	for i := 0; i < 60; i++ {
		r := h.publish(cl, client.Message{Topic: topic, ID: fmt.Appendf(nil, "id-%d", i), Value: []byte(strconv.Itoa(i))})
		if i > 0 && (r.Offset != last.Offset+1 || r.TS <= last.TS || r.Lamport <= last.Lamport) {
			t.Fatalf("%+v after %+v", r, last)
		}
		first, last = append(first, r), r
		wait(50 * time.Millisecond) // so that it takes thirty steps
	}
	for i, r := range first {
		again := h.publish(cl, client.Message{Topic: topic, ID: fmt.Appendf(nil, "id-%d", i), Value: []byte("again")})
		if !again.Duplicate || again.Offset != r.Offset || again.TS != r.TS {
			t.Fatalf("%+v, and first it was %+v", again, r)
		}
	}
	for id, was := range before {
		if now := terms()[id]; now != was {
			t.Errorf("group %s: leader and term were %s and are %s", id, was, now)
		}
	}
	c, at, until, err := h.clockOf("n2")
	if err != nil || c.State != "synchronised" || c.OffsetMicros+c.Eps < 2_990_000 && c.OffsetMicros-c.Eps > -2_990_000 ||
		c.Reference+c.Eps < at || c.Reference-c.Eps > until {
		t.Errorf("%+v, %v; the driver's clock shows %d to %d", c, err, at, until)
	}
}

// TestNobodyKnowsTheTime: two nodes whose clocks differ by three seconds, the
// third down. They serve, and are not ready; the third decides, and the one that
// was ahead drags nobody along.
func TestNobodyKnowsTheTime(t *testing.T) {
	h := newByHand(t, map[string]string{"n2": "+3s"})
	topic := h.ledBy("n2")
	h.end(h.names...)
	h.begin("n1", "n2")
	two := h.client(client.Options{}, "n1", "n2")
	for _, node := range []string{"n1", "n2"} {
		eventually(t, 30*time.Second, node+" is not ready because of the clocks", func() error {
			err := getJSON(h.url(node, "/readyz"), new(any))
			if err == nil || !strings.Contains(err.Error(), "the clock is unsynchronised: a clock is more than 500 ms ahead") || strings.Contains(err.Error(), "no leader") {
				return fmt.Errorf("it says %v", err)
			}
			return nil
		})
	}
	r, err := two.Publish(t.Context(), client.Message{Topic: topic, Value: []byte("goes on")})
	if err != nil || r.Eps != -1 {
		t.Fatalf("%+v, %v", r, err)
	}
	for i := range 8 { // some of them led by n2
		if _, err := two.Publish(t.Context(), client.Message{Topic: fmt.Sprintf("ahead-%d", i), Value: []byte("ahead")}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 20*time.Second, "n1 says that stamps are ahead", func() error {
		c, _, _, err := h.clockOf("n1")
		if err == nil && len(c.Ahead) == 0 {
			err = h.said("n1", "stamps are more than 500 ms ahead")
		}
		return err
	})
	h.begin("n3")
	h.awaitNodes(h.names...)
	eventually(t, 30*time.Second, "stamps are no longer ahead", func() error {
		for _, node := range h.names {
			c, _, _, err := h.clockOf(node)
			if err != nil || len(c.Ahead) > 0 || c.State != "synchronised" {
				return fmt.Errorf("%s: %+v, %v", node, c, err)
			}
		}
		return nil
	})
	cl := h.client(client.Options{}, h.names...)
	for _, node := range h.names {
		topic := h.ledBy(node)
		for range 5 {
			h.publish(cl, client.Message{Topic: topic, Value: []byte("right again")})
		}
	}
}
