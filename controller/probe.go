package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

const (
	// probeTimeout is how long a node may take to say how it is.
	probeTimeout = time.Second
	// maxNodeAnswer bounds what is read of a node's answer: a list of a million
	// topics is longer, and is refused rather than kept in memory.
	maxNodeAnswer = 64 << 20
)

// nodeClient asks nodes over their HTTP ports. Addresses are host and port.
type nodeClient interface {
	// Ready asks /readyz: nil when the node is ready, a *notReadyError when it
	// answers that it is not.
	Ready(ctx context.Context, addr string) error
	// Status asks /v1/status.
	Status(ctx context.Context, addr string) (nodeStatus, error)
	// Identity asks /v1/identity.
	Identity(ctx context.Context, addr string) (nodeIdentity, error)
	// Topic sends a request about topics and decodes the answer into the value.
	Topic(ctx context.Context, addr string, r topicRequest, into any) (header http.Header, err error)
}

// topicRequest is a request to a node's /v1/topics.
type topicRequest struct {
	method string
	name   string // of the topic; empty for the list
	query  url.Values
	body   any
}

// nodeStatus is what the controller reads of a node's /v1/status.
type nodeStatus struct {
	Node        string        `json:"node"`
	Cluster     string        `json:"cluster"`
	Version     string        `json:"version"`
	Incarnation uint64        `json:"incarnation"`
	Groups      []groupStatus `json:"groups"`
	// Gossip is how it sees the other nodes; nil if it does not say.
	Gossip []gossipStatus `json:"gossip"`
}

type groupStatus struct {
	ID      string `json:"id"`
	Role    string `json:"role"`
	Leader  string `json:"leader"`
	Term    uint64 `json:"term"`
	Commit  uint64 `json:"commit"`
	Applied uint64 `json:"applied"`
}

// catalogue is the id of the catalogue's group.
const catalogue = "catalogue"

// nodeIdentity is a node's answer of /v1/identity.
type nodeIdentity struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	UID     string `json:"uid"`
	// Incarnation counts the starts of the node's folder.
	Incarnation uint64 `json:"incarnation"`
	PID         int    `json:"pid"`
	BootID      string `json:"bootId"`
	DataDir     string `json:"dataDir"`
}

// notReadyError is a node's answer that it is not ready, and why.
type notReadyError struct{ why string }

func (e *notReadyError) Error() string { return e.why }

// nodeError is an error that a node answered.
type nodeError struct {
	status  int
	code    string
	message string
}

func (e *nodeError) Error() string { return e.message }

// httpNodes is the real nodeClient.
type httpNodes struct{ client *http.Client }

func newHTTPNodes() *httpNodes {
	return &httpNodes{&http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: probeTimeout}).DialContext,
			MaxIdleConnsPerHost: 4,
			IdleConnTimeout:     30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (h *httpNodes) Ready(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := h.do(ctx, http.MethodGet, addr, "/readyz", nil, nil, nil)
	var ne *nodeError
	if errors.As(err, &ne) {
		return &notReadyError{ne.message}
	}
	return err
}

func (h *httpNodes) Status(ctx context.Context, addr string) (st nodeStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err = h.do(ctx, http.MethodGet, addr, "/v1/status", nil, nil, &st)
	return st, err
}

func (h *httpNodes) Identity(ctx context.Context, addr string) (id nodeIdentity, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err = h.do(ctx, http.MethodGet, addr, "/v1/identity", nil, nil, &id)
	return id, err
}

func (h *httpNodes) Topic(ctx context.Context, addr string, r topicRequest, into any) (http.Header, error) {
	target := "/v1/topics"
	if r.name != "" {
		target += "/" + r.name
	}
	return h.do(ctx, r.method, addr, target, r.query, r.body, into)
}

// do sends one request and decodes the answer into the value, if there is one.
// An answer of 400 and above is a *nodeError.
func (h *httpNodes) do(ctx context.Context, method, addr, path string, query url.Values, body, into any) (http.Header, error) {
	u := url.URL{Scheme: "http", Host: addr, Path: path, RawQuery: query.Encode()}
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload = strings.NewReader(string(b))
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), payload)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxNodeAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(answer) > maxNodeAnswer:
		return nil, fmt.Errorf("the answer of %s is longer than %d bytes", addr, maxNodeAnswer)
	case resp.StatusCode >= http.StatusBadRequest:
		return nil, refusal(resp.StatusCode, answer)
	case into == nil:
		return resp.Header, nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return nil, fmt.Errorf("the answer of %s is no answer of a node: %w", addr, err)
	}
	return resp.Header, nil
}

// refusal reads {"error":{"code":…,"message":…}}, or takes the first line.
func refusal(status int, answer []byte) *nodeError {
	var body struct {
		Error struct{ Code, Message string }
	}
	if json.Unmarshal(answer, &body) == nil && body.Error.Message != "" {
		return &nodeError{status, body.Error.Code, body.Error.Message}
	}
	const longest = 200
	line, _, _ := strings.Cut(strings.TrimSpace(string(answer[:min(len(answer), longest)])), "\n")
	if line == "" {
		line = http.StatusText(status)
	}
	return &nodeError{status, "", line}
}

// address returns where a node's port of that number is.
func address(n v1alpha1.NodeSpec, port int) string {
	return net.JoinHostPort(n.Host, strconv.Itoa(port))
}
