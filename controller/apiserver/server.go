// Package apiserver answers the controller's HTTP API: control of nodes, and
// objects in the manner of Kubernetes.
//
//	GET  / and /ui/…                              the web page
//	GET  /healthz /readyz /metrics                the controller itself
//	GET  /cluster/nodes                           all nodes, sorted by id
//	POST /cluster/start /cluster/stop             every node
//	POST /cluster/shutdown[?purge=true]           every node, then the controller
//	POST /cluster/node/{id}/kill[?signal=KILL]    now, as a fault
//	POST /cluster/node/{id}/restart[?force=true]  drain, stop, start
//	POST /cluster/node/{id}/stop | start          change what is wanted
//	GET | PUT | DELETE /apis/wiber.dev/v1alpha1/{clusters|nodes|topics}[/{name}]
//	GET  /apis/wiber.dev/v1alpha1/events[/{name}] what happened; also at /events
//	GET  …/{clusters|nodes|topics|events}[/{name}]?watch=1[&resourceVersion=…]
//	GET  /nodes/{id}/logs[?follow=1&tail=200]     what its process wrote
//	     /topics …                                messages: package topics/gateway
//	GET  /nodes/{id}/…                            a node's own HTTP
//
// Every path but the first two lines takes ?cluster=, needed only while several
// clusters make it unclear what is meant. A PUT takes ?dryRun=All and says in
// the header Wiber-Result whether the object was created, configured or left
// unchanged; what the person should know besides is in Warning headers. DELETE
// takes dryRun too, for a cluster ?purge-data=true, and for a topic
// ?allow-data-loss=true. Events take ?for=node/n2. A parameter that a path does not know is refused:
// nothing is accepted without effect.
//
// A watch is a stream of {"type":…,"object":…}: lines, or text frames where a
// WebSocket was asked for. Without a resourceVersion it begins with ADDED for
// all that exists and a BOOKMARK; with one, after it. A BOOKMARK also comes every
// 20 s when nothing happens. ERROR with a Status is the last event of one that
// cannot go on: reason Expired says to list again. A watch of topics, of one
// cluster, goes on from the version of a list or BOOKMARK, not from a topic's own,
// which has no order. A client that takes nothing for
// 10 s is cut off.
//
// Logs are plain text, or text frames of whole lines. tail, since (5m or a time),
// previous (the incarnation before) and follow choose; without them it is the whole
// log of the last incarnation. Following goes on through new incarnations. After a
// break resume, the time of the last line that was seen, goes on with what follows in
// the incarnation that wrote it, beginning with lines of that time. Lines that begin
// with "--- " are the controller's own.
//
// Errors under /apis are a metav1.Status with Kubernetes' reasons; everywhere else
// {"error":{"code":…,"message":…}}, whose codes are those of the nodes and of the
// text protocol (v1alpha1.StatusReason.Word).
//
// Safe to leave open on loopback: a request whose Host is neither a loopback
// name nor the listen address, or whose Origin is another site's, gets 403
// before anything is looked at, and a GET changes nothing.
//
// Not here: what the requests do (Backend, implemented by package controller).
// Start reading at New.
package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/gateway"
	"github.com/wiber/wiber/ui"
)

const (
	// ServerName is the Server header of every answer: a client tells the
	// controller from another program on its port by it.
	ServerName = "wiber-controller"
	// ResultHeader says what a PUT did.
	ResultHeader = "Wiber-Result"

	apiPrefix = "/apis/" + v1alpha1.APIVersion + "/"

	maxHeaderBytes = 64 << 10
	readTimeout    = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	// actTimeout bounds what waits for processes. It is longer than the longest
	// grace period, after which a process is killed.
	actTimeout = time.Duration(v1alpha1.MaxTerminationGrace) + time.Minute
	// askTimeout bounds what waits for a node's answer.
	askTimeout = 15 * time.Second
)

// Options are what a server needs.
type Options struct {
	Backend Backend
	// Listen is the address that it listens on: a Host header value that is
	// accepted.
	Listen string
	// AllowedHosts are further Host header values, without a port.
	AllowedHosts []string
	// Page answers "/" and what is below ui.Prefix; nil for no page.
	Page http.Handler
	// WriteWait is how long the client of an answer that goes on may take nothing
	// before it is cut off; 10 s by default.
	WriteWait time.Duration
	// Clock is the machine's unless given.
	Clock timesvc.Clock
	// Logger gets what goes wrong inside; nil for nothing.
	Logger *slog.Logger
}

// Server serves the API. WebSockets and other answers that go on end with it.
type Server struct {
	http    *http.Server
	streams *gateway.Streams
	gateway *gateway.Gateway
}

// New returns the server, to be started with Serve.
func New(o Options) *Server {
	s := newServer(o)
	return &Server{&http.Server{
		Handler:           s.handler(o),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      actTimeout + readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger(o).Handler(), slog.LevelWarn),
	}, s.streams, s.gateway}
}

// Serve answers requests until Shutdown or Close, and then returns
// http.ErrServerClosed.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(l) }

// Shutdown tells answers that go on to end, and returns when every request is
// answered, or when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	err := errors.Join(s.streams.Close(ctx), s.gateway.Close(ctx))
	return errors.Join(err, s.http.Shutdown(ctx))
}

// Close cuts every connection that still answers a request.
func (s *Server) Close() error { return s.http.Close() }

func logger(o Options) *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

// server routes requests. Its only state are the streams that are open.
type server struct {
	back    Backend
	clock   timesvc.Clock
	log     *slog.Logger
	guard   guard
	streams *gateway.Streams
	gateway *gateway.Gateway
	metrics *metrics
}

func newServer(o Options) *server {
	if o.Clock == nil {
		o.Clock = timesvc.NewSystem(timesvc.Skew{})
	}
	s := &server{back: o.Backend, clock: o.Clock, log: logger(o), guard: newGuard(o.Listen, o.AllowedHosts)}
	s.streams = gateway.NewStreams(gateway.StreamOptions{Clock: o.Clock, WriteWait: o.WriteWait})
	s.gateway = s.newGateway(o.WriteWait)
	s.metrics = newMetrics(s)
	return s
}

// Handler returns the API as a handler. An answer that goes on ends only when the
// client goes.
func Handler(o Options) http.Handler { return newServer(o).handler(o) }

func (s *server) handler(o Options) http.Handler {
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) error {
		return answer(w, http.StatusOK, map[string]string{"status": "ok"})
	}
	s.route(mux, "/healthz", methods{http.MethodGet: {ok, nil}})
	s.route(mux, "/readyz", methods{http.MethodGet: {ok, nil}})
	s.route(mux, "/metrics", methods{http.MethodGet: {s.getMetrics, nil}})
	s.routeControl(mux)
	s.routeObjects(mux)
	s.routeEvents(mux)
	s.routeLogs(mux)
	s.routeGateway(mux)
	if o.Page != nil {
		mux.Handle("/{$}", o.Page)
		mux.Handle(ui.Prefix, o.Page)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, v1alpha1.NewStatus(v1alpha1.ReasonNotFound, "there is nothing at %s", r.URL.Path))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := mux.Handler(r)
		path := pattern
		if pattern == "" || pattern == "/" {
			path = otherPath
		}
		s.metrics.count(w, r, path, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Server", ServerName)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Cache-Control", "no-store")
			if err := s.guard.check(r); err != nil {
				s.fail(w, r, err)
				return
			}
			if pattern == "" {
				s.fail(w, r, v1alpha1.NewStatus(v1alpha1.ReasonNotFound, "there is nothing at %s", r.URL.Path))
				return
			}
			mux.ServeHTTP(w, r)
		})
	})
}

// method is what one method of a path does, and the query parameters it knows
// besides cluster.
type method struct {
	do     func(http.ResponseWriter, *http.Request) error
	params []string
}

type methods map[string]method

// route answers a path by method; HEAD is GET, another one is refused.
func (s *server) route(mux *http.ServeMux, path string, by methods) {
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		name := r.Method
		if name == http.MethodHead {
			name = http.MethodGet
		}
		m, ok := by[name]
		if !ok {
			var allowed []string
			for name := range by {
				allowed = append(allowed, name)
			}
			slices.Sort(allowed)
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			s.fail(w, r, v1alpha1.NewStatus(v1alpha1.ReasonMethodNotAllowed, "%s is not possible at %s, but %s", r.Method, r.URL.Path, strings.Join(allowed, ", ")))
			return
		}
		err := checkQuery(r, m.params)
		if err == nil {
			err = m.do(w, r)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// checkQuery refuses parameters that would have no effect.
func checkQuery(r *http.Request, known []string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "the query cannot be read: %v", err)
	}
	for name, values := range query {
		switch {
		case name != "cluster" && !slices.Contains(known, name):
			return v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "the parameter %q is not supported here", name)
		case len(values) > 1:
			return v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "the parameter %q is given %d times", name, len(values))
		}
	}
	return nil
}

// flag reads a parameter that is true or false, or absent.
func flag(r *http.Request, name string) (bool, error) {
	switch v := r.URL.Query().Get(name); {
	case v == "true" || v == "1":
		return true, nil
	case v == "false" || v == "0" || v == "" && !r.URL.Query().Has(name):
		return false, nil
	default:
		return false, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "%s is %q; it is true or false", name, v)
	}
}

// dryRun reads ?dryRun=All.
func dryRun(r *http.Request) (bool, error) {
	switch v := r.URL.Query().Get("dryRun"); {
	case v == "All":
		return true, nil
	case v == "" && !r.URL.Query().Has("dryRun"):
		return false, nil
	default:
		return false, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "dryRun is %q; its only value is All", v)
	}
}

// body reads a request whole.
func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, manifests.MaxFileBytes))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, v1alpha1.NewStatus(v1alpha1.ReasonTooLarge, "the request is longer than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "read the request: %v", err)
	}
	return b, nil
}

// begin begins an answer that goes on. After an error nothing was answered yet.
func (s *server) begin(w http.ResponseWriter, r *http.Request, contentType string) (*gateway.Stream, error) {
	st, err := s.streams.Open(w, r)
	if err != nil {
		return nil, v1alpha1.NewStatus(v1alpha1.ReasonServiceUnavailable, "the controller ends")
	}
	if err := st.Begin(contentType, http.Header{"Server": {ServerName}}); err != nil {
		st.End(0, "")
		return nil, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "%v", err)
	}
	return st, nil
}

// answer writes a value as JSON.
func answer(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client is gone: nobody to tell
	return nil
}

// fail answers an error in the form of the path. What is no Status is logged,
// and told without its inside.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	st := s.statusOf(r, err)
	if st.Reason == v1alpha1.ReasonServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if strings.HasPrefix(r.URL.Path, "/apis/") || r.URL.Path == "/apis" {
		_ = answer(w, int(st.Code), st) // plain values always encode
		return
	}
	type body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	_ = answer(w, int(st.Code), map[string]body{"error": {st.Reason.Word(), st.Message}})
}

// statusOf makes a Status of an error.
func (s *server) statusOf(r *http.Request, err error) *v1alpha1.Status {
	var st *v1alpha1.Status
	switch {
	case errors.As(err, &st):
		return st
	case errors.Is(err, context.Canceled):
		return v1alpha1.NewStatus(v1alpha1.ReasonTimeout, "the request was given up")
	case errors.Is(err, context.DeadlineExceeded):
		return v1alpha1.NewStatus(v1alpha1.ReasonTimeout, "it is not done in time; it goes on")
	}
	s.log.Error("request", "action", r.Method+" "+r.URL.Path, "err", err)
	return v1alpha1.NewStatus(v1alpha1.ReasonInternalError, "%v", err)
}
