package member

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/wiber/wiber/topics/store"
)

// A world of folders that ask each other until nothing changes any more.
type folders struct {
	t     *testing.T
	nodes map[string]*folder
	order []string
	draws int
}

type folder struct {
	id   Identity
	boot *Bootstrap // nil: not running
}

func newFolders(t *testing.T, names ...string) *folders {
	w := &folders{t: t, nodes: map[string]*folder{}, order: names}
	for _, n := range names {
		w.nodes[n] = &folder{id: Identity{Node: n, UID: UID("uid-" + n)}}
	}
	return w
}

func (w *folders) start(name string, forming ...string) {
	f := w.nodes[name]
	f.boot = NewBootstrap(BootstrapConfig{Self: f.id, Cluster: "demo", Shards: 4, Forming: forming, All: w.order,
		Draw: func() (string, Secret) { w.draws++; return fmt.Sprintf("cluster-%d", w.draws), Secret{byte(w.draws)} }})
	f.boot.Start()
}

// ask carries every running node's questions once and syncs what it decided.
func (w *folders) ask() {
	for _, name := range w.order {
		f := w.nodes[name]
		if f.boot == nil || f.id.Member != nil {
			continue
		}
		for _, peer := range f.boot.Peers() {
			p := w.nodes[peer]
			if p.boot == nil {
				f.boot.Lost(peer)
				continue
			}
			a := p.boot.Reply()
			a.Member = p.id.Member
			f.boot.Handle(peer, a)
		}
		f.id.Member = f.boot.Decided()
	}
}

func (w *folders) settle() {
	for range 5 {
		w.ask()
	}
}

func TestAClusterIsFormedOnlyWhenAllAnswerEmpty(t *testing.T) {
	w := newFolders(t, "n1", "n2", "n3")
	w.start("n1", w.order...)
	w.start("n2", w.order...)
	w.settle()
	if w.draws != 0 {
		t.Fatal("formed without n3")
	}
	if got := strings.Join(w.nodes["n1"].boot.Waiting(), ","); got != "n3" {
		t.Fatalf("n1 waits for %q, want n3", got)
	}
	w.start("n3", w.order...)
	w.settle()
	for i, name := range w.order {
		m := w.nodes[name].id.Member
		if m == nil || m.ClusterID != "cluster-1" || m.Secret != (Secret{1}) {
			t.Fatalf("%s: membership %+v", name, m)
		}
		if got := w.nodes[name].id.RaftID(); got != uint64(i+1) {
			t.Fatalf("%s has raft id %d, want its place in the file", name, got)
		}
	}
	if w.draws != 1 {
		t.Fatalf("%d cluster ids drawn", w.draws)
	}
}

func TestAOneNodeClusterFormsAtOnce(t *testing.T) {
	w := newFolders(t, "n1")
	w.start("n1", "n1")
	if w.nodes["n1"].boot.Decided() == nil {
		t.Fatal("did not form")
	}
}

func TestD6AnErasedFolderDoesNotJoin(t *testing.T) {
	w := newFolders(t, "n1", "n2", "n3")
	for _, n := range w.order {
		w.start(n, w.order...)
	}
	w.settle()
	w.nodes["n1"].id = Identity{Node: "n1", UID: "another"}
	w.start("n1", w.order...)
	w.settle()
	err := w.nodes["n1"].boot.Err()
	if !errors.Is(err, ErrNotRestartable) || !strings.Contains(err.Error(), "erased") {
		t.Fatalf("err = %v", err)
	}
	if w.draws != 1 {
		t.Fatal("a second cluster was formed")
	}
}

func TestACoordinatorThatForgotFormsAnewOnlyIfNobodyJoined(t *testing.T) {
	w := newFolders(t, "n1", "n2", "n3")
	for _, n := range w.order {
		w.start(n, w.order...)
	}
	// n1 alone learns the answers, forms, and loses its folder at once.
	for _, p := range []string{"n2", "n3"} {
		w.nodes["n1"].boot.Handle(p, w.nodes[p].boot.Reply())
	}
	if w.nodes["n1"].boot.Decided() == nil {
		t.Fatal("did not form")
	}
	w.nodes["n1"].id = Identity{Node: "n1", UID: "another"}
	w.start("n1", w.order...)
	w.settle()
	if m := w.nodes["n3"].id.Member; m == nil || m.ClusterID != "cluster-2" {
		t.Fatalf("n3: %+v", m)
	}
}

func TestACrashBeforeTheSyncIsForgiven(t *testing.T) {
	w := newFolders(t, "n1", "n2", "n3")
	for _, n := range w.order {
		w.start(n, w.order...)
	}
	w.settle()
	w.nodes["n2"].id.Member = nil // decided, but the disk has only its uid
	w.start("n2", w.order...)
	w.settle()
	if w.nodes["n2"].id.RaftID() != 2 {
		t.Fatalf("n2: %+v, err %v", w.nodes["n2"].id, w.nodes["n2"].boot.Err())
	}
}

func TestAStoppedNodeKeepsItsPlaceAndNeedsToBeEntered(t *testing.T) {
	w := newFolders(t, "n1", "n2", "n3")
	w.start("n1", "n1", "n2")
	w.start("n2", "n1", "n2")
	w.settle()
	w.start("n3", "n1", "n2", "n3")
	w.settle()
	if w.nodes["n3"].id.Member != nil || w.nodes["n3"].boot.Err() != nil {
		t.Fatalf("n3 must wait until its uid is entered: %+v, err %v", w.nodes["n3"].id, w.nodes["n3"].boot.Err())
	}
	w.nodes["n1"].id.Member.Nodes[2].UID = "uid-n3"
	w.settle()
	if w.nodes["n3"].id.RaftID() != 3 {
		t.Fatalf("n3: %+v", w.nodes["n3"].id)
	}
}

func TestSettingsThatContradictEachOtherAreRefused(t *testing.T) {
	w := newFolders(t, "n1", "n2", "n3")
	w.start("n1", w.order...)
	w.start("n2", "n2", "n1", "n3")
	w.start("n3", w.order...)
	w.settle()
	if err := w.nodes["n1"].boot.Err(); err == nil || !strings.Contains(err.Error(), "same file") {
		t.Fatalf("err = %v", err)
	}
	for _, c := range []struct {
		name   string
		answer Answer
		want   string
	}{
		{"another cluster answers", Answer{Cluster: "prod", Node: "n2"}, `"prod"`},
		{"another node answers", Answer{Cluster: "demo", Node: "n3"}, "n3 answers"},
		{"another number of shards", Answer{Cluster: "demo", Node: "n2", Member: &Membership{Shards: 8, Nodes: []NodeIdentity{{Name: "n1"}}}}, "shards: 8"},
		{"not in the list", Answer{Cluster: "demo", Node: "n2", Member: &Membership{Shards: 4, Nodes: []NodeIdentity{{Name: "n2"}}}}, "without n1"},
	} {
		b := NewBootstrap(BootstrapConfig{Self: Identity{Node: "n1", UID: "u"}, Cluster: "demo", Shards: 4, Forming: w.order, All: w.order})
		b.Handle("n2", c.answer)
		if b.Err() == nil || !strings.Contains(b.Err().Error(), c.want) {
			t.Errorf("%s: %v", c.name, b.Err())
		}
	}
}

// saved is the identity that a node finds which starts after a power cut now.
func (w *witness) saved(t *testing.T) Identity {
	t.Helper()
	id, err := loadIdentity(w.Snapshot(), "n1")
	if err != nil {
		t.Fatal(err)
	}
	if id == nil {
		return Identity{}
	}
	return *id
}

// A node draws a uid, takes its place in a cluster, and counts a start. Each of
// them is on its disk before the next step can use it, and a step whose write
// failed ends the node.
func TestD6WhatANodeIsStandsOnItsDiskFirst(t *testing.T) {
	c := testCluster(t, 1)
	w := &witness{Mem: store.NewMem()}
	n := &node{o: Options{Node: "n1", Cluster: c}, log: slog.New(slog.DiscardHandler), meta: w, secret: newSharedSecret()}
	steps := []struct {
		name string
		do   func() error
		// known says that the node, or what it would start as, has made the step.
		known func(Identity) bool
	}{
		{"the uid is drawn", n.openIdentity, func(id Identity) bool { return id.UID != "" }},
		{"the cluster is formed", func() error {
			b := NewBootstrap(BootstrapConfig{Self: n.identity, Cluster: c.Name, Shards: c.Spec.Shards, Forming: []string{"n1"}, All: []string{"n1"}, Draw: func() (string, Secret) { return drawID(), Secret{1} }})
			b.Start()
			n.boot.b = b
			_, _, err := n.joined()
			return err
		}, func(id Identity) bool { return id.RaftID() == 1 }},
		{"the start is counted", n.countStart, func(id Identity) bool { return id.Counter == 1 }},
	}
	for _, step := range steps {
		before := n.identity
		w.before = func(map[string][]byte) error { return syscall.EIO }
		if err := step.do(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("%s: a failed write gives %v", step.name, err)
		}
		n.identity = before // of the next process
		w.before = func(map[string][]byte) error {
			if step.known(w.saved(t)) {
				t.Errorf("%s: it was on the disk before", step.name)
			}
			return nil
		}
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if !step.known(n.identity) || !reflect.DeepEqual(w.saved(t), n.identity) {
			t.Errorf("%s: the node is %+v, its disk says %+v", step.name, n.identity, w.saved(t))
		}
	}
}
