package topics

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "Orders.eu-1_x": true, strings.Repeat("x", 249): true,
		"": false, strings.Repeat("x", 250): false, "a b": false, "a/0": false, "ä": false, "a*": false, "a>": false, "a\x00": false,
	} {
		if ValidName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// TestTopicsOfTheCatalogue tells the life of a topic.
func TestTopicsOfTheCatalogue(t *testing.T) {
	g := newGroup(t)
	s := DefaultSpec
	by := []Annotation{PublishAnnotation}
	steps := []struct {
		name       string
		r          Request
		code       Code
		effect     Effect
		uid        uint64
		generation uint64
	}{
		{"a first publish creates it", NewCreate(TopicChange{Name: "a", Spec: s, SetAnnotations: true, Annotations: by}), OK, Created, 1, 1},
		{"another first publish finds it", NewCreate(TopicChange{Name: "a", Spec: Spec{Partitions: 9}}), OK, Unchanged, 1, 1},
		{"the same spec changes nothing", NewPut(TopicChange{Name: "a", Spec: s}), OK, Unchanged, 1, 1},
		{"another spec is another generation", NewPut(TopicChange{Name: "a", Spec: with(s, func(s *Spec) { s.Partitions = 3 })}), OK, Configured, 1, 2},
		{"partitions do not shrink", NewPut(TopicChange{Name: "a", Spec: s}), Shrink, Unchanged, 1, 2},
		{"annotations are no part of the spec", NewPut(TopicChange{Name: "a", Spec: with(s, func(s *Spec) { s.Partitions = 3 }), SetAnnotations: true}), OK, Configured, 1, 2},
		{"another topic has the next uid", NewPut(TopicChange{Name: "b", Spec: s}), OK, Created, 2, 1},
		{"delete with another uid is refused", NewDelete(Delete{Name: "a", UID: 2}), NoTopic, Unchanged, 0, 0},
		{"delete", NewDelete(Delete{Name: "a", UID: 1}), OK, Deleted, 1, 0},
		{"delete again", NewDelete(Delete{Name: "a"}), NoTopic, Unchanged, 0, 0},
		{"made anew it is another one", NewCreate(TopicChange{Name: "a", Spec: s}), OK, Created, 3, 1},
		{"not a name", NewCreate(TopicChange{Name: "a b", Spec: s}), BadTopic, Unchanged, 0, 0},
		{"a name that is too long", NewCreate(TopicChange{Name: strings.Repeat("a", 250), Spec: s}), BadTopic, Unchanged, 0, 0},
		{"no partitions", NewCreate(TopicChange{Name: "c"}), Malformed, Unchanged, 0, 0},
		{"too many partitions", NewCreate(TopicChange{Name: "c", Spec: Spec{Partitions: MaxPartitions + 1}}), Malformed, Unchanged, 0, 0},
		{"a shard's command", Request{Kind: KindPublish}, Malformed, Unchanged, 0, 0},
	}
	for _, c := range steps {
		r := g.catalogue(c.r)[0]
		if r.Code != c.code || r.Effect != c.effect || r.UID != c.uid || r.Base != c.generation {
			t.Fatalf("%s: %+v", c.name, r)
		}
	}
	var names []string
	for _, tp := range g.cat.Topics() {
		names = append(names, fmt.Sprint(tp.Name, tp.UID))
	}
	if want := []string{"a3", "b2"}; !slices.Equal(names, want) || g.cat.Len() != 2 || g.cat.NextUID() != 4 {
		t.Fatalf("%v", names)
	}
	if tp, ok := g.cat.Topic(1); ok {
		t.Fatalf("%+v", tp)
	}
	if tp, ok := g.cat.Lookup("b"); !ok || tp.UID != 2 || tp.CreatedTS == 0 {
		t.Fatalf("%+v", tp)
	}
}

func with(s Spec, change func(*Spec)) Spec {
	change(&s)
	return s
}

// TestFormingOnce: only the first Form counts; a name that was absent gets its
// uid once.
func TestFormingOnce(t *testing.T) {
	c := NewCatalogue()
	g := &group{t: t, cat: c}
	if r := g.catalogue(NewCreate(TopicChange{Name: "a", Spec: DefaultSpec}))[0]; r.Code != NotFormed {
		t.Fatalf("%+v", r)
	}
	if r := g.catalogue(NewEnter(Enter{Name: "n1", UID: [16]byte{1}}))[0]; r.Code != NotFormed {
		t.Fatalf("%+v", r)
	}
	form := Form{ClusterInfo: ClusterInfo{ID: [16]byte{7}, Shards: 4}, Nodes: []Node{{"n1", 1, [16]byte{1}}, {"n2", 2, [16]byte{}}}}
	if r := g.catalogue(NewForm(form))[0]; r.Effect != Created {
		t.Fatalf("%+v", r)
	}
	if r := g.catalogue(NewForm(Form{ClusterInfo: ClusterInfo{Shards: 9}}))[0]; r.Effect != Unchanged || r.Code != OK {
		t.Fatalf("%+v", r)
	}
	before := c.Nodes()
	for _, e := range []struct {
		name   string
		uid    byte
		code   Code
		effect Effect
	}{{"n2", 2, OK, Configured}, {"n2", 2, OK, Unchanged}, {"n2", 3, Conflict, Unchanged}, {"n1", 1, OK, Unchanged}, {"n9", 1, Conflict, Unchanged}, {"n2", 0, Malformed, Unchanged}} {
		if r := g.catalogue(NewEnter(Enter{Name: e.name, UID: [16]byte{e.uid}}))[0]; r.Code != e.code || r.Effect != e.effect {
			t.Fatalf("%+v: %+v", e, r)
		}
	}
	info, ok := c.Cluster()
	if !ok || info != form.ClusterInfo || len(c.Nodes()) != 2 || c.Nodes()[1].UID != [16]byte{2} || before[1].UID != [16]byte{} {
		t.Fatalf("%+v %+v", info, c.Nodes())
	}
	for p := range uint32(8) {
		if s := c.Shard(stream(6, p)); s != (6+p)%4 {
			t.Fatalf("partition %d is in shard %d", p, s)
		}
	}
}

// TestTheFirstSecretWins: a cluster gets its secret once, and keeps it through a
// checkpoint. An entry of version 1 cannot carry one.
func TestTheFirstSecretWins(t *testing.T) {
	g := &group{t: t, cat: NewCatalogue()}
	if r := g.catalogue(NewSecret(Secret{1}))[0]; r.Code != NotFormed {
		t.Fatalf("%+v", r)
	}
	g.catalogue(NewForm(Form{ClusterInfo: ClusterInfo{ID: [16]byte{7}, Shards: 4}, Nodes: []Node{{"n1", 1, [16]byte{1}}}}))
	if _, ok := g.cat.Secret(); ok {
		t.Fatal("a secret that nobody drew")
	}
	if r := g.catalogue(NewSecret(Secret{}))[0]; r.Code != Malformed {
		t.Fatalf("%+v", r)
	}
	old := AppendCommand(nil, Command{Kind: KindSecret, Origin: Origin{RaftID: 1, Counter: 1}, Number: 1, Stamp: Stamp{TS: 1 << 60}, Body: NewSecret(Secret{1}).Body})
	if old[0] != 2 {
		t.Fatalf("an entry with a secret has version %d", old[0])
	}
	old[0] = 1
	cat := NewCatalogue()
	outs, err := cat.Apply(Entry{Index: 1, Term: 1, Data: old})
	if err != nil || outs[0].Code != Malformed {
		t.Fatalf("%+v %v", outs, err)
	}
	first, second := Secret{31: 1}, Secret{31: 2}
	if r := g.catalogue(NewSecret(first))[0]; r.Code != OK || r.Effect != Created {
		t.Fatalf("%+v", r)
	}
	if r := g.catalogue(NewSecret(second))[0]; r.Code != OK || r.Effect != Unchanged {
		t.Fatalf("%+v", r)
	}
	disk := files{}
	disk.save(t, g.cat.Checkpoint(), true)
	disk.save(t, g.cat.Checkpoint(), true)
	again := NewCatalogue()
	if err := again.Restore(disk.reader()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Catalogue{g.cat, again} {
		if s, ok := c.Secret(); !ok || s != first {
			t.Fatal("another secret")
		}
	}
	for _, s := range []string{fmt.Sprint(first), fmt.Sprintf("%v %+v %#v %s", first, first, first, first), fmt.Sprintf("%+v", struct{ S Secret }{first})} {
		if strings.Contains(s, "1") {
			t.Errorf("a secret is printed: %s", s)
		}
	}
}

// TestFeedOfDeletions: what was deleted since an index, as long as it is known.
func TestFeedOfDeletions(t *testing.T) {
	g := newGroup(t)
	for i := range 5 {
		g.topic(fmt.Sprint("t", i), nil)
	}
	at := g.cat.Version()
	g.catalogue(NewDelete(Delete{Name: "t1"}), NewDelete(Delete{Name: "t2"}))
	g.catalogue(NewDelete(Delete{Name: "t0"}))
	if uids, ok := g.cat.DeletedSince(at, nil); !ok || !slices.Equal(uids, []uint64{2, 3, 1}) {
		t.Fatal(uids, ok)
	}
	if uids, ok := g.cat.DeletedSince(at+1, nil); !ok || !slices.Equal(uids, []uint64{1}) {
		t.Fatal(uids, ok)
	}
	if uids, ok := g.cat.DeletedSince(at+2, nil); !ok || len(uids) != 0 {
		t.Fatal(uids, ok)
	}
	g.cat.forgotten = at + 1
	if _, ok := g.cat.DeletedSince(at, nil); ok {
		t.Fatal("more is known than is kept")
	}
}

// TestCatalogueLeader: the same queue stands in front of the catalogue.
func TestCatalogueLeader(t *testing.T) {
	c := NewCatalogue()
	l, err := NewLeader(LeaderOptions{Machine: c, Reference: func() (int64, int64) { return 77, 0 }})
	if err != nil {
		t.Fatal(err)
	}
	l.Reset(1)
	if _, err := c.Apply(Entry{Index: 1, Term: 1}); err != nil {
		t.Fatal(err)
	}
	l.Receive(n1, []Request{
		{Number: 1, Kind: KindForm, Body: NewForm(Form{ClusterInfo: ClusterInfo{Shards: 2}}).Body},
		{Number: 2, Kind: KindCreate, Body: NewCreate(TopicChange{Name: "a", Spec: DefaultSpec}).Body},
	})
	if !l.Pending() {
		t.Fatal("nothing pending")
	}
	outs, err := c.Apply(Entry{Index: 2, Term: 1, Data: l.NextEntry(1)})
	if err != nil || len(outs) != 2 || outs[1].Effect != Created {
		t.Fatal(outs, err)
	}
	if tp, _ := c.Lookup("a"); tp.CreatedTS != 78 {
		t.Fatalf("%+v", tp)
	}
	l.Tick()
	if l.Pending() {
		t.Fatal("a catalogue has no clock")
	}
}
