package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func open(t *testing.T, path string) *Store {
	t.Helper()
	uids := 0
	s, err := Open(path, Options{
		Clock:  timesvc.NewVirtual(start).Node(timesvc.Skew{}),
		NewUID: func() string { uids++; return fmt.Sprintf("uid-%d", uids) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func demo(name string) *v1alpha1.Cluster {
	c := v1alpha1.NewCluster()
	c.Name = name
	c.Spec.Replicas = 3
	c.Default()
	return c
}

func put(t *testing.T, s *Store, o v1alpha1.Object, want Result) {
	t.Helper()
	got, err := s.Put(o, false)
	if err != nil || got != want {
		t.Fatalf("Put = %s, %v; want %s", got, err, want)
	}
}

func get(t *testing.T, s *Store, name string) *v1alpha1.Cluster {
	t.Helper()
	c := new(v1alpha1.Cluster)
	if err := s.Get(Key{Kind: v1alpha1.KindCluster, Name: name}, c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnObjectsLife(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	c := demo("demo")
	c.Status.ReadyNodes = 3 // a writer's status is nobody's business
	put(t, s, c, Created)
	if c.UID != "uid-1" || c.Generation != 1 || c.ResourceVersion == "" || !c.CreationTimestamp.Time.Equal(start) || c.Status.ReadyNodes != 0 {
		t.Errorf("created %+v", c.ObjectMeta)
	}
	if got := get(t, s, "demo"); !reflect.DeepEqual(got, c) {
		t.Errorf("stored %+v\nwant   %+v", got, c)
	}

	next := demo("demo")
	next.Spec.Nodes[0].Stopped = true
	put(t, s, next, Configured)
	if next.UID != c.UID || next.Generation != 2 || next.ResourceVersion == c.ResourceVersion || !next.CreationTimestamp.Equal(c.CreationTimestamp.Time) {
		t.Errorf("changed %+v", next.ObjectMeta)
	}
	next = demo("demo")
	next.Spec.Nodes[0].Stopped = true
	next.Labels = map[string]string{"team": "x"}
	put(t, s, next, Configured)
	if next.Generation != 2 {
		t.Errorf("labels are no spec: generation %d", next.Generation)
	}

	if err := s.MarkDeleted(next); err != nil || next.DeletionTimestamp == nil {
		t.Fatalf("MarkDeleted: %v, %+v", err, next.ObjectMeta)
	}
	if got := get(t, s, "demo"); got.DeletionTimestamp == nil || got.Generation != 2 {
		t.Errorf("marked %+v", got.ObjectMeta)
	}
	k := KeyOf(next)
	if err := s.Delete(k, "another"); !errors.Is(err, ErrConflict) {
		t.Errorf("Delete of another uid: %v", err)
	}
	if err := s.Delete(k, next.UID); err != nil {
		t.Fatal(err)
	}
	if err := s.Get(k, new(v1alpha1.Cluster)); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get after Delete: %v", err)
	}
	if err := s.Delete(k, ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("Delete after Delete: %v", err)
	}
	if err := s.UpdateStatus(next); !errors.Is(err, ErrNotFound) {
		t.Errorf("UpdateStatus after Delete: %v", err)
	}
}

func TestAnOldVersionIsRefused(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	early := demo("demo")
	early.ResourceVersion = "1"
	if _, err := s.Put(early, false); !errors.Is(err, ErrConflict) {
		t.Errorf("Put with a version of an object that is not there: %v", err)
	}
	put(t, s, demo("demo"), Created)
	first, second := get(t, s, "demo"), get(t, s, "demo")
	first.Spec.Nodes[0].Stopped = true
	second.Spec.Nodes[1].Stopped = true
	put(t, s, first, Configured)
	if _, err := s.Put(second, false); !errors.Is(err, ErrConflict) {
		t.Errorf("Put of what was read before: %v", err)
	}
	second.ResourceVersion, second.UID = "", "another"
	if _, err := s.Put(second, false); !errors.Is(err, ErrConflict) {
		t.Errorf("Put of another uid: %v", err)
	}
	if err := s.UpdateStatus(second); !errors.Is(err, ErrConflict) {
		t.Errorf("UpdateStatus of another uid: %v", err)
	}
	if got := get(t, s, "demo"); !got.Spec.Nodes[0].Stopped || got.Spec.Nodes[1].Stopped {
		t.Errorf("stored %+v", got.Spec.Nodes)
	}
}

func TestUnchangedIsNotWritten(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	c := demo("demo")
	put(t, s, c, Created)
	told := 0
	defer s.Watch(func(Key) { told++ })()
	same := demo("demo")
	put(t, s, same, Unchanged)
	if err := s.UpdateStatus(same); err != nil {
		t.Fatal(err)
	}
	dry := demo("demo")
	dry.Spec.Nodes[0].Stopped = true
	if got, err := s.Put(dry, true); got != Configured || err != nil || dry.Generation != 2 {
		t.Errorf("dry run: %s, %v, generation %d", got, err, dry.Generation)
	}
	if got, err := s.Put(demo("other"), true); got != Created || err != nil {
		t.Errorf("dry run of a new one: %s, %v", got, err)
	}
	if got := get(t, s, "demo"); got.ResourceVersion != c.ResourceVersion || same.ResourceVersion != c.ResourceVersion || told != 0 {
		t.Errorf("version %s, was %s; told %d times", got.ResourceVersion, c.ResourceVersion, told)
	}
	if err := s.Get(Key{Kind: v1alpha1.KindCluster, Name: "other"}, new(v1alpha1.Cluster)); !errors.Is(err, ErrNotFound) {
		t.Errorf("a dry run stored: %v", err)
	}
}

func TestStatusKeepsGeneration(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	c := demo("demo")
	put(t, s, c, Created)
	before := c.ResourceVersion
	c.Spec.Shards = 99 // a status write looks at nothing else
	c.Status.ReadyNodes = 3
	if err := s.UpdateStatus(c); err != nil {
		t.Fatal(err)
	}
	if c.Generation != 1 || c.Spec.Shards == 99 || c.Status.ReadyNodes != 3 || c.ResourceVersion == before {
		t.Errorf("after the status: %+v %+v", c.ObjectMeta, c.Status)
	}
	next := demo("demo")
	next.Spec.Nodes[0].Stopped = true
	put(t, s, next, Configured)
	if next.Status.ReadyNodes != 3 || get(t, s, "demo").Status.ReadyNodes != 3 {
		t.Error("a Put lost the status")
	}
}

func TestVersionsRise(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	last := ""
	longer := func(v string) {
		t.Helper()
		if len(v) < len(last) || len(v) == len(last) && v <= last {
			t.Fatalf("version %s after %s", v, last)
		}
		last = v
	}
	for range 3 {
		s := open(t, path)
		for range 5 {
			c := demo("demo")
			put(t, s, c, Created)
			longer(c.ResourceVersion)
			if err := s.Delete(KeyOf(c), ""); err != nil {
				t.Fatal(err)
			}
			_, v, err := List[v1alpha1.Cluster](s, v1alpha1.KindCluster, "")
			if err != nil {
				t.Fatal(err)
			}
			longer(v)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListIsSortedAndBounded(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	for _, k := range [][2]string{{"prod", "n2"}, {"demo", "n1"}, {"demo2", "n1"}, {"demo", "n10"}, {"prod", "n1"}} {
		n := &v1alpha1.Node{TypeMeta: v1alpha1.TypeMeta{Kind: v1alpha1.KindNode}, ObjectMeta: v1alpha1.ObjectMeta{Namespace: k[0], Name: k[1]}}
		put(t, s, n, Created)
	}
	put(t, s, demo("demo"), Created)
	names := func(namespace string) string {
		items, _, err := List[v1alpha1.Node](s, v1alpha1.KindNode, namespace)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, n := range items {
			names = append(names, n.Namespace+"/"+n.Name)
		}
		return strings.Join(names, " ")
	}
	if got, want := names(""), "demo/n1 demo/n10 demo2/n1 prod/n1 prod/n2"; got != want {
		t.Errorf("all: %s", got)
	}
	if got, want := names("demo"), "demo/n1 demo/n10"; got != want {
		t.Errorf("of demo: %s", got)
	}
	bad := demo("a\x00b")
	if _, err := s.Put(bad, false); err == nil {
		t.Error("a name with a zero byte was taken")
	}
}

func TestWatchTellsOfEveryChangeAfterIt(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	var told []string
	cancel := s.Watch(func(k Key) { told = append(told, k.Kind+"/"+k.Namespace+"/"+k.Name) })
	c := demo("demo")
	put(t, s, c, Created)
	c.Status.Nodes = 3
	if err := s.UpdateStatus(c); err != nil {
		t.Fatal(err)
	}
	if err := s.MarkDeleted(c); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(KeyOf(c), c.UID); err != nil {
		t.Fatal(err)
	}
	cancel()
	put(t, s, demo("demo"), Created)
	if want := strings.Repeat("Cluster//demo ", 4); strings.Join(told, " ")+" " != want {
		t.Errorf("told %q", told)
	}
}

func TestEverythingOutlivesAClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path)
	c := demo("demo")
	put(t, s, c, Created)
	run := Run{Cluster: "demo", Node: "n1", Starts: 3, Process: &proc.Identity{PID: 7, StartTime: 8, BootID: "b"}, StartedAt: start,
		Restarts: 2, Failures: 1, NextStart: start.Add(time.Second), Halted: "why", LastTermination: &v1alpha1.Termination{ExitCode: 1}}
	if err := s.PutRun(run); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	if got := get(t, s, "demo"); !reflect.DeepEqual(got, c) {
		t.Errorf("%+v\nwant %+v", got, c)
	}
	if got, err := s.Run("demo", "n1"); err != nil || !reflect.DeepEqual(got, run) {
		t.Errorf("%+v, %v\nwant %+v", got, err, run)
	}
	if err := s.DeleteRun("demo", "n1"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Run("demo", "n1"); err != nil || !reflect.DeepEqual(got, Run{Cluster: "demo", Node: "n1"}) {
		t.Errorf("after DeleteRun: %+v, %v", got, err)
	}
}

func TestAnUnknownFormatIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path)
	if err := s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(formatKey, binary.BigEndian.AppendUint64(nil, 7))
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path, Options{})
	var fe *FormatError
	if !errors.As(err, &fe) || fe.Format != 7 || !strings.Contains(err.Error(), path) {
		t.Errorf("err = %v", err)
	}

	other := filepath.Join(t.TempDir(), "other")
	db, err := bbolt.Open(other, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("mine")); return err }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(other, Options{}); err == nil || !strings.Contains(err.Error(), "no state of a controller") {
		t.Errorf("a database of somebody else: %v", err)
	}
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte(strings.Repeat("not a database ", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(junk, Options{}); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("junk: %v", err)
	}
	if b, err := os.ReadFile(junk); err != nil || !strings.HasPrefix(string(b), "not a database") {
		t.Error("junk was overwritten")
	}
}

func TestNewUIDIsARandomUUID(t *testing.T) {
	a, b := newUID(), newUID()
	if len(a) != 36 || a[14] != '4' || a == b {
		t.Errorf("%s %s", a, b)
	}
}
