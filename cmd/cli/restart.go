package cli

import (
	"net/url"

	"github.com/spf13/cobra"
)

// restartCommand stops and starts a node gracefully.
func (a *app) restartCommand() *cobra.Command {
	var force bool
	cmd := a.actionCommand(&nodeAction{
		use:   "restart NODE",
		short: "Drain, stop and start a node",
		long: `Drains a node, stops it and starts it again; returns when the new process
runs. It is refused while it would cost the cluster its majority, unless forced.`,
		example: `  wiberctl restart n2
  wiberctl restart n1 --force        # although nobody can publish meanwhile`,
		done: "restarted",
		query: func() (url.Values, error) {
			if force {
				return url.Values{"force": {"true"}}, nil
			}
			return nil, nil
		},
	})
	cmd.Flags().BoolVar(&force, "force", false, "restart even if the cluster loses its majority meanwhile")
	return cmd
}
