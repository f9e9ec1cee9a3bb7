package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/config"
	"github.com/wiber/wiber/controller"
	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// controllerCommand runs a controller in the foreground.
func (a *app) controllerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run the controller alone",
		Long: `Runs the controller in the foreground. Nodes outlive it: Ctrl-C ends the
controller and leaves them running. Only one controller may use a state folder.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := a.controllerOptions()
			if err != nil {
				return err
			}
			return controller.Run(cmd.Context(), options)
		},
	}
	controllerFlags(cmd)
	return cmd
}

// controllerFlags adds the flags of every command that runs a controller.
func controllerFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.String(config.Listen, "", "the `address` to listen on (default 127.0.0.1:8080, or with GATEWAY_PORT that port)")
	flags.String(config.State, "", "the controller's `folder` (default .data/controller)")
	flags.String(config.UIDir, "", "serve the web page from this `folder` (its source is ui/web) instead of the program")
	flags.String(config.AllowedHosts, "", "`names`, separated by commas, that are accepted as Host beside those of this machine")
}

// controllerOptions makes the options of a controller in this process.
func (a *app) controllerOptions() (controller.Options, error) {
	state, err := filepath.Abs(a.settings.State)
	if err != nil {
		return controller.Options{}, fmt.Errorf("make --state absolute: %w", err)
	}
	executable, err := os.Executable()
	if err != nil {
		return controller.Options{}, fmt.Errorf("find this program: %w", err)
	}
	cluster, err := builtInCluster()
	if err != nil {
		return controller.Options{}, err
	}
	return controller.Options{
		Listen:         a.settings.Listen,
		State:          state,
		Executable:     executable,
		DefaultCluster: cluster,
		AllowedHosts:   a.settings.AllowedHosts,
		UIDir:          a.settings.UIDir,
		Clock:          a.clock,
		Logger:         slog.New(slog.NewTextHandler(a.stderr, nil)),
		Version:        version(),
	}, nil
}

// builtInCluster is config/cluster.yaml as this binary carries it, ready to be
// sent.
func builtInCluster() (*v1alpha1.Cluster, error) {
	documents, err := builtInDocuments()
	if err != nil {
		return nil, err
	}
	cluster, ok := documents[0].Object.(*v1alpha1.Cluster)
	if !ok {
		return nil, fmt.Errorf("%s holds no cluster", config.ClusterFile)
	}
	return cluster, nil
}

func builtInDocuments() ([]manifests.Document, error) {
	documents, err := manifests.DecodeBytes(config.ClusterFile, config.ClusterYAML())
	if err != nil {
		return nil, err
	}
	return prepare(documents)
}

// runInBackground runs a controller in a goroutine of this process. The result
// is sent once, when it has ended.
func runInBackground(ctx context.Context, options controller.Options) <-chan error {
	endc := make(chan error, 1)
	go func() { endc <- controller.Run(ctx, options) }()
	return endc
}
