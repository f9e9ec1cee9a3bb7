package apiserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

// fakeWatch returns what a test puts into its channel.
type fakeWatch struct {
	events chan []v1alpha1.WatchEvent
	err    chan error
	closed chan struct{}
}

func newFakeWatch() *fakeWatch {
	return &fakeWatch{make(chan []v1alpha1.WatchEvent), make(chan error, 1), make(chan struct{})}
}

func (f *fakeWatch) Next(ctx context.Context) ([]v1alpha1.WatchEvent, error) {
	select {
	case events := <-f.events:
		return events, nil
	case err := <-f.err:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
func (f *fakeWatch) Version() string { return "41" }
func (f *fakeWatch) Close()          { close(f.closed) }

// follower reads a watch, whatever carries it.
type follower interface {
	// next returns the next event, or why there is none.
	next() (v1alpha1.WatchEvent, error)
	close()
}

type lineClient struct {
	resp  *http.Response
	lines *bufio.Scanner
}

func (c *lineClient) next() (e v1alpha1.WatchEvent, err error) {
	if !c.lines.Scan() {
		if err := c.lines.Err(); err != nil {
			return e, err
		}
		return e, io.EOF
	}
	return e, json.Unmarshal(c.lines.Bytes(), &e)
}
func (c *lineClient) close() { c.resp.Body.Close() }

type frameClient struct{ ws *websocket.Conn }

func (c *frameClient) next() (e v1alpha1.WatchEvent, err error) {
	kind, text, err := c.ws.ReadMessage()
	if err != nil {
		return e, err
	}
	if kind != websocket.TextMessage {
		return e, fmt.Errorf("a frame of type %d", kind)
	}
	return e, json.Unmarshal(text, &e)
}
func (c *frameClient) close() { c.ws.Close() }

// watchServer is a server whose watches are the test's.
type watchServer struct {
	*Server
	t     *testing.T
	back  *fakeBackend
	watch *fakeWatch
	url   string
}

func newWatchServer(t *testing.T) *watchServer {
	s := &watchServer{t: t, watch: newFakeWatch()}
	s.back = &fakeBackend{watch: func(context.Context, WatchOptions) Watch { return s.watch }}
	s.Server = New(Options{Backend: s.back, Listen: host, Clock: timesvc.NewSystem(timesvc.Skew{})})
	h := httptest.NewUnstartedServer(s.http.Handler)
	h.Config = s.http
	h.Start()
	s.url = h.URL
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		h.Close()
	})
	return s
}

const watchPath = "/apis/wiber.dev/v1alpha1/nodes?watch=1"

func (s *watchServer) dial(how, path string) follower {
	s.t.Helper()
	if how == "lines" {
		resp, err := http.Get(s.url + path)
		if err != nil {
			s.t.Fatal(err)
		}
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
			s.t.Fatalf("%s %v", resp.Status, resp.Header)
		}
		return &lineClient{resp, bufio.NewScanner(resp.Body)}
	}
	ws, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.Header.Get("Server") != ServerName {
		s.t.Errorf("%v", resp.Header)
	}
	return &frameClient{ws}
}

func added(name string) v1alpha1.WatchEvent {
	return v1alpha1.WatchEvent{Type: v1alpha1.WatchAdded, Object: json.RawMessage(`{"metadata":{"name":"` + name + `"}}`)}
}

// both runs a test over HTTP and over a WebSocket.
func both(t *testing.T, f func(t *testing.T, s *watchServer, how string)) {
	for _, how := range []string{"lines", "frames"} {
		t.Run(how, func(t *testing.T) { f(t, newWatchServer(t), how) })
	}
}

func TestAWatchIsAStreamOfEvents(t *testing.T) {
	both(t, func(t *testing.T, s *watchServer, how string) {
		c := s.dial(how, watchPath+"&cluster=demo&resourceVersion=17")
		defer c.close()
		if got := strings.Join(s.back.asked, " "); got != "Watch(Node,demo,,,17)" {
			t.Errorf("asked %q", got)
		}
		for _, burst := range [][]v1alpha1.WatchEvent{{added("n1"), added("n2")}, {added("n3")}} {
			s.watch.events <- burst
			for _, want := range burst {
				if got, err := c.next(); err != nil || got.Type != want.Type || string(got.Object) != string(want.Object) {
					t.Fatalf("%s %s, %v", got.Type, got.Object, err)
				}
			}
		}
		// When the client goes, the watch is closed.
		c.close()
		<-s.watch.closed
	})
}

func TestAWatchThatCannotGoOnSaysWhy(t *testing.T) {
	both(t, func(t *testing.T, s *watchServer, how string) {
		c := s.dial(how, watchPath)
		defer c.close()
		s.watch.err <- fmt.Errorf("wrapped: %w", v1alpha1.NewStatus(v1alpha1.ReasonExpired, "too old"))
		e, err := c.next()
		var status v1alpha1.Status
		if err != nil || e.Type != v1alpha1.WatchError || json.Unmarshal(e.Object, &status) != nil ||
			status.Kind != "Status" || status.Code != 410 || status.Reason != "Expired" || status.Message != "too old" {
			t.Fatalf("%s %s, %v", e.Type, e.Object, err)
		}
		_, err = c.next()
		var closed *websocket.CloseError
		if how == "lines" && err != io.EOF || how == "frames" && (!errors.As(err, &closed) || closed.Code != websocket.CloseTryAgainLater || closed.Text != "too old") {
			t.Errorf("then: %v", err)
		}
		<-s.watch.closed
	})
}

func TestAWatchEndsWithTheController(t *testing.T) {
	both(t, func(t *testing.T, s *watchServer, how string) {
		c := s.dial(how, watchPath)
		defer c.close()
		s.watch.events <- []v1alpha1.WatchEvent{added("n1")}
		endc := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			endc <- s.Shutdown(ctx)
		}()
		if _, err := c.next(); err != nil {
			t.Error(err)
		}
		_, err := c.next()
		var closed *websocket.CloseError
		if how == "lines" && err != io.EOF || how == "frames" && (!errors.As(err, &closed) || closed.Code != websocket.CloseGoingAway) {
			t.Errorf("then: %v", err)
		}
		if err := <-endc; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		<-s.watch.closed
	})
}

func TestAWatchIsRefusedAsAGetIs(t *testing.T) {
	s := newWatchServer(t)
	s.back.err = v1alpha1.NotFound(v1alpha1.KindNode, "n9")
	ws := "ws" + strings.TrimPrefix(s.url, "http")
	for _, c := range []struct {
		path, origin string
		status       int
	}{
		{watchPath, "", 404},
		{watchPath + "&limit=3", "", 400},
		{watchPath, "http://evil.example", 403},
		{"/apis/wiber.dev/v1alpha1/nodes", "", 400}, // a WebSocket of what?
		{"/events?watch=1&for=x", "", 400},
	} {
		header := http.Header{}
		if c.origin != "" {
			header.Set("Origin", c.origin)
		}
		_, resp, err := websocket.DefaultDialer.Dial(ws+c.path, header)
		if err == nil || resp == nil || resp.StatusCode != c.status {
			t.Errorf("%s: %v %v", c.path, resp, err)
		}
	}
	s.back.err = nil
	resp, err := http.DefaultClient.Do(must(http.NewRequest(http.MethodHead, s.url+watchPath, nil)))
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("HEAD: %v %v", resp, err)
	}
	req := must(http.NewRequest(http.MethodGet, s.url+watchPath, nil))
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	s.watch = newFakeWatch()
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 400 {
		t.Errorf("half a handshake: %v %v", resp, err)
	}
	<-s.watch.closed
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// slowWriter is a client that takes nothing after its first bytes.
type slowWriter struct {
	*httptest.ResponseRecorder
	deadline time.Time
	writes   int
}

func (w *slowWriter) SetWriteDeadline(t time.Time) error { w.deadline = t; return nil }
func (w *slowWriter) Write(b []byte) (int, error) {
	if w.writes++; w.writes > 1 {
		time.Sleep(time.Until(w.deadline))
		return 0, context.DeadlineExceeded
	}
	return w.ResponseRecorder.Write(b)
}

func TestIdleWatchesAreKeptAliveAndStuckOnesCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		watch := newFakeWatch()
		back := &fakeBackend{watch: func(context.Context, WatchOptions) Watch { return watch }}
		r := httptest.NewRequest("GET", watchPath, nil)
		r.Host = host
		w := &slowWriter{ResponseRecorder: httptest.NewRecorder()}
		begin := time.Now()
		Handler(Options{Backend: back, Listen: host, Clock: timesvc.NewSystem(timesvc.Skew{})}).ServeHTTP(w, r)
		// A bookmark, then one that is not taken.
		if d := time.Since(begin); d != 2*bookmarkEvery+10*time.Second {
			t.Errorf("cut after %v", d)
		}
		if got, want := w.Body.String(), `{"type":"BOOKMARK","object":{"apiVersion":"wiber.dev/v1alpha1","kind":"Node","metadata":{"resourceVersion":"41"}}}`+"\n"; got != want {
			t.Errorf("%s", got)
		}
		<-watch.closed
	})
}
