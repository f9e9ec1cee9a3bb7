package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// describedEvents is how many events describe shows of an object; the newest.
const describedEvents = 20

// describeCommand shows everything that is known of an object.
func (a *app) describeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "describe KIND [NAME…]",
		Short: "Show everything about an object, and what happened to it",
		Long: `Shows the spec, the status, the conditions, how a node's process ended last, and,
at the end, the events of an object; without a name, of all objects of the kind.`,
		Example: `  wiberctl describe node n2
  wiberctl describe cluster/demo
  wiberctl describe topics`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeObjects("cluster", "node", "topic", "event"),
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := parseTargets(args)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			return a.describe(cmd.Context(), targets)
		},
	}
}

// describe reads and shows the targets. What exists is shown even if something
// else does not; the status is then 1.
func (a *app) describe(ctx context.Context, targets []target) error {
	s := a.controller()
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
		for _, item := range f.items {
			d, err := newDescription(f.resource, item)
			if err != nil {
				return err
			}
			if err := s.readEvents(ctx, d); err != nil {
				return err
			}
			if count++; count > 1 {
				fmt.Fprint(a.stdout, "\n\n")
			}
			if err := d.print(a.stdout, a.clock.Now()); err != nil {
				return err
			}
		}
	}
	switch {
	case failed:
		return silentError{}
	case count == 0:
		_, err := fmt.Fprintln(a.stderr, "No resources found.")
		return err
	}
	return nil
}

// description is an object and what happened to it. Spec and status are shown
// as the controller wrote them, so that nothing it says is left out.
type description struct {
	resource   resource
	meta       v1alpha1.ObjectMeta
	parts      []field // of the object, without what is shown otherwise
	observed   int64
	conditions []v1alpha1.Condition
	last       *v1alpha1.Termination
	events     []v1alpha1.Event
}

// field is one field of a JSON object.
type field struct {
	name  string
	value json.RawMessage
}

// fieldsOf reads the fields of a JSON object in their order.
func fieldsOf(object json.RawMessage) ([]field, error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("it is no JSON object: %w", err)
	}
	var fields []field
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		fields = append(fields, field{name.(string), value}) // a key is a string
	}
	return fields, nil
}

// objectOf is the reverse of fieldsOf.
func objectOf(fields []field) json.RawMessage {
	b := []byte{'{'}
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		name, _ := json.Marshal(f.name) // a string always encodes
		b = append(append(append(b, name...), ':'), f.value...)
	}
	return append(b, '}')
}

// newDescription takes an object apart.
func newDescription(r resource, item json.RawMessage) (*description, error) {
	d := &description{resource: r}
	fields, err := fieldsOf(item)
	for _, f := range fields {
		switch f.name {
		case "apiVersion", "kind":
		case "metadata":
			err = errors.Join(err, json.Unmarshal(f.value, &d.meta))
		case "status":
			err = errors.Join(err, d.takeStatus(f))
		default:
			d.parts = append(d.parts, f)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the controller's %s cannot be read: %w", r.singular, err)
	}
	return d, nil
}

// takeStatus keeps what has a form of its own apart from the rest.
func (d *description) takeStatus(status field) error {
	fields, err := fieldsOf(status.value)
	if err != nil {
		return err
	}
	var rest []field
	for _, f := range fields {
		switch f.name {
		case "observedGeneration":
			err = errors.Join(err, json.Unmarshal(f.value, &d.observed))
		case "conditions":
			err = errors.Join(err, json.Unmarshal(f.value, &d.conditions))
		case "lastTermination":
			err = errors.Join(err, json.Unmarshal(f.value, &d.last))
		default:
			rest = append(rest, f)
		}
	}
	d.parts = append(d.parts, field{status.name, objectOf(rest)})
	return err
}

// readEvents reads what happened to the object.
func (s *server) readEvents(ctx context.Context, d *description) error {
	if d.resource.kind == v1alpha1.KindEvent {
		return nil
	}
	query := url.Values{"for": {d.resource.singular + "/" + d.meta.Name}}
	if d.meta.Namespace != "" {
		query.Set("cluster", d.meta.Namespace)
	}
	var list v1alpha1.EventList
	if err := s.get(ctx, apiPath+"events", query, &list); err != nil {
		return err
	}
	d.events = list.Items
	return nil
}

// print shows all of it, the events last.
func (d *description) print(w io.Writer, now time.Time) error {
	var b strings.Builder
	line := func(label, value string) { fmt.Fprintf(&b, "%-14s%s\n", label+":", orNone(value)) }
	line("Name", d.meta.Name)
	if d.meta.Namespace != "" {
		line("Cluster", d.meta.Namespace)
	}
	line("Labels", pairs(d.meta.Labels))
	line("Annotations", pairs(d.meta.Annotations))
	if d.meta.UID != "" {
		line("UID", d.meta.UID)
	}
	if d.meta.Generation > 0 {
		generation := strconv.FormatInt(d.meta.Generation, 10)
		if d.observed > 0 { // nobody observes a topic: the catalogue's is the only one
			generation += fmt.Sprintf(", observed %d", d.observed)
		}
		line("Generation", generation)
	}
	if at := d.meta.CreationTimestamp; !at.IsZero() {
		line("Created", moment(at.Time, now))
	}
	if at := d.meta.DeletionTimestamp; at != nil {
		line("Deleting", "since "+moment(at.Time, now))
	}
	for _, part := range d.parts {
		if err := printPart(&b, part); err != nil {
			return err
		}
	}
	if d.last != nil {
		fmt.Fprintf(&b, "Last Termination:\n  Reason:     %s\n  Exit Code:  %d\n  Signal:     %s\n  At:         %s\n",
			orNone(oneLine(d.last.Reason)), d.last.ExitCode, orNone(d.last.Signal), moment(d.last.At.Time, now))
	}
	if len(d.conditions) > 0 {
		b.WriteString("Conditions:\n")
		t := newTable("Type", "Status", "Reason", "Age", "Message")
		for _, c := range d.conditions {
			status := string(c.Status)
			if c.ObservedGeneration != d.meta.Generation {
				status += fmt.Sprintf(" (of generation %d)", c.ObservedGeneration)
			}
			t.add(c.Type, status, c.Reason, age(c.LastTransitionTime.Time, now), oneLine(c.Message))
		}
		t.indented(&b)
	}
	if d.resource.kind != v1alpha1.KindEvent {
		d.printEvents(&b, now)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (d *description) printEvents(b *strings.Builder, now time.Time) {
	if len(d.events) == 0 {
		b.WriteString("Events:       <none>\n")
		return
	}
	b.WriteString("Events:\n")
	shown := d.events
	if earlier := len(shown) - describedEvents; earlier > 0 {
		shown = shown[earlier:]
		fmt.Fprintf(b, "  (%d earlier ones: wiberctl events --for %s/%s)\n", earlier, d.resource.singular, d.meta.Name)
	}
	t := newTable("Type", "Reason", "Age", "From", "Message")
	for i := range shown {
		e := &shown[i]
		t.add(string(e.EventType), e.Reason, lastSeen(e, now), e.Source.Component, oneLine(e.Message))
	}
	t.indented(b)
}

// printPart shows a field under its name; an object or a list as YAML.
func printPart(b *strings.Builder, part field) error {
	label := strings.ToUpper(part.name[:min(1, len(part.name))]) + part.name[min(1, len(part.name)):]
	text, err := manifests.JSONToYAML(part.value)
	if err != nil {
		return err
	}
	value := strings.TrimRight(string(text), "\n")
	if len(part.value) > 0 && part.value[0] != '{' && part.value[0] != '[' {
		fmt.Fprintf(b, "%-14s%s\n", label+":", value)
		return nil
	}
	fmt.Fprintf(b, "%s:\n", label)
	for line := range strings.SplitSeq(value, "\n") {
		fmt.Fprintf(b, "  %s\n", line)
	}
	return nil
}

// moment is a time with how long ago it was.
func moment(at, now time.Time) string {
	if at.IsZero() {
		return "<unknown>"
	}
	return fmt.Sprintf("%s (%s ago)", at.UTC().Format(time.RFC3339), age(at, now))
}

// pairs are labels or annotations in one line.
func pairs(m map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, name+"="+oneLine(m[name]))
	}
	return strings.Join(all, ", ")
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}
