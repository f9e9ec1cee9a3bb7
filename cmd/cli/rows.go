package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// rows are the cells of a table of objects. The first narrow columns are
// printed always, the rest with -o wide.
type rows struct {
	header     []string // without NAME
	nameless   bool     // a row begins with its first cell: nobody types an event's name
	narrow     int
	names      []string
	namespaces []string
	cells      [][]string
}

// rowsOf makes the rows of what was read.
func rowsOf(f found, now time.Time) (*rows, error) {
	switch f.resource.kind {
	case v1alpha1.KindCluster:
		return makeRows(f, now, clusterColumns, clusterCells)
	case v1alpha1.KindNode:
		return makeRows(f, now, nodeColumns, nodeCells)
	case v1alpha1.KindEvent:
		return makeRows(f, now, eventColumns, eventCells)
	default:
		return makeRows(f, now, topicColumns, topicCells)
	}
}

// columns are the headers of one kind, without NAME.
type columns struct {
	narrow, wide []string
	nameless     bool
}

var (
	clusterColumns = columns{narrow: []string{"READY", "STATUS", "NODES", "SHARDS", "AGE"}, wide: []string{"REPLICATION", "DATA-ROOT"}}
	nodeColumns    = columns{narrow: []string{"READY", "STATUS", "ROLE", "TERM", "COMMIT", "LAG", "RESTARTS", "AGE"}, wide: []string{"PID", "PORTS", "UPTIME", "VERSION", "DATA-DIR"}}
	topicColumns   = columns{narrow: []string{"PARTITIONS", "DEDUP-WINDOW", "DELETION", "AGE"}, wide: []string{"MAX-BYTES", "CREATED-BY"}}
	eventColumns   = columns{narrow: []string{"LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"}, wide: []string{"SOURCE", "FIRST SEEN", "COUNT", "NAME"}, nameless: true}
)

func makeRows[T any](f found, now time.Time, c columns, cells func(*T, time.Time) []string) (*rows, error) {
	r := &rows{header: slices.Concat(c.narrow, c.wide), narrow: len(c.narrow), nameless: c.nameless}
	for _, item := range f.items {
		var typed T
		if err := json.Unmarshal(item, &typed); err != nil {
			return nil, fmt.Errorf("the controller's %s cannot be read: %w", f.resource.singular, err)
		}
		meta := any(&typed).(v1alpha1.Object).Meta()
		r.names = append(r.names, meta.Name)
		r.namespaces = append(r.namespaces, meta.Namespace)
		r.cells = append(r.cells, cells(&typed, now))
	}
	return r, nil
}

// table makes the table: names carry their kind when several kinds are
// printed, and a column names the cluster when there are several.
func (r *rows) table(res resource, withKind, wide bool) *table {
	columns := r.narrow
	if wide {
		columns = len(r.header)
	}
	namespaces := slices.Compact(slices.Sorted(slices.Values(r.namespaces)))
	withCluster := len(namespaces) > 1
	first := func(cluster, name string) (cells []string) {
		if withCluster {
			cells = append(cells, cluster)
		}
		if !r.nameless {
			cells = append(cells, name)
		}
		return cells
	}
	t := newTable(slices.Concat(first("CLUSTER", "NAME"), r.header[:columns])...)
	for i, cells := range r.cells {
		name := r.names[i]
		if withKind {
			name = res.singular + "/" + name
		}
		t.add(slices.Concat(first(r.namespaces[i], name), cells[:columns])...)
	}
	return t
}

func clusterCells(c *v1alpha1.Cluster, now time.Time) []string {
	return []string{
		conditionCell(c.Generation, c.Status.Conditions, v1alpha1.ClusterReady),
		clusterState(c),
		fmt.Sprintf("%d/%d", c.Status.ReadyNodes, c.Status.Nodes),
		strconv.Itoa(c.Spec.Shards),
		age(c.CreationTimestamp.Time, now),
		strconv.Itoa(c.Spec.ReplicationFactor),
		c.Spec.DataRoot,
	}
}

// clusterState is a cluster's conditions in one word.
func clusterState(c *v1alpha1.Cluster) string {
	is := func(condition string) bool { return v1alpha1.IsConditionTrue(c.Status.Conditions, condition) }
	ready := v1alpha1.FindCondition(c.Status.Conditions, v1alpha1.ClusterReady)
	quorum := v1alpha1.FindCondition(c.Status.Conditions, v1alpha1.ClusterQuorumAvailable)
	switch {
	case c.DeletionTimestamp != nil:
		return "Deleting"
	case c.Status.ObservedGeneration != c.Generation:
		return "Pending"
	case is(v1alpha1.ClusterReady):
		return "Ready"
	case ready != nil && ready.Reason == v1alpha1.ClusterStopped:
		return v1alpha1.ClusterStopped
	case quorum != nil && quorum.Status == v1alpha1.ConditionFalse:
		return "NoQuorum"
	case is(v1alpha1.ClusterDegraded):
		return "Degraded"
	case is(v1alpha1.ClusterProgressing):
		return "Progressing"
	}
	return "Unknown"
}

func nodeCells(n *v1alpha1.Node, now time.Time) []string {
	s := &n.Status
	restarts := strconv.Itoa(s.Restarts)
	if s.Restarts > 0 && s.RestartedAt != nil {
		restarts += " (" + age(s.RestartedAt.Time, now) + " ago)"
	}
	var term, commit, lag, pid, uptime string
	if s.Role != "" { // what a node did not tell is zero
		term, commit, lag = strconv.FormatUint(s.Term, 10), strconv.FormatUint(s.Commit, 10), strconv.FormatUint(s.Lag, 10)
	}
	if s.PID != 0 {
		pid = strconv.Itoa(s.PID)
		if s.StartedAt != nil {
			uptime = age(s.StartedAt.Time, now)
		}
	}
	return []string{
		conditionCell(n.Generation, s.Conditions, v1alpha1.NodeReady),
		nodeState(s, now),
		string(s.Role),
		term,
		commit,
		lag,
		restarts,
		age(n.CreationTimestamp.Time, now),
		pid,
		fmt.Sprintf("%d,%d,%d", n.Spec.Port, n.Spec.PeerPort, n.Spec.HTTPPort),
		uptime,
		s.Version,
		s.DataDir,
	}
}

// nodeState is a node's phase with its reason: "CrashLoopBackOff, next try in
// 14s".
func nodeState(s *v1alpha1.NodeStatus, now time.Time) string {
	switch {
	case s.Phase == "":
		return string(v1alpha1.NodePending)
	case s.Phase == v1alpha1.NodeCrashLoopBackOff && s.NextStart != nil:
		wait := max(s.NextStart.Sub(now), 0).Round(time.Second)
		return fmt.Sprintf("%s, next try in %s", s.Phase, duration.HumanDuration(wait))
	case s.Phase == v1alpha1.NodeStopped && s.NextStart != nil:
		wait := max(s.NextStart.Sub(now), 0).Round(time.Second)
		return fmt.Sprintf("%s, %s, next start in %s", s.Phase, s.Reason, duration.HumanDuration(wait))
	case s.Reason != "" && s.Phase != v1alpha1.NodeRunning:
		return string(s.Phase) + ", " + s.Reason
	}
	return string(s.Phase)
}

func topicCells(t *v1alpha1.Topic, now time.Time) []string {
	return []string{
		strconv.Itoa(t.Spec.Partitions),
		t.Spec.DedupWindow.String(),
		string(t.Spec.DeletionPolicy),
		age(t.CreationTimestamp.Time, now),
		strconv.Itoa(t.Spec.MaxMessageBytes),
		t.Annotations[v1alpha1.AnnotationCreatedBy],
	}
}

func eventCells(e *v1alpha1.Event, now time.Time) []string {
	return []string{
		lastSeen(e, now),
		string(e.EventType),
		e.Reason,
		involved(e),
		oneLine(e.Message),
		e.Source.Component,
		age(e.FirstTimestamp.Time, now),
		strconv.Itoa(e.Count),
		e.Name,
	}
}

// involved is what an event is about, as a person types it: node/n2.
func involved(e *v1alpha1.Event) string {
	return strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
}

// lastSeen is when an event happened last, and how often: "5s (x3 over 2m)".
func lastSeen(e *v1alpha1.Event, now time.Time) string {
	last := age(e.LastTimestamp.Time, now)
	if e.Count > 1 {
		last += fmt.Sprintf(" (x%d over %s)", e.Count, age(e.FirstTimestamp.Time, now))
	}
	return last
}

// oneLine makes a text that fits into a table and leaves the terminal alone.
func oneLine(s string) string {
	s = strings.TrimSpace(strings.NewReplacer("\r\n", " ", "\n", " ", "\t", " ").Replace(s))
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}

// conditionCell is a condition's status, "Unknown" when it is missing or about
// an older spec.
func conditionCell(generation int64, conditions []v1alpha1.Condition, condition string) string {
	c := v1alpha1.FindCondition(conditions, condition)
	if c == nil || c.ObservedGeneration != generation {
		return string(v1alpha1.ConditionUnknown)
	}
	return string(c.Status)
}

// age is the time since a moment as kubectl writes it.
func age(since, now time.Time) string {
	if since.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(since))
}
