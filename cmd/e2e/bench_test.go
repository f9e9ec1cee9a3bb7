package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bench is a cluster of nodes that were started by hand.
type bench struct {
	*cluster
	b     *testing.B
	nodes map[string]*exec.Cmd
	wrap  func(node string) []string // a command to run a node under, or nil
}

func newBench(b *testing.B, wrap func(b *bench, node string) []string) *bench {
	if testing.Short() {
		b.Skip("it starts a real cluster")
	}
	m := &bench{cluster: newCluster(b, manifest{}), b: b, nodes: map[string]*exec.Cmd{}}
	if wrap != nil {
		m.wrap = func(node string) []string { return wrap(m, node) }
	}
	for _, node := range m.names {
		m.start(node)
	}
	m.ready(m.names...)
	return m
}

// start starts a node.
func (m *bench) start(node string) {
	m.b.Helper()
	args := []string{wiberctl, "node", "--id", node, "--config", filepath.Join(m.dir, "cluster.yaml"), "--data-root", filepath.Join(m.dir, ".data")}
	if m.wrap != nil {
		args = append(m.wrap(node), args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		m.b.Fatal(err)
	}
	m.nodes[node] = cmd
}

// stop sends a signal to nodes and waits until they have ended.
func (m *bench) stop(sig syscall.Signal, nodes ...string) {
	for _, node := range nodes {
		syscall.Kill(-m.nodes[node].Process.Pid, sig)
	}
	for _, node := range nodes {
		m.nodes[node].Wait()
	}
}

// ready waits until nodes say that they are ready, looking every 2 ms.
func (m *bench) ready(nodes ...string) {
	m.b.Helper()
	ticker := clock.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	begin := clock.Mono()
	for _, node := range nodes {
		url := fmt.Sprintf("http://%s/readyz", net.JoinHostPort(m.host, strconv.Itoa(m.port[node]+200)))
		for !answersOK(url) {
			if clock.Mono()-begin > time.Minute {
				m.b.Fatalf("%s is not ready after a minute", node)
			}
			<-ticker.C()
		}
	}
}

func answersOK(url string) bool {
	resp, err := httpClient.Get(url)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// lean is a connection that publishes messages of measureBytes.
type lean struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
}

func (m *bench) dial(node, topic string) (*lean, error) {
	conn, err := net.Dial("tcp", m.addresses(node)[0])
	if err != nil {
		return nil, err
	}
	l := &lean{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	l.request = fmt.Appendf(nil, "PUBN %s %d\n%s\n", topic, measureBytes, bytes.Repeat([]byte{'x'}, measureBytes))
	if _, err := l.in.ReadSlice('\n'); err != nil {
		return nil, err
	}
	return l, nil
}

// send sends n requests.
func (l *lean) send(n int) error {
	for n > 0 {
		k := min(n, 256)
		if _, err := l.conn.Write(bytes.Repeat(l.request, k)); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// acked reads one acknowledgement.
func (l *lean) acked() error {
	line, err := l.in.ReadSlice('\n')
	if err == nil && !bytes.HasPrefix(line, []byte("+ACK ")) {
		err = fmt.Errorf("a publish is answered with %q", line)
	}
	return err
}

func measureTopic(i int) string { return fmt.Sprintf("m%d", i%measureTopics) }

// makeTopics publishes once to every topic.
func (m *bench) makeTopics() {
	m.b.Helper()
	for i := range measureTopics {
		l, err := m.dial(m.names[0], measureTopic(i))
		if err == nil {
			err = errors.Join(l.send(1), l.acked(), l.conn.Close())
		}
		if err != nil {
			m.b.Fatal(err)
		}
	}
}

// pubLoad is a number of clients that publish.
type pubLoad struct {
	clients int
	flight  int                              // requests in flight, of each
	place   func(i int) (node, topic string) // of client i
}

// spread puts clients on all nodes and all topics.
func (m *bench) spread(i int) (node, topic string) {
	return m.names[i%len(m.names)], measureTopic(i / len(m.names))
}

// window is what one repetition counted.
type window struct {
	acks      int
	seconds   float64
	latencies []time.Duration
	cpu       time.Duration // of all nodes
	foreign   float64       // percent of the machine that others took, the kernel's own work included
}

// run publishes for a while and counts what was acknowledged after the warm-up.
func (m *bench) run(l pubLoad, warmUp, d time.Duration) window {
	m.b.Helper()
	begin := clock.Mono() + warmUp
	end := begin + d
	var wg sync.WaitGroup
	times := make([][]time.Duration, l.clients)
	errs := make([]error, l.clients)
	for i := range l.clients {
		wg.Go(func() { times[i], errs[i] = m.publish(l, i, begin, end) })
	}
	wait(warmUp)
	at, cpu, own, all := clock.Mono(), m.cpu(), ownCPU(), machineCPU()
	wait(end - at)
	w := window{cpu: m.cpu() - cpu, seconds: (clock.Mono() - at).Seconds()}
	foreign := machineCPU() - all - w.cpu - (ownCPU() - own)
	w.foreign = max(0, 100*foreign.Seconds()/w.seconds/float64(runtime.NumCPU()))
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		m.b.Fatal(err)
	}
	for _, t := range times {
		w.latencies = append(w.latencies, t...)
	}
	slices.Sort(w.latencies)
	w.acks = len(w.latencies)
	return w
}

// publish is client i of a load. It returns how long each request took whose
// acknowledgement came between begin and end.
func (m *bench) publish(l pubLoad, i int, begin, end time.Duration) ([]time.Duration, error) {
	c, err := m.dial(l.place(i))
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	sent := make([]time.Duration, l.flight) // a ring: requests are answered in order
	var took []time.Duration
	first := clock.Mono()
	for k := range sent {
		sent[k] = first
	}
	if err := c.send(l.flight); err != nil {
		return nil, err
	}
	for k := 0; ; {
		if err := c.acked(); err != nil {
			return nil, err
		}
		now, n := clock.Mono(), 0
		for {
			if now >= begin && now < end {
				took = append(took, now-sent[k])
			}
			sent[k] = now
			k = (k + 1) % l.flight
			n++
			if c.in.Buffered() == 0 || n == l.flight {
				break
			}
			if err := c.acked(); err != nil {
				return nil, err
			}
		}
		if now >= end {
			return took, nil
		}
		if err := c.send(n); err != nil {
			return nil, err
		}
	}
}

// cpu is the processor time that all nodes have taken so far.
func (m *bench) cpu() (sum time.Duration) {
	for _, node := range m.names {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.nodes[node].Process.Pid))
		if err != nil {
			m.b.Fatal(err)
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		for _, f := range fields[11:13] { // user and system, in hundredths
			n, _ := strconv.Atoi(f)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}

// ownCPU is the processor time that the clients have taken.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// machineCPU is the processor time that everybody has taken.
func machineCPU() (sum time.Duration) {
	stat, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(stat), "\n")
	for i, f := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // the name, idle, waiting for a disk, guests
			continue
		}
		n, _ := strconv.Atoi(f)
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum
}

// memory is a node's resident memory in MB: now, and at most so far.
func (m *bench) memory(node string) (rss, peak float64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.nodes[node].Process.Pid))
	if err != nil {
		m.b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 {
			kb, _ := strconv.ParseFloat(f[1], 64)
			switch f[0] {
			case "VmRSS:":
				rss = kb * 1024 / 1e6
			case "VmHWM:":
				peak = kb * 1024 / 1e6
			}
		}
	}
	return rss, peak
}
