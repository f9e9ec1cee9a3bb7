package cli

import "github.com/spf13/cobra"

// stopCommand sets a node's wanted state to stopped.
func (a *app) stopCommand() *cobra.Command {
	return a.actionCommand(&nodeAction{
		use:   "stop NODE",
		short: "Stop a node and keep it stopped",
		long: `Sets the node's wanted state to stopped (spec.nodes[].stopped) and returns when
its process has ended. The node stays down until it is started. It is refused
while it would cost the cluster its majority.`,
		example: `  wiberctl stop n2
  wiberctl stop node/n2 --cluster demo`,
		done: "stopped",
	})
}
