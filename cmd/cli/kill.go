package cli

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/controller/proc"
)

// killCommand makes a node's process die now. It is a fault, not a wish: the
// controller starts the node again after its back-off, or after the hold.
func (a *app) killCommand() *cobra.Command {
	var (
		signal string
		hold   bool
		length time.Duration
	)
	action := &nodeAction{
		use:   "kill NODE",
		short: "Make a node's process die now",
		long: `Sends a signal to a node's process and returns when the process has ended, if
the signal ends processes. This is a fault: the wanted state is untouched, so the
controller starts the node again after its back-off.

With --hold it stays down until you restart or start it, with --for as long as
you say, also when the controller is started anew meanwhile. A node that has no
process at the moment can be held too. To stop a node that should not run, use
stop.`,
		example: `  wiberctl kill n2
  wiberctl kill n2 --for 30s
  wiberctl kill n2 --hold && wiberctl restart n2`,
		done: "killed",
	}
	cmd := a.actionCommand(action)
	action.query = func() (url.Values, error) {
		sig, err := proc.ParseSignal(signal)
		if err != nil {
			return nil, fmt.Errorf("--signal: %w", err)
		}
		name := proc.SignalName(sig)
		if sig != syscall.SIGKILL {
			action.done = "received " + name
		}
		query := url.Values{"signal": {strings.TrimPrefix(name, "SIG")}}
		held := cmd.Flags().Changed("for")
		switch {
		case held && hold:
			return nil, errors.New("--hold has no end, --for has one: give only one of them")
		case (held || hold) && !proc.Ends(sig):
			return nil, fmt.Errorf("%s does not end a process, so it cannot begin a hold", name)
		case held && length <= 0:
			return nil, fmt.Errorf("--for %s: say how long, as in --for 30s", length)
		case held:
			query.Set("for", length.String())
			action.done += ", held down for " + length.String()
		case hold:
			query.Set("hold", "true")
			action.done += ", held down until it is restarted or started"
		}
		return query, nil
	}
	flags := cmd.Flags()
	flags.StringVar(&signal, "signal", "KILL", "the `signal` to send")
	flags.BoolVar(&hold, "hold", false, "keep the node down until it is restarted or started")
	flags.DurationVar(&length, "for", 0, "keep the node down for this `time`, such as 30s")
	if err := cmd.RegisterFlagCompletionFunc("signal", cobra.FixedCompletions(proc.SignalNames(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was added above
	}
	return cmd
}
