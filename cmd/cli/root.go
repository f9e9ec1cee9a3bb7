// Package cli is the command line: it turns arguments into calls of the
// controller's HTTP API, of the nodes' client ports (topics/client), and, for
// the three long-running commands, of controller.Run and member.Run in this
// process.
//
// One file per command. The words and forms of kubectl are used wherever they
// fit: what prints, which errors, which exit status. Errors go to standard
// error as "error: …" or "Error from server (Reason): …"; the status is 0 on
// success and 1 on failure, but for a node that must not be started again.
//
// Not here: what a manifest may say (manifests), where settings come from
// (config), what the controller does with a request (controller). Start reading
// at Main, then at app.root.
package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wiber/wiber/config"
	"github.com/wiber/wiber/timesvc"
)

// Main runs one command line, without the program's name in args, and returns
// the process's exit status. The first SIGINT or SIGTERM asks the command to
// finish; the second one ends the process at once.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from here on a signal has its default effect again

	a := &app{
		stdin:  stdin,
		stdout: stdout,
		stderr: stderr,
		clock:  timesvc.NewSystem(timesvc.Skew{}),
		http:   &http.Client{},
	}
	root := a.root()
	root.SetArgs(args)
	return report(stderr, root.ExecuteContext(ctx))
}

// app is what every command needs of the process, and its settings.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	clock  timesvc.Clock
	http   *http.Client

	settings config.Config // valid once a command runs
	output   string        // what of settings.Output this command knows, else empty
}

// outputsKey is the annotation in which a command names the values of -o that
// it knows, separated by spaces.
const outputsKey = "wiber.dev/outputs"

// root builds the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "wiberctl",
		Short: "Run and use a Wiber cluster",
		Long: `wiberctl is all of Wiber in one binary: the command line, the controller and
a node. "wiberctl up" starts a three-node cluster on this machine.`,
		// No Args: an unknown command is named before its flags are looked at.
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.settle(cmd) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{cmd.CommandPath(), err}
	})

	// The values of these flags are read by config, with the environment and
	// the settings file below them.
	flags := root.PersistentFlags()
	flags.String(config.Server, "", "the controller's `URL` (default http://127.0.0.1:8080, or with GATEWAY_PORT that port)")
	flags.String(config.Cluster, "", "the cluster's `name`; needed only if there are several")
	flags.StringP(config.Output, "o", "", "output `format`, as far as a command has it: wide, json, yaml, name, value, jsonpath=…")
	flags.Bool(config.NoHeaders, false, "print tables without their header line")

	root.AddCommand(
		a.applyCommand(),
		a.completionCommand(),
		a.controllerCommand(),
		a.deleteCommand(),
		a.describeCommand(),
		a.downCommand(),
		a.eventsCommand(),
		a.getCommand(),
		a.historyCommand(),
		a.killCommand(),
		a.logsCommand(),
		a.nodeCommand(),
		a.pubCommand(),
		a.restartCommand(),
		a.startCommand(),
		a.statusCommand(),
		a.stopCommand(),
		a.subCommand(),
		a.timeCommand(),
		a.upCommand(),
		a.versionCommand(),
		a.waitCommand(),
	)
	a.completions(root)
	for _, cmd := range root.Commands() {
		if args := cmd.Args; args != nil {
			cmd.Args = func(cmd *cobra.Command, given []string) error {
				if err := args(cmd, given); err != nil {
					return &usageError{cmd.CommandPath(), err}
				}
				return nil
			}
		}
	}
	return root
}

// settle gathers the settings of the command that is about to run.
func (a *app) settle(cmd *cobra.Command) error {
	given := map[string]string{}
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
	settings, err := config.Load(config.Sources{Flags: given})
	if err != nil {
		return err
	}
	a.settings = settings
	if settings.Output == "" {
		return nil
	}
	known := strings.Fields(cmd.Annotations[outputsKey])
	kind, _, _ := strings.Cut(settings.Output, "=")
	switch {
	case slices.Contains(known, kind):
		a.output = settings.Output
	case given[config.Output] == "":
		// A format from the environment or the settings file is a wish for
		// the commands that have it.
	case len(known) == 0:
		return &usageError{cmd.CommandPath(), fmt.Errorf("%s has no -o", cmd.CommandPath())}
	default:
		return &usageError{cmd.CommandPath(), fmt.Errorf("-o %s: the format is one of %s", settings.Output, strings.Join(known, ", "))}
	}
	return nil
}

// controller is the controller that the settings name.
func (a *app) controller() *server {
	return &server{base: a.settings.Server, cluster: a.settings.Cluster, http: a.http, clock: a.clock}
}
