package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

const (
	// statusTopics and statusEvents bound what status shows, so that it fits on a
	// screen.
	statusTopics = 8
	statusEvents = 6
	// statusTimeout is how long status waits for the nodes' own word.
	statusTimeout = 2 * time.Second
)

// statusCommand shows everything on one screen.
func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the whole cluster on one screen",
		Long: `Shows the cluster's conditions, its nodes with their clocks, its largest topics,
and what happened last. For all of it see "get", "time", "events" and "describe".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.status(cmd.Context())
		},
	}
}

// clusterScreen is what status shows of one cluster.
type clusterScreen struct {
	cluster *v1alpha1.Cluster
	nodes   []v1alpha1.Node
	events  []v1alpha1.Event
	topics  []wire.TopicLine
	clocks  map[string]wire.ClockLine
	err     error // why the nodes' own word is not there
}

// status reads once and prints a screen per cluster.
func (a *app) status(ctx context.Context) error {
	s := a.controller()
	var clusters v1alpha1.ClusterList
	if err := s.get(ctx, apiPath+"clusters", nil, &clusters); err != nil {
		return err
	}
	var nodes v1alpha1.NodeList
	if err := s.get(ctx, apiPath+"nodes", nil, &nodes); err != nil {
		return err
	}
	var events v1alpha1.EventList
	if err := s.get(ctx, apiPath+"events", nil, &events); err != nil {
		return err
	}
	if len(clusters.Items) == 0 {
		_, err := fmt.Fprintf(a.stdout, "There is no cluster. The controller at %s waits for one: wiberctl apply -f FILE\n", s.base)
		return err
	}
	for i := range clusters.Items {
		c := &clusterScreen{cluster: &clusters.Items[i]}
		for _, n := range nodes.Items {
			if n.Namespace == c.cluster.Name {
				c.nodes = append(c.nodes, n)
			}
		}
		for _, e := range events.Items {
			if e.Namespace == c.cluster.Name {
				c.events = append(c.events, e)
			}
		}
		a.askNodes(ctx, c)
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		if err := c.print(a.stdout, a.clock.Now()); err != nil {
			return err
		}
	}
	return nil
}

// askNodes asks the nodes that run for what only they know.
func (a *app) askNodes(ctx context.Context, c *clusterScreen) {
	addresses := nodeAddresses(c.nodes, "")
	if !slices.ContainsFunc(c.nodes, func(n v1alpha1.Node) bool { return n.Status.Phase == v1alpha1.NodeRunning }) {
		c.err = fmt.Errorf("no node runs")
		return
	}
	limited, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	cl, err := client.New(client.Options{Nodes: addresses, Clock: a.clock})
	if err != nil {
		c.err = err
		return
	}
	defer cl.Close()
	clocks, err := a.clocks(limited, addresses)
	if err == nil {
		c.topics, err = cl.Topics(limited)
	}
	c.err = err
	c.clocks = map[string]wire.ClockLine{}
	for _, l := range clocks {
		c.clocks[l.Node] = l
	}
}

func (c *clusterScreen) print(w io.Writer, now time.Time) error {
	var b strings.Builder
	cl := c.cluster
	fmt.Fprintf(&b, "Cluster %s: %s, %d of %d nodes ready, %d shards, replication factor %d, age %s\n\n",
		cl.Name, clusterState(cl), cl.Status.ReadyNodes, cl.Status.Nodes, cl.Spec.Shards, cl.Spec.ReplicationFactor, age(cl.CreationTimestamp.Time, now))

	conditions := newTable("CONDITION", "STATUS", "SINCE", "MESSAGE")
	for _, k := range cl.Status.Conditions {
		conditions.add(k.Type, conditionCell(cl.Generation, cl.Status.Conditions, k.Type), age(k.LastTransitionTime.Time, now), oneLine(k.Message))
	}
	_ = conditions.print(&b, false) // a Builder takes everything, here and below

	nodes := newTable("NODE", "STATUS", "ROLE", "LEADS", "TERM", "COMMIT", "LAG", "CLOCK", "RESTARTS", "UPTIME")
	for i := range c.nodes {
		n := &c.nodes[i]
		s := &n.Status
		cells := nodeCells(n, now)
		cell := func(column string) string { return cells[slices.Index(nodeColumns.narrow, column)] }
		uptime, clock := "", ""
		if s.PID != 0 {
			clock = c.clock(n.Name) // others still know that of one that is gone
			if s.StartedAt != nil {
				uptime = age(s.StartedAt.Time, now)
			}
		}
		nodes.add(n.Name, nodeState(s, now), string(s.Role), strings.Join(s.LeaderOf, ","),
			cell("TERM"), cell("COMMIT"), cell("LAG"), clock, cell("RESTARTS"), uptime)
	}
	b.WriteByte('\n')
	_ = nodes.print(&b, false)
	c.printTopics(&b)
	c.printEvents(&b, now)
	_, err := io.WriteString(w, b.String())
	return err
}

// clock is a node's clock in one cell: +0.012ms ±0.040ms.
func (c *clusterScreen) clock(node string) string {
	l, ok := c.clocks[node]
	if !ok || !l.Known {
		return unknownCell
	}
	return offsetCell(&l) + " " + epsCell(&l)
}

// printTopics prints the topics with the most messages.
func (c *clusterScreen) printTopics(b *strings.Builder) {
	if c.err != nil {
		fmt.Fprintf(b, "\nTopics and clocks are not known: %v\n", c.err)
		return
	}
	type topic struct {
		name       string
		partitions int
		messages   uint64
		leaders    []string
	}
	byName := map[string]*topic{}
	var all []*topic
	for _, l := range c.topics {
		t := byName[l.Topic]
		if t == nil {
			t = &topic{name: l.Topic, partitions: l.Partitions}
			byName[l.Topic] = t
			all = append(all, t)
		}
		t.messages += l.Next - l.First
		if !slices.Contains(t.leaders, l.Leader) {
			t.leaders = append(t.leaders, l.Leader)
		}
	}
	if len(all) == 0 {
		b.WriteString("\nThere are no topics yet: a first publish makes one.\n")
		return
	}
	slices.SortStableFunc(all, func(x, y *topic) int {
		return cmp.Or(cmp.Compare(y.messages, x.messages), strings.Compare(x.name, y.name))
	})
	t := newTable("TOPIC", "PARTITIONS", "MESSAGES", "LEADERS")
	for _, topic := range all[:min(len(all), statusTopics)] {
		slices.Sort(topic.leaders)
		t.add(topic.name, strconv.Itoa(topic.partitions), strconv.FormatUint(topic.messages, 10), strings.Trim(strings.Join(topic.leaders, ","), ","))
	}
	b.WriteByte('\n')
	_ = t.print(b, false)
	if more := len(all) - statusTopics; more > 0 {
		fmt.Fprintf(b, "and %d with fewer messages\n", more)
	}
}

func (c *clusterScreen) printEvents(b *strings.Builder, now time.Time) {
	t := newTable("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE")
	for i := range c.events[max(0, len(c.events)-statusEvents):] {
		e := &c.events[max(0, len(c.events)-statusEvents)+i]
		t.add(eventCells(e, now)[:len(t.header)]...)
	}
	if len(t.rows) > 0 {
		b.WriteByte('\n')
		_ = t.print(b, false)
	}
}
