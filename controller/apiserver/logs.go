package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/gateway"
)

// stillThere is how often a log that is followed, and to which nothing is
// written, is asked whether its node still exists.
const stillThere = 2 * time.Second

// NodeDeletedLine is the last line of a log that was followed until its node was
// deleted.
const NodeDeletedLine = "--- the node was deleted ---"

func (s *server) routeLogs(mux *http.ServeMux) {
	s.route(mux, "/nodes/{id}/logs", methods{http.MethodGet: {s.logs, []string{"follow", "tail", "previous", "since", "resume"}}})
}

// logs answers with lines of a node's log: as plain text, or as WebSocket text
// frames of one or more whole lines. Lines that the log does not hold, such as
// the one that says that a new incarnation begins, start with "--- ".
func (s *server) logs(w http.ResponseWriter, r *http.Request) error {
	o, err := s.logOptions(r)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	path, err := s.back.NodeLog(cluster(r), id)
	if err != nil {
		return err
	}
	log, err := proc.ReadLog(path, o)
	switch {
	case errors.Is(err, proc.ErrNoLog), errors.Is(err, proc.ErrNoPreviousLog):
		return v1alpha1.NewStatus(v1alpha1.ReasonNotFound, "nodes %q: %v", id, err)
	case err != nil:
		return fmt.Errorf("read the log of node %s: %w", id, err)
	}
	defer log.Close()
	if r.Method == http.MethodHead {
		return nil
	}
	st, err := s.begin(w, r, "text/plain; charset=utf-8")
	if err != nil {
		return err
	}
	code, reason := s.runLog(r, st, log)
	st.End(code, reason)
	return nil
}

// logOptions reads the parameters; without any, the whole log is meant.
func (s *server) logOptions(r *http.Request) (o proc.LogOptions, err error) {
	o = proc.LogOptions{Tail: -1, Clock: s.clock}
	if o.Follow, err = flag(r, "follow"); err != nil {
		return o, err
	}
	if o.Previous, err = flag(r, "previous"); err != nil {
		return o, err
	}
	query := r.URL.Query()
	if query.Has("tail") {
		if o.Tail, err = strconv.Atoi(query.Get("tail")); err != nil || o.Tail < 0 {
			return o, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "tail is %q; it is a number of lines", query.Get("tail"))
		}
	}
	if query.Has("since") {
		if o.Since, err = proc.ParseLogSince(query.Get("since"), s.clock.Now()); err != nil {
			return o, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "since: %v", err)
		}
	}
	if query.Has("resume") {
		if o.Resume, err = time.Parse(time.RFC3339Nano, query.Get("resume")); err != nil {
			return o, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "resume is %q; it is the time of the last line that was seen, as in 2026-11-22T10:00:00Z", query.Get("resume"))
		}
		if !o.Follow || query.Has("tail") || query.Has("since") {
			return o, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "resume goes on where a log was followed to: it belongs to follow, without tail and since")
		}
	}
	if o.Follow && o.Previous {
		return o, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "follow and previous: nothing is added to the log of an incarnation that has ended")
	}
	return o, nil
}

// runLog sends lines until the log, the client or the node is gone, and says what
// a WebSocket is closed with.
func (s *server) runLog(r *http.Request, st *gateway.Stream, log *proc.LogReader) (code int, reason string) {
	for {
		ctx, cancel := context.WithTimeout(st.Context(), stillThere)
		lines, err := log.Next(ctx)
		cancel()
		switch {
		case st.Context().Err() != nil:
			return websocket.CloseGoingAway, "the controller ends"
		case errors.Is(err, io.EOF):
			return websocket.CloseNormalClosure, "the log ends here"
		case errors.Is(err, context.DeadlineExceeded):
			if _, err := s.back.NodeLog(cluster(r), r.PathValue("id")); v1alpha1.ReasonOf(err) != v1alpha1.ReasonNotFound {
				continue
			}
			_ = st.Send([]byte(NodeDeletedLine + "\n"))
			return websocket.CloseNormalClosure, "the node was deleted"
		case err != nil:
			s.log.Error("read a log", "node", r.PathValue("id"), "err", err)
			_ = st.Send(fmt.Appendf(nil, "--- the log cannot be read: %v ---\n", err))
			return websocket.CloseInternalServerErr, "the log cannot be read"
		}
		if st.Frames() {
			lines = bytes.ToValidUTF8(lines, []byte("\uFFFD")) // or a browser closes the connection
		}
		if st.Send(lines) != nil {
			return websocket.ClosePolicyViolation, "too slow"
		}
	}
}
