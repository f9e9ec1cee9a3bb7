// Package gateway serves topics over HTTP and WebSocket, for programs that do
// not speak the text protocol:
//
//	GET  /topics                          every topic, with its partitions
//	POST /topics/{topic}/messages         publish one message; answers its receipt
//	GET  /topics/{topic}/messages         read a range
//	GET  /topics/{topic}/stream           WebSocket: a message per text frame
//
// A topic may be followed by /partition, as everywhere. The controller serves
// these paths for a whole cluster, and each node for itself; both hand in a
// topics/client, which is the only way from here to messages. So a stream goes
// on through the death of the node behind it, without gap or repeat, and a
// message is sent again only under an identity.
//
// Every request is bounded: in size before it is read, in time by its timeout,
// in number by MaxPublishes, MaxReads and MaxStreams. A client that takes nothing is cut
// off and never waited for.
//
// Streams and Stream are every answer that goes on, body or WebSocket; the
// controller's watches and logs are such too.
//
// Not here: who may ask (the server around it checks Host and Origin), objects
// and control (controller/apiserver). The paths are described in docs/http.md.
// Start reading at Gateway.Register.
package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// Options are what a Gateway needs.
type Options struct {
	// Client returns the client of the cluster that a request means; release is
	// called when the request is done with it. Its error is answered by Fail.
	Client func(r *http.Request) (c *client.Client, release func(), err error)
	// Fail answers an error of Client that is none of the text protocol. If it is
	// nil, that is answered as NO_QUORUM.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
	// Clock is required.
	Clock timesvc.Clock
	// Params are query parameters that Client looks at.
	Params []string
	// MaxPublishes, MaxReads and MaxStreams bound what runs at the same time; 256, 256 and 1,024
	// by default. One more is answered BUSY.
	MaxPublishes, MaxReads, MaxStreams int
	// WriteWait is that of StreamOptions.
	WriteWait time.Duration
}

// Gateway answers the topic paths. It may be used for any number of requests at
// the same time.
type Gateway struct {
	o         Options
	publishes chan struct{} // holds one for each that runs
	reads     chan struct{} // likewise, histories and lists
	streams   *Streams
}

// New returns a Gateway. Close it, to end its streams.
func New(o Options) *Gateway {
	if o.MaxPublishes == 0 {
		o.MaxPublishes = 256
	}
	if o.MaxReads == 0 {
		o.MaxReads = 256
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = 1024
	}
	return &Gateway{
		o: o, publishes: make(chan struct{}, o.MaxPublishes), reads: make(chan struct{}, o.MaxReads),
		streams: NewStreams(StreamOptions{Clock: o.Clock, WriteWait: o.WriteWait, Most: o.MaxStreams}),
	}
}

// Register adds the paths below /topics/ to a mux.
func (g *Gateway) Register(mux *http.ServeMux) {
	for _, topic := range []string{"/topics/{topic}", "/topics/{topic}/{partition}"} {
		mux.Handle(topic+"/messages", methods{http.MethodGet: g.history, http.MethodPost: g.publish})
		mux.Handle(topic+"/stream", methods{http.MethodGet: g.stream})
	}
}

// RegisterList adds GET /topics to a mux.
func (g *Gateway) RegisterList(mux *http.ServeMux) {
	mux.Handle("/topics", methods{http.MethodGet: g.list})
}

// Close tells all streams to end, and returns when they have, or when ctx ends.
func (g *Gateway) Close(ctx context.Context) error { return g.streams.Close(ctx) }

// Streams returns how many streams are open.
func (g *Gateway) Streams() int { return g.streams.Len() }

// methods is what a path does for each method; HEAD is a GET without its body.
type methods map[string]func(http.ResponseWriter, *http.Request)

// ServeHTTP implements http.Handler.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if f := m[method]; f != nil {
		f(w, r)
		return
	}
	allowed := ""
	for _, name := range []string{http.MethodGet, http.MethodPost} {
		if m[name] == nil {
			continue
		}
		if allowed != "" {
			allowed += ", "
		}
		allowed += name
	}
	w.Header().Set("Allow", allowed)
	writeError(w, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", r.URL.Path+" takes "+allowed)
}

// query reads the parameters and refuses those that would have no effect.
func (g *Gateway) query(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, wire.Errorf(wire.Syntax, "the query cannot be read: %v", err)
	}
	for name, values := range q {
		switch {
		case !slices.Contains(known, name) && !slices.Contains(g.o.Params, name):
			return nil, wire.Errorf(wire.Syntax, "the parameter %q is not supported here", name)
		case len(values) > 1:
			return nil, wire.Errorf(wire.Syntax, "the parameter %q is given %d times", name, len(values))
		}
	}
	return q, nil
}

// topic reads the topic of the path.
func topic(r *http.Request) (wire.Topic, error) {
	name := r.PathValue("topic")
	if p := r.PathValue("partition"); p != "" {
		name += "/" + p
	}
	t, err := wire.ParseTopic(name)
	if err != nil {
		return t, err
	}
	return t, nil
}

func number(q url.Values, name string, most uint64) (uint64, error) {
	if !q.Has(name) {
		return 0, nil
	}
	n, err := strconv.ParseUint(q.Get(name), 10, 64)
	if err != nil || n == 0 || n > most {
		return 0, wire.Errorf(wire.Syntax, "%s=%q is not a number from 1 to %d", name, q.Get(name), most)
	}
	return n, nil
}

func position(q url.Values, name string) (wire.Position, error) {
	if !q.Has(name) {
		return wire.Position{}, nil
	}
	p, err := wire.ParsePosition(q.Get(name))
	if err != nil {
		return p, wire.Errorf(err.Code, "%s: %s", name, err.Text)
	}
	return p, nil
}

// httpStatus is the status of each code word.
var httpStatus = map[wire.Code]int{
	wire.Syntax:      http.StatusBadRequest,
	wire.UnknownVerb: http.StatusBadRequest,
	wire.BadTopic:    http.StatusBadRequest,
	wire.Range:       http.StatusBadRequest,
	wire.NoTopic:     http.StatusNotFound,
	wire.Gap:         http.StatusConflict,
	wire.TooLarge:    http.StatusRequestEntityTooLarge,
	wire.NoQuorum:    http.StatusServiceUnavailable,
	wire.Busy:        http.StatusServiceUnavailable,
	wire.Timeout:     http.StatusGatewayTimeout,
	wire.Auth:        http.StatusUnauthorized,
	wire.Denied:      http.StatusForbidden,
}

// problem is an error in the words of the text protocol. What is no *wire.Error
// comes from this side of the nodes: none of them could be asked.
func problem(err error) *wire.Error {
	var refused *wire.Error
	var failed *client.PublishError
	known := errors.As(err, &refused)
	if errors.As(err, &failed) && failed.Class != wire.NotWritten {
		if known && refused.Code.Class() == failed.Class {
			return refused
		}
		return wire.Errorf(wire.Timeout, "the outcome is unknown: publish it again with the same id (%v)", failed.Err)
	}
	if known {
		return refused
	}
	return wire.Errorf(wire.NoQuorum, "no node of the cluster answered in time: %v", err)
}

// NoQuorum is the error of a request that no node can serve now, with the reason.
func NoQuorum(format string, args ...any) error { return wire.Errorf(wire.NoQuorum, format, args...) }

// fail answers an error.
func fail(w http.ResponseWriter, err error) { Answer(w, problem(err)) }

// Answer answers an error of the text protocol, with the status that belongs to
// its code word.
func Answer(w http.ResponseWriter, e *wire.Error) {
	status, ok := httpStatus[e.Code]
	if !ok {
		status = http.StatusInternalServerError
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeError(w, status, string(e.Code), e.Text)
}

// client finds the client that a request means, or answers why there is none.
func (g *Gateway) client(w http.ResponseWriter, r *http.Request) (*client.Client, func(), bool) {
	c, release, err := g.o.Client(r)
	if err == nil {
		return c, release, true
	}
	var refused *wire.Error
	if g.o.Fail != nil && !errors.As(err, &refused) {
		g.o.Fail(w, r, err)
	} else {
		fail(w, err)
	}
	return nil, nil, false
}

// within returns the request's context, which ends after d, and lifts the
// server's deadlines, which may be shorter.
func (g *Gateway) within(w http.ResponseWriter, r *http.Request, d time.Duration) (context.Context, context.CancelFunc) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // not every writer has them
	_ = control.SetWriteDeadline(time.Time{})
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := g.o.Clock.AfterFunc(d, func() { cancel(errTooLong) })
	return ctx, func() { timer.Stop(); cancel(nil) }
}

var errTooLong = errors.New("it took too long")
