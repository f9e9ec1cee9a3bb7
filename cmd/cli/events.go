package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// eventOptions are the flags of events.
type eventOptions struct {
	watch bool
	of    string   // --for, as the server reads it: node/n2
	types []string // --types, empty: all
}

// eventsCommand prints what happened.
func (a *app) eventsCommand() *cobra.Command {
	var o eventOptions
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print what happened to clusters, nodes and topics",
		Long: `Prints events in the order in which they last happened: starts, ends, back-offs,
elections, refusals. The same thing again within ten minutes is counted, not told
anew. With -w it goes on with what happens, until Ctrl-C.`,
		Example: `  wiberctl events
  wiberctl events -w
  wiberctl events --for node/n2
  wiberctl events --types Warning`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("the object goes with --for: events --for %s", strings.Join(args, "/"))
			}
			return nil
		},
		Annotations: map[string]string{outputsKey: objectOutputs},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.settle(); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			return a.events(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&o.watch, "watch", "w", false, "go on with what happens, until Ctrl-C")
	flags.StringVar(&o.of, "for", "", "only those of one `object`, as in node/n2")
	flags.StringSliceVar(&o.types, "types", nil, "only those of these `types`: Normal, Warning")
	complete(cmd, "for", a.completeObject("node", "cluster", "topic"))
	complete(cmd, "types", oneOf(string(v1alpha1.EventNormal), string(v1alpha1.EventWarning)))
	return cmd
}

// settle checks the flags and brings them into the server's form.
func (o *eventOptions) settle() error {
	for i, given := range o.types {
		known := []string{string(v1alpha1.EventNormal), string(v1alpha1.EventWarning)}
		at := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, given) })
		if at < 0 {
			return fmt.Errorf("--types %s: a type is Normal or Warning", given)
		}
		o.types[i] = known[at]
	}
	if o.of == "" {
		return nil
	}
	targets, err := parseTargets([]string{o.of})
	if err == nil && len(targets[0].names) == 0 {
		err = errors.New("name one object, as in node/n2")
	}
	if err == nil && targets[0].resource.kind == v1alpha1.KindEvent {
		err = errors.New("an event has no events")
	}
	if err != nil {
		return fmt.Errorf("--for: %w", err)
	}
	o.of = targets[0].resource.singular + "/" + targets[0].names[0]
	return nil
}

// query asks for the events of one object, or for all.
func (o *eventOptions) query() url.Values {
	if o.of == "" {
		return nil
	}
	return url.Values{"for": {o.of}}
}

// wants says whether an event is of a type that was asked for.
func (o *eventOptions) wants(item json.RawMessage) bool {
	var e struct {
		Type string `json:"type"`
	}
	return len(o.types) == 0 || json.Unmarshal(item, &e) == nil && slices.Contains(o.types, e.Type)
}

// events reads and prints once.
func (a *app) events(ctx context.Context, o eventOptions) error {
	r, err := resourceOf("events")
	if err != nil {
		return err
	}
	if o.watch {
		return a.watchTargets(ctx, []target{{resource: r}}, func(w *watcher) { w.query, w.wants = o.query(), o.wants })
	}
	var list v1alpha1.List[json.RawMessage]
	if err := a.controller().get(ctx, apiPath+r.plural, o.query(), &list); err != nil {
		return err
	}
	items := slices.DeleteFunc(list.Items, func(item json.RawMessage) bool { return !o.wants(item) })
	return a.printFound([]found{{resource: r, items: items}}, len(items))
}
