package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// event is one that happened so many seconds after start.
func event(cluster, reason string, second int) *v1alpha1.Event {
	at := v1alpha1.MicroTime{Time: start.Add(time.Duration(second) * time.Second)}
	e := &v1alpha1.Event{Reason: reason, EventType: v1alpha1.EventNormal, Count: 1, FirstTimestamp: at, LastTimestamp: at,
		InvolvedObject: v1alpha1.ObjectReference{Kind: v1alpha1.KindNode, Namespace: cluster, Name: "n1"}}
	e.Namespace = cluster
	return e
}

func putEvents(t *testing.T, s *Store, events ...*v1alpha1.Event) {
	t.Helper()
	if err := s.PutEvents(events); err != nil {
		t.Fatal(err)
	}
}

func reasons(t *testing.T, s *Store, cluster string) (reasons []string) {
	t.Helper()
	items, _, err := s.Events(cluster)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range items {
		reasons = append(reasons, fmt.Sprintf("%s×%d", e.Reason, e.Count))
	}
	return reasons
}

func TestAnEventsLife(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path)
	n := &v1alpha1.Node{TypeMeta: v1alpha1.TypeMeta{Kind: v1alpha1.KindNode}, ObjectMeta: v1alpha1.ObjectMeta{Namespace: "demo", Name: "n1"}}
	put(t, s, n, Created)
	started, ready := event("demo", "Started", 1), event("demo", "Ready", 2)
	putEvents(t, s, started, ready)
	if started.Kind != v1alpha1.KindEvent || started.APIVersion != v1alpha1.APIVersion || started.Name != "n1.2" || started.UID == "" || started.UID == ready.UID ||
		started.ResourceVersion != "2" || !started.CreationTimestamp.Equal(start) || started.InvolvedObject.UID != n.UID {
		t.Errorf("stored %+v", started)
	}
	again := started.Clone()
	again.Count, again.LastTimestamp = 2, v1alpha1.MicroTime{Time: start.Add(3 * time.Second)}
	putEvents(t, s, again)
	if again.Name != started.Name || again.UID != started.UID || again.ResourceVersion != "4" {
		t.Errorf("counted up: %+v", again.ObjectMeta)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, path)
	if got, want := reasons(t, s, "demo"), []string{"Ready×1", "Started×2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q in the order in which they last happened", got, want)
	}
	if got, err := s.Event("demo", started.Name); err != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("%+v, %v\nwant %+v", got, err, again)
	}
	for _, name := range []string{"n2.2", "n1.02", "n1.99", "n1.", "n1", ".2", "", "n1.x"} {
		if _, err := s.Event("demo", name); !errors.Is(err, ErrNotFound) {
			t.Errorf("Event(%q): %v", name, err)
		}
	}
}

func TestEventsAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path)
	put(t, s, demo("demo"), Created)
	put(t, s, demo("demo2"), Created)
	putEvents(t, s, event("demo2", "Other", 0))
	oldest := event("demo", "Oldest", 0)
	putEvents(t, s, oldest)
	for i := range 3 {
		var burst []*v1alpha1.Event
		for j := range 400 {
			burst = append(burst, event("demo", fmt.Sprint(i*400+j), i*400+j))
		}
		putEvents(t, s, burst...)
		if i == 1 { // the count outlives a restart
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, path)
		}
	}
	got := reasons(t, s, "demo")
	if len(got) != EventsPerCluster || got[0] != "200×1" || got[EventsPerCluster-1] != "1199×1" || len(reasons(t, s, "demo2")) != 1 {
		t.Errorf("%d events, from %s to %s", len(got), got[0], got[len(got)-1])
	}
	oldest.Count = 2 // it is gone, so it is a new one
	putEvents(t, s, oldest)
	if got := reasons(t, s, ""); len(got) != EventsPerCluster+1 || oldest.Name == "n1.4" {
		t.Errorf("%d events; the oldest is %s now", len(got), oldest.Name)
	}
}

func TestEventsOfDeletedClustersStayForAWhile(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	put(t, s, demo("demo"), Created)
	putEvents(t, s, event("demo", "Old", 0))
	for i := range goneClusters + 3 {
		putEvents(t, s, event(fmt.Sprintf("gone-%02d", i), "Deleted", i))
	}
	if reasons(t, s, "gone-02") != nil || reasons(t, s, "gone-03") == nil || reasons(t, s, "demo") == nil {
		t.Errorf("kept: %q", reasons(t, s, ""))
	}
	if got := len(reasons(t, s, "")); got != goneClusters+1 {
		t.Errorf("%d events", got)
	}
}

func TestAnOlderFileGetsAPlaceForEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path)
	if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(eventsBucket) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	putEvents(t, s, event("demo", "Started", 0))
}
