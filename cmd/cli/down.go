package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"time"

	"github.com/spf13/cobra"
)

// downTimeout is how long the controller may take to end after it answered.
const downTimeout = 30 * time.Second

// downCommand ends everything that up and apply started.
func (a *app) downCommand() *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop every node, then the controller",
		Long: `Drains and stops every node, then the controller; returns when all of them have
ended. Data stays, so "wiberctl up" goes on where it was.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.down(cmd.Context(), purge)
		},
	}
	cmd.Flags().BoolVar(&purge, "purge-data", false, "also delete the nodes' folders, with every message in them")
	return cmd
}

// shutdown is the controller's answer when every node has ended.
type shutdown struct {
	PID     int      `json:"pid"`
	Stopped []string `json:"stopped"`
}

// down asks for the end of everything and watches it come.
func (a *app) down(ctx context.Context, purge bool) error {
	s := a.controller()
	query := url.Values{}
	if purge {
		query.Set("purge", "true")
	}
	done, err := s.shutdown(ctx, query)
	if err != nil {
		return err
	}
	a.printStopped(done)
	limited, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	for {
		who, err := s.look(limited)
		if err == nil && who != isController {
			break
		}
		if s.pause(limited, retryEvery) != nil {
			return fmt.Errorf("the nodes have ended, but the controller (pid %d) still answers after %s", done.PID, downTimeout)
		}
	}
	_, err = fmt.Fprintln(a.stdout, "controller stopped")
	return err
}

// printStopped names the nodes that were stopped; the controller writes them as
// cluster/node.
func (a *app) printStopped(done shutdown) {
	for _, name := range done.Stopped {
		fmt.Fprintf(a.stdout, "node/%s stopped\n", path.Base(name))
	}
}

// shutdown stops every node and lets the controller end.
func (s *server) shutdown(ctx context.Context, query url.Values) (shutdown, error) {
	var done shutdown
	answer, err := s.do(ctx, http.MethodPost, "/cluster/shutdown", query, nil)
	if err != nil {
		return done, err
	}
	if err := json.Unmarshal(answer.body, &done); err != nil {
		return done, fmt.Errorf("the controller's answer cannot be read: %w", err)
	}
	return done, nil
}
