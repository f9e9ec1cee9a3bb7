package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
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
cluster unless -f names another), and prints every change of the nodes. Ctrl-C
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
	f := &follower{app: a, server: s, open: open, seen: map[string]sight{}}
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
	options.Logger = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
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

// follower prints what changes.
type follower struct {
	*app
	server *server
	open   bool             // show the page in a browser, once
	seen   map[string]sight // by node
	ready  bool
	misses int // looks in a row that nobody answered
}

// sight is what was seen of a node last.
type sight struct {
	line  string
	phase v1alpha1.NodePhase
	since time.Duration // in this phase
}

// quietStart is how long a node may start before up says what it waits for.
const quietStart = 3 * time.Second

// follow prints changes until ctx ends, which is no error, or the controller
// does.
func (f *follower) follow(ctx context.Context, endc <-chan error) error {
	ticker := f.clock.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		if err := f.look(ctx); err != nil && ctx.Err() == nil {
			if f.misses++; f.misses > 10 {
				return err
			}
		} else {
			f.misses = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-endc:
			return &endedError{err}
		case <-ticker.C():
		}
	}
}

// look reads clusters and nodes once and prints what is new.
func (f *follower) look(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var nodes v1alpha1.NodeList
	if err := f.server.get(limited, apiPath+"nodes", nil, &nodes); err != nil {
		return err
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		key := n.Namespace + "/" + n.Name
		last := f.seen[key]
		if last.phase != n.Status.Phase {
			last.phase, last.since = n.Status.Phase, f.clock.Mono()
		}
		if n.Status.Phase == v1alpha1.NodeStarting && f.clock.Mono()-last.since < quietStart {
			n.Status.Reason = ""
		}
		line := followLine(&n.Status)
		changed := line != last.line
		last.line = line
		f.seen[key] = last
		if !changed {
			continue
		}
		fmt.Fprintf(f.stdout, "%s  node/%s  %s\n", f.clock.Now().Format(time.TimeOnly), n.Name, line)
	}
	if f.ready {
		return nil
	}
	var clusters v1alpha1.ClusterList
	if err := f.server.get(limited, apiPath+"clusters", nil, &clusters); err != nil {
		return err
	}
	for i := range clusters.Items {
		c := &clusters.Items[i]
		ready := v1alpha1.FindCondition(c.Status.Conditions, v1alpha1.ClusterReady)
		if ready == nil || ready.ObservedGeneration != c.Generation || ready.Status != v1alpha1.ConditionTrue {
			return nil
		}
	}
	if f.ready = len(clusters.Items) > 0; f.ready {
		f.announce(clusters.Items)
	}
	return nil
}

// announce says that everything is ready, where, and what to type next.
func (f *follower) announce(clusters []v1alpha1.Cluster) {
	for i := range clusters {
		c := &clusters[i]
		fmt.Fprintf(f.stdout, "%s  cluster/%s  Ready, %d of %d nodes\n", f.clock.Now().Format(time.TimeOnly), c.Name, c.Status.ReadyNodes, c.Status.Nodes)
	}
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

// followLine is what up prints of a node.
func followLine(s *v1alpha1.NodeStatus) string {
	line := string(s.Phase)
	if line == "" {
		line = string(v1alpha1.NodePending)
	}
	if s.Reason != "" && s.Phase != v1alpha1.NodeRunning {
		line += ", " + s.Reason
	}
	if s.Phase == v1alpha1.NodeCrashLoopBackOff && s.NextStart != nil {
		line += ", next try at " + s.NextStart.Local().Format(time.TimeOnly)
	}
	if s.PID != 0 {
		line += fmt.Sprintf("  pid %d", s.PID)
	}
	if len(s.LeaderOf) > 0 && s.Phase == v1alpha1.NodeRunning {
		line += "  leads " + strings.Join(s.LeaderOf, ",")
	}
	return line
}
