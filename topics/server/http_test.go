package server

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wiber/wiber/topics/wire"
)

func TestHTTP(t *testing.T) {
	fake := NewFake()
	srv, err := New(Options{Backend: fake, Clock: fakeClock(), AllowedHosts: []string{"Wiber.example"}})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(srv.Handler())
	defer web.Close()
	const object = `{"apiVersion":"wiber.dev/v1alpha1","kind":"Topic","metadata":{"name":"b","annotations":{"owner":"me"}},"spec":{"partitions":2,"deletionPolicy":"Delete"}}`
	for _, c := range []struct {
		name, request, header, body string
		status                      int
		want                        string // part of the answer
	}{
		{"alive", "GET /healthz", "", "", 200, `{"status":"ok"}`},
		{"ready", "GET /readyz", "", "", 200, `{"status":"ready"}`},
		{"status", "GET /v1/status", "", "", 200, `{"node":"n1","cluster":"demo","version":"v0-fake","incarnation":1,"groups":[{"id":"catalogue","role":"leader","leader":"n1","term":1,"commit":3,"applied":3,"chain":"00",` +
			`"followers":[{"node":"n2","match":1,"lag":2,"active":true}]}],` +
			`"clock":{"state":"synchronised","offsetMicros":12,"eps":40,"driftPpm":-0.5,"lamport":7,"reference":1795341600000000,"testClock":"","ahead":[],` +
			`"peers":[{"node":"n2","state":"unknown","offsetMicros":null,"eps":-1,"driftPpm":null,"boundMicros":0,"ageMillis":0}]},"gossip":[{"node":"n1","state":"alive","since":"0001-01-01T00:00:00Z"},` +
			`{"node":"n2","state":"suspect","since":"0001-01-01T00:00:00Z"}],"links":[{"node":"n2","up":true,"since":"0001-01-01T00:00:00Z"}]}`},
		{"identity", "GET /v1/identity", "", "", 200, `{"cluster":"demo","node":"n1","uid":"u1","incarnation":1,"pid":7,"bootId":"b1","dataDir":"/data/n1"}`},
		{"no topics", "GET /topics", "", "", 200, `[]`},
		{"no topic objects", "GET /v1/topics", "", "", 200, `"kind":"TopicList","metadata":{"resourceVersion":"0"},"items":[]}`},
		{"a topic from a bare spec", "PUT /v1/topics/a", "", `{"maxMessageBytes":10}`, 201, `"name":"a","namespace":"demo","uid":"1","generation":1`},
		{"the same again", "PUT /v1/topics/a", "", `{"maxMessageBytes":10,"partitions":1}`, 200, `"generation":1`},
		{"a change", "PUT /v1/topics/a", "", `{"partitions":3}`, 200, `"generation":2`},
		{"a change that is not possible", "PUT /v1/topics/a", "", `{"partitions":2}`, 409, `{"error":{"code":"CONFLICT","message":"spec.partitions: 2 is less than 3: partitions can only grow"}}`},
		{"a topic from an object", "PUT /v1/topics/b", "", object, 201, `"annotations":{"owner":"me"}`},
		{"another name in the object", "PUT /v1/topics/c", "", object, 400, `"SYNTAX","message":"metadata.name: is \"b\", but the path says \"c\""`},
		{"an unknown field", "PUT /v1/topics/a", "", `{"partition":3}`, 400, `partition`},
		{"a field that is not supported", "PUT /v1/topics/a", "", `{"retention":{"bytes":1}}`, 400, `not supported yet`},
		{"no JSON", "PUT /v1/topics/a", "", `{`, 400, `"SYNTAX"`},
		{"a list", "PUT /v1/topics/a", "", `[]`, 400, `"SYNTAX"`},
		{"a name that is none", "PUT /v1/topics/a!", "", `{}`, 400, `"BAD_TOPIC"`},
		{"a body without end", "PUT /v1/topics/a", "", strings.Repeat(" ", maxBody+1), 413, `"TOO_LARGE"`},
		{"the topics", "GET /topics", "", "", 200, `[{"name":"a","partitions":[{"partition":0,"shard":1,"leader":"n1","first":0,"next":0},{"partition":1,`},
		{"the objects", "GET /v1/topics", "", "", 200, `"maxMessageBytes":1048576`},
		{"one object", "GET /v1/topics/b", "", "", 200, `{"apiVersion":"wiber.dev/v1alpha1","kind":"Topic","metadata":{"name":"b"`},
		{"no such topic", "GET /v1/topics/z", "", "", 404, `{"error":{"code":"NO_TOPIC","message":"no topic z"}}`},
		{"data is kept", "DELETE /v1/topics/a", "", "", 409, `allow data loss`},
		{"a flag that is none", "DELETE /v1/topics/a?allow-data-loss=maybe", "", "", 400, `"SYNTAX"`},
		{"data loss is allowed", "DELETE /v1/topics/a?allow-data-loss=true", "", "", 200, `{}`},
		{"the policy is Delete", "DELETE /v1/topics/b", "", "", 200, `{}`},
		{"gone", "DELETE /v1/topics/b", "", "", 404, `"NO_TOPIC"`},
		{"HEAD is GET", "HEAD /healthz", "", "", 200, ``},
		{"GET changes nothing", "GET /v1/drain", "", "", 405, `"METHOD_NOT_ALLOWED","message":"/v1/drain takes POST"`},
		{"no such path", "GET /v1/nonsense", "", "", 404, `"NOT_FOUND"`},
		{"a foreign host", "GET /healthz", "Host: evil.example", "", 403, `"DENIED"`},
		{"a foreign address", "GET /healthz", "Host: 192.0.2.1:80", "", 403, `"DENIED"`},
		{"an allowed host", "GET /healthz", "Host: wiber.EXAMPLE:9301", "", 200, ``},
		{"localhost", "GET /healthz", "Host: localhost:1", "", 200, ``},
		{"another loopback address", "GET /healthz", "Host: [::1]:9301", "", 200, ``},
		{"a foreign page", "POST /v1/drain", "Origin: http://evil.example", "", 403, `"DENIED"`},
		{"a sandboxed page", "POST /v1/drain", "Origin: null", "", 403, `"DENIED"`},
		{"a page on another port", "POST /v1/drain", "Origin: http://127.0.0.1:1", "", 403, `"DENIED"`},
		{"drain", "POST /v1/drain", "", "", 202, `{"status":"draining"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			method, path, _ := strings.Cut(c.request, " ")
			r, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if name, value, ok := strings.Cut(c.header, ": "); ok {
				r.Header.Set(name, value)
				if name == "Host" {
					r.Host = value
				}
			}
			if fake.Draining() {
				t.Fatal("somebody drained the node already")
			}
			status, body, header := do(t, r)
			if status != c.status || !strings.Contains(body, c.want) {
				t.Fatalf("%d %s", status, body)
			}
			if body != "" && (!json.Valid([]byte(body)) || header.Get("Content-Type") != "application/json") {
				t.Fatalf("no JSON: %s", body)
			}
		})
	}
	if !fake.Draining() {
		t.Error("the node was not drained")
	}
}

func do(t *testing.T, r *http.Request) (status int, body string, header http.Header) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// ask is one request without a network.
func ask(h http.Handler, method, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader("{}"))
	r.Host = "localhost"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHTTPNotReadySaysWhy(t *testing.T) {
	fake := NewFake()
	fake.Reasons = []string{"shard 2 has no leader", "catching up"}
	srv, _ := New(Options{Backend: fake, Clock: fakeClock()})
	w := ask(srv.Handler(), "GET", "/readyz")
	if w.Code != 503 || w.Header().Get("Retry-After") == "" ||
		strings.TrimSpace(w.Body.String()) != `{"error":{"code":"NOT_READY","message":"shard 2 has no leader; catching up"}}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

type failing struct {
	*Fake
	err error
}

func (f failing) DeleteTopic(context.Context, string, bool) error { return f.err }
func (f failing) Status() Status                                  { panic("wedged") }

func TestHTTPErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"no majority", wire.Errorf(wire.NoQuorum, "x"), 503, "NO_QUORUM"},
		{"busy", wire.Errorf(wire.Busy, "x"), 503, "BUSY"},
		{"unknown outcome", wire.Errorf(wire.Timeout, "x"), 504, "TIMEOUT"},
		{"out of time", context.DeadlineExceeded, 504, "TIMEOUT"},
		{"gap", wire.GapError(3), 409, "GAP"},
		{"surprise", io.ErrNoProgress, 500, "INTERNAL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv, _ := New(Options{Backend: failing{NewFake(), c.err}, Clock: fakeClock()})
			w := ask(srv.Handler(), "DELETE", "/v1/topics/a")
			if w.Code != c.status || !strings.Contains(w.Body.String(), `"code":"`+c.code+`"`) {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if (w.Code == 503) != (w.Header().Get("Retry-After") != "") {
				t.Fatalf("Retry-After is %q", w.Header().Get("Retry-After"))
			}
			w = ask(srv.Handler(), "GET", "/v1/status")
			if w.Code != 500 || strings.Contains(w.Body.String(), "wedged") || strings.Contains(w.Body.String(), ".go") {
				t.Fatalf("a panic showed as %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestServeWebEndsWithItsContext(t *testing.T) {
	srv, _ := New(Options{Backend: NewFake(), Clock: fakeClock()})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.ServeWeb(ctx, ln) }()
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+ln.Addr().String()+"/healthz", nil)
	if status, body, _ := do(t, r); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Fatal("it still listens")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {Backend: NewFake()}, {Clock: fakeClock()}, {Backend: NewFake(), Clock: fakeClock(), NodeBytes: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
