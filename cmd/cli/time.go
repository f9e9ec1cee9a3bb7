package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// timeCommand shows the nodes' clocks.
func (a *app) timeCommand() *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:   "time",
		Short: "Show each node's clock against the cluster's time",
		Long: `Shows each node's clock, as the node itself knows it; the clock of one that does
not answer as the others know it, and with --node all as that one knows them.

  OFFSET   how far the clock is ahead of the cluster's time, the middle one of the
           nodes' clocks; negative: behind
  EPS      how far OFFSET, and the node's stamps, may be off
  DRIFT    how much faster the clock runs, in parts per million
  LAMPORT  the node's Lamport time

What is not known is <unknown>. It asks the nodes themselves, so with --nodes it
works while the controller is down.`,
		Example: `  wiberctl time
  wiberctl time --node n2            # as n2 knows them
  wiberctl time -o json`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{outputsKey: "json"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.time(cmd.Context(), node)
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "show the clocks as the node with this `id` knows them")
	nodesFlag(cmd)
	complete(cmd, "node", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.names(cmd, v1alpha1.KindNode), noFiles
	})
	return cmd
}

// clockJSON is a clock in -o json, with the names of a node's /v1/status.
type clockJSON struct {
	Node         string   `json:"node"`
	State        string   `json:"state"`
	OffsetMicros *int64   `json:"offsetMicros"` // null: unknown
	Eps          int64    `json:"eps"`          // -1: unknown
	DriftPPM     *float64 `json:"driftPpm"`
	Lamport      uint64   `json:"lamport"`
	TestClock    bool     `json:"testClock"`
}

// time asks once and prints.
func (a *app) time(ctx context.Context, node string) error {
	addresses, err := a.addresses(ctx, node)
	if err != nil {
		return err
	}
	lines, err := a.clocks(ctx, addresses)
	if err != nil {
		return err
	}
	if a.output == "json" {
		all := []clockJSON{}
		for _, l := range lines {
			clock := clockJSON{Node: l.Node, State: l.State, Eps: l.Eps, Lamport: l.Lamport, TestClock: l.Test}
			if l.Known {
				clock.OffsetMicros = &l.Offset
			}
			if l.DriftKnown {
				clock.DriftPPM = &l.Drift
			}
			all = append(all, clock)
		}
		b, err := json.Marshal(all)
		if err != nil {
			return err
		}
		return printJSON(a.stdout, b)
	}
	t := newTable("NODE", "OFFSET", "EPS", "DRIFT", "STATE", "LAMPORT")
	for _, l := range lines {
		t.add(l.Node, offsetCell(&l), epsCell(&l), driftCell(&l), clockState(&l), fmt.Sprint(l.Lamport))
	}
	return t.print(a.stdout, a.settings.NoHeaders)
}

// clocks asks every address, and takes each node's word about itself before that
// of the others. It is an error only if nobody answers.
func (a *app) clocks(ctx context.Context, addresses []string) ([]wire.ClockLine, error) {
	type view struct {
		node  string // who answered
		lines []wire.ClockLine
		err   error
	}
	views := make([]view, len(addresses))
	var wg sync.WaitGroup
	for i, address := range addresses {
		wg.Go(func() {
			v := &views[i]
			limited, cancel := context.WithTimeout(ctx, helloTimeout)
			defer cancel()
			hello, err := greet(limited, address)
			if err != nil {
				v.err = err
				return
			}
			c, err := client.New(client.Options{Nodes: []string{address}, Clock: a.clock})
			if err != nil {
				v.err = err
				return
			}
			defer c.Close()
			v.node = hello.Node
			v.lines, v.err = c.Time(limited)
		})
	}
	wg.Wait()
	byNode := map[string]wire.ClockLine{}
	var errs []error
	for _, v := range views {
		errs = append(errs, v.err)
		for _, l := range v.lines {
			if _, known := byNode[l.Node]; !known || l.Node == v.node {
				byNode[l.Node] = l
			}
		}
	}
	if len(byNode) == 0 {
		return nil, errors.Join(errs...)
	}
	var lines []wire.ClockLine
	for _, node := range slices.Sorted(maps.Keys(byNode)) {
		lines = append(lines, byNode[node])
	}
	return lines, nil
}

const unknownCell = "<unknown>"

func offsetCell(l *wire.ClockLine) string {
	if !l.Known {
		return unknownCell
	}
	return fmt.Sprintf("%+.3fms", millis(l.Offset))
}

func epsCell(l *wire.ClockLine) string {
	if l.Eps < 0 {
		return unknownCell
	}
	return fmt.Sprintf("±%.3fms", millis(l.Eps))
}

func driftCell(l *wire.ClockLine) string {
	if !l.DriftKnown {
		return unknownCell
	}
	return fmt.Sprintf("%+.1fppm", l.Drift)
}

// clockState says whether the clock is known, and if it is wrong on purpose.
func clockState(l *wire.ClockLine) string {
	if l.Test {
		return l.State + ", test clock"
	}
	return l.State
}

func millis(micros int64) float64 {
	return float64(micros) / float64(time.Millisecond/time.Microsecond)
}
