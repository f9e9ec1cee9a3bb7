package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
	messages "github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/ui"
)

// fakeBackend notes what it was asked for, and answers as told.
type fakeBackend struct {
	mu       sync.Mutex // guards asked while several ask
	messages *messages.Client
	asked    []string
	err      error
	put      Put
	watch    func(context.Context, WatchOptions) Watch
	nodes    []NodeState
	log      string
	addr     string // of every node's HTTP
	metrics  Metrics
	clusters []v1alpha1.Cluster
	objects  []v1alpha1.Node // of every cluster
}

func (f *fakeBackend) ask(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
	return f.err
}

func (f *fakeBackend) NodeStates(cluster string) ([]NodeState, error) {
	return f.nodes, f.ask("NodeStates(%s)", cluster)
}
func (f *fakeBackend) Messages(cluster string) (*messages.Client, func(), error) {
	if f.messages != nil {
		return f.messages, func() {}, f.ask("Messages(%s)", cluster)
	}
	return nil, nil, errors.Join(f.ask("Messages(%s)", cluster), v1alpha1.NotFound(v1alpha1.KindCluster, cluster))
}
func (f *fakeBackend) NodeAddr(cluster, id string) (string, error) {
	if id == "n9" {
		return "", v1alpha1.NotFound(v1alpha1.KindNode, id)
	}
	return f.addr, f.ask("NodeAddr(%s,%s)", cluster, id)
}
func (f *fakeBackend) StartAll(_ context.Context, cluster string) error {
	return f.ask("StartAll(%s)", cluster)
}
func (f *fakeBackend) StopAll(_ context.Context, cluster string) error {
	return f.ask("StopAll(%s)", cluster)
}
func (f *fakeBackend) Shutdown(_ context.Context, purge bool) (Shutdown, error) {
	return Shutdown{PID: 42, Stopped: []string{"demo/n1"}}, f.ask("Shutdown(%v)", purge)
}
func (f *fakeBackend) Hold(_ context.Context, cluster, id string, sig syscall.Signal, d time.Duration) error {
	return f.ask("Hold(%s,%s,%s,%s)", cluster, id, proc.SignalName(sig), d)
}

func (f *fakeBackend) Kill(_ context.Context, cluster, id string, sig syscall.Signal) error {
	return f.ask("Kill(%s,%s,%s)", cluster, id, proc.SignalName(sig))
}
func (f *fakeBackend) Restart(_ context.Context, cluster, id string, force bool) error {
	return f.ask("Restart(%s,%s,%v)", cluster, id, force)
}
func (f *fakeBackend) Stop(_ context.Context, cluster, id string) error {
	return f.ask("Stop(%s,%s)", cluster, id)
}
func (f *fakeBackend) Start(_ context.Context, cluster, id string) error {
	return f.ask("Start(%s,%s)", cluster, id)
}
func (f *fakeBackend) Clusters(name string) (v1alpha1.ClusterList, error) {
	return v1alpha1.NewList(v1alpha1.KindCluster, f.clusters), f.ask("Clusters(%s)", name)
}
func (f *fakeBackend) Watch(ctx context.Context, o WatchOptions) (Watch, error) {
	if err := f.ask("Watch(%s,%s,%s,%s,%s)", o.Kind, o.Cluster, o.Name, o.Object.Name, o.Version); err != nil {
		return nil, err
	}
	return f.watch(ctx, o), nil
}
func (f *fakeBackend) Cluster(name string) (*v1alpha1.Cluster, error) {
	c := v1alpha1.NewCluster()
	c.Name = name
	return c, f.ask("Cluster(%s)", name)
}
func (f *fakeBackend) PutCluster(c *v1alpha1.Cluster, dryRun bool) (Put, error) {
	f.put.Object = c
	return f.put, f.ask("PutCluster(%s,%d nodes,%v)", c.Name, len(c.Spec.Nodes), dryRun)
}
func (f *fakeBackend) DeleteCluster(_ context.Context, name string, purge, dryRun bool) error {
	return f.ask("DeleteCluster(%s,%v,%v)", name, purge, dryRun)
}
func (f *fakeBackend) Nodes(cluster string) (v1alpha1.NodeList, error) {
	return v1alpha1.NewList(v1alpha1.KindNode, f.objects), f.ask("Nodes(%s)", cluster)
}
func (f *fakeBackend) Node(cluster, name string) (*v1alpha1.Node, error) {
	return &v1alpha1.Node{}, f.ask("Node(%s,%s)", cluster, name)
}
func (f *fakeBackend) Metrics() Metrics { return f.metrics }
func (f *fakeBackend) NodeLog(cluster, id string) (string, error) {
	return f.log, f.ask("NodeLog(%s,%s)", cluster, id)
}
func (f *fakeBackend) Events(cluster string, object v1alpha1.ObjectReference) (v1alpha1.EventList, error) {
	return v1alpha1.NewList[v1alpha1.Event](v1alpha1.KindEvent, nil), f.ask("Events(%s,%s,%s)", cluster, object.Kind, object.Name)
}
func (f *fakeBackend) Event(cluster, name string) (*v1alpha1.Event, error) {
	return &v1alpha1.Event{}, f.ask("Event(%s,%s)", cluster, name)
}
func (f *fakeBackend) Topics(_ context.Context, cluster string) (v1alpha1.TopicList, error) {
	return v1alpha1.NewList[v1alpha1.Topic](v1alpha1.KindTopic, nil), f.ask("Topics(%s)", cluster)
}
func (f *fakeBackend) Topic(_ context.Context, cluster, name string) (*v1alpha1.Topic, error) {
	return v1alpha1.NewTopic(), f.ask("Topic(%s,%s)", cluster, name)
}
func (f *fakeBackend) PutTopic(_ context.Context, cluster string, t *v1alpha1.Topic, dryRun bool) (Put, error) {
	f.put.Object = t
	return f.put, f.ask("PutTopic(%s,%s,%d partitions,%v)", cluster, t.Name, t.Spec.Partitions, dryRun)
}
func (f *fakeBackend) DeleteTopic(_ context.Context, cluster, name string, allow, dryRun bool) error {
	return f.ask("DeleteTopic(%s,%s,%v,%v)", cluster, name, allow, dryRun)
}

const host = "127.0.0.1:8080"

// request sends one request and returns the answer.
func request(f *fakeBackend, method, target, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = host
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	Handler(Options{Backend: f, Listen: host, AllowedHosts: []string{"wiber.example"}}).ServeHTTP(w, r)
	return w
}

const (
	clusterBody = `{"apiVersion":"wiber.dev/v1alpha1","kind":"Cluster","metadata":{"name":"demo"},"spec":{"replicas":3,"dataRoot":"/data"}}`
	topicBody   = `{"apiVersion":"wiber.dev/v1alpha1","kind":"Topic","metadata":{"name":"orders"},"spec":{"partitions":4}}`
)

func TestRoutes(t *testing.T) {
	api := "/apis/wiber.dev/v1alpha1/"
	for _, c := range []struct {
		method, target, body string
		asked                string
		status               int
	}{
		{"GET", "/healthz", "", "", 200},
		{"HEAD", "/readyz", "", "", 200},
		{"GET", "/cluster/nodes", "", "NodeStates()", 200},
		{"GET", "/cluster/nodes?cluster=demo", "", "NodeStates(demo)", 200},
		{"POST", "/cluster/start", "", "StartAll() NodeStates()", 200},
		{"POST", "/cluster/stop?cluster=demo", "", "StopAll(demo) NodeStates(demo)", 200},
		{"POST", "/cluster/node/n1/kill", "", "Kill(,n1,SIGKILL) NodeStates()", 200},
		{"POST", "/cluster/node/n1/kill?hold=true", "", "Hold(,n1,SIGKILL,0s) NodeStates()", 200},
		{"POST", "/cluster/node/n1/kill?hold=false", "", "Kill(,n1,SIGKILL) NodeStates()", 200},
		{"POST", "/cluster/node/n1/kill?for=30s&signal=TERM", "", "Hold(,n1,SIGTERM,30s) NodeStates()", 200},
		{"POST", "/cluster/node/n1/kill?for=0s", "", "", 400},
		{"POST", "/cluster/node/n1/kill?for=-1s", "", "", 400},
		{"POST", "/cluster/node/n1/kill?for=99999h", "", "", 400},
		{"POST", "/cluster/node/n1/kill?for=soon", "", "", 400},
		{"POST", "/cluster/node/n1/kill?hold=yes", "", "", 400},
		{"POST", "/cluster/node/n1/kill?hold=true&for=30s", "", "", 400},
		{"POST", "/cluster/node/n1/kill?signal=stop&cluster=demo", "", "Kill(demo,n1,SIGSTOP) NodeStates(demo)", 200},
		{"POST", "/cluster/node/n1/kill?signal=NOPE", "", "", 400},
		{"POST", "/cluster/node/n1/restart", "", "Restart(,n1,false) NodeStates()", 200},
		{"POST", "/cluster/node/n1/restart?force=true", "", "Restart(,n1,true) NodeStates()", 200},
		{"POST", "/cluster/node/n1/restart?force=maybe", "", "", 400},
		{"POST", "/cluster/node/n1/restart?force=true&force=false", "", "", 400},
		{"POST", "/cluster/node/n1/stop", "", "Stop(,n1) NodeStates()", 200},
		{"POST", "/cluster/node/n1/start", "", "Start(,n1) NodeStates()", 200},
		{"POST", "/cluster/shutdown", "", "Shutdown(false)", 200},
		{"POST", "/cluster/shutdown?purge=true", "", "Shutdown(true)", 200},
		{"POST", "/cluster/shutdown?cluster=demo", "", "", 400},
		{"GET", "/cluster/shutdown", "", "", 405},
		{"GET", "/cluster/node/n1/kill", "", "", 405},
		{"POST", "/cluster/nodes", "", "", 405},
		{"GET", "/cluster/node/n1", "", "", 404},
		{"GET", "/", "", "", 404},
		{"GET", "/cluster/nodes/", "", "", 404},
		{"GET", "/cluster/nodes?a=%zz", "", "", 400},
		{"GET", api + "clusters", "", "Clusters()", 200},
		{"GET", api + "clusters?cluster=demo", "", "Clusters(demo)", 200},
		{"GET", api + "clusters?watch=yes", "", "", 400},
		{"GET", api + "clusters?resourceVersion=7", "", "", 400},
		{"GET", api + "clusters/demo", "", "Cluster(demo)", 200},
		{"PUT", api + "clusters/demo", clusterBody, "PutCluster(demo,3 nodes,false)", 201},
		{"PUT", api + "clusters/demo?dryRun=All", clusterBody, "PutCluster(demo,3 nodes,true)", 201},
		{"PUT", api + "clusters/demo?dryRun=yes", clusterBody, "", 400},
		{"PUT", api + "clusters/other", clusterBody, "", 400},
		{"PUT", api + "clusters/demo", topicBody, "", 422},
		{"PUT", api + "clusters/demo", "", "", 400},
		{"PATCH", api + "clusters/demo", clusterBody, "", 405},
		{"DELETE", api + "clusters/demo", "", "DeleteCluster(demo,false,false)", 200},
		{"DELETE", api + "clusters/demo?purge-data=true&dryRun=All", "", "DeleteCluster(demo,true,true)", 200},
		{"GET", api + "nodes", "", "Nodes()", 200},
		{"GET", api + "nodes/n1?cluster=demo", "", "Node(demo,n1)", 200},
		{"PUT", api + "nodes/n1", "{}", "", 405},
		{"DELETE", api + "nodes/n1", "", "", 405},
		{"GET", api + "topics", "", "Topics()", 200},
		{"GET", api + "topics/orders", "", "Topic(,orders)", 200},
		{"PUT", api + "topics/orders?cluster=demo", topicBody, "PutTopic(demo,orders,4 partitions,false)", 201},
		{"DELETE", api + "topics/orders?allow-data-loss=true", "", "DeleteTopic(,orders,true,false)", 200},
		{"GET", api + "events", "", "Events(,,)", 200},
		{"GET", api + "events?cluster=demo&for=node/n2", "", "Events(demo,Node,n2)", 200},
		{"GET", api + "events?for=n2", "", "", 400},
		{"GET", api + "events?for=pods/n2", "", "", 400},
		{"GET", api + "events?for=", "", "", 400},
		{"GET", api + "events/n2.2a", "", "Event(,n2.2a)", 200},
		{"GET", "/events?for=topics/orders", "", "Events(,Topic,orders)", 200},
		{"DELETE", api + "events/n2.2a", "", "", 405},
		{"GET", api + "faults", "", "", 404},
		{"GET", "/apis/wiber.dev/v1/clusters", "", "", 404},
	} {
		f := &fakeBackend{put: Put{Result: "created"}}
		w := request(f, c.method, c.target, c.body, nil)
		if got := strings.Join(f.asked, " "); w.Code != c.status || got != c.asked {
			t.Errorf("%s %s: %d %q, want %d %q\n%s", c.method, c.target, w.Code, got, c.status, c.asked, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Server") != ServerName {
			t.Errorf("%s %s: header %v, body %q", c.method, c.target, w.Header(), w.Body)
		}
	}
}

func TestErrorsHaveTheFormOfTheirPath(t *testing.T) {
	for _, c := range []struct {
		err     error
		status  int
		reason  string
		word    string
		message string
	}{
		{v1alpha1.NotFound(v1alpha1.KindNode, "n9"), 404, "NotFound", "NOT_FOUND", `nodes "n9" not found`},
		{fmt.Errorf("wrapped: %w", v1alpha1.Conflict(v1alpha1.KindNode, "n1", "no")), 409, "Conflict", "CONFLICT", `nodes "n1": no`},
		{v1alpha1.NewStatus(v1alpha1.ReasonServiceUnavailable, "later"), 503, "ServiceUnavailable", "UNAVAILABLE", "later"},
		{context.DeadlineExceeded, 504, "Timeout", "TIMEOUT", "it is not done in time; it goes on"},
		{errors.New("disk full"), 500, "InternalError", "INTERNAL", "disk full"},
	} {
		f := &fakeBackend{err: c.err}
		w := request(f, "POST", "/cluster/node/n1/restart", "", nil)
		var e struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != c.status || e.Error.Code != c.word || e.Error.Message != c.message {
			t.Errorf("control: %d %s", w.Code, w.Body)
		}
		if (w.Header().Get("Retry-After") != "") != (c.status == 503) {
			t.Errorf("Retry-After %q with %d", w.Header().Get("Retry-After"), c.status)
		}
		w = request(f, "GET", "/apis/wiber.dev/v1alpha1/nodes/n9", "", nil)
		var st v1alpha1.Status
		if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil || w.Code != c.status || st.Kind != "Status" || st.APIVersion != "v1" ||
			string(st.Reason) != c.reason || st.Message != c.message || int(st.Code) != c.status || st.Status != "Failure" {
			t.Errorf("objects: %d %s", w.Code, w.Body)
		}
	}
	w := request(&fakeBackend{}, "DELETE", "/apis/wiber.dev/v1alpha1/clusters/demo", "", nil)
	var st v1alpha1.Status
	if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil || st.Status != "Success" || w.Code != 200 {
		t.Errorf("deleted: %d %s", w.Code, w.Body)
	}
}

// What is refused before anybody is asked has the form of its path too: a Status
// under /apis, the error object elsewhere, be it of the guard, of the routes, of
// the gateway or of the page.
func TestRefusalsHaveTheFormOfTheirPath(t *testing.T) {
	page, err := ui.New(ui.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := Handler(Options{Backend: &fakeBackend{}, Listen: host, Page: page})
	const api = "/apis/wiber.dev/v1alpha1/"
	for _, family := range []struct {
		path  string   // an existing one
		allow string   // its methods
		wrong []string // paths that do not exist
		word  func(v1alpha1.StatusReason) string
	}{
		{api + "clusters", "GET", []string{api + "volumes", "/apis/other/v1/clusters", "/apis"}, nil},
		{api + "clusters/demo", "DELETE, GET, PUT", nil, nil},
		{"/cluster/nodes", "GET", []string{"/cluster", "/nowhere"}, v1alpha1.StatusReason.Word},
		{"/cluster/start", "POST", nil, v1alpha1.StatusReason.Word},
		{"/events", "GET", nil, v1alpha1.StatusReason.Word},
		{"/nodes/n1/logs", "GET", []string{"/nodes"}, v1alpha1.StatusReason.Word},
		{"/nodes/n1/v1/status", "GET, HEAD", nil, v1alpha1.StatusReason.Word},
		{"/topics", "GET", nil, v1alpha1.StatusReason.Word},
		{"/topics/t/messages", "GET, POST", []string{"/topics/t"}, v1alpha1.StatusReason.Word},
		{"/topics/t/stream", "GET", nil, v1alpha1.StatusReason.Word},
		{"/", "GET, HEAD", []string{"/ui/no/such.js"}, v1alpha1.StatusReason.Word},
	} {
		refused := func(method, target string, change func(*http.Request), status int, reason v1alpha1.StatusReason) http.Header {
			t.Helper()
			r := httptest.NewRequest(method, target, nil)
			r.Host = host
			if change != nil {
				change(r)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var body struct {
				v1alpha1.Status
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != status || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %d %v %s", method, target, w.Code, w.Header(), w.Body)
			}
			if family.word != nil {
				if body.Kind != "" || body.Error.Code != family.word(reason) || body.Error.Message == "" {
					t.Errorf("%s %s is no error object with %s: %s", method, target, family.word(reason), w.Body)
				}
			} else if body.Error.Code != "" || body.Kind != "Status" || body.Reason != reason || int(body.Code) != status || body.Message == "" {
				t.Errorf("%s %s is no Status with %s: %s", method, target, reason, w.Body)
			}
			return w.Header()
		}
		method := strings.Split(family.allow, ", ")[0]
		refused(method, family.path, func(r *http.Request) { r.Host = "evil.example" }, 403, v1alpha1.ReasonForbidden)
		refused(method, family.path, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }, 403, v1alpha1.ReasonForbidden)
		refused("POST", family.path, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403, v1alpha1.ReasonForbidden)
		if got := refused("TRACE", family.path, nil, 405, v1alpha1.ReasonMethodNotAllowed).Get("Allow"); got != family.allow {
			t.Errorf("%s takes %q, want %q", family.path, got, family.allow)
		}
		for _, path := range family.wrong {
			refused("GET", path, nil, 404, v1alpha1.ReasonNotFound)
		}
		if family.path != "/" && family.path != "/nodes/n1/v1/status" { // they do not look at a query themselves
			refused(method, family.path+"?nonsense=1", nil, 400, v1alpha1.ReasonBadRequest)
			refused(method, family.path+"?a=%zz", nil, 400, v1alpha1.ReasonBadRequest)
		}
	}
}

func TestPutSaysWhatItDid(t *testing.T) {
	for result, status := range map[string]int{"created": 201, "configured": 200, "unchanged": 200} {
		f := &fakeBackend{put: Put{Result: result, Warnings: []string{`starts n2, "stopped"` + "\r\n"}}}
		w := request(f, "PUT", "/apis/wiber.dev/v1alpha1/clusters/demo", clusterBody, nil)
		if w.Code != status || w.Header().Get(ResultHeader) != result || w.Header().Get("Warning") != `299 - "starts n2, \"stopped\"??"` {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		var c v1alpha1.Cluster
		if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || c.Name != "demo" || len(c.Spec.Nodes) != 3 {
			t.Errorf("%v %s", err, w.Body)
		}
	}
}

func TestAWrongManifestNamesTheFieldAndChangesNothing(t *testing.T) {
	f := &fakeBackend{}
	w := request(f, "PUT", "/apis/wiber.dev/v1alpha1/clusters/demo", strings.Replace(clusterBody, "replicas", "replcas", 1), nil)
	if w.Code != 422 || !strings.Contains(w.Body.String(), "spec.replcas") || f.asked != nil {
		t.Errorf("%d %s %q", w.Code, w.Body, f.asked)
	}
	w = request(f, "PUT", "/apis/wiber.dev/v1alpha1/clusters/demo", strings.Repeat(" ", manifests.MaxFileBytes+1), nil)
	if w.Code != 413 || f.asked != nil {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestNoNodesAreAnEmptyList(t *testing.T) {
	if w := request(&fakeBackend{}, "GET", "/cluster/nodes", "", nil); strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("%s", w.Body)
	}
	w := request(&fakeBackend{nodes: []NodeState{{ID: "n1", Cluster: "demo", Phase: v1alpha1.NodePending}}}, "GET", "/cluster/nodes", "", nil)
	if want := `[{"id":"n1","cluster":"demo","running":false,"pid":0,"phase":"Pending","role":"","restarts":0}]`; strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("%s", w.Body)
	}
}

func TestOtherSitesAreKeptAway(t *testing.T) {
	for _, c := range []struct {
		host, origin string
		status       int
	}{
		{"127.0.0.1:8080", "", 200},
		{"localhost:8080", "", 200},
		{"localhost", "", 200},
		{"[::1]:8080", "", 200},
		{"127.0.0.2", "", 200},
		{"wiber.example", "", 200},
		{"WIBER.example:8080", "", 200},
		{"evil.example", "", 403},
		{"evil.example:8080", "", 403},
		{"127.0.0.1.evil.example", "", 403},
		{"10.0.0.1", "", 403},
		{"", "", 403},
		{"localhost:8080", "http://localhost:8080", 200},
		{"localhost", "http://localhost", 200},
		{"localhost:8080", "http://LOCALHOST:8080", 200},
		{"wiber.example", "https://wiber.example", 403},
		{"localhost:8080", "http://localhost:3000", 403},
		{"localhost:8080", "http://127.0.0.1:8080", 403},
		{"localhost:8080", "https://evil.example", 403},
		{"evil.example", "http://evil.example", 403},
		{"localhost:8080", "null", 403},
		{"localhost:8080", "::", 403},
	} {
		f := &fakeBackend{}
		w := request(f, "POST", "/cluster/stop", "", func(r *http.Request) {
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
		})
		if w.Code != c.status || (c.status == 403) != (f.asked == nil) {
			t.Errorf("host %q, origin %q: %d, asked %q", c.host, c.origin, w.Code, f.asked)
		}
	}
}

func TestAPageOfAnotherSiteChangesNothing(t *testing.T) {
	for site, status := range map[string]int{"same-origin": 200, "none": 200, "same-site": 403, "cross-site": 403} {
		for _, method := range []string{"POST", "GET"} {
			target := map[string]string{"POST": "/cluster/stop", "GET": "/cluster/nodes"}[method]
			w := request(&fakeBackend{}, method, target, "", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", site) })
			if want := map[string]int{"POST": status, "GET": 200}[method]; w.Code != want {
				t.Errorf("%s from %s: %d, want %d", method, site, w.Code, want)
			}
		}
	}
}

func FuzzGuard(f *testing.F) {
	for _, s := range []string{"localhost:8080", "[::1]", "evil.example", "127.0.0.1:", ":8080", "[", "]:1", "%"} {
		f.Add(s, "http://"+s)
	}
	g := newGuard(host, nil)
	f.Fuzz(func(t *testing.T, host, origin string) {
		r := httptest.NewRequest("GET", "/healthz", nil)
		r.Host = host
		r.Header["Origin"] = []string{origin}
		if g.check(r) == nil && !strings.Contains(strings.ToLower(host), "localhost") && !strings.ContainsAny(host, "0123456789:") {
			t.Errorf("host %q with origin %q was let in", host, origin)
		}
	})
}
