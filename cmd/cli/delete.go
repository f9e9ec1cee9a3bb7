package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// deleteOptions are the flags of delete.
type deleteOptions struct {
	files          []string
	purge          bool
	allowDataLoss  bool
	ignoreNotFound bool
}

// deleteCommand removes what was applied.
func (a *app) deleteCommand() *cobra.Command {
	var o deleteOptions
	cmd := &cobra.Command{
		Use:   "delete -f FILE|FOLDER|- | KIND NAME…",
		Short: "Delete clusters and topics",
		Long: `Deletes clusters and topics, by name or those of a file; topics first. Returns
when they are gone.

A cluster's nodes are drained and stopped. Its data stays, and the same cluster
applied again goes on with it, unless --purge-data deletes it. A topic's messages
would be lost, so a topic is deleted only if its deletionPolicy is Delete or with
--allow-data-loss.`,
		Example: `  wiberctl delete topic orders --allow-data-loss
  wiberctl delete cluster/demo
  wiberctl delete -f cluster.yaml --purge-data`,
		ValidArgsFunction: a.completeObjects("cluster", "topic"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var doomed []doomedObject
			var err error
			switch {
			case len(o.files) > 0 && len(args) > 0:
				err = errors.New("say what to delete by -f or by name, not both")
			case len(o.files) > 0:
				if doomed, err = a.doomedIn(o.files); err != nil {
					return err
				}
			default:
				doomed, err = doomedNames(args)
			}
			if err == nil {
				err = o.check(doomed)
			}
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			return a.delete(cmd.Context(), o, doomed)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "a `file`, a folder, or - for standard input, that names what to delete; may be repeated")
	flags.BoolVar(&o.purge, "purge-data", false, "also delete the folders of a cluster's nodes, with every message in them")
	flags.BoolVar(&o.allowDataLoss, "allow-data-loss", false, "delete a topic's messages although its deletionPolicy is Retain")
	flags.BoolVar(&o.ignoreNotFound, "ignore-not-found", false, "it is no error if an object does not exist")
	return cmd
}

// doomedObject is an object that is to be deleted.
type doomedObject struct {
	resource      resource
	name, cluster string // cluster: of a topic, if it is known
}

// doomedIn reads what is to be deleted from files.
func (a *app) doomedIn(files []string) ([]doomedObject, error) {
	documents, err := manifests.Decode(files, a.stdin)
	if err != nil {
		return nil, err
	}
	if documents, err = prepare(documents); err != nil {
		return nil, err
	}
	var all []doomedObject
	for _, d := range documents {
		r, err := resourceOf(d.Object.Type().Kind)
		if err != nil {
			return nil, err
		}
		all = append(all, doomedObject{r, d.Object.Meta().Name, d.Object.Meta().Namespace})
	}
	return all, nil
}

// doomedNames reads what is to be deleted from arguments.
func doomedNames(args []string) ([]doomedObject, error) {
	targets, err := parseTargets(args)
	if err != nil {
		return nil, err
	}
	var all []doomedObject
	for _, t := range targets {
		if len(t.names) == 0 {
			return nil, fmt.Errorf("say which %s to delete: %s NAME", t.resource.plural, t.resource.singular)
		}
		for _, name := range t.names {
			all = append(all, doomedObject{resource: t.resource, name: name})
		}
	}
	return all, nil
}

// check refuses what cannot be deleted and flags without an effect, and puts topics
// first.
func (o *deleteOptions) check(all []doomedObject) error {
	clusters, topics := 0, 0
	for _, d := range all {
		switch d.resource.kind {
		case v1alpha1.KindCluster:
			clusters++
		case v1alpha1.KindTopic:
			topics++
		case v1alpha1.KindNode:
			return fmt.Errorf(`a node is part of its cluster and cannot be deleted by itself: "wiberctl stop %s" keeps it down`, d.name)
		default:
			return errors.New("events are a record and cannot be deleted; the oldest ones go by themselves")
		}
	}
	switch {
	case o.purge && clusters == 0:
		return errors.New("--purge-data is about clusters, and none is to be deleted")
	case o.allowDataLoss && topics == 0:
		return errors.New("--allow-data-loss is about topics, and none is to be deleted")
	}
	slices.SortStableFunc(all, func(x, y doomedObject) int {
		rank := func(d doomedObject) int {
			if d.resource.kind == v1alpha1.KindTopic {
				return 0
			}
			return 1
		}
		return rank(x) - rank(y)
	})
	return nil
}

// delete asks for one deletion after the other. One that is refused does not
// keep the others from being done.
func (a *app) delete(ctx context.Context, o deleteOptions, all []doomedObject) error {
	s := a.controller()
	failed := false
	for _, d := range all {
		err := s.delete(ctx, o, d)
		var refused *serverError
		switch {
		case err == nil:
			if _, err := fmt.Fprintf(a.stdout, "%s.%s %q deleted\n", d.resource.singular, v1alpha1.Group, d.name); err != nil {
				return err
			}
		case !errors.As(err, &refused):
			return err
		case refused.Code == http.StatusNotFound && o.ignoreNotFound:
		case refused.Code == http.StatusConflict && d.goesWithCluster(all):
			fate := "stays in the data of its cluster"
			if o.purge {
				fate = "goes with the data of its cluster"
			}
			fmt.Fprintf(a.stderr, "topic %q %s\n", d.name, fate)
		default:
			printError(a.stderr, err)
			failed = true
			if refused.Code == http.StatusConflict && d.resource.kind == v1alpha1.KindTopic && !o.allowDataLoss {
				fmt.Fprintln(a.stderr, "--allow-data-loss deletes it with its messages.")
			}
		}
	}
	if failed {
		return silentError{}
	}
	return nil
}

// goesWithCluster says that a topic's cluster is to be deleted too.
func (d doomedObject) goesWithCluster(all []doomedObject) bool {
	return slices.ContainsFunc(all, func(other doomedObject) bool {
		return other.resource.kind == v1alpha1.KindCluster && other.name == d.cluster
	})
}

// delete returns when one object is gone.
func (s *server) delete(ctx context.Context, o deleteOptions, d doomedObject) error {
	query := url.Values{}
	if d.cluster != "" {
		query.Set("cluster", d.cluster)
	}
	switch {
	case d.resource.kind == v1alpha1.KindCluster && o.purge:
		query.Set("purge-data", "true")
	case d.resource.kind == v1alpha1.KindTopic && o.allowDataLoss:
		query.Set("allow-data-loss", "true")
	}
	_, err := s.do(ctx, http.MethodDelete, apiPath+d.resource.plural+"/"+url.PathEscape(d.name), query, nil)
	return err
}
