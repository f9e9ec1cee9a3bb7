package cli

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/controller/proc"
)

// killCommand makes a node's process die now. It is a fault, not a wish: the
// controller starts the node again after its back-off.
func (a *app) killCommand() *cobra.Command {
	var signal string
	cmd := a.actionCommand("kill NODE", "Make a node's process die now",
		`Sends a signal to a node's process and returns when the process has ended.
This is a fault: the wanted state is untouched, so the controller starts the
node again after its back-off. To keep a node down, stop it.`,
		"killed", func() (url.Values, error) {
			sig, err := proc.ParseSignal(signal)
			if err != nil {
				return nil, fmt.Errorf("--signal: %w", err)
			}
			return url.Values{"signal": {strings.TrimPrefix(proc.SignalName(sig), "SIG")}}, nil
		})
	cmd.Flags().StringVar(&signal, "signal", "KILL", "the `signal` to send")
	return cmd
}
