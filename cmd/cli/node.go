package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/config"
	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/member"
	"github.com/wiber/wiber/timesvc"
)

// nodeFlags are the flags of node.
type nodeFlags struct {
	id, config string
	bootstrap  []string
}

// nodeCommand runs one node in the foreground.
func (a *app) nodeCommand() *cobra.Command {
	var f nodeFlags
	cmd := &cobra.Command{
		Use:   "node --id NODE",
		Short: "Run one node",
		Long: `Runs one node of a cluster in the foreground; no controller is needed. Its output
goes to the terminal and to <data root>/<node>/logs/console.log. Ctrl-C drains
it. A status of 78 means that starting it again cannot help until a person has
acted.`,
		Example: `  wiberctl node --id n1
  wiberctl node --id n2 --config cluster.yaml --data-root /var/lib/wiber`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.id == "" {
				return &usageError{cmd.CommandPath(), errors.New("say which node: --id NODE")}
			}
			return a.node(cmd.Context(), f, cmd.Flags().Changed("config"))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.id, "id", "", "the `node` to run, as the cluster names it")
	flags.StringVar(&f.config, "config", config.ClusterFile, "the `file` that holds the cluster; where the default does not exist the built-in one counts")
	flags.String(config.DataRoot, "", "the `folder` of the nodes' folders (default: what the cluster says)")
	flags.StringSliceVar(&f.bootstrap, "bootstrap", nil, "form the cluster when these `nodes` answer, without waiting for the others")
	return cmd
}

// node reads the cluster and runs one node of it.
func (a *app) node(ctx context.Context, f nodeFlags, named bool) error {
	cluster, err := a.nodeCluster(f.config, named)
	if err != nil {
		return err
	}
	if _, ok := cluster.Spec.Node(f.id); !ok {
		return fmt.Errorf("cluster %s has no node %q: its nodes are %s", cluster.Name, f.id, strings.Join(nodeIDs(cluster), ", "))
	}
	for _, id := range f.bootstrap {
		if _, ok := cluster.Spec.Node(id); !ok {
			return fmt.Errorf("--bootstrap: cluster %s has no node %q: its nodes are %s", cluster.Name, id, strings.Join(nodeIDs(cluster), ", "))
		}
	}
	skew, err := timesvc.ParseSkew(a.settings.TestClock)
	if err != nil {
		return err
	}
	root := cluster.Spec.DataRoot
	if a.settings.DataRoot != "" {
		root = a.settings.DataRoot
	}
	if root, err = filepath.Abs(root); err != nil {
		return fmt.Errorf("make the data root absolute: %w", err)
	}
	console := &console{out: a.stdout, path: filepath.Join(root, f.id, "logs", "console.log")}
	defer console.close()
	return member.Run(ctx, member.Options{
		Node:      f.id,
		Cluster:   cluster,
		DataRoot:  root,
		Bootstrap: f.bootstrap,
		Logger:    slog.New(slog.NewTextHandler(console, nil)),
		Clock:     timesvc.NewSystem(skew),
		Version:   version(),
	})
}

// nodeCluster reads the one cluster of a file. The default file need not exist.
func (a *app) nodeCluster(path string, named bool) (*v1alpha1.Cluster, error) {
	var documents []manifests.Document
	var err error
	if _, missing := os.Stat(path); !named && errors.Is(missing, fs.ErrNotExist) {
		documents, err = manifests.DecodeBytes(config.ClusterFile, config.ClusterYAML())
	} else {
		documents, err = manifests.Decode([]string{path}, a.stdin)
	}
	if err != nil {
		return nil, err
	}
	var clusters []*v1alpha1.Cluster
	for _, d := range documents {
		if c, ok := d.Object.(*v1alpha1.Cluster); ok {
			clusters = append(clusters, c)
		}
	}
	if name := a.settings.Cluster; name != "" {
		clusters = slices.DeleteFunc(clusters, func(c *v1alpha1.Cluster) bool { return c.Name != name })
	}
	switch len(clusters) {
	case 1:
		return clusters[0], nil
	case 0:
		return nil, fmt.Errorf("%s holds no such cluster", path)
	}
	return nil, fmt.Errorf("%s holds several clusters: choose one with --cluster", path)
}

func nodeIDs(c *v1alpha1.Cluster) []string {
	var ids []string
	for _, n := range c.Spec.Nodes {
		ids = append(ids, n.ID)
	}
	return ids
}

// console is where a node's output goes: to the terminal and to console.log in
// the node's folder. A controller opens console.log as the standard output of
// the nodes it starts; nothing is written twice then.
//
// The file is opened, and an older one renamed, with the first output: a node
// says nothing before it holds the lock of its folder, so that the log of a
// running node is never moved away.
type console struct {
	out  io.Writer
	path string

	mu     sync.Mutex // guards what follows
	opened bool
	file   *os.File // nil: out is the file already, or it cannot be opened
}

// openLocked opens the file, unless out is that file.
func (c *console) openLocked() error {
	if out, ok := c.out.(*os.File); ok && sameFile(out, c.path) {
		return nil
	}
	file, err := proc.OpenLog(c.path)
	if err != nil {
		return err
	}
	// What the runtime says of a crash goes to standard error only, otherwise.
	if err := debug.SetCrashOutput(file, debug.CrashOptions{}); err != nil {
		file.Close()
		return fmt.Errorf("keep crashes in %s: %w", c.path, err)
	}
	c.file = file
	return nil
}

func sameFile(f *os.File, path string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(open, named)
}

// Write implements io.Writer.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.opened {
		c.opened = true
		if err := c.openLocked(); err != nil {
			fmt.Fprintf(c.out, "output goes to the terminal only: %v\n", err)
		}
	}
	n, err := c.out.Write(p)
	if c.file != nil {
		if _, fileErr := c.file.Write(p); err == nil {
			err = fileErr
		}
	}
	return n, err
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}
