package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// nodeAction is what kill, restart, stop and start share: one node by any of
// its written forms, one POST that answers when it is done, one line.
type nodeAction struct {
	use, short, long string
	example          string
	done             string // what the line says; query may change it
	query            func() (url.Values, error)
}

// actionCommand makes the command of an action. Its verb is that of the HTTP
// path.
func (a *app) actionCommand(action *nodeAction) *cobra.Command {
	verb, _, _ := strings.Cut(action.use, " ")
	return &cobra.Command{
		Use:     action.use,
		Short:   action.short,
		Long:    action.long,
		Example: action.example,
		Args:    oneNode,

		ValidArgsFunction: a.completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseNode(args)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			var query url.Values
			if action.query != nil {
				if query, err = action.query(); err != nil {
					return &usageError{cmd.CommandPath(), err}
				}
			}
			if err := a.actOnNode(cmd.Context(), name, verb, query); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "node/%s %s\n", name, action.done)
			return err
		},
	}
}

// oneNode are the arguments of a command that takes one node.
func oneNode(_ *cobra.Command, args []string) error {
	_, err := parseNode(args)
	return err
}

// actOnNode asks the controller for an action on one node and returns when it
// is done.
func (a *app) actOnNode(ctx context.Context, name, verb string, query url.Values) error {
	return a.controller().post(ctx, "/cluster/node/"+url.PathEscape(name)+"/"+verb, query)
}
