package controller

import (
	"cmp"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

// world is a machine with a controller on it, inside a synctest bubble: time
// passes only while everything waits. The HTTP API is not started; tests call
// the Backend's methods.
type world struct {
	*Controller
	t     *testing.T
	fake  *proc.Fake
	nodes *fakeNodes
	dir   string
	stop  func() // ends the controller as a kill -9 would: its nodes live on
}

// fakeNodes answers for the nodes of a proc.Fake: a node is ready when its
// process runs and nothing else was said.
type fakeNodes struct {
	fake *proc.Fake

	mu       sync.Mutex
	at       map[string]string // address of the HTTP port -> node
	dataDir  map[string]string
	unready  map[string]string // node -> why
	hung     map[string]bool
	identity map[string]nodeIdentity      // address -> answer of somebody else
	applied  uint64                       // of the catalogue; 90 unless set
	leads    groupLeader                  // of every group; n1 in term 3 unless set
	gossip   map[string]map[string]string // node -> how it sees the others
	topic    func(addr string, r topicRequest, into any) (http.Header, error)
}

func (f *fakeNodes) node(addr string) (id string, pid int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id = f.at[addr]
	pids := f.fake.Running(id)
	if len(pids) == 0 {
		return id, 0, syscall.ECONNREFUSED
	}
	if f.hung[id] {
		return id, 0, context.DeadlineExceeded
	}
	return id, pids[0], nil
}

func (f *fakeNodes) Ready(_ context.Context, addr string) error {
	id, _, err := f.node(addr)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if why := f.unready[id]; why != "" {
		return &notReadyError{why}
	}
	return nil
}

func (f *fakeNodes) Status(_ context.Context, addr string) (nodeStatus, error) {
	id, _, err := f.node(addr)
	f.mu.Lock()
	defer f.mu.Unlock()
	role, leader, term := "follower", cmp.Or(f.leads.node, "n1"), cmp.Or(f.leads.term, 3)
	if id == leader {
		role = "leader"
	}
	var gossip []gossipStatus
	for node, state := range f.gossip[id] {
		gossip = append(gossip, gossipStatus{node, state})
	}
	return nodeStatus{Node: id, Cluster: "demo", Version: "test", Incarnation: 7, Gossip: gossip, Groups: []groupStatus{
		{ID: catalogue, Role: role, Leader: leader, Term: term, Commit: 100, Applied: cmp.Or(f.applied, 90)},
		{ID: "0", Role: role, Leader: leader, Term: term + 1, Commit: 50, Applied: 50},
	}}, err
}

// groupLeader is who leads the catalogue, and in which term; shard 0 is led by
// the same in the next one.
type groupLeader struct {
	node string
	term uint64
}

func (f *fakeNodes) Identity(_ context.Context, addr string) (nodeIdentity, error) {
	id, pid, err := f.node(addr)
	f.mu.Lock()
	defer f.mu.Unlock()
	if other, ok := f.identity[addr]; ok {
		return other, nil
	}
	return nodeIdentity{Cluster: "demo", Node: id, Incarnation: 7, PID: pid, BootID: proc.FakeBootID, DataDir: f.dataDir[id]}, err
}

func (f *fakeNodes) Topic(_ context.Context, addr string, r topicRequest, into any) (http.Header, error) {
	if _, _, err := f.node(addr); err != nil {
		return nil, err
	}
	return f.topic(addr, r, into)
}

// set changes how nodes answer.
func (f *fakeNodes) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// story runs a test in a bubble, with a controller that knows no cluster yet.
func story(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		fake := proc.NewFake()
		w := &world{t: t, fake: fake, dir: t.TempDir(), nodes: &fakeNodes{fake: fake,
			at: map[string]string{}, dataDir: map[string]string{}, unready: map[string]string{}, hung: map[string]bool{}, identity: map[string]nodeIdentity{}}}
		w.begin()
		defer func() { w.stop() }()
		f(t, w)
	})
}

// begin starts a controller on the machine and the state folder as they are.
func (w *world) begin() {
	w.t.Helper()
	o, err := Options{State: w.dir, Executable: "/bin/sh", Clock: timesvc.NewSystem(timesvc.Skew{}), Processes: w.fake, nodes: w.nodes}.withDefaults()
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := store.Open(filepath.Join(w.dir, "controller.db"), store.Options{Clock: o.Clock})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := newController(ctx, o, st, "/bin/sh")
	if err := c.firstLook(); err != nil {
		w.t.Fatal(err)
	}
	st.Watch(c.storeChanged)
	var wg sync.WaitGroup
	wg.Go(func() { c.events.run(ctx) })
	for range workers {
		wg.Go(c.runWorker)
	}
	w.Controller = c
	w.stop = sync.OnceFunc(func() {
		cancel()
		c.queue.ShutDown()
		wg.Wait()
		c.wg.Wait()
		c.events.flush()
		w.fake.Close()
		if err := st.Close(); err != nil {
			w.t.Error(err)
		}
	})
}

// demo returns a cluster of three nodes.
func (w *world) demo(change func(*v1alpha1.Cluster)) *v1alpha1.Cluster {
	c := v1alpha1.NewCluster()
	c.Name = "demo"
	c.Spec.Replicas = 3
	c.Spec.DataRoot = filepath.Join(w.dir, "data")
	c.Default()
	if change != nil {
		change(c)
	}
	w.nodes.set(func() {
		for _, n := range c.Spec.Nodes {
			w.nodes.at[address(n, n.HTTPPort)] = n.ID
			w.nodes.dataDir[n.ID] = filepath.Join(c.Spec.DataRoot, n.ID)
		}
	})
	return c
}

// apply puts the cluster and returns what the PUT said.
func (w *world) apply(change func(*v1alpha1.Cluster)) (result string, warnings []string) {
	w.t.Helper()
	put, err := w.PutCluster(w.demo(change), false)
	if err != nil {
		w.t.Fatal(err)
	}
	return put.Result, put.Warnings
}

// running applies the demo cluster and waits until it is ready.
func (w *world) running(change func(*v1alpha1.Cluster)) {
	w.t.Helper()
	w.apply(change)
	w.within(10*time.Second, "the cluster is ready", func() bool {
		cl, err := w.cluster("demo")
		return err == nil && v1alpha1.IsConditionTrue(cl.Status.Conditions, v1alpha1.ClusterReady)
	})
}

// within waits, in the bubble's time, until something holds.
func (w *world) within(d time.Duration, what string, cond func() bool) {
	w.t.Helper()
	for end := time.Now().Add(d); ; time.Sleep(10 * time.Millisecond) {
		synctest.Wait()
		if cond() {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("not within %v: %s\n%s", d, what, w.picture())
		}
	}
}

// during checks, in the bubble's time, that something goes on holding.
func (w *world) during(d time.Duration, what string, cond func() bool) {
	w.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		synctest.Wait()
		if !cond() {
			w.t.Fatalf("does not hold any more: %s\n%s", what, w.picture())
		}
	}
}

func (w *world) status(id string) v1alpha1.NodeStatus {
	w.t.Helper()
	n, err := w.Node("", id)
	if err != nil {
		w.t.Fatal(err)
	}
	return n.Status
}

func (w *world) picture() string {
	var s string
	nodes, _ := w.Nodes("")
	for _, n := range nodes.Items {
		s += n.Name + ": " + string(n.Status.Phase) + " " + n.Status.Reason + "\n"
	}
	return s
}

// pids are the living processes of the nodes, in order.
func (w *world) pids() (pids []int) {
	for _, id := range []string{"n1", "n2", "n3"} {
		pids = append(pids, w.fake.Running(id)...)
	}
	return pids
}

func (w *world) starts(id string) int {
	n := 0
	for _, s := range w.fake.Started() {
		if s.Node == id {
			n++
		}
	}
	return n
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks that an error is a Status of that reason, and says something.
func refused(t *testing.T, err error, reason v1alpha1.StatusReason, says string) {
	t.Helper()
	if v1alpha1.ReasonOf(err) != reason || !strings.Contains(err.Error(), says) {
		t.Fatalf("err = %v (%q), want %s with %q", err, v1alpha1.ReasonOf(err), reason, says)
	}
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
