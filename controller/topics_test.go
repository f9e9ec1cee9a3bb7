package controller

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// catalogueOf makes the fake nodes answer about topics from one table, as a
// catalogue would; some of them may refuse.
func catalogueOf(w *world, refuse map[string]*nodeError) (topics map[string]*v1alpha1.Topic, asked *[]string) {
	topics, asked = map[string]*v1alpha1.Topic{}, new([]string)
	w.nodes.topic = func(addr string, r topicRequest, into any) (http.Header, error) {
		w.nodes.set(func() { *asked = append(*asked, r.method+" "+w.nodes.at[addr]) })
		if e := refuse[w.nodes.at[addr]]; e != nil {
			return nil, e
		}
		var answer any
		header := http.Header{}
		t := topics[r.name]
		switch {
		case r.method == http.MethodGet && r.name == "":
			list := v1alpha1.NewList[v1alpha1.Topic](v1alpha1.KindTopic, nil)
			for _, t := range topics {
				list.Items = append(list.Items, *t)
			}
			answer = list
		case r.method == http.MethodPut:
			body := r.body.(*v1alpha1.Topic)
			header.Set("Wiber-Result", "created")
			if t != nil {
				header.Set("Wiber-Result", "configured")
			}
			topics[r.name] = &v1alpha1.Topic{ObjectMeta: v1alpha1.ObjectMeta{Name: r.name, UID: "u1", Generation: 1, ResourceVersion: "9", Annotations: body.Annotations}, Spec: body.Spec}
			answer = topics[r.name]
		case t == nil:
			return nil, &nodeError{http.StatusNotFound, "NO_TOPIC", "no such topic"}
		case r.method == http.MethodDelete:
			if t.Spec.DeletionPolicy == v1alpha1.DeletionRetain && r.query.Get("allow-data-loss") != "true" {
				return nil, &nodeError{http.StatusConflict, "CONFLICT", "it retains its data"}
			}
			delete(topics, r.name)
			return header, nil
		default:
			answer = t
		}
		b, err := json.Marshal(answer)
		if err != nil {
			return nil, err
		}
		return header, json.Unmarshal(b, into)
	}
	return topics, asked
}

func orders() *v1alpha1.Topic {
	t := v1alpha1.NewTopic()
	t.Name = "orders"
	return t
}

func TestTopicsAreAViewOfTheCatalogue(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		topics, _ := catalogueOf(w, nil)
		_, err := w.PutTopic(t.Context(), "", orders(), false)
		refused(t, err, v1alpha1.ReasonNotFound, "no cluster")
		w.running(nil)

		put, err := w.PutTopic(t.Context(), "", orders(), true)
		if err != nil || put.Result != "created" || len(topics) != 0 {
			t.Fatalf("dry run: %+v, %v, %v", put, err, topics)
		}
		o := orders()
		o.Annotations = map[string]string{"team": "x"}
		put, err = w.PutTopic(t.Context(), "", o, false)
		if err != nil || put.Result != "created" || put.Object.Meta().Namespace != "demo" || put.Object.Meta().UID != "u1" || topics["orders"].Annotations["team"] != "x" {
			t.Fatalf("%+v, %v", put, err)
		}
		got, err := w.Topic(t.Context(), "demo", "orders")
		if err != nil || got.Namespace != "demo" || got.Kind != v1alpha1.KindTopic {
			t.Errorf("%+v, %v", got, err)
		}
		list, err := w.Topics(t.Context(), "")
		if err != nil || len(list.Items) != 1 || list.Items[0].Namespace != "demo" {
			t.Errorf("%+v, %v", list, err)
		}

		noted := orders()
		noted.Annotations = map[string]string{"team": "y"}
		if put, err := w.PutTopic(t.Context(), "", noted, true); err != nil || put.Result != "configured" {
			t.Errorf("other annotations: %+v, %v", put, err)
		}
		if put, err := w.PutTopic(t.Context(), "", orders(), true); err != nil || put.Result != "unchanged" {
			t.Errorf("no annotations keep those that are there: %+v, %v", put, err)
		}

		changed := orders()
		changed.Spec.Partitions = 3
		for _, v := range []string{"8", "9"} {
			changed.ResourceVersion = v
			put, err = w.PutTopic(t.Context(), "", changed, true)
			if v == "8" {
				refused(t, err, v1alpha1.ReasonConflict, "changed meanwhile")
			} else if err != nil || put.Result != "configured" {
				t.Errorf("%+v, %v", put, err)
			}
		}
		topics["orders"].Spec.Partitions = 9
		_, err = w.PutTopic(t.Context(), "", orders(), false)
		refused(t, err, v1alpha1.ReasonInvalid, "partitions")
		o = orders()
		o.Namespace = "other"
		_, err = w.PutTopic(t.Context(), "demo", o, false)
		refused(t, err, v1alpha1.ReasonBadRequest, "namespace")
		_, err = w.PutTopic(t.Context(), "", o, false)
		refused(t, err, v1alpha1.ReasonNotFound, "other")

		refused(t, w.DeleteTopic(t.Context(), "", "orders", false, true), v1alpha1.ReasonConflict, "Retain")
		refused(t, w.DeleteTopic(t.Context(), "", "orders", false, false), v1alpha1.ReasonConflict, "retains")
		must(t, w.DeleteTopic(t.Context(), "", "orders", true, true))
		must(t, w.DeleteTopic(t.Context(), "", "orders", true, false))
		refused(t, w.DeleteTopic(t.Context(), "", "orders", true, false), v1alpha1.ReasonNotFound, `topics "orders" not found`)
	})
}

func TestTheNextNodeIsAskedWhenOneDoesNotAnswer(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		refuse := map[string]*nodeError{"n1": {http.StatusServiceUnavailable, "NO_QUORUM", "no quorum"}}
		_, asked := catalogueOf(w, refuse)
		w.running(nil)
		if _, err := w.PutTopic(t.Context(), "", orders(), false); err != nil {
			t.Fatalf("%v, asked %q", err, *asked)
		}
		w.nodes.set(func() { refuse["n2"], refuse["n3"] = refuse["n1"], refuse["n1"] })
		_, err := w.Topics(t.Context(), "")
		refused(t, err, v1alpha1.ReasonServiceUnavailable, "no quorum")
		w.nodes.set(func() { refuse["n1"] = &nodeError{http.StatusNotFound, "", "404 page not found"} })
		_, err = w.Topic(t.Context(), "", "orders")
		refused(t, err, v1alpha1.ReasonServiceUnavailable, "no node of cluster")
		w.nodes.set(func() { refuse["n1"] = &nodeError{http.StatusGatewayTimeout, "TIMEOUT", "unknown outcome"} })
		_, err = w.Topics(t.Context(), "")
		refused(t, err, v1alpha1.ReasonTimeout, "unknown outcome")
		must(t, w.StopAll(t.Context(), ""))
		_, err = w.Topics(t.Context(), "")
		refused(t, err, v1alpha1.ReasonServiceUnavailable, "no node of it runs")
	})
}
