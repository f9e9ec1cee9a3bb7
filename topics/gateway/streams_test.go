package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wiber/wiber/timesvc"
)

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

// streamsOf serves streams of each kind, fed by feed, until the test ends.
func streamsOf(t *testing.T, feed func(*http.Request, *Stream)) (p *pipes, s *Streams) {
	p = &pipes{make(chan net.Conn), make(chan struct{})}
	s = NewStreams(StreamOptions{Clock: timesvc.NewSystem(timesvc.Skew{})})
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st, err := s.Open(w, r)
		if err != nil {
			fail(w, err)
			return
		}
		if err := st.Begin("text/plain", nil); err != nil {
			t.Error(err)
		}
		feed(r, st)
		st.End(websocket.CloseNormalClosure, "the end")
	})}
	served := make(chan error)
	go func() { served <- web.Serve(p) }()
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		web.Close()
		<-served
	})
	return p, s
}

// open opens a stream and returns what reads it, line by line or frame by frame.
func (p *pipes) open(t *testing.T, how, path string) (next func() (string, error), conn net.Conn) {
	t.Helper()
	if how == "frames" {
		dialer := websocket.Dialer{NetDialContext: p.dial}
		ws, _, err := dialer.DialContext(t.Context(), "ws://test"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return func() (string, error) {
			_, text, err := ws.ReadMessage()
			return strings.TrimSpace(string(text)), err
		}, ws.NetConn()
	}
	c, _ := p.dial(t.Context(), "", "")
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() (string, error) {
		if !lines.Scan() {
			return "", errors.Join(lines.Err(), io.EOF)
		}
		return lines.Text(), nil
	}, c
}

// A client that takes nothing is cut off when its time is over, to the second,
// and everybody else gets what is theirs when it is due.
func TestAClientThatTakesNothingIsCutOff(t *testing.T) {
	for _, how := range []string{"lines", "frames"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cut := make(chan time.Duration, 1)
				p, s := streamsOf(t, func(r *http.Request, st *Stream) {
					stuck := r.URL.Path == "/stuck"
					text := strings.Repeat("x", 8<<10) // more than anybody buffers
					for i := 0; ; i++ {
						if !stuck {
							text = fmt.Sprint(i)
							time.Sleep(time.Second)
						}
						begin := time.Now()
						if st.Send([]byte(text+"\n")) != nil {
							if stuck {
								cut <- time.Since(begin)
							}
							break
						}
					}
					if st.Context().Err() == nil {
						t.Error("a stream that is cut off goes on")
					}
				})
				_, conn := p.open(t, how, "/stuck")
				next, other := p.open(t, how, "/")
				for i := range 30 {
					begin := time.Now()
					if got, err := next(); err != nil || got != fmt.Sprint(i) {
						t.Fatalf("%q, %v", got, err)
					}
					if d := time.Since(begin); d != time.Second {
						t.Errorf("%d came after %v", i, d)
					}
				}
				if d := <-cut; d != writeWait {
					t.Errorf("cut off after %v", d)
				}
				synctest.Wait()
				if s.open != 1 {
					t.Errorf("%d streams are open, want the other one", s.open)
				}
				if n, err := io.Copy(io.Discard, conn); err != nil || n > 8<<10 {
					t.Errorf("%d bytes were kept for it, %v", n, err)
				}
				other.Close()
			})
		})
	}
}

// A WebSocket whose client is gone without a word is noticed by its silence, also
// while there is nothing to send; one that answers pings stays.
func TestASilentWebSocketIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Duration, 1)
		p, _ := streamsOf(t, func(r *http.Request, st *Stream) {
			begin := time.Now()
			<-st.Context().Done()
			if r.URL.Path == "/silent" {
				ended <- time.Since(begin)
			}
		})
		_, silent := p.open(t, "frames", "/silent")
		go func() { _, _ = io.Copy(io.Discard, silent) }() // it takes pings, and answers none
		next, there := p.open(t, "frames", "/there")
		gone := make(chan error, 1)
		go func() { _, err := next(); gone <- err }()
		if d := <-ended; d != pongWait {
			t.Errorf("noticed after %v", d)
		}
		time.Sleep(10 * pongWait)
		select {
		case err := <-gone:
			t.Errorf("one that answers is gone: %v", err)
		default:
		}
		there.Close()
		<-gone
	})
}

func TestStreamsAreBoundedAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := streamsOf(t, func(_ *http.Request, st *Stream) { <-st.Context().Done() })
		s.o.Most = 1
		next, conn := p.open(t, "frames", "/")
		refused := func() {
			t.Helper()
			web := &http.Client{Transport: &http.Transport{DialContext: p.dial, DisableKeepAlives: true}}
			resp, err := web.Get("http://test/")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); resp.StatusCode != 503 || !strings.Contains(string(body), "BUSY") {
				t.Errorf("%d %s %v", resp.StatusCode, body, err)
			}
		}
		refused()
		closed := make(chan error)
		go func() { closed <- s.Close(t.Context()) }()
		if _, err := next(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Errorf("it ends with %v", err)
		}
		conn.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
		refused()
	})
}
