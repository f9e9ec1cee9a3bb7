package member

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

// testCluster is a cluster in a temporary folder, on ports that nobody uses.
func testCluster(t *testing.T, nodes int) *v1alpha1.Cluster {
	t.Helper()
	c := v1alpha1.NewCluster()
	c.Name = "demo"
	c.Spec.DataRoot = t.TempDir()
	c.Spec.ReplicationFactor = nodes
	for i := range nodes {
		var ports [3]int
		for k := range ports {
			for free := false; !free; { // for TCP and UDP
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				ports[k] = ln.Addr().(*net.TCPAddr).Port
				packets, err := listenPackets("127.0.0.1", ports[k])
				if free = err == nil; free {
					defer packets.Close()
				}
			}
		}
		c.Spec.Nodes = append(c.Spec.Nodes, v1alpha1.NodeSpec{ID: fmt.Sprintf("n%d", i+1), Host: "127.0.0.1",
			Port: ports[0], PeerPort: ports[1], HTTPPort: ports[2]})
	}
	c.Default()
	return c
}

// testNode is a node that runs inside the test.
type testNode struct {
	stop context.CancelFunc
	done chan error
}

func startNode(t *testing.T, c *v1alpha1.Cluster, id string) *testNode {
	t.Helper()
	return startNodeWith(t, c, id, func(*Options) {})
}

func startNodeWith(t *testing.T, c *v1alpha1.Cluster, id string, change func(*Options)) *testNode {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n := &testNode{stop: cancel, done: make(chan error, 1)}
	log := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	o := Options{Node: id, Cluster: c, Clock: timesvc.NewSystem(timesvc.Skew{}), Logger: log, Version: "test"}
	change(&o)
	go func() { n.done <- Run(ctx, o) }()
	return n
}

// end drains the node and returns how it ended.
func (n *testNode) end(t *testing.T) error {
	t.Helper()
	n.stop()
	select {
	case err := <-n.done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the node does not end")
		return nil
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// conversation is a client that talks to one node line by line.
type conversation struct {
	t  *testing.T
	c  net.Conn
	br *bufio.Reader
}

func dialNode(t *testing.T, c *v1alpha1.Cluster, id string) *conversation {
	t.Helper()
	spec, _ := c.Spec.Node(id)
	var conn net.Conn
	eventually(t, 10*time.Second, func() (ok bool) {
		var err error
		conn, err = net.Dial("tcp", net.JoinHostPort(spec.Host, strconv.Itoa(spec.Port)))
		return err == nil
	})
	t.Cleanup(func() { conn.Close() })
	v := &conversation{t, conn, bufio.NewReader(conn)}
	v.line()
	return v
}

func (v *conversation) line() string {
	v.t.Helper()
	s, err := v.br.ReadString('\n')
	if err != nil {
		v.t.Fatalf("read: %v", err)
	}
	return strings.TrimRight(s, "\r\n")
}

func (v *conversation) say(format string, args ...any) {
	v.t.Helper()
	if _, err := fmt.Fprintf(v.c, format+"\n", args...); err != nil {
		v.t.Fatal(err)
	}
}

func (v *conversation) ask(format string, args ...any) string {
	v.t.Helper()
	v.say(format, args...)
	return v.line()
}

func eventually(t *testing.T, within time.Duration, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatal("not within " + within.String())
		case <-tick.C:
		}
	}
}

func TestThreeNodesFormAClusterAndKeepWhatTheyAcknowledged(t *testing.T) {
	c := testCluster(t, 3)
	nodes := map[string]*testNode{}
	for _, s := range c.Spec.Nodes {
		nodes[s.ID] = startNode(t, c, s.ID)
	}
	v := dialNode(t, c, "n2")
	for i := range 20 {
		got := v.ask("PUB orders message %d", i)
		if !strings.HasPrefix(got, fmt.Sprintf("+ACK orders %d ", i)) {
			t.Fatalf("publish %d: %s", i, got)
		}
	}
	for id, n := range nodes {
		if err := n.end(t); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	for _, s := range c.Spec.Nodes {
		nodes[s.ID] = startNode(t, c, s.ID)
	}
	v = dialNode(t, c, "n3")
	v.say("HISTORY orders read=linearizable")
	for i := range 20 {
		if head := v.line(); !strings.HasPrefix(head, fmt.Sprintf("MSG orders - %d ", i)) {
			t.Fatalf("history: %s", head)
		}
		if got := v.line(); got != fmt.Sprintf("message %d", i) {
			t.Fatalf("offset %d holds %q", i, got)
		}
	}
	if end := v.line(); !strings.HasPrefix(end, "+END orders n=20 next=20 ") {
		t.Fatal(end)
	}
	for id, n := range nodes {
		if err := n.end(t); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
}
