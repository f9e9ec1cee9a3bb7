package apiserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/gorilla/websocket"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
	topicclient "github.com/wiber/wiber/topics/client"
	topicserver "github.com/wiber/wiber/topics/server"
)

// gatewayOf serves the API in front of one node in this process, whose messages
// have at most 100 bytes, with the topic "many" of three partitions.
func gatewayOf(t *testing.T) (url string, node *topicserver.Fake) {
	node = topicserver.NewFake()
	node.Max = 100
	many := v1alpha1.NewTopic()
	many.Name, many.Spec.Partitions, many.Spec.MaxMessageBytes = "many", 3, 100
	if _, _, err := node.PutTopic(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	clock := timesvc.NewSystem(timesvc.Skew{})
	srv, err := topicserver.New(topicserver.Options{Backend: node, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.ServeTCP(ctx, ln) }()
	c, err := topicclient.New(topicclient.Options{Nodes: []string{ln.Addr().String()}, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	api := New(Options{Backend: &fakeBackend{messages: c}, Listen: host, Clock: clock})
	web := httptest.NewUnstartedServer(api.http.Handler)
	web.Config = api.http
	web.Start()
	t.Cleanup(func() {
		if err := api.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		web.Close()
		c.Close()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return web.URL, node
}

// The story of package gateway, told by the gateway.
func TestTopicPathsTellTheirStory(t *testing.T) {
	url, _ := gatewayOf(t)
	datadriven.RunTest(t, "../../topics/gateway/testdata/topics.txt", func(t *testing.T, d *datadriven.TestData) string {
		line, rest, _ := strings.Cut(d.Input, "\n")
		method, target, _ := strings.Cut(line, " ")
		head, body, _ := strings.Cut("\n"+rest, "\n\n")
		req, err := http.NewRequestWithContext(t.Context(), method, url+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for header := range strings.Lines(strings.TrimSpace(head)) {
			name, value, _ := strings.Cut(strings.TrimSpace(header), ": ")
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		out := fmt.Sprintf("%d %s\n", resp.StatusCode, resp.Header.Get("Content-Type"))
		if strings.HasSuffix(target, "/stream") {
			return out // words of the door, not of the path
		}
		return out + strings.TrimSpace(string(answer)) + "\n"
	})
}

// follow opens a stream through the gateway.
func follow(t *testing.T, url, path string) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(url, "http")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	if err := ws.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return ws
}

func publish(t *testing.T, url, topic, text string) {
	t.Helper()
	resp, err := http.Post(url+"/topics/"+topic+"/messages", "text/plain", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("publish: %d %s", resp.StatusCode, b)
	}
}

func TestAStreamHasEveryMessageFromItsBeginning(t *testing.T) {
	url, _ := gatewayOf(t)
	publish(t, url, "orders", "before")
	live := follow(t, url, "/topics/orders/stream")
	all := follow(t, url, "/topics/orders%2F0/stream?from=earliest")
	for i := range 50 { // at once: the stream has its place when it is open
		publish(t, url, "orders", fmt.Sprint(i))
	}
	for i := -1; i < 50; i++ {
		want := fmt.Sprintf(`{"topic":"orders","partition":0,"offset":%d,"ts":%d,"eps":0,"lamport":%d,"value":"%d"}`, i+1, topicserver.FakeStart+i+2, i+2, i)
		if i < 0 {
			want = strings.Replace(want, `"-1"`, `"before"`, 1)
		}
		for name, ws := range map[string]*websocket.Conn{"live": live, "all": all} {
			if name == "live" && i < 0 {
				continue
			}
			kind, text, err := ws.ReadMessage()
			if err != nil || kind != websocket.TextMessage || string(text) != want {
				t.Fatalf("%s: %d %s %v, want %s", name, kind, text, err, want)
			}
		}
	}
}

func TestAStreamSaysWhyItEnds(t *testing.T) {
	url, _ := gatewayOf(t)
	publish(t, url, "orders", "1")
	for path, want := range map[string]string{
		"/topics/orders/stream?from=99": "RANGE offset 99 is past the end: end=1",
		"/topics/many/stream?from=0":    "RANGE topic many has 3 partitions: an offset needs many/<partition>",
	} {
		ws, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(url, "http")+path, nil)
		if err != nil { // refused before there was a WebSocket
			b, _ := io.ReadAll(resp.Body)
			if _, text, _ := strings.Cut(want, " "); resp.StatusCode != 400 || !strings.Contains(string(b), text) {
				t.Errorf("%s: %d %s", path, resp.StatusCode, b)
			}
			continue
		}
		code, text, _ := strings.Cut(want, " ")
		_, frame, err := ws.ReadMessage()
		if err != nil || string(frame) != fmt.Sprintf(`{"error":{"code":%q,"message":%q}}`, code, text) {
			t.Errorf("%s: %s %v", path, frame, err)
		}
		_, _, err = ws.ReadMessage()
		if ce, ok := err.(*websocket.CloseError); !ok || ce.Code != websocket.ClosePolicyViolation || ce.Text != code {
			t.Errorf("%s: %v", path, err)
		}
		ws.Close()
	}
	for path, header := range map[string]http.Header{
		"/topics/orders/stream":            {"Origin": {"http://evil.example"}},
		"/topics/orders/stream?from=never": nil,
		"/topics/or!ders/stream":           nil,
		"/topics/orders/stream?order=time": nil,
	} {
		ws, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(url, "http")+path, header)
		if err == nil {
			ws.Close()
			t.Errorf("%s: it opened", path)
			continue
		}
		if want := map[bool]int{true: 403, false: 400}[header != nil]; resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}
