package e2e

import (
	"bufio"
	"cmp"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wiber/wiber/ui"
)

// fakeController answers the page as a controller does, from what a test puts
// into it: shapes of clusters, and outputs, that real processes take long to
// come to.
type fakeController struct {
	server *httptest.Server
	start  time.Time

	mu       sync.Mutex
	clusters []string
	ready    string // the clusters' condition
	nodes    []object
	statuses map[string]object // /v1/status by cluster/node, as those below
	events   []object
	outputs  map[string]string
	before   map[string]string // outputs of the runs before
	hanging  string            // cluster/node that does not answer
	refusal  *refusal          // of what is published; nil acknowledges
	messages []object          // of the topic orders
	sockets  map[*socket]string
	asked    []string // POSTs
	down     bool     // every connection is refused
}

type object = map[string]any

// refusal is how a node says no.
type refusal struct {
	status        int
	code, message string
	retryAfter    string
}

// newFakeController has n nodes, which lead the groups in turn; n2 has lost its
// link to n3.
func newFakeController(t testing.TB, n int) *fakeController {
	t.Helper()
	page, err := ui.New(ui.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeController{
		start: clock.Now().Add(-4 * time.Minute), statuses: map[string]object{}, outputs: map[string]string{}, before: map[string]string{},
		sockets: map[*socket]string{}, ready: "True",
	}
	if n > 0 {
		f.addCluster("demo", n)
	}
	if n > 1 {
		f.event("Node", "n2", "Warning", "Exited", "it was ended by SIGKILL", 100*time.Second)
		f.event("Node", "n2", "Normal", "Started", "pid 4002", 98*time.Second)
		f.event("Cluster", "demo", "Normal", "LeaderChanged", "n1 leads shard 2 in term 3, before it n2", 99*time.Second)
	}
	for i := range 180 {
		f.messages = append(f.messages, f.message(i, fmt.Sprintf(`{"order":%d,"total":%d}`, i, 3*i)))
	}
	f.server = httptest.NewServer(f.routes(page))
	t.Cleanup(func() {
		f.cut()
		f.server.CloseClientConnections()
		f.server.Close()
	})
	return f
}

// addCluster adds a cluster with nodes n1, n2, …
func (f *fakeController) addCluster(name string, n int) {
	f.clusters = append(f.clusters, name)
	for i := range n {
		f.addNode(name, fmt.Sprintf("n%d", i+1), i, n)
	}
}

func (f *fakeController) addNode(cluster, id string, i, n int) {
	var leads []string
	var groups, links []object
	for g := range 5 {
		group, leader := strconv.Itoa(g-1), fmt.Sprintf("n%d", g%n+1)
		if g == 0 {
			group = "catalogue"
		}
		o := object{"id": group, "leader": leader, "role": "follower", "term": 3, "commit": 120330 + g, "applied": 120330 + g}
		if leader == id {
			leads = append(leads, group)
			var followers []object
			for j := range n {
				if j != i {
					followers = append(followers, object{"node": fmt.Sprintf("n%d", j+1), "lag": 7 * j, "active": j != 4})
				}
			}
			o["role"], o["followers"] = "leader", followers
		}
		groups = append(groups, o)
	}
	for j := range n {
		if j != i {
			links = append(links, object{"node": fmt.Sprintf("n%d", j+1), "up": !(id == "n2" && j == 2), "since": f.start})
		}
	}
	f.nodes = append(f.nodes, object{
		"metadata": object{"name": id, "namespace": cluster, "generation": 1, "resourceVersion": "1"},
		"spec":     object{"id": id},
		"status":   object{"phase": "Running", "pid": 4001 + i, "incarnation": 2, "restarts": 0, "term": 3, "lag": 0, "leaderOf": leads, "startedAt": f.start},
	})
	offset := []int{40, -210, 95, 12, -60, 3, 1, 2, 3}[i]
	at := cluster + "/" + id
	f.statuses[at] = object{"node": id, "groups": groups, "links": links, "clock": object{"state": "synchronised", "offsetMicros": offset, "eps": 180 + 20*i}}
	f.outputs[at] = f.line(0, "INFO", "node runs in "+cluster)
	f.before[at] = f.line(-60, "INFO", "the run before")
}

// change gives a node another status, and tells it to who watches.
func (f *fakeController) change(i int, status object) {
	f.mu.Lock()
	f.nodes[i]["status"] = status
	frame := encode(object{"type": "MODIFIED", "object": f.nodes[i]})
	f.mu.Unlock()
	f.send("nodes", frame)
}

// setReady changes the clusters' condition.
func (f *fakeController) setReady(status string) {
	f.mu.Lock()
	f.ready = status
	var frames []string
	for _, name := range f.clusters {
		frames = append(frames, encode(object{"type": "MODIFIED", "object": f.cluster(name)}))
	}
	f.mu.Unlock()
	for _, frame := range frames {
		f.send("clusters", frame)
	}
}

func (f *fakeController) cluster(name string) object {
	ready := object{"type": "Ready", "status": f.ready, "observedGeneration": 1}
	return object{"metadata": object{"name": name, "generation": 1}, "spec": object{"shards": 4}, "status": object{"conditions": []object{ready}}}
}

// hang lets a node answer no more.
func (f *fakeController) hang(node string) {
	f.mu.Lock()
	f.hanging = node
	f.mu.Unlock()
}

// hears sets what a node of demo hears of another by gossip.
func (f *fakeController) hears(node, of, state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := maps.Clone(f.statuses["demo/"+node])
	status["gossip"] = []object{{"node": of, "state": state}}
	f.statuses["demo/"+node] = status
}

// grow adds messages.
func (f *fakeController) grow(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		f.messages = append(f.messages, f.message(len(f.messages), "more"))
	}
}

// refuse lets every publish from now on be refused; nil acknowledges again.
func (f *fakeController) refuse(r *refusal) {
	f.mu.Lock()
	f.refusal = r
	f.mu.Unlock()
}

// requests are the actions that the page asked for.
func (f *fakeController) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// of is a node that a request means. Only where there are several clusters must
// it name one.
func of(r *http.Request) string {
	return cmp.Or(r.FormValue("cluster"), "demo") + "/" + r.PathValue("id")
}

// line is a line of output, seconds after the start.
func (f *fakeController) line(seconds float64, level, text string) string {
	at := f.start.Add(time.Duration(seconds * float64(time.Second))).UTC().Format("2006-01-02T15:04:05.000Z")
	return fmt.Sprintf("time=%s level=%s msg=%q node=n1\n", at, level, text)
}

func (f *fakeController) event(kind, name, typ, reason, message string, ago time.Duration) {
	at := clock.Now().Add(-ago)
	id := fmt.Sprintf("%s.%d", name, len(f.events))
	f.events = append(f.events, object{
		"metadata":       object{"name": id, "namespace": "demo", "uid": id},
		"involvedObject": object{"kind": kind, "name": name},
		"type":           typ, "reason": reason, "message": message, "count": 1,
		"firstTimestamp": at, "lastTimestamp": at, "source": object{"component": "controller"},
	})
}

func (f *fakeController) message(offset int, value string) object {
	return object{"topic": "orders", "partition": 0, "offset": offset, "ts": f.start.Add(time.Duration(offset) * time.Second).UnixMicro(), "eps": 180, "lamport": offset, "key": "table-7", "value": value}
}

func (f *fakeController) routes(page http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/{$}", page)
	mux.Handle(ui.Prefix, page)
	mux.HandleFunc("/apis/wiber.dev/v1alpha1/{kind}", func(w http.ResponseWriter, r *http.Request) { f.watch(w, r, r.PathValue("kind")) })
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) { f.watch(w, r, "events") })
	mux.HandleFunc("/nodes/{id}/v1/status", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		status, hangs := f.statuses[of(r)], f.hanging == of(r)
		f.mu.Unlock()
		if hangs {
			<-r.Context().Done()
			return
		}
		answerJSON(w, status)
	})
	mux.HandleFunc("/nodes/{id}/logs", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("previous") != "" {
			_, _ = w.Write([]byte(f.before[of(r)]))
			return
		}
		f.serve(w, r, "logs "+r.PathValue("id"), f.outputs[of(r)])
	})
	mux.HandleFunc("GET /topics", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		next := len(f.messages)
		f.mu.Unlock()
		partition := object{"partition": 0, "shard": 1, "leader": "n1", "first": 0, "next": next}
		answerJSON(w, []object{{"name": "orders", "partitions": []object{partition}}})
	})
	mux.HandleFunc("GET /topics/{t}/messages", f.history)
	mux.HandleFunc("POST /topics/{t}/messages", f.publish)
	mux.HandleFunc("/topics/{t}/stream", func(w http.ResponseWriter, r *http.Request) { f.serve(w, r, "stream", "") })
	mux.HandleFunc("POST /cluster/node/{id}/{what}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked = append(f.asked, r.URL.RequestURI())
		f.mu.Unlock()
		if strings.HasSuffix(r.URL.RequestURI(), "/restart") {
			w.WriteHeader(http.StatusConflict)
			answerJSON(w, object{"error": object{"code": "CONFLICT", "message": "its restart would cost the quorum"}})
			return
		}
		answerJSON(w, []object{})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		down := f.down
		f.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler) // the connection is cut
		}
		mux.ServeHTTP(w, r)
	})
}

func (f *fakeController) history(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	from, err := strconv.Atoi(r.FormValue("from"))
	if at, timeErr := time.Parse(time.RFC3339, r.FormValue("from")); err != nil && timeErr == nil {
		from = sort.Search(len(f.messages), func(i int) bool { return f.messages[i]["ts"].(int64) >= at.UnixMicro() })
	}
	list := []object{}
	if r.FormValue("reverse") != "" {
		for i := len(f.messages) - 1; i >= 0 && len(list) < limit; i-- {
			list = append(list, f.messages[i])
		}
	} else {
		list = f.messages[min(from, len(f.messages)):min(from+limit, len(f.messages))]
	}
	answerJSON(w, object{"messages": list})
}

func (f *fakeController) publish(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	no := f.refusal
	f.mu.Unlock()
	if no == nil {
		answerJSON(w, object{"offset": 180, "partition": 0, "synced": "2/3", "ts": f.start.UnixMicro(), "eps": 180, "term": 3, "index": 9, "lamport": 181})
		return
	}
	if no.retryAfter != "" {
		w.Header().Set("Retry-After", no.retryAfter)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(no.status)
	_ = json.NewEncoder(w).Encode(object{"error": object{"code": no.code, "message": no.message}}) // who is gone reads nothing
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// watch sends all objects of a kind and a bookmark; later ones are sent by send.
func (f *fakeController) watch(w http.ResponseWriter, r *http.Request, kind string) {
	f.mu.Lock()
	items := map[string][]object{"nodes": f.nodes, "events": f.events}[kind]
	if kind == "clusters" {
		for _, name := range f.clusters {
			items = append(items, f.cluster(name))
		}
	}
	var frames []string
	for _, item := range items {
		frames = append(frames, encode(object{"type": "ADDED", "object": item}))
	}
	f.mu.Unlock()
	frames = append(frames, encode(object{"type": "BOOKMARK", "object": object{"metadata": object{"resourceVersion": "1"}}}))
	f.serve(w, r, kind, frames...)
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// send sends a frame to all sockets of a kind.
func (f *fakeController) send(kind, frame string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s, k := range f.sockets {
		if k == kind {
			s.write(frame)
		}
	}
}

// cut ends all sockets.
func (f *fakeController) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.sockets {
		s.conn.Close()
	}
}

func (f *fakeController) setDown(down bool) {
	f.mu.Lock()
	f.down = down
	f.mu.Unlock()
	if down {
		f.cut()
	}
}

// serve upgrades a request, sends frames, and keeps the socket until its end.
func (f *fakeController) serve(w http.ResponseWriter, r *http.Request, kind string, frames ...string) {
	s, reader, err := upgrade(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer s.conn.Close()
	f.mu.Lock()
	for _, frame := range frames {
		s.write(frame)
	}
	f.sockets[s] = kind
	f.mu.Unlock()
	for {
		if _, err := reader.Discard(1); err != nil { // the page says nothing but goodbye
			break
		}
	}
	f.mu.Lock()
	delete(f.sockets, s)
	f.mu.Unlock()
}

// socket is the server's end of a WebSocket that only sends text.
type socket struct{ conn net.Conn }

func upgrade(w http.ResponseWriter, r *http.Request) (*socket, *bufio.Reader, error) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if key == "" {
		return nil, nil, fmt.Errorf("not a WebSocket")
	}
	conn, both, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	return &socket{conn}, both.Reader, nil
}

func (s *socket) write(text string) {
	if text == "" {
		return
	}
	head := []byte{0x81, 127}
	head = binary.BigEndian.AppendUint64(head, uint64(len(text)))
	if len(text) < 126 {
		head = []byte{0x81, byte(len(text))}
	} else if len(text) < 1<<16 {
		head = binary.BigEndian.AppendUint16([]byte{0x81, 126}, uint16(len(text)))
	}
	_, _ = s.conn.Write(append(head, text...)) // who is gone reads nothing
}
