package apiserver

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// scrape returns what /metrics answers.
func (s *watchServer) scrape() string {
	s.t.Helper()
	status, text := s.ask("GET", "/metrics")
	if status != 200 {
		s.t.Fatalf("%d %s", status, text)
	}
	return text
}

func (s *watchServer) ask(method, path string) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// shows waits until /metrics has all of these lines: a request is counted after
// its client has the answer.
func (s *watchServer) shows(lines ...string) {
	s.t.Helper()
	var text string
	for deadline := time.Now().Add(10 * time.Second); ; {
		text = s.scrape()
		missing := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.Contains(text, "\n"+l+"\n") })
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no %q in\n%s", missing, ours(text))
		}
	}
}

// ours leaves out what is of the Go runtime and the process.
func ours(text string) string {
	return strings.Join(regexp.MustCompile(`(?m)^wiber_.*$`).FindAllString(text, -1), "\n")
}

func TestRequestsAreCountedByThePatternOfTheirPath(t *testing.T) {
	s := newWatchServer(t)
	for i := range 3 {
		s.ask("GET", "/cluster/nodes")
		s.ask("POST", fmt.Sprintf("/cluster/node/n%d/kill", i))
		s.ask("GET", fmt.Sprintf("/nothing/of/that/name/%d", i))
		s.ask(fmt.Sprintf("VERB%d", i), "/healthz")
	}
	s.shows(
		`wiber_controller_requests_total{method="GET",path="/cluster/nodes",status="200"} 3`,
		`wiber_controller_requests_total{method="POST",path="/cluster/node/{id}/kill",status="200"} 3`,
		`wiber_controller_requests_total{method="GET",path="other",status="404"} 3`,
		`wiber_controller_requests_total{method="OTHER",path="/healthz",status="405"} 3`,
		`wiber_controller_request_seconds_count{path="/cluster/nodes"} 3`,
		`wiber_controller_request_seconds_count{path="other"} 3`,
	)
}

// A page of another site learns nothing, and is counted like everybody.
func TestMetricsAreBehindTheGuard(t *testing.T) {
	s := newWatchServer(t)
	r, err := http.NewRequest("GET", s.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "elsewhere.example"
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("%s", resp.Status)
	}
	s.shows(`wiber_controller_requests_total{method="GET",path="/metrics",status="403"} 1`)
}

// A stream works through the writer that counts, is seen while it is open, and is
// no slow request when it has ended.
func TestStreamsAreCountedAndNotTimed(t *testing.T) {
	both(t, func(t *testing.T, s *watchServer, how string) {
		c := s.dial(how, watchPath)
		s.watch.events <- []v1alpha1.WatchEvent{added("n1")}
		if e, err := c.next(); err != nil || e.Type != v1alpha1.WatchAdded {
			t.Fatal(e, err)
		}
		s.shows("wiber_controller_streams 1")
		c.close()
		status := map[string]int{"lines": 200, "frames": 101}[how]
		s.shows("wiber_controller_streams 0",
			fmt.Sprintf(`wiber_controller_requests_total{method="GET",path="/apis/wiber.dev/v1alpha1/nodes",status="%d"} 1`, status))
		if text := s.scrape(); strings.Contains(text, `request_seconds_count{path="/apis/wiber.dev/v1alpha1/nodes"}`) {
			t.Errorf("the stream was timed\n%s", ours(text))
		}
	})
}

// docs/metrics.md names every metric of ours that the controller has, and no other.
func TestTheMetricsAreThoseOfTheirPage(t *testing.T) {
	s := newWatchServer(t)
	cl := v1alpha1.NewCluster()
	cl.Name = "demo"
	cl.Status.Conditions = []v1alpha1.Condition{{Type: v1alpha1.ClusterReady, Status: v1alpha1.ConditionFalse}, {Type: v1alpha1.ClusterQuorumAvailable, Status: v1alpha1.ConditionTrue}}
	node := func(name string, st v1alpha1.NodeStatus) v1alpha1.Node {
		return v1alpha1.Node{ObjectMeta: v1alpha1.ObjectMeta{Name: name}, Status: st}
	}
	s.back.clusters = []v1alpha1.Cluster{*cl}
	s.back.objects = []v1alpha1.Node{
		node("n1", v1alpha1.NodeStatus{Phase: v1alpha1.NodeRunning, Restarts: 2, Conditions: []v1alpha1.Condition{{Type: v1alpha1.NodeReady, Status: v1alpha1.ConditionTrue}}}),
		node("n2", v1alpha1.NodeStatus{Phase: v1alpha1.NodeStopped, Reason: v1alpha1.NodeHeld}),
		node("n3", v1alpha1.NodeStatus{}), // not looked at yet
	}
	s.back.metrics = Metrics{
		Version: "v1",
		Passes:  []PassMetrics{{Kind: "node", Passes: 7, Failed: 1, Time: 1500 * time.Millisecond}},
		Events:  []EventMetrics{{Type: v1alpha1.EventWarning, Reason: v1alpha1.EventExited, Events: 4}},
	}
	s.ask("GET", "/healthz")
	s.shows(
		`wiber_controller_info{version="v1"} 1`,
		`wiber_controller_reconcile_seconds_sum{kind="node"} 1.5`, `wiber_controller_reconcile_seconds_count{kind="node"} 7`,
		`wiber_controller_reconcile_errors_total{kind="node"} 1`,
		`wiber_controller_events_total{reason="Exited",type="Warning"} 4`,
		`wiber_controller_nodes{cluster="demo",phase="Running"} 1`, `wiber_controller_nodes{cluster="demo",phase="Stopped"} 1`,
		`wiber_controller_nodes{cluster="demo",phase="Pending"} 1`, `wiber_controller_nodes{cluster="demo",phase="CrashLoopBackOff"} 0`,
		`wiber_controller_nodes_held{cluster="demo"} 1`,
		`wiber_controller_node_ready{cluster="demo",node="n1"} 1`, `wiber_controller_node_ready{cluster="demo",node="n3"} 0`,
		`wiber_controller_node_restarts_total{cluster="demo",node="n1"} 2`,
		`wiber_controller_cluster_condition{cluster="demo",condition="Ready"} 0`, `wiber_controller_cluster_condition{cluster="demo",condition="QuorumAvailable"} 1`,
		`wiber_controller_request_seconds_count{path="/healthz"} 1`,
	)
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	names := func(pattern, text string) (all []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			all = append(all, m[1])
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	_, controller, _ := strings.Cut(string(page), "\n## The controller\n")
	controller, _, _ = strings.Cut(controller, "\n## ")
	have, told := names(`(?m)^# TYPE (wiber_\w+)`, s.scrape()), names("(?m)^\\| `(wiber_\\w+)", controller)
	if !slices.Equal(have, told) {
		t.Errorf("the controller has\n%q\nand the page tells of\n%q", have, told)
	}
}
