package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

func TestTableAlignsColumnsAndNamesWhatIsMissing(t *testing.T) {
	tab := newTable("NAME", "ROLE", "AGE")
	tab.add("n1", "leader", "5s")
	tab.add("münchen", "", "12m")
	var b strings.Builder
	if err := tab.print(&b, false); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"NAME      ROLE     AGE\n" +
		"n1        leader   5s\n" +
		"münchen   <none>   12m\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	b.Reset()
	if err := tab.print(&b, true); err != nil {
		t.Fatal(err)
	}
	if want := "n1        leader   5s\nmünchen   <none>   12m\n"; b.String() != want {
		t.Errorf("without headers got\n%swant\n%s", b.String(), want)
	}
}

func TestTargetsMayBeWrittenInEveryForm(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"nodes", "nodes[]"},
		{"node n2", "nodes[n2]"},
		{"nodes n2 n3", "nodes[n2 n3]"},
		{"node/n2", "nodes[n2]"},
		{"Node/n2 nodes/n3 topic/orders", "nodes[n2 n3] topics[orders]"},
		{"clusters,topics", "clusters[] topics[]"},
		{"all", "clusters[] nodes[] topics[]"},
		{"pods", `there is no resource type "pods": it is one of clusters, nodes, topics, events (an object is KIND/NAME, as in node/n1)`},
		{"node/", `"node/" is not of the form KIND/NAME`},
		{"node/n1 n2", `"n2" is not of the form KIND/NAME`},
		{"node n1 topic/a", `either KIND NAME or KIND/NAME, not both: "topic/a" after "node"`},
	} {
		targets, err := parseTargets(strings.Fields(c.args))
		var got []string
		for _, target := range targets {
			got = append(got, fmt.Sprintf("%s%v", target.resource.plural, target.names))
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%q: got %q, want %q", c.args, text, c.want)
		}
	}
}

func TestOneNodeMayBeWrittenInEveryForm(t *testing.T) {
	for args, want := range map[string]string{
		"n2": "n2", "node/n2": "n2", "nodes/n2": "n2", "node n2": "n2", "NODES n2": "n2",
		"topic/a": "", "node/": "", "node a/b": "", "a b c": "",
	} {
		got, err := parseNode(strings.Fields(args))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", args, got, err)
		}
	}
}

func TestJSONPathSelects(t *testing.T) {
	value := []byte(`{"items":[{"metadata":{"name":"n1"},"status":{"pid":7}},{"metadata":{"name":"n2"},"status":{}}]}`)
	for template, want := range map[string]string{
		"{.items[*].metadata.name}":                     "n1 n2",
		".items[0].status.pid":                          "7",
		"items[1].metadata.name":                        "n2",
		`{range .items[*]}{.metadata.name}{"\n"}{end}`:  "n1\nn2\n",
		`{.items[?(@.metadata.name=="n1")].status.pid}`: "7",
		"{.missing}": "",
	} {
		var b strings.Builder
		if err := printJSONPath(&b, template, value); err != nil || b.String() != want {
			t.Errorf("%s: got %q, %v; want %q", template, b.String(), err, want)
		}
	}
	for _, template := range []string{"", "{.items[", "{.items[x]}"} {
		if err := printJSONPath(new(strings.Builder), template, value); err == nil {
			t.Errorf("%q was accepted", template)
		}
	}
}

func TestRefusalsPrintAsKubectlPrintsThem(t *testing.T) {
	plain, asJSON := http.Header{"Content-Type": {"text/html"}}, http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	for _, c := range []struct {
		header http.Header
		status int
		body   string
		want   string
	}{
		{asJSON, 404, `{"kind":"Status","reason":"NotFound","message":"nodes \"n9\" not found","code":404}`, "Error from server (NotFound): nodes \"n9\" not found\n"},
		{asJSON, 409, `{"error":{"code":"CONFLICT","message":"no majority would be left"}}`, "Error from server (Conflict): no majority would be left\n"},
		{asJSON, 400, `{"error":{"code":"BAD_TOPIC","message":"no name"}}`, "Error from server (BAD_TOPIC): no name\n"},
		{asJSON, 500, `{}`, "error: http://h answered 500 Internal Server Error, which is no answer of a Wiber controller\n"},
		{plain, 404, `<html>`, "error: http://h answered 404 Not Found, which is no answer of a Wiber controller\n"},
	} {
		var b strings.Builder
		if status := report(&b, decodeError("http://h", c.header, c.status, []byte(c.body))); status != 1 || b.String() != c.want {
			t.Errorf("%s: got %d %q, want %q", c.body, status, b.String(), c.want)
		}
	}
}

type exit78 struct{ error }

func (exit78) ExitCode() int { return 78 }

func TestReportTakesTheStatusOfTheError(t *testing.T) {
	var b strings.Builder
	if got := report(&b, fmt.Errorf("node n1: %w", exit78{errors.New("erased")})); got != 78 || b.String() != "error: node n1: erased\n" {
		t.Errorf("got %d %q", got, b.String())
	}
	b.Reset()
	if got := report(&b, silentError{}); got != 1 || b.String() != "" {
		t.Errorf("an error that was reported already: got %d %q", got, b.String())
	}
	if got := report(&b, nil); got != 0 {
		t.Errorf("no error: got %d", got)
	}
}

func TestNodeRowSaysWhatAPersonAsks(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	node := v1alpha1.Node{
		ObjectMeta: v1alpha1.ObjectMeta{Name: "n2", Namespace: "demo", Generation: 3, CreationTimestamp: v1alpha1.Time{Time: now.Add(-5 * time.Minute)}},
		Spec:       v1alpha1.NodeSpec{ID: "n2", Port: 9102, PeerPort: 9202, HTTPPort: 9302},
		Status: v1alpha1.NodeStatus{
			Phase: v1alpha1.NodeCrashLoopBackOff, Reason: "exit code 1", Restarts: 3, Term: 7, Commit: 1201, Lag: 2,
			NextStart:       &v1alpha1.MicroTime{Time: now.Add(14 * time.Second)},
			LastTermination: &v1alpha1.Termination{At: v1alpha1.MicroTime{Time: now.Add(-time.Second)}}, // an asked one
			RestartedAt:     &v1alpha1.MicroTime{Time: now.Add(-12 * time.Second)},
			DataDir:         "/data/n2",
			Conditions:      []v1alpha1.Condition{{Type: v1alpha1.NodeReady, Status: v1alpha1.ConditionFalse, ObservedGeneration: 3}},
		},
	}
	item, err := json.Marshal(node)
	if err != nil {
		t.Fatal(err)
	}
	res, err := resourceOf("node")
	if err != nil {
		t.Fatal(err)
	}
	r, err := rowsOf(found{resource: res, items: []json.RawMessage{item}}, now)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.table(res, false, false).print(&b, false); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"NAME   READY   STATUS                              ROLE     TERM     COMMIT   LAG      RESTARTS      AGE\n" +
		"n2     False   CrashLoopBackOff, next try in 14s   <none>   <none>   <none>   <none>   3 (12s ago)   5m\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	b.Reset()
	if err := r.table(res, false, true).print(&b, true); err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(b.String()); !reflect.DeepEqual(got[len(got)-5:], []string{"<none>", "9102,9202,9302", "<none>", "<none>", "/data/n2"}) {
		t.Errorf("wide: %q", got)
	}
}

func TestConditionOfAnOlderSpecIsUnknown(t *testing.T) {
	conditions := []v1alpha1.Condition{{Type: "Ready", Status: v1alpha1.ConditionTrue, ObservedGeneration: 2}}
	if got := conditionCell(2, conditions, "Ready"); got != "True" {
		t.Errorf("of this generation: %s", got)
	}
	if got := conditionCell(3, conditions, "Ready"); got != "Unknown" {
		t.Errorf("of an older generation: %s", got)
	}
	if got := conditionCell(3, nil, "Ready"); got != "Unknown" {
		t.Errorf("missing: %s", got)
	}
}

func TestWarningHeadersAreRead(t *testing.T) {
	h := http.Header{"Warning": {`299 - "node n3 was stopped and is started: \"stopped\" was left out"`, "broken"}}
	want := []string{`node n3 was stopped and is started: "stopped" was left out`}
	if got := warningsOf(h); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestVersionNamesTheBuild(t *testing.T) {
	build := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		info := &debug.BuildInfo{Settings: settings}
		info.Main.Version = version
		return info
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef0123"}
	for want, info := range map[string]*debug.BuildInfo{
		"devel":              build("(devel)"),
		"v1.2.3":             build("v1.2.3", revision),
		"0123456789ab":       build("", revision),
		"0123456789ab-dirty": build("(devel)", revision, debug.BuildSetting{Key: "vcs.modified", Value: "true"}),
	} {
		if got := versionOf(info); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := versionOf(nil); got != "devel" {
		t.Errorf("without build information: %q", got)
	}
}
