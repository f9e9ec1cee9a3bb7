package cli

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/controller/proc"
)

// killCommand makes a node's process die now. It is a fault, not a wish: the
// controller starts the node again after its back-off.
func (a *app) killCommand() *cobra.Command {
	var signal string
	action := &nodeAction{
		use:   "kill NODE",
		short: "Make a node's process die now",
		long: `Sends a signal to a node's process and returns when the process has ended, if
the signal ends processes. This is a fault: the wanted state is untouched, so the
controller starts the node again after its back-off. To keep a node down, stop
it.`,
		done: "killed",
	}
	action.query = func() (url.Values, error) {
		sig, err := proc.ParseSignal(signal)
		if err != nil {
			return nil, fmt.Errorf("--signal: %w", err)
		}
		name := proc.SignalName(sig)
		if sig != syscall.SIGKILL {
			action.done = "received " + name
		}
		return url.Values{"signal": {strings.TrimPrefix(name, "SIG")}}, nil
	}
	cmd := a.actionCommand(action)
	cmd.Flags().StringVar(&signal, "signal", "KILL", "the `signal` to send")
	return cmd
}
