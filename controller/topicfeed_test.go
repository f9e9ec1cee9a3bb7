package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wiber/wiber/controller/apiserver"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// catalogueTwin is a catalogue whose nodes answer lists, some from the past.
type catalogueTwin struct {
	w      *world
	index  uint64
	topics map[string]v1alpha1.Topic
	old    []byte // a list of before, which a node that lags answers; nil: none does
	lists  int
}

func (w *world) catalogue() *catalogueTwin {
	c := &catalogueTwin{w: w, index: 90, topics: map[string]v1alpha1.Topic{}}
	w.nodes.topic = func(_ string, r topicRequest, into any) (http.Header, error) {
		if r.method != http.MethodGet || r.name != "" {
			return nil, &nodeError{http.StatusNotFound, "NO_TOPIC", "no such topic"}
		}
		b := c.list()
		w.nodes.set(func() {
			c.lists++
			if c.old != nil {
				b = c.old
			}
		})
		return nil, json.Unmarshal(b, into)
	}
	return c
}

func (c *catalogueTwin) list() (b []byte) {
	c.w.nodes.set(func() {
		list := v1alpha1.NewList[v1alpha1.Topic](v1alpha1.KindTopic, nil)
		list.Metadata.ResourceVersion = strconv.FormatUint(c.index, 10)
		for _, t := range c.topics {
			list.Items = append(list.Items, t)
		}
		b, _ = json.Marshal(list)
	})
	return b
}

// set makes or changes a topic; a generation of 0 deletes it.
func (c *catalogueTwin) set(name string, uid, generation int) {
	c.w.nodes.set(func() {
		c.index++
		c.w.nodes.applied = c.index
		t := *v1alpha1.NewTopic()
		t.Name, t.UID, t.Generation = name, strconv.Itoa(uid), int64(generation)
		t.ResourceVersion = fmt.Sprintf("%d%d", uid, generation)
		c.topics[name] = t
		if generation == 0 {
			delete(c.topics, name)
		}
	})
}

func TestTopicsAreWatched(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		_, err := w.Watch(t.Context(), apiserver.WatchOptions{Kind: v1alpha1.KindTopic})
		refused(t, err, v1alpha1.ReasonNotFound, "there is no cluster")
		cat := w.catalogue()
		w.running(nil)
		cat.set("orders", 1, 1)
		w.pass(3 * time.Second)
		all := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindTopic})
		one := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindTopic, Cluster: "demo", Name: "users"})
		if got := names(all.must()); !reflect.DeepEqual(got, []string{"ADDED orders", "BOOKMARK "}) {
			t.Errorf("%q", got)
		}
		list, err := w.Topics(t.Context(), "")
		must(t, err)
		if v := list.Metadata.ResourceVersion; v != all.Version() || v == "" {
			t.Errorf("list %q, watch %q", v, all.Version())
		}

		cat.set("users", 2, 1)
		w.pass(3 * time.Second)
		cat.set("users", 2, 2)
		w.pass(3 * time.Second)
		cat.set("orders", 3, 1) // deleted and made again
		cat.set("users", 0, 0)
		w.pass(3 * time.Second)
		got := all.must()
		if want := []string{"ADDED users", "MODIFIED users", "DELETED orders", "DELETED users", "ADDED orders"}; !reflect.DeepEqual(names(got), want) {
			t.Errorf("%q, want %q", names(got), want)
		}
		if got := names(one.must()); !reflect.DeepEqual(got, []string{"BOOKMARK ", "ADDED users", "MODIFIED users", "DELETED users"}) {
			t.Errorf("%q", got)
		}

		// From the list, nothing is missing.
		again := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindTopic, Version: list.Metadata.ResourceVersion})
		if rest := again.must(); !reflect.DeepEqual(rest, got) {
			t.Errorf("%q, want %q", names(rest), names(got))
		}

		// A catalogue that does not change is not read.
		before := cat.lists
		w.pass(time.Minute)
		if cat.lists != before {
			t.Errorf("read %d times while nothing happened", cat.lists-before)
		}
		// Nor is one that nobody watches; and what is known of it goes at last.
		version := all.Version()
		for _, watch := range []*watching{all, one, again} {
			watch.Close()
		}
		cat.set("users", 4, 1)
		w.pass(topicsLinger - time.Minute)
		if cat.lists != before {
			t.Errorf("read %d times while nobody watched", cat.lists-before)
		}
		back := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindTopic, Version: version})
		if got := names(back.must()); !reflect.DeepEqual(got, []string{"ADDED users"}) {
			t.Errorf("%q", got)
		}
		version = back.Version()
		back.Close()
		w.pass(topicsLinger + 2*time.Second)
		_, err = w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindTopic, Version: version}).have()
		refused(t, err, v1alpha1.ReasonExpired, "list again")
		w.stop()
		w.begin()
		w.pass(3 * time.Second)
		_, err = w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindTopic, Version: version}).have()
		refused(t, err, v1alpha1.ReasonExpired, "list again")
	})
}

func TestAWatchOfTopicsEndsWithItsCluster(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.catalogue()
		w.running(nil)
		all := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindTopic})
		all.must()
		must(t, w.DeleteCluster(t.Context(), "demo", false, false))
		w.pass(3 * time.Second)
		_, err := all.have()
		refused(t, err, v1alpha1.ReasonNotFound, `clusters "demo" not found`)
		all.Close()
	})
}

// TestAWatchOfTopicsIsWhatAListSays changes a catalogue at random, with nodes
// that lag behind, and compares.
func TestAWatchOfTopicsIsWhatAListSays(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	story(t, func(t *testing.T, w *world) {
		cat := w.catalogue()
		w.running(nil)
		type model struct {
			*watching
			topics map[string]string
		}
		models := []model{{w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindTopic}), map[string]string{}}}
		follow := func(m model) {
			for _, e := range m.must() {
				_, had := m.topics[e.name]
				if e.kind != v1alpha1.WatchBookmark && had == (e.kind == v1alpha1.WatchAdded) {
					t.Fatalf("%v, known: %v", e, m.topics)
				}
				switch e.kind {
				case v1alpha1.WatchDeleted:
					delete(m.topics, e.name)
				case v1alpha1.WatchAdded, v1alpha1.WatchModified:
					m.topics[e.name] = e.version
				}
			}
		}
		uid := 0
		for i := range 200 {
			if r.IntN(8) == 0 {
				old := cat.list()
				w.nodes.set(func() { cat.old = old }) // every node lags from here on
			}
			for range r.IntN(4) {
				uid++
				cat.set(fmt.Sprintf("t%d", r.IntN(5)), uid*r.IntN(2)+1, r.IntN(3))
			}
			w.pass(time.Duration(r.IntN(1500)) * time.Millisecond)
			w.nodes.set(func() { cat.old = nil })
			switch r.IntN(10) {
			case 0: // list, and watch from there
				list, err := w.Topics(t.Context(), "demo")
				must(t, err)
				m := model{w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindTopic, Version: list.Metadata.ResourceVersion}), map[string]string{}}
				for _, topic := range list.Items {
					m.topics[topic.Name] = topic.ResourceVersion
				}
				models = append(models, m)
			case 1: // lose the connection, and come back
				j := r.IntN(len(models))
				follow(models[j])
				version := models[j].Version()
				models[j].Close()
				models[j].watching = w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindTopic, Version: version})
			}
			if i%20 == 19 {
				w.pass(4 * time.Second)
				want := map[string]string{}
				for name, topic := range cat.topics {
					want[name] = topic.ResourceVersion
				}
				for _, m := range models {
					follow(m)
					if !maps.Equal(m.topics, want) {
						t.Fatalf("watched %v\nthere is %v", m.topics, want)
					}
				}
			}
		}
		for _, m := range models {
			m.Close()
		}
		synctest.Wait()
	})
}
