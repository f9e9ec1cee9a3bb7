package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// ErrExpired means that changes from the wanted version on are not known any
// more, or not yet: whoever wants to follow lists anew.
var ErrExpired = errors.New("store: the version is too old")

const (
	// historyChanges and historyBytes bound what is kept of the changes of one
	// kind: some minutes of a busy cluster. Who is further behind is cut off.
	historyChanges = 1024
	historyBytes   = 8 << 20
)

// Change is one change of an object.
type Change struct {
	Type v1alpha1.WatchType // Added, Modified or Deleted
	Key  Key
	// Version is the resourceVersion that the change made.
	Version uint64
	// Object is the object in JSON, as it was after the change; a deleted one as it
	// was before, with the version of its deletion.
	Object json.RawMessage
}

// History is the last changes of one kind, in memory, in the order of their
// versions. Those who follow it read at their own pace and are never waited for:
// one that falls behind what is kept gets ErrExpired.
type History struct {
	mu      sync.Mutex
	floor   uint64 // every change above it is in changes
	changes []Change
	bytes   int
	closed  error
	newsc   chan struct{} // closed, and made anew, when something was appended
}

// NewHistory returns a history that knows nothing of what happened up to a
// version.
func NewHistory(floor uint64) *History {
	return &History{floor: floor, newsc: make(chan struct{})}
}

// Begin says that nothing is known of what happened up to a version. The history
// is empty, and nobody has got anything from it.
func (h *History) Begin(floor uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.floor = floor
}

// Append adds changes, in the order of their versions, above all that are there.
func (h *History) Append(changes ...Change) {
	if len(changes) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range changes {
		h.changes = append(h.changes, c)
		h.bytes += len(c.Object)
	}
	drop := 0
	for len(h.changes)-drop > historyChanges || h.bytes > historyBytes && drop < len(h.changes) {
		h.bytes -= len(h.changes[drop].Object)
		h.floor = h.changes[drop].Version
		h.changes[drop] = Change{} // its bytes may go, whoever keeps the array
		drop++
	}
	h.changes = h.changes[drop:]
	h.wakeLocked()
}

// Close lets everybody who follows end with an error, once they have read what is
// there.
func (h *History) Close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = err
	h.wakeLocked()
}

func (h *History) wakeLocked() {
	close(h.newsc)
	h.newsc = make(chan struct{})
}

// Follow returns a Follower that gets every change above a version.
func (h *History) Follow(after uint64) *Follower { return &Follower{h: h, after: after} }

// FollowVersion is Follow with a resourceVersion as a list returned it. ErrExpired:
// it is none of this history.
func (h *History) FollowVersion(version string) (*Follower, error) {
	after, err := parseVersion(version)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	newest := h.floor
	if n := len(h.changes); n > 0 {
		newest = h.changes[n-1].Version
	}
	h.mu.Unlock()
	if after > newest {
		return nil, fmt.Errorf("%w: it is %d, and the newest is %d", ErrExpired, after, newest)
	}
	return h.Follow(after), nil
}

func parseVersion(version string) (uint64, error) {
	n, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is no version of here", ErrExpired, version)
	}
	return n, nil
}

// Follower reads a History. It is used by one goroutine.
type Follower struct {
	h     *History
	after uint64
}

// Version is the version up to which the follower has got everything.
func (f *Follower) Version() uint64 { return f.after }

// Next returns the changes that come next, at least one; it waits for one until
// ctx ends. ErrExpired: some of them are gone. The changes are shared: nobody
// writes to them.
func (f *Follower) Next(ctx context.Context) ([]Change, error) {
	for {
		changes, newsc, err := f.next()
		if len(changes) > 0 || err != nil {
			return changes, err
		}
		select {
		case <-newsc:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *Follower) next() (changes []Change, newsc <-chan struct{}, err error) {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	if f.after < f.h.floor {
		return nil, nil, fmt.Errorf("%w: it is %d, and changes are known from %d on", ErrExpired, f.after, f.h.floor)
	}
	at := len(f.h.changes)
	for at > 0 && f.h.changes[at-1].Version > f.after {
		at--
	}
	if at == len(f.h.changes) {
		return nil, f.h.newsc, f.h.closed
	}
	changes = append(changes, f.h.changes[at:]...)
	f.after = changes[len(changes)-1].Version
	return changes, nil, nil
}
