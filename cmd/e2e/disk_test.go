package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/topics/client"
)

// slowDisk is how long fdatasync takes where a test makes it slow.
const slowDisk = 200 * time.Millisecond

// needStrace skips a test on a machine where system calls cannot be changed.
func needStrace(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("NOT TESTED: strace is not installed, so that fsync cannot be delayed, failed or counted here")
	}
	probe := exec.Command("strace", "-qq", "-o", os.DevNull, "true")
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: strace may not trace here: %v %s", err, out)
	}
}

// inject changes a system call of a running node until the returned function is
// called, or the node ends.
func (c *cluster) inject(node, fault string) (heal func()) {
	c.t.Helper()
	var problem bytes.Buffer
	cmd := exec.Command("strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace=fdatasync", "-e", "inject=fdatasync:"+fault, "-p", strconv.Itoa(c.pid(node)))
	cmd.Stderr = &problem
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	pid := c.pid(node)
	eventually(c.t, 10*time.Second, "strace is attached to every thread of "+node, func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
			return nil // the first thread's fault has ended it already
		}
		return traced(pid, cmd.Process.Pid)
	})
	var once sync.Once
	heal = func() {
		once.Do(func() {
			cmd.Process.Signal(syscall.SIGINT)
			cmd.Wait()
		})
	}
	c.t.Cleanup(heal)
	return heal
}

// traced returns nil when all threads of a process are traced by tracer.
func traced(pid, tracer int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		return fmt.Errorf("process %d is gone", pid)
	}
	want := fmt.Sprintf("TracerPid:\t%d\n", tracer)
	for _, path := range threads {
		status, err := os.ReadFile(path)
		if err == nil && !strings.Contains(string(status), want) {
			return fmt.Errorf("%s is not traced", path)
		}
	}
	return nil
}

// publishTimes publishes messages one after the other and returns how long each
// acknowledgement took.
func (c *cluster) publishTimes(topic string, n int, nodes ...string) []time.Duration {
	c.t.Helper()
	cl, err := client.New(client.Options{Nodes: c.addresses(nodes...), Clock: clock})
	if err != nil {
		c.t.Fatal(err)
	}
	defer cl.Close()
	var times []time.Duration
	for i := range n {
		begin := clock.Mono()
		if _, err := cl.Publish(context.Background(), client.Message{Topic: topic, ID: fmt.Appendf(nil, "%s-%d-%d", topic, begin, i), Value: []byte("x")}); err != nil {
			c.t.Fatalf("publish to %s: %v", topic, err)
		}
		times = append(times, clock.Mono()-begin)
	}
	return times
}

// Acknowledged means on the disks of a majority: with two slow disks of three
// no acknowledgement comes before one of them is done.
func TestNoAcknowledgementBeforeTheSecondDisk(t *testing.T) {
	needStrace(t)
	c := newCluster(t, manifest{spec: "  electionTimeout: 5s\n"})
	c.start()
	c.run("pub", "slow", "first")
	leader := c.leader("slow")
	for _, node := range c.others(leader) {
		c.inject(node, "delay_enter="+strconv.FormatInt(slowDisk.Microseconds(), 10))
	}
	for i, d := range c.publishTimes("slow", 10, leader) {
		if d < slowDisk {
			t.Errorf("message %d was acknowledged after %s; the fdatasync of two disks takes %s", i, d, slowDisk)
		}
	}
}

// One slow disk does not slow the shards that its node does not lead.
func TestOneSlowDiskSlowsOnlyWhatItLeads(t *testing.T) {
	needStrace(t)
	c := newCluster(t, manifest{spec: "  electionTimeout: 5s\n"})
	c.start()
	const topics = 8
	for i := range topics {
		c.run("pub", fmt.Sprint("t", i), "first")
	}
	slow := c.leader("t0")
	heal := c.inject(slow, "delay_enter="+strconv.FormatInt(slowDisk.Microseconds(), 10))
	measured := 0
	for i := range topics {
		topic := fmt.Sprint("t", i)
		leader := c.leader(topic)
		if leader == slow {
			continue
		}
		measured++
		for n, d := range c.publishTimes(topic, 20, leader) {
			if d >= 100*time.Millisecond {
				t.Errorf("%s, led by %s, message %d: acknowledged after %s although only %s has a slow disk", topic, leader, n, d, slow)
			}
		}
	}
	heal()
	if measured == 0 {
		t.Error("the slow node leads every topic: nothing was measured")
	}
}

// A failed fdatasync ends the process, and nothing that was acknowledged is lost.
func TestD3FailedSyncEndsTheNode(t *testing.T) {
	needStrace(t)
	c := newCluster(t, manifest{})
	c.start()
	c.run("pub", "eio", "first")
	leader := c.leader("eio")
	nodes, err := c.nodes()
	if err != nil {
		t.Fatal(err)
	}
	before := nodes[leader].Status

	survivor := c.others(leader)[0]
	cl := c.client(client.Options{}, survivor)
	producer, err := cl.Producer(client.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	var acknowledged atomic.Int64
	send := func(n int) {
		for i := range n {
			m := client.Message{Topic: "eio", Value: fmt.Appendf(nil, "message %d", i)}
			if err := producer.Send(context.Background(), m, func(r client.Result) {
				if r.Err == nil {
					acknowledged.Add(1)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(500)
	heal := c.inject(leader, "error=EIO")
	send(500)
	eventually(t, 30*time.Second, leader+" has ended", func() error {
		nodes, err := c.nodes()
		if err != nil {
			return err
		}
		status := nodes[leader].Status
		if status.PID == before.PID || status.LastTermination == nil {
			return errors.New("it lives")
		}
		if status.LastTermination.ExitCode == 0 {
			t.Fatalf("%s ended as if nothing had happened: %+v", leader, *status.LastTermination)
		}
		return nil
	})
	heal()
	if err := producer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if acknowledged.Load() != 1000 {
		t.Errorf("%d of 1000 messages were acknowledged", acknowledged.Load())
	}
	c.awaitReady(c.names...)
	c.awaitSettled()
	for _, node := range c.names {
		if n := len(c.messages(node, "eio")); n != 1001 {
			t.Errorf("%s holds %d messages of 1001", node, n)
		}
	}
	log, err := os.ReadFile(filepath.Join(c.dir, ".data", leader, "logs", "console.1.log"))
	if err != nil || !regexp.MustCompile(`(?i)input/output error`).Match(log) {
		t.Errorf("the log of %s does not name the error: %v\n%s", leader, err, log)
	}
}

// Many publishers share their syncs: 64 of them cause fewer than one fdatasync
// for four messages on each node.
func TestPublishersShareSyncs(t *testing.T) {
	needStrace(t)
	c := newCluster(t, manifest{})
	const publishers, each = 64, 100
	counts := map[string]string{}
	var nodes []*exec.Cmd
	for _, node := range c.names {
		counts[node] = filepath.Join(c.dir, node+".count")
		cmd := exec.Command("strace", "-f", "--seccomp-bpf", "-qq", "-c", "-o", counts[node], "-e", "trace=fdatasync",
			wiberctl, "node", "--id", node, "--config", filepath.Join(c.dir, "cluster.yaml"), "--data-root", filepath.Join(c.dir, ".data"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, cmd)
	}
	cl := c.client(client.Options{}, c.names...)
	publish := func(id string) {
		if _, err := cl.Publish(context.Background(), client.Message{Topic: "shared", ID: []byte(id), Value: make([]byte, 128)}); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	publish("first")
	var wg sync.WaitGroup
	for i := range publishers {
		wg.Go(func() {
			mine := c.client(client.Options{}, c.names[i%3:]...)
			for n := range each {
				if _, err := mine.Publish(context.Background(), client.Message{Topic: "shared", ID: fmt.Appendf(nil, "%d.%d", i, n), Value: make([]byte, 128)}); err != nil {
					t.Errorf("publisher %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, cmd := range nodes {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	}
	for _, cmd := range nodes {
		cmd.Wait()
	}
	for _, node := range c.names {
		report, err := os.ReadFile(counts[node])
		if err != nil {
			t.Fatal(err)
		}
		syncs := syncsIn(string(report))
		perMessage := float64(syncs) / (publishers * each)
		t.Logf("%s: %d fdatasync for %d messages, %.3f a message", node, syncs, publishers*each, perMessage)
		if syncs == 0 || perMessage >= 0.25 {
			t.Errorf("%s: %.3f syncs a message with %d publishers; fewer than 0.25 were due\n%s", node, perMessage, publishers, report)
		}
	}
}

// syncsIn reads the calls of fdatasync from strace's summary.
func syncsIn(report string) int {
	for line := range strings.Lines(report) {
		fields := strings.Fields(line)
		if len(fields) >= 5 && fields[len(fields)-1] == "fdatasync" {
			n, _ := strconv.Atoi(fields[3])
			return n
		}
	}
	return 0
}
