package cli

import "github.com/spf13/cobra"

// startCommand sets a node's wanted state to running.
func (a *app) startCommand() *cobra.Command {
	return a.actionCommand(&nodeAction{
		use:   "start NODE",
		short: "Start a stopped node",
		long: `Sets the node's wanted state to running (spec.nodes[].stopped) and returns when
its process runs.`,
		example: `  wiberctl start n2`,
		done:    "started",
	})
}
