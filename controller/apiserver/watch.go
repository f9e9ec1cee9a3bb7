package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/gateway"
)

// bookmarkEvery is how often a watch on which nothing happens says how far it has
// come. That also keeps connections alive, and shows those that are dead.
const bookmarkEvery = 20 * time.Second

// WatchOptions say what is watched.
type WatchOptions struct {
	Kind string
	// Cluster and Name, if given, are those of the objects.
	Cluster, Name string
	// Object, if it has a kind, is what events are about.
	Object v1alpha1.ObjectReference
	// Version is the resourceVersion to go on from; empty begins with all objects
	// that exist, and a bookmark.
	Version string
}

// Watch is what comes after a version. It is used by one goroutine.
type Watch interface {
	// Next returns what comes next, at least one event; it waits for it until ctx
	// ends. An error ends the watch; a *v1alpha1.Status says more.
	Next(ctx context.Context) ([]v1alpha1.WatchEvent, error)
	// Version is the version up to which Next has returned everything.
	Version() string
	// Close ends the watch.
	Close()
}

// watchParams are the parameters of a path that can be watched.
var watchParams = []string{"watch", "resourceVersion"}

// watchable makes the method that lists, or watches with ?watch=1. what says what
// of the kind a request is about.
func (s *server) watchable(list func(*http.Request) (any, error), what func(*http.Request) (WatchOptions, error), params ...string) method {
	return method{func(w http.ResponseWriter, r *http.Request) error {
		watch, err := flag(r, "watch")
		if err != nil {
			return err
		}
		if !watch {
			if r.URL.Query().Has("resourceVersion") || gateway.IsWebSocket(r) {
				return v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "a resourceVersion and a WebSocket are for a watch: say watch=1")
			}
			return reading(list)(w, r)
		}
		o, err := what(r)
		if err != nil {
			return err
		}
		o.Cluster, o.Name = cluster(r), r.PathValue("name")
		if o.Version = r.URL.Query().Get("resourceVersion"); o.Version == "0" {
			o.Version = "" // "any" in Kubernetes' words
		}
		return s.watch(w, r, o)
	}, append(params, watchParams...)}
}

// of is what a request about a kind is about.
func of(kind string) func(*http.Request) (WatchOptions, error) {
	return func(*http.Request) (WatchOptions, error) { return WatchOptions{Kind: kind}, nil }
}

// watch streams what happens until the client goes, the controller ends, or the
// watch cannot go on.
func (s *server) watch(w http.ResponseWriter, r *http.Request, o WatchOptions) error {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	watch, err := s.back.Watch(ctx, o)
	cancel()
	if err != nil {
		return err
	}
	defer watch.Close()
	if r.Method == http.MethodHead {
		return nil
	}
	st, err := s.begin(w, r, "application/x-ndjson")
	if err != nil {
		return err
	}
	code, reason := s.runWatch(r, st, watch, o.Kind)
	st.End(code, reason)
	return nil
}

// runWatch sends events until something ends it, and says what a WebSocket is
// closed with.
func (s *server) runWatch(r *http.Request, st *gateway.Stream, watch Watch, kind string) (code int, reason string) {
	for st.Context().Err() == nil {
		ctx, cancel := context.WithTimeout(st.Context(), bookmarkEvery)
		events, err := watch.Next(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && st.Context().Err() == nil {
			events, err = []v1alpha1.WatchEvent{Bookmark(kind, watch.Version())}, nil
		}
		switch {
		case err != nil && st.Context().Err() != nil:
			continue
		case err != nil:
			status := s.statusOf(r, err)
			_ = sendEvents(st, v1alpha1.WatchEvent{Type: v1alpha1.WatchError, Object: mustJSON(status)})
			return websocket.CloseTryAgainLater, status.Message
		}
		if sendEvents(st, events...) != nil {
			return websocket.ClosePolicyViolation, "too slow"
		}
	}
	return websocket.CloseGoingAway, "the controller ends"
}

// sendEvents sends events: each is a line, or a frame.
func sendEvents(st *gateway.Stream, events ...v1alpha1.WatchEvent) error {
	var lines bytes.Buffer
	for _, e := range events {
		b, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if st.Frames() {
			if err := st.Send(b); err != nil {
				return err
			}
			continue
		}
		lines.Write(b)
		lines.WriteByte('\n')
	}
	if st.Frames() {
		return nil
	}
	return st.Send(lines.Bytes())
}

// Bookmark says that everything up to a version was sent.
func Bookmark(kind, version string) v1alpha1.WatchEvent {
	type object struct {
		v1alpha1.TypeMeta
		Metadata v1alpha1.ObjectMeta `json:"metadata"`
	}
	return v1alpha1.WatchEvent{Type: v1alpha1.WatchBookmark, Object: mustJSON(object{
		v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: kind},
		v1alpha1.ObjectMeta{ResourceVersion: version},
	})}
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // values of our own types, which always encode
	}
	return b
}
