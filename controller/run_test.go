package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/controller/apiserver"
	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// TestMain lets the test's own program stand for a node: the controller starts
// its executable with "node" as first argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "node" {
		standIn(os.Args[2:])
	}
	os.Exit(m.Run())
}

// standIn is a process that answers as a node does, until SIGTERM.
func standIn(args []string) {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	docs, err := manifests.Decode([]string{flags["--config"]}, nil)
	if err != nil {
		fmt.Println(err)
		os.Exit(v1alpha1.ExitNoRestart)
	}
	cl := docs[0].Object.(*v1alpha1.Cluster)
	spec, _ := cl.Spec.Node(flags["--id"])
	l, err := net.Listen("tcp", address(spec, spec.HTTPPort))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	mux := http.NewServeMux()
	answer := func(path string, v any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(v) })
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	answer("/readyz", "ok")
	answer("/v1/status", nodeStatus{Node: spec.ID, Cluster: cl.Name, Groups: []groupStatus{{ID: catalogue, Role: "follower", Leader: "n1"}}})
	answer("/v1/identity", nodeIdentity{Cluster: cl.Name, Node: spec.ID, PID: os.Getpid(), BootID: strings.TrimSpace(string(boot)), DataDir: filepath.Join(flags["--data-root"], spec.ID)})
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() { _ = http.Serve(l, mux) }()
	fmt.Println("stand-in", spec.ID, "runs")
	<-stop.Done()
	os.Exit(0)
}

// live is a controller on this machine.
type live struct {
	t    *testing.T
	base string
	stop context.CancelFunc
	errc chan error
}

func run(t *testing.T, o Options) *live {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	addrc := make(chan string, 1)
	o.Listen, o.Executable = "127.0.0.1:0", exe
	o.Listening = func(addr string) { addrc <- addr }
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(context.Background())
	l := &live{t: t, stop: cancel, errc: make(chan error, 1)}
	go func() { l.errc <- Run(ctx, o) }()
	select {
	case addr := <-addrc:
		l.base = "http://" + addr
	case err := <-l.errc:
		t.Fatal(err)
	}
	return l
}

// end waits for the controller to end.
func (l *live) end() {
	l.t.Helper()
	select {
	case err := <-l.errc:
		if err != nil {
			l.t.Error(err)
		}
	case <-time.After(30 * time.Second):
		l.t.Fatal("the controller does not end")
	}
}

func (l *live) ask(method, path string, body any, want int) []byte {
	l.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		l.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(l.t.Context(), method, l.base+path, bytes.NewReader(b))
	if err != nil {
		l.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		l.t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, answer, err)
	}
	return answer
}

func (l *live) nodes() (states []apiserver.NodeState) {
	l.t.Helper()
	if err := json.Unmarshal(l.ask("GET", "/cluster/nodes", nil, 200), &states); err != nil {
		l.t.Fatal(err)
	}
	return states
}

func (l *live) ready() {
	l.t.Helper()
	eventually(l.t, 20*time.Second, func() bool {
		nodes := l.nodes()
		for _, n := range nodes {
			if n.Phase != v1alpha1.NodeRunning {
				return false
			}
		}
		return len(nodes) == 3
	})
}

func eventually(t *testing.T, deadline time.Duration, cond func() bool) {
	t.Helper()
	late := time.After(deadline)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-late:
			t.Fatal("it did not happen in time")
		case <-tick.C:
		}
	}
}

// freePorts returns ports that nobody listens on.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func machineCluster(t *testing.T) *v1alpha1.Cluster {
	c := v1alpha1.NewCluster()
	c.Name = "demo"
	c.Spec.DataRoot = filepath.Join(t.TempDir(), "data")
	p := freePorts(t, 12)
	for i := range 3 {
		c.Spec.Nodes = append(c.Spec.Nodes, v1alpha1.NodeSpec{ID: "n" + strconv.Itoa(i+1), Host: "127.0.0.1",
			Port: p[4*i], PeerPort: p[4*i+1], HTTPPort: p[4*i+2], KafkaPort: p[4*i+3]})
	}
	c.Default()
	return c
}

// The whole controller with real processes, over HTTP: started, one killed, the
// controller gone and back, everything shut down.
func TestRun(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	cl := machineCluster(t)
	first := run(t, Options{State: state})
	first.ask("PUT", "/apis/wiber.dev/v1alpha1/clusters/demo", cl, 201)
	t.Cleanup(func() { killAll(cl) })
	first.ready()
	before := first.nodes()

	first.ask("POST", "/cluster/node/n2/kill", nil, 200)
	if n := first.nodes()[1]; n.Running || n.PID != 0 {
		t.Errorf("after the kill: %+v", n)
	}
	first.ask("POST", "/cluster/node/n9/kill", nil, 404)
	first.ready()
	now := first.nodes()
	if now[1].PID == before[1].PID || now[1].Restarts != 1 || now[0] != before[0] || now[2] != before[2] {
		t.Errorf("before %+v\nnow    %+v", before, now)
	}
	for _, file := range []string{"console.log", "console.1.log"} {
		log, err := os.ReadFile(filepath.Join(cl.Spec.DataRoot, "n2", "logs", file))
		if err != nil || string(log) != "stand-in n2 runs\n" {
			t.Errorf("%s: %q, %v", file, log, err)
		}
	}
	bins, err := os.ReadDir(filepath.Join(state, "bin"))
	if err != nil || len(bins) != 1 {
		t.Errorf("bin holds %v, %v", bins, err)
	}

	// A second controller of the same state says where the first one is.
	err = Run(t.Context(), Options{State: state, Listen: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("a second controller: %v", err)
	}
	// One on the same port says who has it.
	err = Run(t.Context(), Options{State: t.TempDir(), Listen: strings.TrimPrefix(first.base, "http://")})
	if err == nil || !strings.Contains(err.Error(), "--listen") || !strings.Contains(err.Error(), "in use") {
		t.Errorf("on the same port: %v", err)
	}

	first.stop()
	first.end()
	second := run(t, Options{State: state})
	second.ready()
	if got := second.nodes(); !reflect.DeepEqual(got, now) {
		t.Errorf("after the controller's return: %+v\nwant %+v", got, now)
	}
	var down apiserver.Shutdown
	if err := json.Unmarshal(second.ask("POST", "/cluster/shutdown?purge=true", nil, 200), &down); err != nil || len(down.Stopped) != 3 || len(down.Purged) != 3 {
		t.Errorf("%+v, %v", down, err)
	}
	second.end()
	for _, n := range now {
		if err := syscall.Kill(n.PID, 0); err == nil {
			o := proc.NewOS()
			if _, err := o.Identify(n.PID); err == nil {
				t.Errorf("node %s still runs as pid %d", n.ID, n.PID)
			}
			o.Close()
		}
	}
	if exists(cl.Spec.DataRoot) {
		t.Error("the data is still there")
	}
}

// killAll ends what a failed test left running: exactly the recorded processes.
func killAll(cl *v1alpha1.Cluster) {
	o := proc.NewOS()
	defer o.Close()
	nodes := newHTTPNodes()
	for _, n := range cl.Spec.Nodes {
		id, err := nodes.Identity(context.Background(), address(n, n.HTTPPort))
		if err != nil || id.Node != n.ID {
			continue
		}
		who, err := o.Identify(id.PID)
		if err != nil {
			continue
		}
		if p, err := o.Find(who); err == nil {
			_ = p.Signal(syscall.SIGKILL)
			<-p.Done()
		}
	}
}
