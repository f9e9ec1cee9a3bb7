package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/gateway"
	"github.com/wiber/wiber/topics/wire"
)

// door is a node whose messages are reached over HTTP.
type door struct {
	t    *testing.T
	fake *Fake
	url  string
	end  context.CancelFunc
	done chan error
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{t: t, fake: NewFake(), done: make(chan error, 1)}
	s, err := New(Options{Backend: d.fake, Clock: timesvc.NewSystem(timesvc.Skew{}), DrainTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d.end = cancel
	go func() { d.done <- s.ServeTCP(ctx, ln) }()
	web := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-d.done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the node does not end")
		}
		web.Close()
	})
	d.url = web.URL
	return d
}

// ask sends a request and returns the answer's status and body.
func (d *door) ask(method, path, kind, body string, header ...string) (int, string, http.Header) {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b)), resp.Header
}

// code returns the error word of an answer.
func code(body string) string {
	var e struct {
		Error struct{ Code, Message string }
	}
	_ = json.Unmarshal([]byte(body), &e)
	return e.Error.Code
}

type answerOfHistory struct {
	Messages []map[string]any
	Next     *uint64
	AsOf     uint64
}

func (d *door) history(path string) answerOfHistory {
	d.t.Helper()
	status, body, _ := d.ask("GET", path, "", "")
	var a answerOfHistory
	if err := json.Unmarshal([]byte(body), &a); status != 200 || err != nil {
		d.t.Fatalf("GET %s: %d %s (%v)", path, status, body, err)
	}
	return a
}

func values(a answerOfHistory) (v []string) {
	for _, m := range a.Messages {
		v = append(v, fmt.Sprint(m["value"]))
	}
	return v
}

// What is published over HTTP is acknowledged with a receipt, and read back over
// HTTP with everything that it had.
func TestMessagesGoInAndOutOverHTTP(t *testing.T) {
	d := newDoor(t)
	status, body, _ := d.ask("POST", "/topics/orders/messages?key=k1&id=i1", "text/plain", "raw \x00 bytes")
	var receipt map[string]any
	if err := json.Unmarshal([]byte(body), &receipt); status != 200 || err != nil {
		t.Fatal(status, body)
	}
	for _, field := range []string{"topic", "partition", "offset", "ts", "eps", "lamport", "term", "index", "synced", "duplicate"} {
		if _, ok := receipt[field]; !ok {
			t.Errorf("the receipt %s has no %s", body, field)
		}
	}
	status, body, _ = d.ask("POST", "/topics/orders/messages", "application/json; charset=utf-8", `{"value":"zwei","key":"k2","headers":{"b":"2","a":"1"}}`)
	if status != 200 || !strings.Contains(body, `"offset":1,`) {
		t.Fatal(status, body)
	}
	status, body, _ = d.ask("POST", "/topics/orders/messages", "application/json", `{"valueBase64":"/w=="}`)
	if status != 200 {
		t.Fatal(status, body)
	}
	status, body, _ = d.ask("POST", "/topics/orders/messages?id=i1", "", "again")
	if status != 200 || !strings.Contains(body, `"offset":0,`) || !strings.Contains(body, `"duplicate":true`) {
		t.Errorf("the same id again: %d %s", status, body)
	}

	a := d.history("/topics/orders/messages")
	if len(a.Messages) != 3 || a.Next == nil || *a.Next != 3 || a.AsOf == 0 {
		t.Fatalf("%+v", a)
	}
	if m := a.Messages[0]; m["value"] != "raw \x00 bytes" || m["key"] != "k1" || m["id"] != "i1" {
		t.Errorf("message 0: %v", m)
	}
	if m := a.Messages[1]; m["value"] != "zwei" || m["key"] != "k2" || fmt.Sprint(m["headers"]) != "map[a:1 b:2]" {
		t.Errorf("message 1: %v", m)
	}
	if m := a.Messages[2]; m["valueBase64"] != "/w==" || m["value"] != nil {
		t.Errorf("message 2: %v", m)
	}
}

// A history is read page by page, in both directions.
func TestPagesOfAHistory(t *testing.T) {
	d := newDoor(t)
	for i := range 25 {
		if status, body, _ := d.ask("POST", "/topics/t/messages", "", fmt.Sprint(i)); status != 200 {
			t.Fatal(status, body)
		}
	}
	var got []string
	for from, pages := uint64(0), 0; ; pages++ {
		a := d.history(fmt.Sprintf("/topics/t/messages?limit=10&from=%d", from))
		if len(a.Messages) == 0 {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		got = append(got, values(a)...)
		from = *a.Next
	}
	for i, v := range got {
		if v != fmt.Sprint(i) || len(got) != 25 {
			t.Fatalf("message %d of %d is %s", i, len(got), v)
		}
	}
	if a := d.history("/topics/t/messages?reverse=true&limit=2"); !slices.Equal(values(a), []string{"24", "23"}) || *a.Next != 23 {
		t.Errorf("newest first: %v, next %d", values(a), *a.Next)
	}
	if a := d.history("/topics/t/messages?last=3&read=local"); !slices.Equal(values(a), []string{"22", "23", "24"}) {
		t.Errorf("the last three: %v", values(a))
	}
	if a := d.history("/topics/t/messages?from=3&until=5&read=session"); !slices.Equal(values(a), []string{"3", "4"}) {
		t.Errorf("a range: %v", values(a))
	}
	if a := d.history("/topics/t/0/messages?last=1"); !slices.Equal(values(a), []string{"24"}) {
		t.Errorf("of partition 0: %v", values(a))
	}
	if a := d.history("/topics/t%2F0/messages?last=1"); !slices.Equal(values(a), []string{"24"}) {
		t.Errorf("of partition 0, escaped: %v", values(a))
	}
}

// Whatever is wrong with a request is said in the words of the protocol, with the
// status that belongs to them, and nothing is written.
func TestRefusalsOverHTTP(t *testing.T) {
	d := newDoor(t)
	if status, body, _ := d.ask("POST", "/topics/t/messages", "", "one"); status != 200 {
		t.Fatal(status, body)
	}
	const object = "application/json"
	for _, c := range []struct {
		method, path, kind, body string
		status                   int
		code                     string
	}{
		{"POST", "/topics/a%20b/messages", "", "x", 400, "BAD_TOPIC"},
		{"POST", "/topics/t/x/messages", "", "x", 400, "RANGE"},
		{"POST", "/topics/t/9/messages", "", "x", 400, "RANGE"},
		{"POST", "/topics/t/messages?partition=-1", "", "x", 400, "RANGE"},
		{"POST", "/topics/t/0/messages?partition=1", "", "x", 400, "SYNTAX"},
		{"POST", "/topics/t/messages?timeout=never", "", "x", 400, "SYNTAX"},
		{"POST", "/topics/t/messages?kee=k", "", "x", 400, "SYNTAX"},
		{"POST", "/topics/t/messages?key=a&key=b", "", "x", 400, "SYNTAX"},
		{"POST", "/topics/t/messages?key=a", object, `{"value":"v","key":"b"}`, 400, "SYNTAX"},
		{"POST", "/topics/t/messages", object, `{"valu":"v"}`, 400, "SYNTAX"},
		{"POST", "/topics/t/messages", object, `{"Value":"v"}`, 400, "SYNTAX"},
		{"POST", "/topics/t/messages", object, `{"value":7}`, 400, "SYNTAX"},
		{"POST", "/topics/t/messages", object, `{"value":null}`, 400, "SYNTAX"},
		{"POST", "/topics/t/messages", object, `{}`, 400, "SYNTAX"},
		{"POST", "/topics/t/messages", object, `null`, 400, "SYNTAX"},
		{"POST", "/topics/t/messages", object, `{"value":"v","valueBase64":"dg=="}`, 400, "SYNTAX"},
		{"POST", "/topics/t/messages", object, `{"valueBase64":"!"}`, 400, "SYNTAX"},
		{"POST", "/topics/t/messages", object, `{"value":"v","headers":{"a":1}}`, 400, "SYNTAX"},
		{"POST", "/topics/t/messages", object, `{"value":"v"} {}`, 400, "SYNTAX"},
		{"POST", "/topics/t/messages", object, "{\"value\":\"\xff\"}", 400, "SYNTAX"},
		{"POST", "/topics/t/messages", "", strings.Repeat("x", 2<<20), 413, "TOO_LARGE"},
		{"GET", "/topics/none/messages", "", "", 404, "NO_TOPIC"},
		{"GET", "/topics/t/messages?from=99", "", "", 400, "RANGE"},
		{"GET", "/topics/t/messages?from=yesterday", "", "", 400, "SYNTAX"},
		{"GET", "/topics/t/messages?limit=0", "", "", 400, "SYNTAX"},
		{"GET", "/topics/t/messages?limit=10001", "", "", 400, "SYNTAX"},
		{"GET", "/topics/t/messages?reverse=perhaps", "", "", 400, "SYNTAX"},
		{"GET", "/topics/t/messages?read=psychic", "", "", 400, "SYNTAX"},
		{"PUT", "/topics/t/messages", "", "", 405, "METHOD_NOT_ALLOWED"},
		{"GET", "/topics/t/stream", "", "", 426, "SYNTAX"},
		{"GET", "/topics/t/stream?since=1", "", "", 400, "SYNTAX"},
		{"GET", "/topics/t", "", "", 404, "NOT_FOUND"},
	} {
		status, body, header := d.ask(c.method, c.path, c.kind, c.body)
		if status != c.status || code(body) != c.code {
			t.Errorf("%s %s %.40q: %d %s, want %d %s", c.method, c.path, c.body, status, body, c.status, c.code)
		}
		if header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s answers %s", c.method, c.path, header.Get("Content-Type"))
		}
	}
	if a := d.history("/topics/t/messages"); len(a.Messages) != 1 {
		t.Errorf("a refusal was written: %v", a)
	}
	for _, header := range [][]string{{"Origin", "http://evil.example"}, {"Host", "evil.example"}} {
		if status, body, _ := d.ask("POST", "/topics/t/messages", "", "x", header...); status != 403 {
			t.Errorf("%v: %d %s", header, status, body)
		}
		if status, body, _ := d.ask("GET", "/topics/t/stream", "", "", append(header, "Connection", "Upgrade", "Upgrade", "websocket")...); status != 403 {
			t.Errorf("stream, %v: %d %s", header, status, body)
		}
	}
}

// A publish that finds no leader in its time was certainly not written; one that
// a leader may have taken is unknown. Reads without a majority end too.
func TestTimeoutsOverHTTP(t *testing.T) {
	d := newDoor(t)
	d.fake.OnEnsure(func(string) error { return wire.Errorf(wire.NoQuorum, "nobody leads") })
	status, body, header := d.ask("POST", "/topics/t/messages?timeout=300ms", "", "x")
	if status != 503 || code(body) != "NO_QUORUM" || header.Get("Retry-After") == "" {
		t.Errorf("no leader: %d %s", status, body)
	}
	d.fake.OnEnsure(nil)
	if status, body, _ := d.ask("POST", "/topics/t/messages", "", "x"); status != 200 {
		t.Fatal(status, body)
	}
	d.fake.Hold()
	if status, body, _ := d.ask("POST", "/topics/t/messages?timeout=300ms", "", "x"); status != 504 || code(body) != "TIMEOUT" {
		t.Errorf("unknown outcome: %d %s", status, body)
	}
	d.fake.Release()
	d.fake.OnBarrier(func(context.Context, Level, []Floor) error { return wire.Errorf(wire.NoQuorum, "no majority") })
	if status, body, _ := d.ask("GET", "/topics/t/messages", "", ""); status != 503 || code(body) != "NO_QUORUM" {
		t.Errorf("a read without a majority: %d %s", status, body)
	}
}

func (d *door) dial(path string) *websocket.Conn {
	d.t.Helper()
	u, _ := url.Parse(d.url)
	ws, resp, err := websocket.DefaultDialer.DialContext(d.t.Context(), "ws://"+u.Host+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	resp.Body.Close()
	d.t.Cleanup(func() { ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	return ws
}

// A stream has what is there, what comes, a reason where it cannot go on, and a
// goodbye when the node drains.
func TestStreamsOverWebSocket(t *testing.T) {
	d := newDoor(t)
	publish := func(v string) {
		t.Helper()
		if status, body, _ := d.ask("POST", "/topics/t/messages", "", v); status != 200 {
			t.Fatal(status, body)
		}
	}
	publish("0")
	publish("1")
	ws := d.dial("/topics/t/stream?from=earliest")
	for i := range 5 {
		if i >= 2 {
			publish(fmt.Sprint(i))
		}
		kind, frame, err := ws.ReadMessage()
		var m struct {
			Offset uint64
			Value  string
		}
		if err == nil {
			err = json.Unmarshal(frame, &m)
		}
		if err != nil || kind != websocket.TextMessage || m.Offset != uint64(i) || m.Value != fmt.Sprint(i) {
			t.Fatalf("frame %d: %s, %v", i, frame, err)
		}
	}

	lost := d.dial("/topics/t/stream?from=99")
	_, frame, err := lost.ReadMessage()
	if err != nil || code(string(frame)) != "RANGE" {
		t.Fatalf("from the future: %s, %v", frame, err)
	}
	if _, _, err := lost.ReadMessage(); !websocket.IsCloseError(err, websocket.ClosePolicyViolation) {
		t.Errorf("then: %v", err)
	}

	d.end()
	if _, frame, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("the node drains, and the stream ends with %v %s", err, frame)
	}
}

// pipes is a listener whose connections are in memory: nothing is kept on the way,
// and deadlines are of the bubble's time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours, nil
}

// A client of a stream that does not read is cut off, and gives its place back.
// Publishing and the other stream of its topic go on meanwhile.
func TestAStreamWhoseClientDoesNotReadIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{Backend: NewFake(), Clock: timesvc.NewSystem(timesvc.Skew{})})
		if err != nil {
			t.Fatal(err)
		}
		s.inside.gateway = gateway.New(gateway.Options{
			Clock: s.opts.Clock, MaxStreams: 2,
			Client: func(*http.Request) (*client.Client, func(), error) { return s.inside.client, func() {}, nil },
		})
		ctx, end := context.WithCancel(t.Context())
		tcp, doors := &pipes{nil, make(chan struct{})}, &pipes{make(chan net.Conn), make(chan struct{})}
		web := &http.Server{Handler: s.Handler()}
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.ServeTCP(ctx, tcp) })
		wg.Go(func() { _ = web.Serve(doors) })
		defer wg.Wait()
		defer web.Close()
		defer end()

		asker := &http.Client{Transport: &http.Transport{DialContext: doors.dial, DisableKeepAlives: true}}
		publish := func(value string) {
			t.Helper()
			resp, err := asker.Post("http://localhost/topics/t/messages", "text/plain", strings.NewReader(value))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
				t.Fatal(resp.Status, err)
			}
		}
		dialer := websocket.Dialer{NetDialContext: doors.dial}
		open := func() (*websocket.Conn, *http.Response, error) {
			return dialer.DialContext(t.Context(), "ws://localhost/topics/t/stream", nil)
		}
		stuck, _, err := open()
		if err != nil {
			t.Fatal(err)
		}
		other, _, err := open()
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for i := range 100 { // more messages than a subscription has credit for
			publish(fmt.Sprint(i))
			if _, frame, err := other.ReadMessage(); err != nil || !strings.Contains(string(frame), fmt.Sprintf(`"value":"%d"`, i)) {
				t.Fatalf("message %d: %s, %v", i, frame, err)
			}
		}
		if d := time.Since(begin); d >= 10*time.Second {
			t.Errorf("the others were held up for %v", d)
		}
		if _, resp, err := open(); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("a third stream: %v, %v", resp, err)
		}
		time.Sleep(10*time.Second - time.Since(begin))
		synctest.Wait()
		third, _, err := open()
		if err != nil {
			t.Fatalf("there is no place yet: %v", err)
		}
		publish("the end")
		for _, ws := range []*websocket.Conn{other, third} {
			if _, frame, err := ws.ReadMessage(); err != nil || !strings.Contains(string(frame), "the end") {
				t.Errorf("%s, %v", frame, err)
			}
			ws.Close()
		}
		if _, frame, err := stuck.ReadMessage(); err == nil {
			t.Errorf("the one that was cut off has %s", frame)
		}
	})
}

// A history that breaks in the middle ends with a broken connection, never with
// an answer that looks whole.
func TestABrokenHistoryDoesNotLookWhole(t *testing.T) {
	d := newDoor(t)
	big := strings.Repeat("x", 100_000)
	for range 10 {
		if status, body, _ := d.ask("POST", "/topics/t/messages", "", big); status != 200 {
			t.Fatal(body)
		}
	}
	d.fake.Damage("t", 0, 7)
	resp, err := http.Get(d.url + "/topics/t/messages")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%d, and %d bytes that end properly: …%s", resp.StatusCode, len(b), b[max(0, len(b)-50):])
	}
}
