package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/config"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// completionTimeout is how long a key press may wait for the controller.
const completionTimeout = 500 * time.Millisecond

// completionCommand prints the script that makes a shell complete commands,
// flags, and the names of what exists.
func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes commands and names in a shell",
		Long: `Prints a script for bash, zsh or fish. With it the shell completes commands,
flags, and the names of clusters, nodes and topics, which it asks the controller
for. It starts nothing, and where no controller answers there are no names.`,
		Example: `  source <(wiberctl completion bash)         # in ~/.bashrc
  source <(wiberctl completion zsh)          # in ~/.zshrc, after compinit
  wiberctl completion fish > ~/.config/fish/completions/wiberctl.fish`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			write, ok := map[string]func(io.Writer) error{
				"bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
				"zsh":  root.GenZshCompletion,
				"fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
			}[args[0]]
			if !ok {
				return &usageError{cmd.CommandPath(), fmt.Errorf("there is no completion for %q: the shell is one of bash, zsh, fish", args[0])}
			}
			return write(a.stdout)
		},
	}
}

// completer is what cobra calls for the arguments of a command, or for the
// value of a flag.
type completer func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// noFiles ends a list that file names do not belong to.
const noFiles = cobra.ShellCompDirectiveNoFileComp

// oneOf completes with fixed words.
func oneOf(words ...string) completer {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { return words, noFiles }
}

// complete tells cobra what the value of a command's flag may be.
func complete(cmd *cobra.Command, flag string, c completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, c); err != nil {
		panic(err) // the flag is not the command's
	}
}

// completions tells cobra what may stand where, in flags that all commands
// have. What is special to a command stands in its own file.
func (a *app) completions(root *cobra.Command) {
	for name, c := range map[string]completer{
		config.Cluster: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.names(cmd, v1alpha1.KindCluster), noFiles
		},
		config.Output: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			known := strings.Fields(cmd.Annotations[outputsKey])
			if i := slices.Index(known, "jsonpath"); i >= 0 {
				known[i] = "jsonpath="
			}
			return known, noFiles | cobra.ShellCompDirectiveNoSpace
		},
		config.Server: cobra.NoFileCompletions,
	} {
		complete(root, name, c)
	}
}

// names are those of all objects of a kind, none if no controller answers at
// once.
func (a *app) names(cmd *cobra.Command, kind string) []string {
	if a.settle(cmd) != nil {
		return nil
	}
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, completionTimeout)
	defer cancel()
	var list v1alpha1.List[struct {
		Metadata v1alpha1.ObjectMeta `json:"metadata"`
	}]
	if err := a.controller().get(ctx, apiPath+v1alpha1.Resource(kind), nil, &list); err != nil {
		return nil
	}
	var names []string
	for _, item := range list.Items {
		names = append(names, item.Metadata.Name)
	}
	slices.Sort(names)
	return slices.Compact(names) // clusters may have nodes of the same names
}

// without leaves out what was typed already.
func without(names, typed []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(typed, name) })
}

// completeNode completes the one node of a command: n2, node/n2 or node n2.
func (a *app) completeNode(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	switch {
	case len(args) == 0 && strings.Contains(typed, "/"):
		kind, _, _ := strings.Cut(typed, "/")
		return prefixed(kind+"/", a.names(cmd, v1alpha1.KindNode)), noFiles
	case len(args) == 0:
		return a.names(cmd, v1alpha1.KindNode), noFiles
	case len(args) == 1:
		if r, err := resourceOf(args[0]); err == nil && r.kind == v1alpha1.KindNode {
			return a.names(cmd, r.kind), noFiles
		}
	}
	return nil, noFiles
}

// completeTopic completes the topic of pub, sub and history.
func (a *app) completeTopic(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	return a.names(cmd, v1alpha1.KindTopic), noFiles
}

// completeObjects completes KIND NAME… and KIND/NAME… for these kinds.
func (a *app) completeObjects(kinds ...string) completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if kind, _, ok := strings.Cut(typed, "/"); ok {
			r, err := resourceOf(kind)
			if err != nil {
				return nil, noFiles
			}
			return without(prefixed(kind+"/", a.names(cmd, r.kind)), args), noFiles
		}
		if len(args) == 0 {
			return kinds, noFiles
		}
		if r, err := resourceOf(args[0]); err == nil {
			return without(a.names(cmd, r.kind), args[1:]), noFiles
		}
		return nil, noFiles
	}
}

// completeObject completes the object of a flag: first its kind, then, after
// the slash, its name.
func (a *app) completeObject(kinds ...string) completer {
	complete := a.completeObjects()
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		if strings.Contains(typed, "/") {
			return complete(cmd, nil, typed)
		}
		var started []string
		for _, kind := range kinds {
			started = append(started, kind+"/")
		}
		return started, noFiles | cobra.ShellCompDirectiveNoSpace
	}
}

func prefixed(prefix string, names []string) []string {
	for i := range names {
		names[i] = prefix + names[i]
	}
	return names
}
