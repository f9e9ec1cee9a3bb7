package v1alpha1

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// golden lists what Kubernetes' apimachinery v0.37.2 writes for the same values.
var moment = time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.FixedZone("CET", 3600))

func TestMetadataHasTheJSONOfMetav1(t *testing.T) {
	at := Time{moment}
	for _, tc := range []struct {
		name   string
		value  any
		golden string
	}{
		{"a condition", Condition{Type: "Ready", Status: ConditionTrue, ObservedGeneration: 3, LastTransitionTime: at, Reason: "AllReady", Message: "3 of 3 nodes are ready"},
			`{"type":"Ready","status":"True","observedGeneration":3,"lastTransitionTime":"2026-11-22T09:00:00Z","reason":"AllReady","message":"3 of 3 nodes are ready"}`},
		{"an empty condition", Condition{Type: "Ready", Status: ConditionUnknown},
			`{"type":"Ready","status":"Unknown","lastTransitionTime":null,"reason":"","message":""}`},
		{"full metadata", ObjectMeta{Name: "n1", Namespace: "demo", UID: "u-1", Generation: 2, ResourceVersion: "17", CreationTimestamp: at,
			Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}, DeletionTimestamp: &at},
			`{"name":"n1","namespace":"demo","uid":"u-1","resourceVersion":"17","generation":2,"creationTimestamp":"2026-11-22T09:00:00Z","deletionTimestamp":"2026-11-22T09:00:00Z","labels":{"a":"b"},"annotations":{"c":"d"}}`},
		{"bare metadata", ObjectMeta{Name: "n1"}, `{"name":"n1"}`},
		{"a moment to the microsecond", MicroTime{moment}, `"2026-11-22T09:00:00.123456Z"`},
		{"an event", Event{TypeMeta: TypeMeta{APIVersion: APIVersion, Kind: KindEvent}, ObjectMeta: ObjectMeta{Name: "n1.2a", Namespace: "demo", UID: "u-1", ResourceVersion: "42", CreationTimestamp: at},
			InvolvedObject: ObjectReference{Kind: KindNode, Namespace: "demo", Name: "n1", UID: "u-0"}, EventType: EventWarning, Reason: EventExited, Message: "exit code 1", Count: 2,
			FirstTimestamp: MicroTime{moment}, LastTimestamp: MicroTime{moment}, Source: EventSource{Component: SourceController}},
			`{"apiVersion":"wiber.dev/v1alpha1","kind":"Event","metadata":{"name":"n1.2a","namespace":"demo","uid":"u-1","resourceVersion":"42","creationTimestamp":"2026-11-22T09:00:00Z"},"involvedObject":{"kind":"Node","namespace":"demo","name":"n1","uid":"u-0"},"type":"Warning","reason":"Exited","message":"exit code 1","count":2,"firstTimestamp":"2026-11-22T09:00:00.123456Z","lastTimestamp":"2026-11-22T09:00:00.123456Z","source":{"component":"controller"}}`},
		{"a deletion that succeeded", *NewSuccess(KindCluster, "demo"),
			`{"apiVersion":"v1","kind":"Status","metadata":{},"status":"Success","details":{"name":"demo","group":"wiber.dev","kind":"clusters"},"code":200}`},
		{"an object that is not there", *NotFound(KindNode, "n9"),
			`{"apiVersion":"v1","kind":"Status","metadata":{},"status":"Failure","message":"nodes \"n9\" not found","reason":"NotFound","details":{"name":"n9","group":"wiber.dev","kind":"nodes"},"code":404}`},
		{"an object with a wrong field", *Invalid(KindCluster, "demo", FieldErrors{{"spec.shards", "is fixed"}}),
			`{"apiVersion":"v1","kind":"Status","metadata":{},"status":"Failure","message":"Cluster \"demo\" is invalid: spec.shards: is fixed","reason":"Invalid","details":{"name":"demo","group":"wiber.dev","kind":"Cluster","causes":[{"reason":"FieldValueInvalid","message":"is fixed","field":"spec.shards"}]},"code":422}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data, err := json.Marshal(tc.value)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if err := errors.Join(json.Unmarshal(data, &got), json.Unmarshal([]byte(tc.golden), &want)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %s\nwant %s", data, tc.golden)
			}
			again := reflect.New(reflect.TypeOf(tc.value))
			if err := json.Unmarshal([]byte(tc.golden), again.Interface()); err != nil {
				t.Fatal(err)
			}
			data2, _ := json.Marshal(again.Interface())
			if string(data2) != string(data) {
				t.Errorf("read back as %s, want %s", data2, data)
			}
		})
	}
}

func TestAListOfNothingIsEmptyAndNotNull(t *testing.T) {
	data, err := json.Marshal(NewList[Node](KindNode, nil))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"apiVersion":"wiber.dev/v1alpha1","kind":"NodeList","items":[]}`; string(data) != want {
		t.Errorf("got %s, want %s", data, want)
	}
}

func TestAKindHasSeveralWords(t *testing.T) {
	for word, want := range map[string]string{"node": "Node", "nodes": "Node", "Node": "Node", "TOPICS": "Topic", "cluster": "Cluster", "nod": "", "faults": "", "": ""} {
		kind, ok := KindOf(word)
		if kind != want || ok != (want != "") {
			t.Errorf("KindOf(%q) = %q, %v; want %q", word, kind, ok, want)
		}
	}
}

func TestTheReasonOfAnErrorIsFoundInsideOthers(t *testing.T) {
	if got := ReasonOf(fmt.Errorf("apply: %w", NotFound(KindTopic, "x"))); got != ReasonNotFound {
		t.Errorf("got %q", got)
	}
	if got := ReasonOf(errors.New("x")); got != "" {
		t.Errorf("got %q for an error that is no Status", got)
	}
}

func TestAConditionKeepsItsTransitionTimeWhileItsStatusStays(t *testing.T) {
	var conditions []Condition
	first, later := Time{moment}, Time{moment.Add(time.Minute)}
	steps := []struct {
		set     Condition
		changed bool
		since   Time
	}{
		{Condition{Type: "Ready", Status: ConditionFalse, Reason: "Starting", LastTransitionTime: first}, true, first},
		{Condition{Type: "Ready", Status: ConditionFalse, Reason: "Starting", LastTransitionTime: later}, false, first},
		{Condition{Type: "Ready", Status: ConditionFalse, Reason: "Waiting", LastTransitionTime: later}, true, first},
		{Condition{Type: "Ready", Status: ConditionTrue, Reason: "Waiting", LastTransitionTime: later}, true, later},
	}
	for i, s := range steps {
		if changed := SetCondition(&conditions, s.set); changed != s.changed {
			t.Errorf("step %d: changed = %v, want %v", i, changed, s.changed)
		}
		got := FindCondition(conditions, "Ready")
		if got == nil || got.LastTransitionTime != s.since || got.Reason != s.set.Reason {
			t.Errorf("step %d: got %+v", i, got)
		}
	}
	if len(conditions) != 1 || !IsConditionTrue(conditions, "Ready") || IsConditionTrue(conditions, "Degraded") {
		t.Errorf("got %+v", conditions)
	}
}

func TestACloneSharesNothing(t *testing.T) {
	at, micro := Time{moment}, MicroTime{moment}
	c := NewCluster()
	c.Spec.Replicas = 2
	c.Default()
	c.Labels = map[string]string{"a": "b"}
	c.DeletionTimestamp = &at
	c.Spec.Nodes[0].Labels = map[string]string{"zone": "1"}
	c.Status.Conditions = []Condition{{Type: "Ready"}}
	sharesNothing(t, c, c.Clone())

	n := &Node{ObjectMeta: ObjectMeta{Annotations: map[string]string{"a": "b"}}, Spec: c.Spec.Nodes[0], Status: NodeStatus{
		LeaderOf: []string{"0"}, LastTermination: &Termination{}, NextStart: &micro, StartedAt: &micro, RestartedAt: &micro, Conditions: []Condition{{}}}}
	sharesNothing(t, n, n.Clone())

	event := &Event{ObjectMeta: ObjectMeta{Annotations: map[string]string{"a": "b"}, DeletionTimestamp: &at}}
	sharesNothing(t, event, event.Clone())

	topic := NewTopic()
	topic.Labels = map[string]string{"a": "b"}
	topic.Status.Conditions = []Condition{{}}
	sharesNothing(t, topic, topic.Clone())
}

func sharesNothing(t *testing.T, a, b any) {
	t.Helper()
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%T: the clone differs", a)
	}
	var walk func(path string, a, b reflect.Value)
	walk = func(path string, a, b reflect.Value) {
		switch a.Kind() {
		case reflect.Struct:
			if a.Type() == reflect.TypeFor[time.Time]() {
				return
			}
			for i := range a.NumField() {
				walk(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
			}
		case reflect.Pointer, reflect.Map, reflect.Slice:
			if !a.IsNil() && a.UnsafePointer() == b.UnsafePointer() {
				t.Errorf("%s is shared", path)
			}
			if a.Kind() == reflect.Slice {
				for i := range a.Len() {
					walk(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i))
				}
			}
		}
	}
	walk(reflect.TypeOf(a).Elem().Name(), reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem())
}
