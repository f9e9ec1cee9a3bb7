package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/wiber/wiber/controller/apiserver"
	"github.com/wiber/wiber/controller/plan"
	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/controller/store"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/ui"
)

const (
	// resync is how often a cluster is looked at when nothing happens.
	resync = 10 * time.Second
	// probeEvery is how often a running node is asked how it is, and
	// probeStarting how often one that was never ready yet, in its first
	// startingFor.
	probeEvery    = time.Second
	probeStarting = 200 * time.Millisecond
	startingFor   = 30 * time.Second
	// lostAfter is the number of probes in a row without an answer after which a
	// node counts as Unknown.
	lostAfter = 3
	// logInUseDelay is the pause after a start that failed because a process of
	// the node lives that nobody recorded.
	logInUseDelay = time.Second
	// workers reconcile different keys at the same time. A probe of a node that
	// hangs holds one for probeTimeout twice.
	workers = 8
	// errorMax is the longest pause before a key that failed is tried again.
	errorMin = 5 * time.Millisecond
	errorMax = 30 * time.Second
	// shutdownGrace is how long open requests may take when the controller ends.
	shutdownGrace = 5 * time.Second
)

// Controller compares what is wanted with what is seen, and acts.
//
// The workers own the nodes' machines, each while it has the node's key. What
// they saw and decided is shared in nodes, guarded by mu.
type Controller struct {
	o     Options
	store *store.Store
	// events is the one way in which anything here says what happened.
	events *recorder
	procs  proc.Processes
	clock  timesvc.Clock
	log    *slog.Logger
	queue  workqueue.TypedRateLimitingInterface[key]
	exe    string
	endc   chan struct{} // closed when the controller shall end
	end    func()
	wg     sync.WaitGroup // watchers of processes; they end with ctx
	ctx    context.Context

	passes     passes
	messengers messengers // the gateway's way to messages
	topicFeeds topicFeeds

	applyMu sync.Mutex // one PUT or DELETE of a cluster at a time
	fileMu  sync.Mutex // one writer of cluster files at a time
	holdMu  sync.Mutex // one writer of holds at a time

	mu       sync.Mutex
	nodes    map[key]*node
	observed observed
	down     string        // why all nodes of all clusters are to be stopped; usually empty
	changedc chan struct{} // closed, and made anew, when something was published
}

// key names a cluster (no node) or a node.
type key struct{ cluster, node string }

func (k key) String() string {
	if k.node == "" {
		return "cluster/" + k.cluster
	}
	return "node/" + k.cluster + "/" + k.node
}

// Run runs a controller until ctx ends or a request shuts it down, and returns
// when everything it started has ended, but for the nodes: those live on, if
// they were not shut down. The error says what a person can do about it.
func Run(ctx context.Context, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	defer o.Processes.Close()
	page, err := ui.New(ui.Options{Dir: o.UIDir})
	if err != nil {
		return err
	}
	gone := func(pid int) bool { _, err := o.Processes.Identify(pid); return errors.Is(err, proc.ErrGone) }
	lock, err := lockState(ctx, o.Clock, o.State, lockInfo{PID: os.Getpid(), Listen: o.Listen}, gone)
	if err != nil {
		return err
	}
	defer lock.Close()
	listener, err := listen(ctx, o.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	st, err := store.Open(filepath.Join(o.State, "controller.db"), store.Options{Clock: o.Clock})
	if err != nil {
		return err
	}
	defer st.Close()
	exe, err := install(o.Executable, o.State)
	if err != nil {
		return fmt.Errorf("controller: copy the program into the state folder: %w; choose another state folder with --state", err)
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := newController(ctx, o, st, exe)
	if err := c.firstLook(); err != nil {
		return err
	}
	stopWatching := st.Watch(c.storeChanged)
	defer stopWatching()
	server := apiserver.New(apiserver.Options{Backend: c, Listen: listener.Addr().String(), AllowedHosts: o.AllowedHosts, Page: page, Clock: o.Clock, Logger: o.Logger})

	var wg sync.WaitGroup
	serveErr := make(chan error, 1)
	wg.Go(func() { serveErr <- server.Serve(listener) })
	wg.Go(func() { c.events.run(ctx) })
	for range workers {
		wg.Go(c.runWorker)
	}
	c.log.Info("controller started", "addr", listener.Addr().String(), "pid", os.Getpid(), "state", o.State, "version", o.Version)
	if o.Listening != nil {
		o.Listening(listener.Addr().String())
	}

	select {
	case <-ctx.Done():
	case <-c.endc:
	case err = <-serveErr:
	}
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer stop()
	if serr := server.Shutdown(grace); serr != nil {
		c.log.Warn("open requests were cut off", "err", serr)
		_ = server.Close()
	}
	c.messengers.close()
	cancel()
	c.queue.ShutDown()
	wg.Wait()
	c.wg.Wait()
	c.events.flush()
	c.log.Info("controller ended", "pid", os.Getpid())
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// listen opens the API's port, or says who has it.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err == nil {
		return l, nil
	}
	pe := proc.DescribePort("tcp", addr, err)
	if !pe.InUse {
		return nil, fmt.Errorf("controller: %w; choose another address with --listen", pe)
	}
	return nil, fmt.Errorf("controller: %w: end it, or choose another address with --listen or another port with GATEWAY_PORT", pe)
}

func newController(ctx context.Context, o Options, st *store.Store, exe string) *Controller {
	endc := make(chan struct{})
	return &Controller{
		o:      o,
		store:  st,
		events: newRecorder(st, o.Clock, o.Logger),
		procs:  o.Processes,
		clock:  o.Clock,
		log:    o.Logger,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[key](errorMin, errorMax)),
		exe:        exe,
		messengers: messengers{clock: o.Clock},
		endc:       endc,
		end:        sync.OnceFunc(func() { close(endc) }),
		ctx:        ctx,
		nodes:      map[key]*node{},
		observed:   newObserved(),
		topicFeeds: topicFeeds{feeds: map[string]*topicFeed{}},
		changedc:   make(chan struct{}),
	}
}

// runWorker reconciles keys until the queue is shut down.
func (c *Controller) runWorker() {
	for {
		k, shutdown := c.queue.Get()
		if shutdown {
			return
		}
		began := c.clock.Mono()
		again, err := c.reconcile(c.ctx, k)
		c.passes.count(k, c.clock.Mono()-began, err)
		switch {
		case c.ctx.Err() != nil:
		case err != nil:
			c.log.Error("reconcile", "key", k.String(), "err", err)
			c.queue.AddRateLimited(k)
		default:
			c.queue.Forget(k)
			if again > 0 {
				c.queue.AddAfter(k, again)
			}
		}
		c.queue.Done(k)
	}
}

// reconcile brings one key closer to what is wanted, and says when to look
// again at the latest; 0 means not before something changes.
func (c *Controller) reconcile(ctx context.Context, k key) (again time.Duration, err error) {
	if k.node == "" {
		return c.reconcileCluster(k)
	}
	return c.reconcileNode(ctx, k)
}

// firstLook runs before the API answers and before any worker: it finds the
// processes that live, and replaces what an earlier controller wrote about nodes
// that it can say nothing about any more.
func (c *Controller) firstLook() error {
	if err := c.events.load(); err != nil {
		return err
	}
	clusters, _, err := store.List[v1alpha1.Cluster](c.store, v1alpha1.KindCluster, "")
	if err != nil {
		return err
	}
	nodes, _, err := store.List[v1alpha1.Node](c.store, v1alpha1.KindNode, "")
	if err != nil {
		return err
	}
	c.observed.remember(nodes)
	for _, cl := range clusters {
		if err := c.makeNodes(&cl); err != nil {
			return err
		}
		for _, id := range ids(&cl) {
			c.mu.Lock()
			n := c.nodeLocked(key{cl.Name, id})
			c.mu.Unlock()
			if err := c.load(n); err != nil {
				return err
			}
			if err := c.tell(n); err != nil {
				return err
			}
		}
		again, err := c.reconcileCluster(key{cluster: cl.Name})
		if err != nil {
			return err
		}
		c.queue.AddAfter(key{cluster: cl.Name}, again)
	}
	return nil
}

// storeChanged queues what an object of the store is about. The controller's
// own status writes come by here too; they change nothing that a pass decides
// on, and those of nodes wake only their cluster.
func (c *Controller) storeChanged(k store.Key) {
	switch k.Kind {
	case v1alpha1.KindCluster:
		c.queue.Add(key{cluster: k.Name})
	case v1alpha1.KindNode:
		c.queue.Add(key{cluster: k.Namespace})
	}
}

// cluster reads a cluster; a *v1alpha1.Status if there is none.
func (c *Controller) cluster(name string) (*v1alpha1.Cluster, error) {
	cl := new(v1alpha1.Cluster)
	err := c.store.Get(store.Key{Kind: v1alpha1.KindCluster, Name: name}, cl)
	if errors.Is(err, store.ErrNotFound) {
		return nil, v1alpha1.NotFound(v1alpha1.KindCluster, name)
	}
	return cl, err
}

// publishLocked tells everybody who waits that something may be as they want.
func (c *Controller) publishLocked() {
	close(c.changedc)
	c.changedc = make(chan struct{})
}

// wait returns when done says so, or with its error, or when ctx or the
// controller ends. done is called with mu held.
func (c *Controller) wait(ctx context.Context, done func() (bool, error)) error {
	for {
		c.mu.Lock()
		ok, err := done()
		changed := c.changedc
		c.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return v1alpha1.NewStatus(v1alpha1.ReasonServiceUnavailable, "the controller ends")
		}
	}
}

// stateLocked is what plan is told about a cluster.
func (c *Controller) stateLocked(cl *v1alpha1.Cluster) plan.State {
	state := plan.State{Now: c.clock.Mono(), Down: c.down}
	if cl.DeletionTimestamp != nil && state.Down == "" {
		state.Down = "the cluster is being deleted"
	}
	for _, n := range c.nodesLocked(cl.Name) {
		state.Nodes = append(state.Nodes, n.seen)
	}
	return state
}

// nodesLocked returns the nodes of a cluster, or of all if it is empty, by key.
func (c *Controller) nodesLocked(cluster string) []*node {
	var nodes []*node
	for _, n := range c.nodes {
		if cluster == "" || n.key.cluster == cluster {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *node) int { return strings.Compare(a.key.String(), b.key.String()) })
	return nodes
}

// nodeLocked returns the shared state of a node, made if there is none.
func (c *Controller) nodeLocked(k key) *node {
	n := c.nodes[k]
	if n == nil {
		n = &node{key: k, seen: plan.Node{ID: k.node}}
		c.nodes[k] = n
	}
	return n
}

func jitter() float64 { return 2*rand.Float64() - 1 }
