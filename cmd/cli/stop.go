package cli

import "github.com/spf13/cobra"

// stopCommand sets a node's wanted state to stopped.
func (a *app) stopCommand() *cobra.Command {
	return a.actionCommand("stop NODE", "Stop a node and keep it stopped",
		`Sets the node's wanted state to stopped (spec.nodes[].stopped) and returns when
its process has ended. The node stays down until it is started.`,
		"stopped", nil)
}
