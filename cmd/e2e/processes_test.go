package e2e

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// killSeconds is how long TestProcessesAreKilledAtRandom kills.
var killSeconds = setting("WIBER_E2E_KILL_SECONDS", 20)

// supervisor is a controller in a process of its own, which a test kills and
// starts again. Its nodes are no children of the test.
type supervisor struct {
	*cluster
	cmd *exec.Cmd // nil while there is none
}

// newSupervisor makes a cluster whose controller does not run yet.
func newSupervisor(t testing.TB, m manifest) *supervisor {
	s := &supervisor{cluster: newCluster(t, m)}
	t.Cleanup(s.kill)
	return s
}

// begin starts the controller; it need not answer yet.
func (s *supervisor) begin() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "up.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = s.command("controller", "--state", filepath.Join(s.dir, ".data", "controller"))
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// answers waits until the controller answers, and returns the nodes as it shows
// them then.
func (s *supervisor) answers() (nodes map[string]v1alpha1.Node) {
	s.t.Helper()
	eventually(s.t, 30*time.Second, "the controller answers", func() (err error) {
		nodes, err = s.nodes()
		return err
	})
	return nodes
}

// kill ends the controller as kill -9 does.
func (s *supervisor) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

// apply brings the cluster up and waits until it is ready.
func (s *supervisor) apply() {
	s.t.Helper()
	s.begin()
	s.answers()
	s.run("apply", "-f", "cluster.yaml")
	s.awaitReady(s.names...)
}

// running are the processes of one node. A fork that has not become the node yet
// is none.
func (s *supervisor) running(node string) (pids []int) {
	for _, pid := range s.processes() {
		arguments, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && strings.Contains(string(arguments), "\x00node\x00--id\x00"+node+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// rawSub is a subscription on one connection, as nc would have it: it cannot
// come back by itself.
type rawSub struct {
	conn net.Conn
	endc chan struct{}

	mu      sync.Mutex
	offsets []uint64
	err     error
}

func (c *cluster) rawSub(node, topic string) *rawSub {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.addresses(node)[0])
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	if _, err := fmt.Fprintf(conn, "SUB %s 1 from=earliest\n", topic); err != nil {
		c.t.Fatal(err)
	}
	s := &rawSub{conn: conn, endc: make(chan struct{})}
	go s.read()
	return s
}

func (s *rawSub) read() {
	defer close(s.endc)
	lines := bufio.NewReader(s.conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
			return
		}
		if f := strings.Fields(line); len(f) > 4 && f[0] == "MSG" { // payloads are numbers, on lines of their own
			offset, err := strconv.ParseUint(f[3], 10, 64)
			s.mu.Lock()
			if err != nil {
				s.err = err
			}
			s.offsets = append(s.offsets, offset)
			s.mu.Unlock()
		}
	}
}

// gapless says whether offsets 0 to n-1 came, each once and in order, on the
// connection that was opened first.
func (s *rawSub) gapless(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	for i, offset := range s.offsets {
		if offset != uint64(i) {
			return fmt.Errorf("offset %d came as number %d", offset, i)
		}
	}
	if len(s.offsets) != n {
		return fmt.Errorf("%d messages came, %d were acknowledged", len(s.offsets), n)
	}
	return nil
}

// kill -9 of the controller at any moment: pids and restart counts are the same
// when it is back, a subscription opened before goes on, and a node that died
// meanwhile is started again.
func TestTheControllerIsKilledAtAnyMoment(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	s := newSupervisor(t, manifest{})
	s.apply()
	s.run("pub", "ticks", "0")
	sub := s.rawSub("n1", "ticks")

	cl := s.client(client.Options{}, "n1", "n2", "n3")
	producer, err := cl.Producer(client.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	ctx, stop := context.WithCancel(context.Background())
	sent := 1
	var publishing sync.WaitGroup
	publishing.Go(func() {
		ticker := clock.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for ; ctx.Err() == nil; sent++ {
			err := producer.Send(context.Background(), client.Message{Topic: "ticks", Value: strconv.AppendInt(nil, int64(sent), 10)}, func(r client.Result) {
				if r.Err != nil {
					t.Errorf("message %d: %v", r.N, r.Err)
				}
			})
			if err != nil {
				t.Error(err)
				return
			}
			<-ticker.C()
		}
	})
	defer publishing.Wait()
	defer stop()

	before := s.answers()
	unchanged := func(when string, but ...string) {
		t.Helper()
		now := s.answers()
		for _, node := range s.names {
			if len(but) > 0 && but[0] == node {
				continue
			}
			was, is := before[node].Status, now[node].Status
			if is.PID != was.PID || is.Restarts != was.Restarts || is.PID == 0 {
				t.Errorf("%s: %s has pid %d and %d restarts, had %d and %d", when, node, is.PID, is.Restarts, was.PID, was.Restarts)
			}
		}
	}
	for round := range 5 {
		wait(time.Duration(rand.IntN(300)) * time.Millisecond)
		s.kill()
		s.begin()
		wait(time.Duration(rand.IntN(100)) * time.Millisecond) // perhaps before it answers
		s.kill()
		s.begin()
		unchanged(fmt.Sprintf("round %d", round))
	}

	// A node dies while nobody looks.
	s.kill()
	victim := before["n2"].Status.PID
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.begin()
	unchanged("with n2 dead", "n2")
	s.awaitReady(s.names...)
	if n2 := s.answers()["n2"].Status; n2.PID == victim || n2.Restarts != before["n2"].Status.Restarts+1 {
		t.Errorf("n2: %+v", n2)
	}
	before = s.answers()

	// The controller dies at some moment of starting a node: there is one process
	// of it in the end, and never a second one.
	for range 3 {
		if err := syscall.Kill(s.pid("n3"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, "n3 is about to start", func() error {
			n3 := s.answers()["n3"].Status
			if n3.NextStart == nil {
				return fmt.Errorf("it is %s %s", n3.Phase, n3.Reason)
			}
			wait(n3.NextStart.Sub(clock.Now()) + time.Duration(rand.IntN(40)-5)*time.Millisecond)
			return nil
		})
		s.kill()
		s.begin()
		s.awaitReady(s.names...)
		if pids := s.running("n3"); len(pids) != 1 || pids[0] != s.pid("n3") {
			t.Errorf("processes of n3: %v, the controller says %d", pids, s.pid("n3"))
		}
	}
	unchanged("after starts that were cut short", "n3")

	stop()
	publishing.Wait()
	if err := producer.Flush(context.Background()); err != nil {
		t.Error(err)
	}
	eventually(t, 30*time.Second, "the subscription has everything", func() error { return sub.gapless(sent) })
}

// Nodes that somebody started by hand are the controller's like any other.
func TestNodesStartedByHandAreAdopted(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	s := newSupervisor(t, manifest{})
	byHand := map[string]*exec.Cmd{}
	ended := map[string]chan error{}
	for _, node := range s.names {
		cmd := s.command("node", "--id", node, "--config", filepath.Join(s.dir, "cluster.yaml"), "--data-root", filepath.Join(s.dir, ".data"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		byHand[node], ended[node] = cmd, make(chan error, 1)
		go func() { ended[node] <- cmd.Wait() }()
	}
	for _, node := range s.names {
		eventually(t, 30*time.Second, node+" answers", func() error { _, err := s.status(node); return err })
	}
	s.apply()
	for name, n := range s.answers() {
		if n.Status.PID != byHand[name].Process.Pid || n.Status.Restarts != 0 || n.Status.Incarnation != 1 {
			t.Errorf("%s: %+v", name, n.Status)
		}
	}
	if out := s.run("events", "--for", "node/n1"); !strings.Contains(out, "Adopted") {
		t.Errorf("no event tells of it:\n%s", out)
	}

	// Killed, its end is seen, and how, and it comes back.
	s.run("kill", "n2")
	if err := <-ended["n2"]; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("n2 ended with %v", err)
	}
	s.awaitReady(s.names...)
	n2 := s.answers()["n2"].Status
	if n2.Restarts != 1 || n2.LastTermination == nil || n2.LastTermination.Signal != "SIGKILL" && n2.LastTermination.Reason != "unknown exit code" {
		t.Errorf("n2: %+v %+v", n2, n2.LastTermination)
	}
	// Restarted, it drains.
	s.run("restart", "n1")
	if err := <-ended["n1"]; err != nil {
		t.Errorf("n1 ended with %v", err)
	}
	s.awaitReady(s.names...)
	s.run("down")
	if err := <-ended["n3"]; err != nil {
		t.Errorf("n3 ended with %v", err)
	}
}

// Nodes and the controller are killed at random; in the end all are ready,
// nothing that was acknowledged is lost, a subscription had every message once,
// and no node ever had two processes.
func TestProcessesAreKilledAtRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("it kills for " + strconv.Itoa(killSeconds) + " s")
	}
	number := uint64(seed)
	if number == 0 {
		number = rand.Uint64N(1_000_000) + 1
	}
	random := rand.New(rand.NewPCG(number, 2))
	t.Logf("seed %d", number)
	s := newSupervisor(t, manifest{})
	s.apply()
	s.write("topics.yaml", topicsManifest())
	s.run("apply", "-f", "topics.yaml")
	h := newHistory()
	load := startPublishers(s.cluster, h)
	follow := s.client(client.Options{Stall: time.Second}, s.names...).
		Subscribe(context.Background(), "alpha", client.SubscribeOptions{From: wire.Position{Kind: wire.Earliest}})
	var followed []uint64
	following := make(chan struct{})
	var mu sync.Mutex
	go func() {
		defer close(following)
		for follow.Next() {
			mu.Lock()
			followed = append(followed, follow.Message().Offset)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() { follow.Close(); <-following })

	nodesKilled, controllersKilled, ackedBefore := 0, 0, h.acked()
	killNode := func(sig syscall.Signal) {
		node := s.names[random.IntN(len(s.names))]
		for _, pid := range s.running(node) {
			if syscall.Kill(pid, sig) == nil {
				nodesKilled++
			}
		}
	}
	for end := clock.Mono() + time.Duration(killSeconds)*time.Second; clock.Mono() < end; {
		switch random.IntN(8) {
		case 0, 1, 2:
			killNode(syscall.SIGKILL)
		case 3:
			killNode(syscall.SIGKILL)
			killNode(syscall.SIGKILL)
		case 4:
			killNode(syscall.SIGTERM)
		default:
			// The controller, alone or with nodes that die while it is away.
			s.kill()
			controllersKilled++
			for range random.IntN(3) {
				killNode(syscall.SIGKILL)
			}
			wait(time.Duration(random.IntN(1000)) * time.Millisecond)
			s.begin()
		}
		wait(time.Duration(random.IntN(2000)) * time.Millisecond)
		if random.IntN(2) == 0 { // else the next blow falls on a cluster that has none to spare
			s.answers()
			s.awaitReady(s.names...)
		}
		for _, node := range s.names {
			if pids := s.running(node); len(pids) > 1 {
				t.Errorf("%s has the processes %v", node, pids)
			}
		}
	}
	ackedMeanwhile := h.acked() - ackedBefore
	s.answers()
	s.awaitReady(s.names...)
	eventually(t, 30*time.Second, "the cluster is Ready", func() error {
		var cl v1alpha1.Cluster
		err := getJSON(fmt.Sprintf("http://127.0.0.1:%d/apis/wiber.dev/v1alpha1/clusters/e2e", s.gateway), &cl)
		if err == nil && !v1alpha1.IsConditionTrue(cl.Status.Conditions, v1alpha1.ClusterReady) {
			err = fmt.Errorf("%+v", cl.Status.Conditions)
		}
		return err
	})
	load.stop()
	unknowns := h.unknown
	settleUnknown(s.cluster, h)
	s.awaitSettled()
	for _, node := range s.names {
		for _, err := range h.check(node, s.contents(node)) {
			t.Error(err)
		}
	}
	all := len(s.messages("n1", "alpha/0"))
	eventually(t, 60*time.Second, "the subscription has everything, each message once", func() error {
		mu.Lock()
		defer mu.Unlock()
		for i, offset := range followed {
			if offset != uint64(i) {
				t.Fatalf("offset %d came as number %d", offset, i)
			}
		}
		if len(followed) != all {
			return fmt.Errorf("%d of %d", len(followed), all)
		}
		return nil
	})
	fmt.Printf("killed for %d s: seed=%d nodes=%d controllers=%d acked=%d (%d meanwhile) unknown=%d longest-gap=%s\n",
		killSeconds, number, nodesKilled, controllersKilled, h.ackedCount, ackedMeanwhile, unknowns, h.longestGap.Round(time.Millisecond))
	if nodesKilled == 0 || controllersKilled == 0 || ackedMeanwhile == 0 {
		t.Error("the run proves nothing: it acknowledged or killed nothing")
	}
	s.run("down")
}
