package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// retryEvery is the pause between two questions to a controller or a node that
// is not there yet.
const retryEvery = 100 * time.Millisecond

// applyOptions are the flags of apply.
type applyOptions struct {
	files   []string
	dryRun  string
	wait    bool
	timeout time.Duration
	noStart bool
}

// applyCommand declares what should be.
func (a *app) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply -f FILE|FOLDER|-",
		Short: "Declare clusters and topics",
		Long: `Reads the documents of files, folders or standard input and makes the controller
want what they say. A document replaces the whole spec: what it leaves out
becomes the default. All documents are read and checked before the first is
sent; clusters are sent before topics.

If no controller answers on the default address of this machine, one is started
in the background.`,
		Example: `  wiberctl apply -f cluster.yaml --wait
  wiberctl apply -f - --dry-run=server < topics.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.files) == 0 {
				return &usageError{cmd.CommandPath(), errors.New("say what to apply: -f FILE, -f FOLDER or -f -")}
			}
			if !slices.Contains([]string{"none", "client", "server"}, o.dryRun) {
				return &usageError{cmd.CommandPath(), fmt.Errorf("--dry-run is none, client or server, not %q", o.dryRun)}
			}
			return a.apply(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "a `file`, a folder, or - for standard input; may be repeated")
	flags.StringVar(&o.dryRun, "dry-run", "none", "`none|client|server`: client checks the documents here and asks nobody; server asks the controller what it would do")
	flags.BoolVar(&o.wait, "wait", false, "return when everything that was applied is ready")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "how long --wait, and a topic whose cluster is just starting, may take")
	flags.BoolVar(&o.noStart, "no-start", false, "do not start a controller when none answers")
	complete(cmd, "dry-run", oneOf("none", "client", "server"))
	return cmd
}

// apply reads, checks, sends and waits.
func (a *app) apply(ctx context.Context, o applyOptions) error {
	documents, err := manifests.Decode(o.files, a.stdin)
	if err != nil {
		return err
	}
	if len(documents) == 0 {
		return fmt.Errorf("there is no document in %s", strings.Join(o.files, ", "))
	}
	if documents, err = prepare(documents); err != nil {
		return err
	}
	if o.dryRun == "client" {
		for _, d := range documents {
			fmt.Fprintf(a.stdout, "%s valid (client dry run)\n", nameOf(d.Object))
		}
		return nil
	}
	s := a.controller()
	if !o.noStart && o.dryRun == "none" {
		if err := a.ensureController(ctx, s); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if err := a.send(limited, s, documents, o.dryRun == "server"); err != nil {
		return err
	}
	if o.wait && o.dryRun == "none" {
		return a.waitReady(limited, s, documents, o.timeout)
	}
	return nil
}

// prepare orders the documents for sending, clusters first, and fills in what
// only this side knows: the working folder, and the cluster of a topic that
// names none and stands beside exactly one.
func prepare(documents []manifests.Document) ([]manifests.Document, error) {
	isCluster := func(d manifests.Document) bool { _, ok := d.Object.(*v1alpha1.Cluster); return ok }
	slices.SortStableFunc(documents, func(x, y manifests.Document) int {
		switch {
		case isCluster(x) && !isCluster(y):
			return -1
		case isCluster(y) && !isCluster(x):
			return 1
		}
		return 0
	})
	clusters := 0
	for clusters < len(documents) && isCluster(documents[clusters]) {
		cluster := documents[clusters].Object.(*v1alpha1.Cluster)
		root, err := filepath.Abs(cluster.Spec.DataRoot)
		if err != nil {
			return nil, fmt.Errorf("make spec.dataRoot absolute: %w", err)
		}
		cluster.Spec.DataRoot = root
		clusters++
	}
	if clusters == 1 {
		for _, d := range documents[clusters:] {
			if meta := d.Object.Meta(); meta.Namespace == "" {
				meta.Namespace = documents[0].Object.Meta().Name
			}
		}
	}
	return documents, nil
}

// send puts the documents one after the other and prints what became of each.
// One that is refused does not keep the others from being sent.
func (a *app) send(ctx context.Context, s *server, documents []manifests.Document, dryRun bool) error {
	failed := false
	for _, d := range documents {
		result, warnings, err := s.put(ctx, d.Object, dryRun)
		var refused *serverError
		if err != nil && !errors.As(err, &refused) {
			return err
		}
		if err != nil {
			printError(a.stderr, err)
			failed = true
			continue
		}
		for _, w := range warnings {
			fmt.Fprintln(a.stderr, "Warning: "+w)
		}
		if dryRun {
			result += " (server dry run)"
		}
		if _, err := fmt.Fprintf(a.stdout, "%s %s\n", nameOf(d.Object), result); err != nil {
			return err
		}
	}
	if failed {
		return silentError{}
	}
	return nil
}

// nameOf is how apply names an object: cluster.wiber.dev/demo.
func nameOf(o v1alpha1.Object) string {
	return strings.ToLower(o.Type().Kind) + "." + v1alpha1.Group + "/" + o.Meta().Name
}

// put sends one object. A topic whose cluster cannot take it yet, because it is
// just starting, is sent again until ctx ends.
func (s *server) put(ctx context.Context, o v1alpha1.Object, dryRun bool) (result string, warnings []string, err error) {
	path := apiPath + v1alpha1.Resource(o.Type().Kind) + "/" + url.PathEscape(o.Meta().Name)
	for {
		query := url.Values{}
		if ns := o.Meta().Namespace; ns != "" {
			query.Set("cluster", ns)
		}
		if dryRun {
			query.Set("dryRun", "All")
		}
		a, err := s.do(ctx, http.MethodPut, path, query, o)
		if err == nil {
			return resultOf(a), warningsOf(a.header), nil
		}
		var refused *serverError
		if o.Type().Kind != v1alpha1.KindTopic || !errors.As(err, &refused) || refused.Code != http.StatusServiceUnavailable {
			return "", nil, err
		}
		if s.pause(ctx, retryEvery) != nil {
			return "", nil, err // the refusal says more than the deadline
		}
	}
}

// resultOf says what a PUT did.
func resultOf(a answer) string {
	if result := a.header.Get("Wiber-Result"); result != "" {
		return result
	}
	if a.status == http.StatusCreated {
		return "created"
	}
	return "configured"
}

// warningsOf reads the texts of Warning headers: 299 - "text".
func warningsOf(h http.Header) []string {
	var texts []string
	for _, w := range h.Values("Warning") {
		_, text, ok := strings.Cut(w, `"`)
		if !ok {
			continue
		}
		text = strings.TrimSuffix(text, `"`)
		texts = append(texts, strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(text))
	}
	return texts
}

// waitReady returns when every applied cluster is ready, as its newest spec
// wants it. A topic is ready when it was applied.
func (a *app) waitReady(ctx context.Context, s *server, documents []manifests.Document, timeout time.Duration) error {
	for _, d := range documents {
		if _, ok := d.Object.(*v1alpha1.Cluster); !ok {
			continue
		}
		name := d.Object.Meta().Name
		for {
			var c v1alpha1.Cluster
			if err := s.get(ctx, apiPath+"clusters/"+url.PathEscape(name), nil, &c); err != nil && ctx.Err() == nil {
				return err
			}
			ready := v1alpha1.FindCondition(c.Status.Conditions, v1alpha1.ClusterReady)
			if ready != nil && ready.ObservedGeneration == c.Generation && ready.Status == v1alpha1.ConditionTrue {
				fmt.Fprintf(a.stdout, "%s ready\n", nameOf(d.Object))
				break
			}
			if s.pause(ctx, retryEvery) == nil {
				continue
			}
			why := ""
			if ready != nil && ready.Message != "" {
				why = ": " + ready.Message
			}
			return fmt.Errorf("%s is not ready after %s%s", nameOf(d.Object), timeout, why)
		}
	}
	return nil
}
