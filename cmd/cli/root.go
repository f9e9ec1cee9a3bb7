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

// app is what every command needs of the process, and the global flags.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	clock  timesvc.Clock
	http   *http.Client

	server    string
	cluster   string
	output    string
	noHeaders bool
}

// outputsKey is the annotation in which a command names the values of -o that
// it knows, separated by spaces.
const outputsKey = "wiber.dev/outputs"

// root builds the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "wiberctl",
		Short: "Run and use a Wiber cluster",
		Long: `wiberctl is all of Wiber in one binary: the command line, the controller
and a node. "wiberctl up" starts a three-node cluster on this machine.`,
		Args:              cobra.NoArgs,
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

	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", "", "the controller's `URL` (default: http://127.0.0.1:8080, or with GATEWAY_PORT that port)")
	flags.StringVar(&a.cluster, "cluster", "", "the cluster's `name`; needed only if there are several")
	flags.StringVarP(&a.output, "output", "o", "", "output `format`: wide, json, yaml, name, jsonpath=…; what is possible depends on the command")
	flags.BoolVar(&a.noHeaders, "no-headers", false, "print tables without their header line")

	root.AddCommand(
		a.versionCommand(),
	)
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

// settle checks the global flags before a command runs and fills in what was
// not given.
func (a *app) settle(cmd *cobra.Command) error {
	if a.output == "" {
		return nil
	}
	known := strings.Fields(cmd.Annotations[outputsKey])
	kind, _, _ := strings.Cut(a.output, "=")
	if slices.Contains(known, kind) {
		return nil
	}
	if len(known) == 0 {
		return &usageError{cmd.CommandPath(), fmt.Errorf("%s has no -o", cmd.CommandPath())}
	}
	return &usageError{cmd.CommandPath(), fmt.Errorf("unknown output format %q: it is one of %s", a.output, strings.Join(known, ", "))}
}
