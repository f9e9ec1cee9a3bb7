package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

const (
	// waitEvery is the pause between two looks at an object that is waited for.
	waitEvery = 100 * time.Millisecond
	// waitForever stands for a negative --timeout.
	waitForever = 100 * 365 * 24 * time.Hour
)

// waitCommand waits for objects to be as told.
func (a *app) waitCommand() *cobra.Command {
	var conditions []string
	var timeout time.Duration
	var all bool
	cmd := &cobra.Command{
		Use:   "wait KIND/NAME… --for=…",
		Short: "Wait until objects are as told",
		Long: `Returns when each of the objects is as every --for says, and with status 1 when
that is not so before --timeout ends.

  --for=condition=Ready          the condition is True, or what stands behind
  --for=condition=Ready=False    another =
  --for=create                   the object exists
  --for=delete                   it does not
  --for=jsonpath='{.status.phase}'=Running
                                 the field has this value; without one, any

An object need not exist yet. A condition counts only if it is about the newest
spec, that is, if its observedGeneration is the object's generation.`,
		Example: `  wiberctl wait cluster/demo --for=condition=Ready --timeout=60s
  wiberctl wait node/n2 --for=condition=Ready --for=jsonpath='{.status.restarts}'=1
  wiberctl wait nodes --all --for=condition=CaughtUp
  wiberctl wait topic/orders --for=create`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeObject("cluster", "node", "topic"),
		RunE: func(cmd *cobra.Command, args []string) error {
			wish, err := parseWish(conditions)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			targets, err := parseTargets(args)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			for _, t := range targets {
				switch {
				case len(t.names) == 0 && !all:
					return &usageError{cmd.CommandPath(), fmt.Errorf("say which %s: %s/NAME, or --all", t.resource.plural, t.resource.singular)}
				case len(t.names) > 0 && all:
					return &usageError{cmd.CommandPath(), errors.New("name objects, or say --all, not both")}
				}
			}
			if timeout < 0 {
				timeout = waitForever
			}
			return a.wait(cmd.Context(), targets, wish, timeout)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&conditions, "for", nil, "`what` to wait for: condition=NAME[=VALUE], create, delete, jsonpath=EXPRESSION[=VALUE]; may be repeated, all must hold")
	flags.DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait; 0 looks once, a negative one waits without end")
	flags.BoolVar(&all, "all", false, "all objects of the kind that exist now")
	complete(cmd, "for", completeWish)
	return cmd
}

// completeWish completes --for of wait.
func completeWish(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	if !strings.HasPrefix(typed, "condition=") {
		return []string{"condition=", "create", "delete", "jsonpath="}, noFiles | cobra.ShellCompDirectiveNoSpace
	}
	var all []string
	for _, name := range []string{
		v1alpha1.NodeReady, v1alpha1.ClusterProgressing, v1alpha1.ClusterDegraded, v1alpha1.ClusterQuorumAvailable,
		v1alpha1.NodeProcessRunning, v1alpha1.NodeJoined, v1alpha1.NodeCaughtUp,
	} {
		all = append(all, "condition="+name)
	}
	return all, noFiles
}

// wish is what is waited for: all of it at once.
type wish []want

// want is one --for.
type want struct {
	kind  string // condition, create, delete, jsonpath
	name  string // of the condition; the template
	value string
	any   bool // every value is right
}

func parseWish(texts []string) (wish, error) {
	if len(texts) == 0 {
		return nil, errors.New("say what to wait for: --for=condition=Ready, create, delete or jsonpath=…")
	}
	var all wish
	for _, text := range texts {
		w, err := parseWant(text)
		if err != nil {
			return nil, fmt.Errorf("--for=%s: %w", text, err)
		}
		all = append(all, w)
	}
	return all, nil
}

func parseWant(text string) (want, error) {
	kind, rest, given := strings.Cut(text, "=")
	w := want{kind: strings.ToLower(kind)}
	switch w.kind {
	case "create", "delete":
		if given {
			return w, errors.New("nothing stands behind " + w.kind)
		}
		return w, nil
	case "condition":
		w.name, w.value, given = strings.Cut(rest, "=")
		if !given {
			w.value = string(v1alpha1.ConditionTrue)
		}
		if w.name == "" || w.value == "" {
			return w, errors.New("it is condition=NAME or condition=NAME=VALUE, as in condition=Ready")
		}
		return w, nil
	case "jsonpath":
		w.name, w.value, given = cutTemplate(rest)
		w.any = !given
		if w.name == "" {
			return w, errors.New("it is jsonpath=EXPRESSION or jsonpath=EXPRESSION=VALUE, as in jsonpath='{.status.phase}'=Running")
		}
		if err := printJSONPath(new(bytes.Buffer), w.name, []byte("{}")); err != nil {
			return w, err
		}
		return w, nil
	}
	return w, errors.New("it is one of condition=NAME, create, delete, jsonpath=EXPRESSION")
}

// cutTemplate cuts {.status.phase}=Running at the = behind the braces, or at the
// first one if there are none. Quotes around the value are no part of it.
func cutTemplate(text string) (template, value string, given bool) {
	brace := strings.LastIndex(text, "}") + 1
	before, value, given := strings.Cut(text[brace:], "=")
	for _, quote := range []string{`"`, `'`} {
		if len(value) > 1 && strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) {
			value = value[1 : len(value)-1]
		}
	}
	return text[:brace] + before, value, given
}

// met says whether an object, nil for none, is as wished, and if not, why.
func (all wish) met(object json.RawMessage) (ok bool, why string) {
	for _, w := range all {
		if ok, why := w.met(object); !ok {
			return false, why
		}
	}
	return true, ""
}

func (w *want) met(object json.RawMessage) (ok bool, why string) {
	switch {
	case w.kind == "delete":
		return object == nil, "it exists"
	case object == nil:
		return false, "it does not exist"
	case w.kind == "create":
		return true, ""
	case w.kind == "condition":
		return w.metCondition(object)
	}
	var out bytes.Buffer
	if err := printJSONPath(&out, w.name, object); err != nil {
		return false, err.Error()
	}
	switch got := out.String(); {
	case got == "":
		return false, w.name + " is not set"
	case w.any || got == w.value:
		return true, ""
	default:
		return false, fmt.Sprintf("%s is %s", w.name, oneLine(got))
	}
}

func (w *want) metCondition(object json.RawMessage) (ok bool, why string) {
	var o struct {
		Metadata v1alpha1.ObjectMeta `json:"metadata"`
		Status   struct {
			Conditions []v1alpha1.Condition `json:"conditions"`
		} `json:"status"`
	}
	if err := json.Unmarshal(object, &o); err != nil {
		return false, err.Error()
	}
	for _, c := range o.Status.Conditions {
		switch {
		case !strings.EqualFold(c.Type, w.name):
		case c.ObservedGeneration != o.Metadata.Generation:
			return false, fmt.Sprintf("%s is known of generation %d, and not yet of %d", c.Type, c.ObservedGeneration, o.Metadata.Generation)
		case strings.EqualFold(string(c.Status), w.value):
			return true, ""
		default:
			why := fmt.Sprintf("%s is %s", c.Type, c.Status)
			if c.Message != "" {
				why += ": " + oneLine(c.Message)
			}
			return false, why
		}
	}
	return false, "it has no condition " + w.name
}

// wait returns when every object is as wished.
func (a *app) wait(ctx context.Context, targets []target, wished wish, timeout time.Duration) error {
	s := a.controller()
	for i, t := range targets {
		if len(t.names) > 0 {
			continue
		}
		f, errs := s.find(ctx, t)
		if len(errs) > 0 {
			return errs[0]
		}
		for _, item := range f.items {
			d, err := newDescription(t.resource, item)
			if err != nil {
				return err
			}
			targets[i].names = append(targets[i].names, d.meta.Name)
		}
		if len(f.items) == 0 {
			return fmt.Errorf("there are no %s", t.resource.plural)
		}
	}
	w := &waiter{app: a, server: s, until: a.clock.Mono() + timeout}
	failed := false
	for _, t := range targets {
		for _, name := range t.names {
			why, err := w.await(ctx, t.resource, name, wished)
			if err != nil {
				return err
			}
			if why != "" {
				printError(a.stderr, fmt.Errorf("timed out waiting for the condition on %s/%s: %s", t.resource.plural, name, why))
				failed = true
				continue
			}
			fmt.Fprintf(a.stdout, "%s/%s condition met\n", t.resource.singular, name)
		}
	}
	if failed {
		return silentError{}
	}
	return nil
}

// waiter looks at one object after the other, up to one moment for all.
type waiter struct {
	app     *app
	server  *server
	until   time.Duration
	reached bool // the controller has answered
	lost    bool // it does not any more, which was said
}

// await looks at an object until it is as wished. If that takes too long it says
// why it is not.
func (w *waiter) await(ctx context.Context, r resource, name string, wished wish) (why string, err error) {
	uid := ""
	for {
		object, err := w.look(ctx, r, name)
		var unreachable *unreachableError
		var refused *serverError
		switch {
		case ctx.Err() != nil:
			return "", errors.New("interrupted")
		case errors.As(err, &refused) && refused.Code == http.StatusServiceUnavailable:
			why = refused.Message // a topic's cluster that just starts, a controller that just ends
		case errors.As(err, &unreachable) && w.reached:
			why = "the controller does not answer"
			if !w.lost {
				w.lost = true
				fmt.Fprintf(w.app.stderr, "the controller at %s does not answer; trying again\n", w.server.base)
			}
		case err != nil:
			return "", err
		default:
			if w.lost {
				w.lost = false
				fmt.Fprintln(w.app.stderr, "connected again")
			}
			w.reached = true
			// Another object of the same name does not undo the end of the one
			// that was waited for.
			if object != nil && uid == "" {
				uid = uidOf(object)
			}
			seen := object
			if len(wished) == 1 && wished[0].kind == "delete" && object != nil && uidOf(object) != uid {
				seen = nil
			}
			var ok bool
			if ok, why = wished.met(seen); ok {
				return "", nil
			}
		}
		left := w.until - w.app.clock.Mono()
		if left <= 0 {
			return why, nil
		}
		if err := w.server.pause(ctx, min(waitEvery, left)); err != nil {
			return "", errors.New("interrupted")
		}
	}
}

// look reads an object; nil if there is none. A controller that hangs does not
// answer.
func (w *waiter) look(ctx context.Context, r resource, name string) (json.RawMessage, error) {
	limited, cancel := context.WithTimeout(ctx, max(w.until-w.app.clock.Mono(), time.Second))
	defer cancel()
	var object json.RawMessage
	err := w.server.get(limited, apiPath+r.plural+"/"+url.PathEscape(name), nil, &object)
	var refused *serverError
	switch {
	case errors.As(err, &refused) && refused.Code == http.StatusNotFound:
		return nil, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &unreachableError{w.server.base, err}
	}
	return object, err
}

func uidOf(object json.RawMessage) string {
	var o struct {
		Metadata v1alpha1.ObjectMeta `json:"metadata"`
	}
	if json.Unmarshal(object, &o) != nil {
		return ""
	}
	return o.Metadata.UID
}
