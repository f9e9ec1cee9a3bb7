package member

import (
	"testing"

	"github.com/wiber/wiber/topics"
)

func TestATopicsVersionChangesWithTheTopic(t *testing.T) {
	note := func(k, v string) topics.Annotation { return topics.Annotation{Key: k, Value: v} }
	versions := map[string]int{}
	for i, topic := range []topics.Topic{
		{UID: 1, Generation: 1},
		{UID: 2, Generation: 1}, // deleted and made again
		{UID: 1, Generation: 2},
		{UID: 1, Generation: 1, Annotations: []topics.Annotation{note("a", "bc")}},
		{UID: 1, Generation: 1, Annotations: []topics.Annotation{note("ab", "c")}},
		{UID: 1, Generation: 1, Annotations: []topics.Annotation{note("a", ""), note("b", "c")}},
	} {
		v := topicVersion(&topic)
		if other, ok := versions[v]; ok {
			t.Errorf("topics %d and %d have version %s", other, i, v)
		}
		versions[v] = i
	}
	// Two nodes agree, and so do two starts.
	if got := topicVersion(&topics.Topic{UID: 1, Generation: 1, Name: "orders"}); got != "17633223511170641925" {
		t.Errorf("version %s", got)
	}
}
