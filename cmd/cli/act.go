package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// actionCommand is what kill, restart, stop and start share: one node by any of
// its written forms, one POST that answers when it is done, one line.
func (a *app) actionCommand(use, short, long, done string, query func() (url.Values, error)) *cobra.Command {
	action, _, _ := strings.Cut(use, " ")
	return &cobra.Command{
		Use:   use,
		Short: short,
		Long:  long,
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseNode(args)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			values := url.Values{}
			if query != nil {
				if values, err = query(); err != nil {
					return &usageError{cmd.CommandPath(), err}
				}
			}
			if err := a.actOnNode(cmd.Context(), name, action, values); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "node/%s %s\n", name, done)
			return err
		},
	}
}

// actOnNode asks the controller for an action on one node and returns when it
// is done.
func (a *app) actOnNode(ctx context.Context, name, action string, query url.Values) error {
	s := a.controller()
	return s.post(ctx, "/cluster/node/"+url.PathEscape(name)+"/"+action, query)
}
