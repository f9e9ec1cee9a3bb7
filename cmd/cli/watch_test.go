package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// A watch that broke and begins anew tells only what is different.
func TestAWatchThatBeginsAnewTellsOnlyWhatChanged(t *testing.T) {
	res, err := resourceOf("nodes")
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	w := &watcher{resource: res, known: map[string]json.RawMessage{}, tell: func(changes []change) error {
		var names []string
		for _, c := range changes {
			d, err := newDescription(res, c.object)
			if err != nil {
				return err
			}
			names = append(names, fmt.Sprintf("%s@%s", d.meta.Name, d.meta.ResourceVersion))
			if c.deleted {
				names[len(names)-1] += " deleted"
			}
		}
		told = append(told, strings.Join(names, ","))
		return nil
	}}
	event := func(kind v1alpha1.WatchType, name, version string) v1alpha1.WatchEvent {
		return v1alpha1.WatchEvent{Type: kind, Object: json.RawMessage(fmt.Sprintf(`{"metadata":{"name":%q,"resourceVersion":%q}}`, name, version))}
	}
	take := func(events ...v1alpha1.WatchEvent) {
		t.Helper()
		for _, e := range events {
			if err := w.take(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect := func(want ...string) {
		t.Helper()
		if got := strings.Join(told, "; "); got != strings.Join(want, "; ") {
			t.Errorf("told %q, want %q", got, strings.Join(want, "; "))
		}
		told = nil
	}
	bookmark := event(v1alpha1.WatchBookmark, "", "9")
	w.fresh = map[string]bool{}
	take(event("ADDED", "n1", "1"), event("ADDED", "n2", "2"), event("ADDED", "n3", "3"))
	expect()
	take(bookmark)
	expect("n1@1,n2@2,n3@3") // at once: one table
	take(event("MODIFIED", "n1", "4"), event("DELETED", "n3", "5"), bookmark, event("ODD", "n1", "6"))
	expect("n1@4", "n3@5 deleted")

	w.fresh = map[string]bool{}
	take(event("ADDED", "n1", "4"), event("ADDED", "n4", "7"), bookmark)
	expect("n4@7", "n2@2 deleted")

	failed := func(code int) error {
		status, err := json.Marshal(v1alpha1.Status{Code: int32(code), Message: "it"})
		if err != nil {
			t.Fatal(err)
		}
		return w.take(v1alpha1.WatchEvent{Type: v1alpha1.WatchError, Object: status})
	}
	var stop *stopError
	if err := failed(http.StatusGone); err == nil || errors.As(err, &stop) {
		t.Errorf("a version that is too old: %v", err)
	}
	if err := failed(http.StatusInternalServerError); !errors.As(err, &stop) {
		t.Errorf("another error: %v", err)
	}

	missing := &watcher{resource: res, names: []string{"n1", "n9"}, known: map[string]json.RawMessage{}, tell: w.tell}
	if err := missing.take(event("ADDED", "n1", "1")); err != nil {
		t.Fatal(err)
	}
	if err := missing.take(bookmark); !errors.As(err, &stop) || stop.err.Error() != `Error from server (NotFound): nodes "n9" not found` {
		t.Errorf("a name that does not exist: %v", err)
	}
}
