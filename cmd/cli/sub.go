package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// subFlushEvery is how long a message may wait in this process's buffer.
const subFlushEvery = 20 * time.Millisecond

// subCommand prints messages as they come.
func (a *app) subCommand() *cobra.Command {
	var from string
	var limit uint64
	var order string
	var maxDelay time.Duration
	cmd := &cobra.Command{
		Use:   "sub TOPIC[,TOPIC…|PATTERN]",
		Short: "Print messages as they come, until Ctrl-C",
		Long: `Prints the messages of topics as they are published, until Ctrl-C. In a pattern *
stands for one word between dots and > for the rest. A topic that does not exist
yet is waited for. When a node dies, sub goes on with another one, without a gap
or a repeat.

With --order time, messages of all topics and partitions come in the order of
their stamps. A message waits for others that may be older, --max-delay at most;
one that comes too late for that is marked late (late:true with -o json).`,
		Example: `  wiberctl sub orders --from earliest
  wiberctl sub 'sensors.*.temperature,alerts' -o json
  wiberctl sub orders,payments --order time --max-delay 500ms`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTopic,
		Annotations:       map[string]string{outputsKey: messageOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			begin, err := position("--from", from)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			options := client.SubscribeOptions{From: begin, Limit: limit}
			switch byTime := order == "time"; {
			case !byTime && order != "offset":
				err = fmt.Errorf("--order %s: must be offset or time", order)
			case !byTime && cmd.Flags().Changed("max-delay"):
				err = errors.New("--max-delay: belongs to --order time")
			case maxDelay <= 0 || maxDelay > wire.MaxMaxDelay:
				err = fmt.Errorf("--max-delay %v: must be above 0 and up to %v", maxDelay, wire.MaxMaxDelay)
			case byTime:
				options.ByTime, options.MaxDelay = true, maxDelay
			}
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			return a.sub(cmd.Context(), args[0], options)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&from, "from", "", "the `position` to begin at: earliest, latest, an offset, a time, or a duration back (default latest)")
	flags.StringVar(&order, "order", "offset", "offset: each partition by itself; time: all merged by their stamps")
	flags.DurationVar(&maxDelay, "max-delay", wire.DefaultMaxDelay, "with --order time: how long a message waits for older ones at most")
	flags.Uint64Var(&limit, "limit", 0, "end after `N` messages")
	complete(cmd, "order", oneOf("offset", "time"))
	nodesFlag(cmd)
	return cmd
}

// sub prints until ctx ends, which is no error. A second goroutine writes out
// what waits in the buffer, so that a burst costs few writes and a single
// message little time; it ends with sub.
func (a *app) sub(ctx context.Context, topics string, options client.SubscribeOptions) (err error) {
	c, err := a.dial(ctx, "")
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer c.Close()
	s := c.Subscribe(ctx, topics, options)
	defer s.Close()

	var mu sync.Mutex // guards p
	p := newPrinter(a.stdout, a.output)
	flushing, stop := context.WithCancel(context.WithoutCancel(ctx))
	var flusher sync.WaitGroup
	flusher.Go(func() {
		ticker := a.clock.NewTicker(subFlushEvery)
		defer ticker.Stop()
		for {
			select {
			case <-flushing.Done():
				return
			case <-ticker.C():
				mu.Lock()
				p.flush() // an error stays in the buffer and comes back from the next message
				mu.Unlock()
			}
		}
	})
	defer func() {
		stop()
		flusher.Wait()
		if end := p.flush(); err == nil {
			err = end
		}
	}()
	for s.Next() {
		mu.Lock()
		err := p.message(s.Message())
		mu.Unlock()
		if err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return s.Err()
}
