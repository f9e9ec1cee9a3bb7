package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/config"
	"github.com/wiber/wiber/controller"
	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// followEvery is the pause between two looks at the nodes.
const followEvery = 200 * time.Millisecond

// upCommand starts everything and stays to show it.
func (a *app) upCommand() *cobra.Command {
	var file string
	var open bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a controller and a cluster, and follow them",
		Long: `Runs the controller in the foreground, applies a file (the built-in three-node
cluster unless -f names another), and prints events as they happen. Ctrl-C
drains and stops all nodes and the controller; a second Ctrl-C leaves at once.

Where a controller answers already, up applies the file to it and follows it;
Ctrl-C then ends only the following.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.up(cmd.Context(), file, open)
		},
	}
	cmd.Flags().StringVarP(&file, "filename", "f", "", "the `file` to apply (default: the built-in "+config.ClusterFile+")")
	cmd.Flags().BoolVar(&open, "open", false, "open the page in a browser when the cluster is ready")
	controllerFlags(cmd)
	return cmd
}

// up finds or starts the controller, applies, follows, and stops what it
// started.
func (a *app) up(ctx context.Context, file string, open bool) error {
	documents, err := a.upDocuments(file)
	if err != nil {
		return err
	}
	s := a.controller()
	s.base = baseOf(a.settings.Listen)
	who, err := s.look(ctx)
	if err != nil {
		return err
	}
	if who == stranger {
		return strangerError(s.base)
	}
	f := &follower{app: a, server: s, open: open, since: a.clock.Now(), clusters: clustersOf(documents), waiting: map[string]*waitingStart{}}
	if who == isController {
		fmt.Fprintf(a.stdout, "a controller answers at %s: applying to it and following it\n", s.base)
		if err := a.send(ctx, s, documents, false); err != nil {
			return err
		}
		return f.follow(ctx, nil)
	}

	options, err := a.controllerOptions()
	if err != nil {
		return err
	}
	// What the controller warns of is told by its events.
	options.Logger = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	endc := runInBackground(own, options)
	if err = s.awaitController(ctx, endc); err == nil {
		if err = a.send(ctx, s, documents, false); err == nil {
			err = f.follow(ctx, endc)
		}
	}
	var ended *endedError
	switch {
	case errors.As(err, &ended):
		return ended.err // the controller ended by itself, or by "wiberctl down"
	case ctx.Err() != nil:
		err = nil // a signal is no error
	}
	return errors.Join(err, a.stopOwn(ctx, s, cancel, endc))
}

// clustersOf are the clusters that documents are of, or about.
func clustersOf(documents []manifests.Document) map[string]bool {
	all := map[string]bool{}
	for _, d := range documents {
		name := d.Object.Meta().Namespace
		if d.Object.Type().Kind == v1alpha1.KindCluster {
			name = d.Object.Meta().Name
		}
		if name != "" {
			all[name] = true
		}
	}
	return all
}

// upDocuments reads the file to apply.
func (a *app) upDocuments(file string) ([]manifests.Document, error) {
	if file == "" {
		return builtInDocuments()
	}
	documents, err := manifests.Decode([]string{file}, a.stdin)
	if err != nil {
		return nil, err
	}
	return prepare(documents)
}

// baseOf is the URL under which a controller that listens at an address is
// reached from this machine.
func baseOf(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "http://" + listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// awaitController returns when the controller of this process answers.
func (s *server) awaitController(ctx context.Context, endc <-chan error) error {
	for {
		if who, _ := s.look(ctx); who == isController {
			return nil
		}
		timer := s.clock.NewTimer(retryEvery)
		select {
		case err := <-endc:
			timer.Stop()
			if err == nil {
				err = errors.New("the controller ended as soon as it began")
			}
			return &endedError{err}
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C():
		}
	}
}

// stopOwn drains and stops every node and the controller of this process.
func (a *app) stopOwn(ctx context.Context, s *server, cancel context.CancelFunc, endc <-chan error) error {
	fmt.Fprintln(a.stdout, "stopping all nodes; Ctrl-C again leaves them running")
	ctx = context.WithoutCancel(ctx)
	if err := s.awaitController(ctx, endc); err != nil {
		return errors.Unwrap(err)
	}
	done, err := s.shutdown(ctx, nil)
	a.printStopped(done)
	cancel()
	if end := <-endc; end != nil && !errors.Is(end, context.Canceled) {
		err = errors.Join(err, end)
	}
	if err == nil {
		fmt.Fprintln(a.stdout, "controller stopped")
	}
	return err
}

// endedError says that the controller of this process ended while it was
// followed.
type endedError struct{ err error }

func (e *endedError) Error() string { return "the controller ended" }

func (e *endedError) Unwrap() error { return e.err }

// follower prints what happens: events, and once that everything is ready.
type follower struct {
	*app
	server   *server
	clusters map[string]bool // that were applied; empty: all
	since    time.Time       // what happened before is not told
	open     bool            // show the page in a browser, once

	mu      sync.Mutex               // guards what follows, and stdout
	ready   bool                     // everything was, and that was said; of follow
	waiting map[string]*waitingStart // by node
}

// waitingStart is a node that starts.
type waitingStart struct {
	since time.Duration
	said  string // what it was said to wait for
}

// quietStart is how long a node may start before up says what it waits for.
const quietStart = 3 * time.Second

// follow prints what happens until ctx ends, which is no error, or the controller
// does.
func (f *follower) follow(ctx context.Context, endc <-chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { watched <- f.watchEvents(ctx) })
	ticker := f.clock.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		_ = f.look(ctx) // the watch says when nobody answers
		select {
		case <-ctx.Done():
			return nil
		case err := <-endc:
			return &endedError{err}
		case err := <-watched:
			return err
		case <-ticker.C():
		}
	}
}

// watchEvents prints events as they happen. What the watch begins with is older
// than it, and may be of this up all the same.
func (f *follower) watchEvents(ctx context.Context) error {
	r, err := resourceOf("events")
	if err != nil {
		return err
	}
	w := &watcher{resource: r, tell: func(changes []change) error {
		for _, c := range changes {
			if err := f.event(c.object); err != nil {
				return err
			}
		}
		return nil
	}}
	return f.watch(ctx, &keeper{server: f.server, stderr: f.stderr}, w)
}

// event prints one event.
func (f *follower) event(object json.RawMessage) error {
	var e v1alpha1.Event
	if err := json.Unmarshal(object, &e); err != nil {
		return fmt.Errorf("the controller's event cannot be read: %w", err)
	}
	if len(f.clusters) > 0 && !f.clusters[e.Namespace] || e.LastTimestamp.Before(f.since) {
		return nil
	}
	f.line(e.LastTimestamp.Time, involved(&e), fmt.Sprintf("%-13s  %s", e.Reason, oneLine(e.Message)))
	return nil
}

// line prints what an object is or did.
func (f *follower) line(at time.Time, object, what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(f.stdout, "%s  %-*s  %s\n", at.Local().Format(time.TimeOnly), len("cluster/default"), object, what)
}

// look says, until all is ready, what nodes wait for that take their time, and
// then that it is ready.
func (f *follower) look(ctx context.Context) error {
	if f.ready {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var nodes v1alpha1.NodeList
	if err := f.server.get(limited, apiPath+"nodes", nil, &nodes); err != nil {
		return err
	}
	for i := range nodes.Items {
		f.sayWait(&nodes.Items[i])
	}
	var clusters v1alpha1.ClusterList
	if err := f.server.get(limited, apiPath+"clusters", nil, &clusters); err != nil {
		return err
	}
	var applied []v1alpha1.Cluster
	for _, c := range clusters.Items {
		if len(f.clusters) > 0 && !f.clusters[c.Name] {
			continue
		}
		ready := v1alpha1.FindCondition(c.Status.Conditions, v1alpha1.ClusterReady)
		if ready == nil || ready.ObservedGeneration != c.Generation || ready.Status != v1alpha1.ConditionTrue {
			return nil
		}
		applied = append(applied, c)
	}
	if f.ready = len(applied) > 0; f.ready {
		f.announce(applied)
	}
	return nil
}

// sayWait says what a node waits for that starts for a while already.
func (f *follower) sayWait(n *v1alpha1.Node) {
	key := n.Namespace + "/" + n.Name
	if n.Status.Phase != v1alpha1.NodeStarting || len(f.clusters) > 0 && !f.clusters[n.Namespace] {
		delete(f.waiting, key)
		return
	}
	w := f.waiting[key]
	if w == nil {
		w = &waitingStart{since: f.clock.Mono()}
		f.waiting[key] = w
	}
	if why := oneLine(n.Status.Reason); why != "" && why != w.said && f.clock.Mono()-w.since >= quietStart {
		w.said = why
		f.line(f.clock.Now(), "node/"+n.Name, string(n.Status.Phase)+", "+why)
	}
}

// announce says that everything is ready, where, and what to type next.
func (f *follower) announce(clusters []v1alpha1.Cluster) {
	for i := range clusters {
		c := &clusters[i]
		f.line(f.clock.Now(), "cluster/"+c.Name, fmt.Sprintf("Ready, %d of %d nodes", c.Status.ReadyNodes, c.Status.Nodes))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	program, flag := programName(os.Args[0]), ""
	if f.server.base != baseOf(controller.DefaultListen) {
		flag = " --server " + f.server.base
	}
	fmt.Fprintf(f.stdout, "\nThe page is at %s\nTry in another terminal:\n  %s pub greetings hello%s\n  %s history greetings%s\n\n",
		f.server.base, program, flag, program, flag)
	if f.open {
		f.open = false
		if err := proc.Browse(f.server.base + "/"); err != nil {
			fmt.Fprintf(f.stderr, "%v; open %s in yours\n", err, f.server.base)
		}
	}
}

// programName is what a person types to run this program again. "go run"
// deletes the file that it ran.
func programName(arg0 string) string {
	if strings.Contains(arg0, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/wiberctl"
	}
	return arg0
}
