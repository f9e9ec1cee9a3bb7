package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// ended is a context that ends at once: Next returns what is there.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// model is what somebody knows who listed and then follows: by name, the version
// of each object.
type model struct {
	*Follower
	kind    string
	objects map[string]string
	version uint64
}

// begin lists a kind and follows from there.
func begin(t *testing.T, s *Store, kind string) *model {
	t.Helper()
	objects, version := listed(t, s, kind)
	f, err := s.Follow(kind, version)
	if err != nil {
		t.Fatal(err)
	}
	return &model{f, kind, objects, f.Version()}
}

// listed is the truth: what a list says.
func listed(t *testing.T, s *Store, kind string) (objects map[string]string, version string) {
	t.Helper()
	objects = map[string]string{}
	var err error
	switch kind {
	case v1alpha1.KindEvent:
		var items []v1alpha1.Event
		items, version, err = s.Events("")
		for _, o := range items {
			objects[o.Namespace+"/"+o.Name] = o.ResourceVersion
		}
	case v1alpha1.KindNode:
		var items []v1alpha1.Node
		items, version, err = List[v1alpha1.Node](s, kind, "")
		for _, o := range items {
			objects[o.Namespace+"/"+o.Name] = o.ResourceVersion
		}
	default:
		var items []v1alpha1.Cluster
		items, version, err = List[v1alpha1.Cluster](s, kind, "")
		for _, o := range items {
			objects[o.Namespace+"/"+o.Name] = o.ResourceVersion
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return objects, version
}

// apply takes one change, and checks that it can come next.
func (m *model) apply(t *testing.T, c Change) {
	t.Helper()
	name := c.Key.Namespace + "/" + c.Key.Name
	had, exists := m.objects[name]
	var o stored
	if err := json.Unmarshal(c.Object, &o); err != nil {
		t.Fatal(err)
	}
	switch {
	case c.Version <= m.version:
		t.Fatalf("version %d after %d", c.Version, m.version)
	case c.Key.Kind != m.kind || o.Metadata.Name != c.Key.Name || o.Metadata.Namespace != c.Key.Namespace || o.Metadata.ResourceVersion != strconv.FormatUint(c.Version, 10):
		t.Fatalf("change %+v has the object %s", c.Key, c.Object)
	case (c.Type == v1alpha1.WatchAdded) == exists:
		t.Fatalf("%s of %s, which was at %q", c.Type, name, had)
	}
	m.version = c.Version
	m.objects[name] = o.Metadata.ResourceVersion
	if c.Type == v1alpha1.WatchDeleted {
		delete(m.objects, name)
	}
}

// catchUp reads what there is; false if it was cut off.
func (m *model) catchUp(t *testing.T) bool {
	t.Helper()
	for {
		changes, err := m.Next(ended())
		if errors.Is(err, ErrExpired) {
			return false
		}
		if len(changes) == 0 {
			return true
		}
		for _, c := range changes {
			m.apply(t, c)
		}
	}
}

// change does something random to the store.
func change(t *testing.T, s *Store, r *rand.Rand) {
	t.Helper()
	name := fmt.Sprintf("c%d", r.IntN(3))
	c := demo(name)
	n := &v1alpha1.Node{TypeMeta: v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindNode}, ObjectMeta: v1alpha1.ObjectMeta{Namespace: name, Name: fmt.Sprintf("n%d", r.IntN(3))}}
	var err error
	switch r.IntN(8) {
	case 0, 1:
		c.Spec.Nodes[0].Stopped = r.IntN(2) == 0
		_, err = s.Put(c, r.IntN(4) == 0)
	case 2:
		_, err = s.Put(n, false)
	case 3:
		n.Status.Commit = uint64(r.IntN(4))
		err = s.UpdateStatus(n)
	case 4:
		err = s.MarkDeleted(c)
	case 5:
		err = s.Delete(KeyOf(c), "")
	case 6:
		err = s.Delete(KeyOf(n), "")
	case 7:
		events := []*v1alpha1.Event{event(name, "A", 0), event(name, "B", 0)}
		err = s.PutEvents(events)
		if err == nil && r.IntN(2) == 0 {
			events[0].Count++
			err = s.PutEvents(events[:1])
		}
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
}

// TestFollowersKnowWhatAListSays compares those who follow with those who list
// each time, at random moments.
func TestFollowersKnowWhatAListSays(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := open(t, filepath.Join(t.TempDir(), "db"))
	s.db.NoSync = true
	var models []*model
	for range 500 {
		change(t, s, r)
		if r.IntN(20) == 0 {
			models = append(models, begin(t, s, kinds[r.IntN(3)]))
		}
		for _, m := range models {
			if r.IntN(30) > 0 {
				continue
			}
			if !m.catchUp(t) {
				t.Fatal("cut off though little changed")
			}
			if want, _ := listed(t, s, m.kind); !maps.Equal(m.objects, want) {
				t.Fatalf("%s: follows %v\nlists %v", m.kind, m.objects, want)
			}
		}
	}
}

// TestFollowersAndWritersAtOnce: lists and follows that begin between concurrent
// writes neither miss nor repeat one.
func TestFollowersAndWritersAtOnce(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	s.db.NoSync = true
	var writers, followers sync.WaitGroup
	for i := range 3 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 150 {
				change(t, s, r)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 6 {
		followers.Go(func() {
			m := begin(t, s, kinds[i%3])
			for {
				changes, err := m.Next(ctx)
				for _, c := range changes {
					m.apply(t, c)
				}
				if err != nil {
					break
				}
			}
			if !m.catchUp(t) {
				t.Error("cut off")
			}
			if want, _ := listed(t, s, m.kind); !maps.Equal(m.objects, want) {
				t.Errorf("%s: follows %v\nlists %v", m.kind, m.objects, want)
			}
		})
	}
	writers.Wait()
	cancel()
	followers.Wait()
}

func TestWhoIsTooFarBehindIsCutOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path)
	s.db.NoSync = true
	slow := begin(t, s, v1alpha1.KindNode)
	quiet := begin(t, s, v1alpha1.KindCluster)
	n := &v1alpha1.Node{TypeMeta: v1alpha1.TypeMeta{Kind: v1alpha1.KindNode}, ObjectMeta: v1alpha1.ObjectMeta{Namespace: "demo", Name: "n1"}}
	put(t, s, n, Created)
	for i := range historyChanges - 1 {
		n.Status.Commit = uint64(i + 1)
		if err := s.UpdateStatus(n); err != nil {
			t.Fatal(err)
		}
	}
	f, err := s.Follow(v1alpha1.KindNode, "0")
	if err != nil {
		t.Fatal(err)
	}
	late := &model{f, v1alpha1.KindNode, map[string]string{}, 0}
	if !late.catchUp(t) || late.version != historyChanges {
		t.Errorf("the last %d changes are kept: reached %d", historyChanges, late.version)
	}
	n.Status.Commit = 0
	if err := s.UpdateStatus(n); err != nil {
		t.Fatal(err)
	}
	if slow.catchUp(t) {
		t.Error("a change is missing and nobody said so")
	}
	if !quiet.catchUp(t) {
		t.Error("changes of another kind cut it off")
	}

	// What a client knows from an earlier controller: only if nothing is missing.
	newest := n.ResourceVersion
	put(t, s, demo("demo"), Created) // another kind
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	for version, ok := range map[string]bool{newest: true, strconv.Itoa(historyChanges): false, "99999": false, "x": false, "": false, "-1": false} {
		f, err := s.Follow(v1alpha1.KindNode, version)
		if err == nil {
			_, err = f.Next(ended())
		}
		if errors.Is(err, ErrExpired) == ok {
			t.Errorf("from version %q: %v", version, err)
		}
	}

	// An older program writes no versions of kinds.
	err = s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(revisionKey, binary.BigEndian.AppendUint64(nil, 5000))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	f, err = s.Follow(v1alpha1.KindNode, newest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Next(ended()); !errors.Is(err, ErrExpired) {
		t.Errorf("after an older program: %v", err)
	}
}

func TestHistoryIsBoundedInBytes(t *testing.T) {
	h := NewHistory(0)
	for i := range 10 {
		h.Append(Change{Version: uint64(i + 1), Object: make([]byte, historyBytes/4)})
	}
	if len(h.changes) != 4 || h.floor != 6 || h.bytes != historyBytes {
		t.Errorf("%d changes above %d, %d bytes", len(h.changes), h.floor, h.bytes)
	}
	h.Append(Change{Version: 11, Object: make([]byte, 2*historyBytes)})
	if len(h.changes) != 0 || h.floor != 11 || h.bytes != 0 {
		t.Errorf("%d changes above %d, %d bytes", len(h.changes), h.floor, h.bytes)
	}
	why := errors.New("why")
	f := h.Follow(11)
	h.Append(Change{Version: 12})
	h.Close(why)
	if changes, err := f.Next(t.Context()); len(changes) != 1 || err != nil {
		t.Errorf("%v, %v", changes, err)
	}
	if _, err := f.Next(t.Context()); !errors.Is(err, why) {
		t.Error(err)
	}
}
