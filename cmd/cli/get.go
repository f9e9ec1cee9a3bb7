package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// getCommand prints objects of the controller.
func (a *app) getCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "get clusters|nodes|topics|events|all [NAME…]",
		Short: "Print clusters, nodes, topics or events",
		Long: `Prints objects as the controller sees them. "get node/n2", "get node n2" and
"get nodes n2" are the same. "all" is clusters, nodes and topics.

With -w it prints a new row for every change, until Ctrl-C, and goes on when the
controller was restarted meanwhile.`,
		Example: `  wiberctl get nodes
  wiberctl get node n2 -o yaml
  wiberctl get nodes -w
  wiberctl get nodes -o jsonpath='{.items[*].status.pid}'`,
		Args:              cobra.MinimumNArgs(1),
		Annotations:       map[string]string{outputsKey: objectOutputs},
		ValidArgsFunction: a.completeObjects("clusters", "nodes", "topics", "events", "all"),
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := parseTargets(args)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			if watch {
				return a.watchTargets(cmd.Context(), targets, nil)
			}
			return a.get(cmd.Context(), targets)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print a new row for every change, until Ctrl-C")
	return cmd
}

// found is what was read of one resource. Items are kept as the controller
// wrote them, so that nothing it says is lost in json and yaml.
type found struct {
	resource resource
	items    []json.RawMessage
	one      bool // asked for by a single name
}

// get reads and prints the targets. What exists is printed even if something
// else does not; the status is then 1.
func (a *app) get(ctx context.Context, targets []target) error {
	s := a.controller()
	var all []found
	failed, count := false, 0
	for _, t := range targets {
		f, errs := s.find(ctx, t)
		for _, err := range errs {
			var refused *serverError
			if !errors.As(err, &refused) {
				return err
			}
			printError(a.stderr, err)
			failed = true
		}
		f.one = len(targets) == 1 && len(t.names) == 1
		count += len(f.items)
		all = append(all, f)
	}
	if !failed || count > 0 {
		if err := a.printFound(all, count); err != nil {
			return err
		}
	}
	if failed {
		return silentError{}
	}
	return nil
}

// find reads the objects of one target.
func (s *server) find(ctx context.Context, t target) (found, []error) {
	f := found{resource: t.resource}
	path := apiPath + t.resource.plural
	if len(t.names) == 0 {
		var list v1alpha1.List[json.RawMessage]
		if err := s.get(ctx, path, nil, &list); err != nil {
			return f, []error{err}
		}
		f.items = list.Items
		return f, nil
	}
	var errs []error
	for _, name := range t.names {
		var item json.RawMessage
		if err := s.get(ctx, path+"/"+url.PathEscape(name), nil, &item); err != nil {
			errs = append(errs, err)
			continue
		}
		f.items = append(f.items, item)
	}
	return f, errs
}

// printFound prints what was read in the format that -o asks for.
func (a *app) printFound(all []found, count int) error {
	format, template, _ := strings.Cut(a.output, "=")
	switch format {
	case "", "wide", "name":
		if count == 0 {
			_, err := fmt.Fprintln(a.stderr, "No resources found.")
			return err
		}
		return a.printTables(all, format)
	}
	value, err := combine(all)
	if err != nil {
		return err
	}
	switch format {
	case "yaml":
		return manifests.EncodeYAML(a.stdout, json.RawMessage(value))
	case "jsonpath":
		return printJSONPath(a.stdout, template, value)
	}
	return printJSON(a.stdout, value)
}

// combine makes one JSON value of what was read: the object itself if one was
// asked for by name, else a list of the kind, else a list of all kinds.
func combine(all []found) ([]byte, error) {
	if len(all) == 1 && all[0].one && len(all[0].items) == 1 {
		return all[0].items[0], nil
	}
	kind, items := "", []json.RawMessage{}
	if len(all) == 1 {
		kind = all[0].resource.kind
	}
	for _, f := range all {
		items = append(items, f.items...)
	}
	return json.Marshal(v1alpha1.NewList(kind, items))
}

// printTables prints a table per kind, or only the names.
func (a *app) printTables(all []found, format string) error {
	kinds, printed := 0, 0
	for _, f := range all {
		if len(f.items) > 0 {
			kinds++
		}
	}
	for _, f := range all {
		if len(f.items) == 0 {
			continue
		}
		rows, err := rowsOf(f, a.clock.Now())
		if err != nil {
			return err
		}
		if format == "name" {
			for _, row := range rows.names {
				if _, err := fmt.Fprintf(a.stdout, "%s/%s\n", f.resource.singular, row); err != nil {
					return err
				}
			}
			continue
		}
		if printed > 0 {
			fmt.Fprintln(a.stdout)
		}
		printed++
		if err := rows.table(f.resource, kinds > 1, format == "wide").print(a.stdout, a.settings.NoHeaders); err != nil {
			return err
		}
	}
	return nil
}
