package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// reconnectEvery is the pause between two tries to reach a controller that
// answered before.
const reconnectEvery = 250 * time.Millisecond

// open begins to read an answer that goes on. The caller closes it.
func (s *server) open(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	resp, err := s.send(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 400 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, &unreachableError{s.base, err}
	}
	return nil, decodeError(s.base, resp.Header, resp.StatusCode, read)
}

// stopError ends a stream that is kept open. nil inside is no error.
type stopError struct{ err error }

func (e *stopError) Error() string { return fmt.Sprint(e.err) }

// keeper keeps streams of the controller open: it opens one that broke again, as
// often as it takes, and says so once, however many there are.
type keeper struct {
	server *server
	stderr io.Writer

	mu     sync.Mutex // guards broken
	broken int        // streams that broke and are not open again
}

// keep opens a stream and hands it to read, again and again, until ctx ends,
// which is no error, or read returns a *stopError. A controller that does not
// answer the first time is an error, and so is a refusal.
func (k *keeper) keep(ctx context.Context, open func() (io.ReadCloser, error), read func(io.Reader) error) error {
	broken := false
	defer func() {
		if broken {
			k.count(-1, "")
		}
	}()
	for first := true; ; first = false {
		body, err := open()
		if err == nil {
			if broken {
				broken = false
				k.count(-1, "connected again")
			}
			err = read(body)
			body.Close()
			var stop *stopError
			if errors.As(err, &stop) {
				return stop.err
			}
			if ctx.Err() == nil {
				broken = true
				k.count(+1, "the connection to the controller at "+k.server.base+" is gone; trying again")
			}
		}
		var refused *serverError
		switch {
		case ctx.Err() != nil:
			return nil
		case broken && errors.As(err, &refused) && refused.Code == http.StatusServiceUnavailable:
		case broken && !errors.As(err, &refused):
		case first || err != nil:
			return err
		}
		if k.server.pause(ctx, reconnectEvery) != nil {
			return nil
		}
	}
}

// count notes that a stream broke or is back, and says so for the first and the
// last of them.
func (k *keeper) count(change int, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.broken
	k.broken += change
	if text != "" && (before == 0 || k.broken == 0) {
		fmt.Fprintln(k.stderr, text)
	}
}
