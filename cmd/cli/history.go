package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// historyFlags are the flags of history, as they were written.
type historyFlags struct {
	from, until, read, node string
	last, limit             uint64
	reverse                 bool
}

// historyCommand prints what a topic holds.
func (a *app) historyCommand() *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:   "history TOPIC[/PARTITION]",
		Short: "Print the messages of a topic",
		Long: `Prints the messages of a topic and ends. A position (--from, --until) is earliest,
latest, an offset, a time as in 2026-11-22T10:00:00Z, or a duration back as in
-10m; from is inclusive, until exclusive. A topic of several partitions is merged
by time unless one is named, and then takes no offset.`,
		Example: `  wiberctl history orders --last 10
  wiberctl history orders/3 --from 100 --until 200 -o json
  wiberctl history orders --node n2 --read local -o value`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTopic,
		Annotations:       map[string]string{outputsKey: messageOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := f.options()
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			return a.history(cmd.Context(), args[0], f.node, options)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "the `position` to begin at (default earliest)")
	flags.StringVar(&f.until, "until", "", "the `position` to end before (default the end)")
	flags.Uint64Var(&f.last, "last", 0, "only the newest `N` messages of the range")
	flags.Uint64Var(&f.limit, "limit", 0, "at most `N` messages")
	flags.BoolVar(&f.reverse, "reverse", false, "newest first")
	flags.StringVar(&f.read, "read", "linearizable", "how fresh: `linearizable|session|local`")
	flags.StringVar(&f.node, "node", "", "ask the node with this `id`")
	complete(cmd, "read", oneOf("linearizable", "session", "local"))
	complete(cmd, "node", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.names(cmd, v1alpha1.KindNode), noFiles
	})
	nodesFlag(cmd)
	return cmd
}

// options checks the flags.
func (f *historyFlags) options() (client.HistoryOptions, error) {
	options := client.HistoryOptions{Last: f.last, Limit: f.limit, Reverse: f.reverse}
	var err error
	if options.From, err = position("--from", f.from); err != nil {
		return options, err
	}
	if options.Until, err = position("--until", f.until); err != nil {
		return options, err
	}
	level, refused := wire.ParseReadLevel(f.read)
	if refused != nil {
		return options, fmt.Errorf("--read: %s", refused.Text)
	}
	options.Read = level
	return options, nil
}

// position reads the value of a flag that names a place in a topic.
func position(flag, value string) (wire.Position, error) {
	if value == "" {
		return wire.Position{}, nil
	}
	p, refused := wire.ParsePosition(value)
	if refused != nil {
		return p, fmt.Errorf("%s: %s", flag, refused.Text)
	}
	return p, nil
}

// history prints the messages one after the other; memory does not grow with
// their number.
func (a *app) history(ctx context.Context, topic, node string, options client.HistoryOptions) error {
	c, err := a.dial(ctx, node)
	if err != nil {
		return err
	}
	defer c.Close()
	h := c.History(ctx, topic, options)
	defer h.Close()
	p := newPrinter(a.stdout, a.output)
	for h.Next() {
		if err := p.message(h.Message()); err != nil {
			return err
		}
	}
	if err := p.flush(); err != nil {
		return err
	}
	return h.Err()
}
