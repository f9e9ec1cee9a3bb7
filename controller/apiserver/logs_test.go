package apiserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

// logged makes a log of two incarnations.
func logged(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "console.log")
	writeLog(t, path, "before\n")
	writeLog(t, path, "time=2026-11-22T10:00:00.000Z one\ntime=2026-11-22T10:00:01.000Z two\nthree\n")
	return path
}

// writeLog writes the log of a new incarnation.
func writeLog(t *testing.T, path, text string) {
	t.Helper()
	f, err := proc.OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
}

func TestLogsAnswerPlainText(t *testing.T) {
	const one, two = "time=2026-11-22T10:00:00.000Z one\n", "time=2026-11-22T10:00:01.000Z two\nthree\n"
	path := logged(t)
	for _, c := range []struct {
		query string
		code  int
		body  string
	}{
		{"", 200, one + two},
		{"?tail=1", 200, "three\n"},
		{"?tail=0", 200, ""},
		{"?since=2026-11-22T10:00:00.5Z", 200, two},
		{"?since=1h", 200, ""},
		{"?previous=1&cluster=demo", 200, "before\n"},
		{"?tail=-1", 400, `tail is \"-1\"; it is a number of lines`},
		{"?tail=x", 400, "tail is"},
		{"?since=x", 400, "since: "},
		{"?follow=maybe", 400, "follow is"},
		{"?follow=1&previous=1", 400, "nothing is added"},
		{"?follow=1&resume=yesterday", 400, "resume is"},
		{"?resume=2026-11-22T10:00:00Z", 400, "belongs to follow"},
		{"?follow=1&tail=3&resume=2026-11-22T10:00:00Z", 400, "without tail and since"},
		{"?lines=3", 400, "not supported here"},
	} {
		f := &fakeBackend{log: path}
		w := request(f, http.MethodGet, "/nodes/n2/logs"+c.query, "", nil)
		if w.Code != c.code || c.code == 200 && w.Body.String() != c.body || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%q: %d %s", c.query, w.Code, w.Body)
		}
		if c.code == 200 && !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%q: %v", c.query, w.Header())
		}
	}
	if w := request(&fakeBackend{log: path}, http.MethodPost, "/nodes/n2/logs", "", nil); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

func TestLogsThatAreNotThereAreNotFound(t *testing.T) {
	only := filepath.Join(t.TempDir(), "console.log")
	writeLog(t, only, "one\n")
	for _, c := range []struct{ path, query, says string }{
		{filepath.Join(t.TempDir(), "console.log"), "", "never started"},
		{only, "?previous=1", "there is no log of an incarnation before the last one"},
	} {
		w := request(&fakeBackend{log: c.path}, http.MethodGet, "/nodes/n2/logs"+c.query, "", nil)
		if w.Code != 404 || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%q: %d %s", c.query, w.Code, w.Body)
		}
	}
	w := request(&fakeBackend{err: v1alpha1.NotFound(v1alpha1.KindNode, "n9")}, http.MethodGet, "/nodes/n9/logs", "", nil)
	if w.Code != 404 || !strings.Contains(w.Body.String(), `nodes \"n9\" not found`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A log that is followed goes on, as lines or as frames of whole lines, through a
// new incarnation, and ends with the controller.
func TestLogsAreFollowed(t *testing.T) {
	both(t, func(t *testing.T, s *watchServer, how string) {
		s.back.log = logged(t)
		url := s.url + "/nodes/n2/logs?follow=1&tail=1"
		var from io.Reader
		if how == "lines" {
			resp, err := http.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			from = resp.Body
		} else {
			ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(url, "http"), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			from = websocket.JoinMessages(ws, "")
		}
		lines := bufio.NewScanner(from)
		expect := func(want ...string) {
			t.Helper()
			for _, want := range want {
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("got %q, %v, want %q", lines.Text(), lines.Err(), want)
				}
			}
		}
		expect("three")
		f, err := os.OpenFile(s.back.log, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.WriteString(f, "fo\xffur\nfive"); err != nil {
			t.Fatal(err)
		}
		if how == "lines" {
			expect("fo\xffur")
		} else {
			expect("fo\uFFFDur") // a browser would close the connection otherwise
		}
		writeLog(t, s.back.log, "six\n")
		expect("five", "--- a new incarnation begins here; the one before is in console.2.log ---", "six")
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if lines.Scan() {
			t.Errorf("then %q", lines.Text())
		}
	})
}

// A follower that does not read is cut off; another one of the same log gets its
// lines meanwhile.
func TestAFollowerThatDoesNotReadIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := &fakeBackend{log: logged(t)}
		h := Handler(Options{Backend: back, Listen: host, Clock: timesvc.NewSystem(timesvc.Skew{})})
		follow := func(w http.ResponseWriter) (done chan time.Duration, leave func()) {
			ctx, cancel := context.WithCancel(t.Context())
			r := httptest.NewRequestWithContext(ctx, "GET", "/nodes/n2/logs?follow=1&tail=1", nil)
			r.Host = host
			done = make(chan time.Duration, 1)
			begin := time.Now()
			go func() {
				h.ServeHTTP(w, r)
				done <- time.Since(begin)
			}()
			return done, cancel
		}
		cut, _ := follow(&slowWriter{ResponseRecorder: httptest.NewRecorder()})
		other := httptest.NewRecorder()
		left, leave := follow(other)
		time.Sleep(time.Second)
		f, err := os.OpenFile(back.log, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want := "three\n"
		for i := range 9 { // until just before the other one is cut off
			line := fmt.Sprintf("line %d\n", i)
			want += line
			if _, err := io.WriteString(f, line); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if got := other.Body.String(); got != want {
				t.Fatalf("the other one has %q, want %q", got, want)
			}
		}
		if d := <-cut; d < 11*time.Second || d > 12*time.Second {
			t.Errorf("cut off after %v", d)
		}
		leave()
		<-left
	})
}
