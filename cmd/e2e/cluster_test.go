package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

var (
	clock = timesvc.NewSystem(timesvc.Skew{})

	wiberctl string // the program under test, built once
)

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "wiber-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	wiberctl = filepath.Join(dir, "wiberctl")
	build := exec.Command("go", "build", "-o", wiberctl, "github.com/wiber/wiber/cmd/wiberctl")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build wiberctl: %v\n%s", err, out)
		return 1
	}
	defer endChromium()
	return m.Run()
}

// cluster is one cluster of real processes in a folder of its own.
type cluster struct {
	t       testing.TB
	dir     string
	host    string
	gateway int
	port    map[string]int // client port by node
	names   []string

	up *exec.Cmd // the running "wiberctl up", or nil
}

// manifest is what a test asks of a new cluster.
type manifest struct {
	nodes int    // 3 unless given
	host  string // 127.0.0.1 unless given
	spec  string // further lines of the spec, indented by two
}

// newCluster chooses free ports and writes cluster.yaml. Nothing runs yet.
func newCluster(t testing.TB, m manifest) *cluster {
	t.Helper()
	if m.nodes == 0 {
		m.nodes = 3
	}
	if m.host == "" {
		m.host = "127.0.0.1"
	}
	c := &cluster{t: t, dir: t.TempDir(), host: m.host, port: map[string]int{}}
	base := freePorts(t, m.host, m.nodes)
	c.gateway = base + 9
	var b strings.Builder
	b.WriteString("apiVersion: wiber.dev/v1alpha1\nkind: Cluster\nmetadata: {name: e2e}\nspec:\n")
	b.WriteString(m.spec)
	if !strings.Contains(m.spec, "backoff:") {
		b.WriteString("  backoff: {initial: 1s, max: 2s}\n")
	}
	b.WriteString("  nodes:\n")
	for i := range m.nodes {
		name := fmt.Sprintf("n%d", i+1)
		c.names = append(c.names, name)
		c.port[name] = base + i
		fmt.Fprintf(&b, "    - {id: %s, host: %s, port: %d}\n", name, m.host, base+i)
	}
	c.write("cluster.yaml", b.String())
	t.Cleanup(func() {
		c.endAll()
		if t.Failed() {
			c.showLogs()
		}
	})
	return c
}

// freePorts returns a base port whose neighbours, and theirs 100, 200 and 300
// higher, nobody listens on and no other test takes.
func freePorts(t testing.TB, host string, nodes int) int {
	t.Helper()
	for range 1000 {
		base, held, ok := takeBlock()
		if !ok {
			continue
		}
		free := isFree("127.0.0.1", base+9)
		for i := range nodes {
			for _, derived := range []int{0, 100, 200, 300} {
				free = free && isFree(host, base+i+derived)
			}
		}
		if free {
			t.Cleanup(func() { held.Close() })
			return base
		}
		held.Close()
	}
	t.Fatal("no free ports were found")
	return 0
}

// takeBlock takes a block of 400 ports, below those that the system gives to
// outgoing connections, for as long as the returned file is open: tests of
// several processes look for ports at the same time.
func takeBlock() (base int, held io.Closer, ok bool) {
	dir := filepath.Join(os.TempDir(), "wiber-test-ports")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return 0, nil, false
	}
	base = 11000 + 400*rand.IntN(47)
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(base)), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return 0, nil, false
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return 0, nil, false
	}
	return base, f, true
}

func isFree(host string, port int) bool {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	l.Close()
	packets, err := net.ListenPacket("udp", addr) // a peer port is one of both
	if err != nil {
		return false
	}
	packets.Close()
	return true
}

// write makes a file in the cluster's folder and returns its path.
func (c *cluster) write(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// command prepares wiberctl in the cluster's folder and environment.
func (c *cluster) command(args ...string) *exec.Cmd {
	return c.commandContext(context.Background(), args...)
}

func (c *cluster) commandContext(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, wiberctl, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "GATEWAY_PORT="+strconv.Itoa(c.gateway), "WIBER_CONFIG=", "WIBER_SERVER=", "WIBER_CLUSTER=", "NO_COLOR=1")
	return cmd
}

// run runs wiberctl, which must succeed, and returns its standard output.
func (c *cluster) run(args ...string) string {
	c.t.Helper()
	out, stderr, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("wiberctl %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr)
	}
	return out
}

// try runs wiberctl.
func (c *cluster) try(args ...string) (stdout, stderr string, err error) {
	cmd := c.command(args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// start runs "wiberctl up" and returns when the cluster is ready.
func (c *cluster) start() {
	c.t.Helper()
	c.launch()
	c.awaitReady(c.names...)
}

// launch runs "wiberctl up" in the background, in a process group of its own.
func (c *cluster) launch() {
	c.t.Helper()
	log, err := os.OpenFile(filepath.Join(c.dir, "up.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd := c.command("up", "-f", "cluster.yaml")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.up = cmd
}

// endAll kills everything that runs in the cluster's folder.
func (c *cluster) endAll() {
	if c.up != nil {
		c.up.Process.Kill()
		c.up.Wait()
		c.up = nil
	}
	for _, pid := range c.processes() {
		syscall.Kill(pid, syscall.SIGCONT)
		syscall.Kill(pid, syscall.SIGKILL)
	}
	eventually(c.t, 10*time.Second, "the processes of the cluster have ended", func() error {
		if left := c.processes(); len(left) > 0 {
			return fmt.Errorf("still alive: %v", left)
		}
		return nil
	})
}

// processes finds controllers and nodes by the cluster's folder in their
// arguments.
func (c *cluster) processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		arguments, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(arguments), c.dir+string(filepath.Separator)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// showLogs prints the ends of all logs of a test that failed.
func (c *cluster) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(c.dir, ".data", "*", "logs", "*.log"))
	for _, path := range append(logs, filepath.Join(c.dir, "up.log")) {
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 {
			continue
		}
		if len(data) > 4000 {
			data = data[len(data)-4000:]
		}
		c.t.Logf("--- %s\n%s", strings.TrimPrefix(path, c.dir), data)
	}
}

// nodes reads the controller's node list.
func (c *cluster) nodes() (map[string]v1alpha1.Node, error) {
	var list v1alpha1.NodeList
	if err := getJSON(fmt.Sprintf("http://127.0.0.1:%d/apis/wiber.dev/v1alpha1/nodes", c.gateway), &list); err != nil {
		return nil, err
	}
	nodes := map[string]v1alpha1.Node{}
	for _, n := range list.Items {
		nodes[n.Name] = n
	}
	return nodes, nil
}

// pid returns the process of a node that runs.
func (c *cluster) pid(node string) int {
	c.t.Helper()
	var pid int
	eventually(c.t, 30*time.Second, node+" has a process", func() error {
		nodes, err := c.nodes()
		if err != nil {
			return err
		}
		if pid = nodes[node].Status.PID; pid == 0 {
			return errors.New("it has none")
		}
		return nil
	})
	return pid
}

// signal sends a signal to a node's process.
func (c *cluster) signal(node string, sig syscall.Signal) {
	c.t.Helper()
	if err := syscall.Kill(c.pid(node), sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		c.t.Fatalf("signal %s: %v", node, err)
	}
}

// awaitReady waits until the named nodes are ready.
func (c *cluster) awaitReady(names ...string) {
	c.t.Helper()
	eventually(c.t, 60*time.Second, "nodes are ready", func() error {
		nodes, err := c.nodes()
		if err != nil {
			return err
		}
		for _, name := range names {
			n := nodes[name]
			if !v1alpha1.IsConditionTrue(n.Status.Conditions, v1alpha1.NodeReady) {
				return fmt.Errorf("%s is %s %s", name, n.Status.Phase, n.Status.Reason)
			}
		}
		return nil
	})
}

// addresses are the client addresses of nodes, in the order of their names.
func (c *cluster) addresses(names ...string) []string {
	var addresses []string
	for _, name := range names {
		addresses = append(addresses, net.JoinHostPort(c.host, strconv.Itoa(c.port[name])))
	}
	return addresses
}

// client makes a client that begins with the first of the named nodes.
func (c *cluster) client(o client.Options, names ...string) *client.Client {
	c.t.Helper()
	o.Nodes, o.Clock = c.addresses(names...), clock
	cl, err := client.New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cl.Close() })
	return cl
}

// topics reads the topic lines through any node that answers.
func (c *cluster) topics() ([]wire.TopicLine, error) {
	cl, err := client.New(client.Options{Nodes: c.addresses(c.names...), Clock: clock})
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return cl.Topics(ctx)
}

// leader returns the node that leads partition 0 of a topic.
func (c *cluster) leader(topic string) string {
	c.t.Helper()
	var leader string
	eventually(c.t, 30*time.Second, topic+" has a leader", func() error {
		lines, err := c.topics()
		if err != nil {
			return err
		}
		for _, line := range lines {
			if line.Topic == topic && line.Partition == 0 && line.Leader != "" {
				leader = line.Leader
				return nil
			}
		}
		return errors.New("none is known")
	})
	return leader
}

// others are the names without one of them.
func (c *cluster) others(name string) []string {
	var names []string
	for _, n := range c.names {
		if n != name {
			names = append(names, n)
		}
	}
	return names
}

// groupStatus is one raft group in a node's /v1/status.
type groupStatus struct {
	ID      string `json:"id"`
	Leader  string `json:"leader"`
	Term    uint64 `json:"term"`
	Commit  uint64 `json:"commit"`
	Applied uint64 `json:"applied"`
	Chain   string `json:"chain"`
}

// status asks a node how its groups are.
func (c *cluster) status(node string) ([]groupStatus, error) {
	var status struct {
		Groups []groupStatus `json:"groups"`
	}
	err := getJSON(fmt.Sprintf("http://%s/v1/status", net.JoinHostPort(c.host, strconv.Itoa(c.port[node]+200))), &status)
	return status.Groups, err
}

var httpClient = &http.Client{Timeout: 5 * time.Second}

func getJSON(url string, v any) error {
	resp, err := httpClient.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", url, resp.Status, body)
	}
	return json.Unmarshal(body, v)
}

// eventually waits until cond returns nil, and fails the test with its last
// error when that takes longer than limit. It is the only waiting for processes.
func eventually(t testing.TB, limit time.Duration, what string, cond func() error) {
	t.Helper()
	begin := clock.Mono()
	for {
		err := cond()
		if err == nil {
			return
		}
		if clock.Mono()-begin > limit {
			t.Fatalf("after %s it is not so that %s: %v", limit, what, err)
		}
		wait(20 * time.Millisecond)
	}
}

// wait lets time pass, for what is measured in time itself: a pause that a test
// injects, or the rhythm of a publisher.
func wait(d time.Duration) {
	timer := clock.NewTimer(d)
	<-timer.C()
}
