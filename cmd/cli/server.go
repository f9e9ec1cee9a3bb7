package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

// maxAnswer bounds what is read of one answer of the controller.
const maxAnswer = 64 << 20

// apiPath is where the controller serves objects.
const apiPath = "/apis/" + v1alpha1.APIVersion + "/"

// server speaks to the controller's HTTP API. Its methods may be called
// concurrently; the bodies they return belong to the caller.
type server struct {
	base    string // without a final slash
	cluster string
	http    *http.Client
	clock   timesvc.Clock
}

// unreachableError says that nobody listens at the controller's address.
type unreachableError struct {
	base string
	err  error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("no controller answers at %s: %v\nStart one with \"wiberctl up\" or \"wiberctl controller\", or name another with --server.", e.base, rootCause(e.err))
}

func (e *unreachableError) Unwrap() error { return e.err }

// rootCause is the part of a network error that says something to a person.
func rootCause(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errors.New("connection refused")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// answer is a response that was read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send sends one request. The caller closes the answer's body.
func (s *server) send(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	if query == nil {
		query = url.Values{}
	}
	if s.cluster != "" && !query.Has("cluster") {
		query.Set("cluster", s.cluster)
	}
	target := s.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var payload io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		payload = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, payload)
	if err != nil {
		return nil, fmt.Errorf("--server %s: %w", s.base, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &unreachableError{s.base, err}
	}
	return resp, nil
}

// do sends one request and reads the answer whole. An answer of 400 and above
// is returned as a *serverError.
func (s *server) do(ctx context.Context, method, path string, query url.Values, body any) (answer, error) {
	resp, err := s.send(ctx, method, path, query, body)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, &unreachableError{s.base, err}
	}
	if len(read) > maxAnswer {
		return answer{}, fmt.Errorf("the answer of %s%s is longer than %d bytes", s.base, path, maxAnswer)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: read}
	if resp.StatusCode >= 400 {
		return a, decodeError(s.base, resp.Header, resp.StatusCode, read)
	}
	return a, nil
}

// decodeError makes a serverError of a refusal: a metav1.Status, the gateway's
// {"error":{code,message}}, or the answer of a program that is no controller.
func decodeError(base string, header http.Header, status int, body []byte) error {
	var refusal struct {
		v1alpha1.Status
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if strings.HasPrefix(header.Get("Content-Type"), "application/json") && json.Unmarshal(body, &refusal) == nil {
		switch {
		case refusal.Error.Message != "":
			reason := refusal.Error.Code
			if r, ok := v1alpha1.ReasonOfWord(reason); ok {
				reason = string(r) // as the same refusal is called under /apis
			}
			return &serverError{status, reason, refusal.Error.Message}
		case refusal.Message != "":
			return &serverError{status, cmp.Or(string(refusal.Reason), http.StatusText(status)), refusal.Message}
		}
	}
	return fmt.Errorf("%s answered %d %s, which is no answer of a Wiber controller", base, status, http.StatusText(status))
}

// get reads one path into v.
func (s *server) get(ctx context.Context, path string, query url.Values, v any) error {
	a, err := s.do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		return fmt.Errorf("the answer of %s%s is no JSON of a Wiber controller: %w", s.base, path, err)
	}
	return nil
}

// post asks for an action.
func (s *server) post(ctx context.Context, path string, query url.Values) error {
	_, err := s.do(ctx, http.MethodPost, path, query, nil)
	return err
}

// pause waits for d, or returns why ctx ended first.
func (s *server) pause(ctx context.Context, d time.Duration) error { return pause(ctx, s.clock, d) }

// pause waits for d, or returns why ctx ended first.
func pause(ctx context.Context, clock timesvc.Clock, d time.Duration) error {
	timer := clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C():
		return nil
	}
}
