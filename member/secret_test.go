package member

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/store"
)

// folderIdentity reads who a folder is; its node must not run.
func folderIdentity(t *testing.T, c *v1alpha1.Cluster, id string) *Identity {
	t.Helper()
	var got *Identity
	withFolder(t, c, id, func(meta store.MetaStore) error {
		var err error
		got, err = loadIdentity(meta, id)
		return err
	})
	return got
}

func withFolder(t *testing.T, c *v1alpha1.Cluster, id string, f func(store.MetaStore) error) {
	t.Helper()
	meta, err := store.OpenBolt(filepath.Join(c.Spec.DataRoot, id, "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f(meta); err != nil {
		t.Fatal(err)
	}
	if err := meta.Close(); err != nil {
		t.Fatal(err)
	}
}

// sameSecret checks that all folders hold one secret and nobody else can read it.
func sameSecret(t *testing.T, c *v1alpha1.Cluster) Secret {
	t.Helper()
	var s Secret
	for i, spec := range c.Spec.Nodes {
		m := folderIdentity(t, c, spec.ID).Member
		if m == nil || m.Secret.IsZero() {
			t.Fatalf("the folder of %s has no secret", spec.ID)
		}
		if i > 0 && m.Secret != s {
			t.Fatalf("the folder of %s has another secret", spec.ID)
		}
		s = m.Secret
		for _, pattern := range []string{"meta.db", "log/*", "state/*"} {
			files, _ := filepath.Glob(filepath.Join(c.Spec.DataRoot, spec.ID, pattern))
			for _, f := range files {
				if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v %v", f, st.Mode(), err)
				}
			}
		}
	}
	return s
}

func startAll(t *testing.T, c *v1alpha1.Cluster) map[string]*testNode {
	t.Helper()
	nodes := map[string]*testNode{}
	for _, s := range c.Spec.Nodes {
		nodes[s.ID] = startNode(t, c, s.ID)
	}
	return nodes
}

func endAll(t *testing.T, nodes map[string]*testNode) {
	t.Helper()
	for id, n := range nodes {
		if err := n.end(t); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
}

func TestASecretIsDrawnWhenTheClusterForms(t *testing.T) {
	c := testCluster(t, 3)
	nodes := startAll(t, c)
	dialNode(t, c, "n1").ask("PUB orders hello")
	var said strings.Builder
	for _, path := range []string{"/v1/status", "/v1/identity", "/readyz"} {
		r, err := http.Get("http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Spec.Nodes[0].HTTPPort)) + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(&said, r.Body)
		r.Body.Close()
	}
	strange, err := askPeer(t.Context(), &net.Dialer{}, peerAddr(c.Spec.Nodes[0]), Ask{Cluster: "demo", Node: "n2", UID: "00112233445566778899aabbccddeeff"})
	if err != nil || strange.Member == nil || !strange.Member.Secret.IsZero() {
		t.Fatalf("a stranger is told %+v, %v", strange, err)
	}
	uid := strange.Member.Nodes[1].UID
	known, err := askPeer(t.Context(), &net.Dialer{}, peerAddr(c.Spec.Nodes[0]), Ask{Cluster: "demo", Node: "n2", UID: uid})
	if err != nil || known.Member == nil {
		t.Fatalf("%+v %v", known, err)
	}
	endAll(t, nodes)
	s := sameSecret(t, c)
	if known.Member.Secret != s {
		t.Fatal("a node of the cluster is not told its secret")
	}
	if strings.Contains(said.String(), hex.EncodeToString(s[:])) {
		t.Fatalf("HTTP tells the secret: %s", said.String())
	}
	endAll(t, startAll(t, c))
	if sameSecret(t, c) != s {
		t.Fatal("another secret after a restart")
	}
}

func TestTheSecretIsNotPrinted(t *testing.T) {
	var s Secret
	for i := range s {
		s[i] = 0xab
	}
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "member", Membership{Secret: s})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s)
	fmt.Fprintf(&out, "%v %+v %#v %s %+v", s, s, s, s, &Membership{Secret: s})
	if text := out.String(); strings.Contains(text, "abab") || strings.Contains(text, "171") || strings.Contains(text, "0xab") {
		t.Fatal(text)
	}
	raw, err := json.Marshal(Membership{Secret: s})
	var back Membership
	if err != nil || json.Unmarshal(raw, &back) != nil || back.Secret != s {
		t.Fatalf("%s %v", raw, err)
	}
	if raw, _ := json.Marshal(Membership{}); strings.Contains(string(raw), "secret") {
		t.Fatalf("%s", raw)
	}
	if err := json.Unmarshal([]byte(`{"secret":"ab"}`), &back); err == nil {
		t.Fatal("a short secret is taken")
	}
}

func TestKeysDifferByPurposeAndCluster(t *testing.T) {
	s := Secret{1}
	if first, again := s.Key("a", "gossip"), s.Key("a", "gossip"); first != again {
		t.Fatal("a key is not the same twice")
	}
	seen := map[[32]byte]bool{}
	for _, k := range [][32]byte{s.Key("a", "gossip"), s.Key("a", "probe"), s.Key("b", "gossip"), Secret{2}.Key("a", "gossip"), s} {
		if seen[k] {
			t.Fatal("two keys are the same")
		}
		seen[k] = true
	}
	if k := s.Key("a", "gossip"); hex.EncodeToString(k[:4]) != "3c18ecbd" {
		t.Fatalf("keys have changed: nodes of two builds do not understand each other: %x", k[:4])
	}
}

// oldCluster is a cluster whose three folders were made, used and drained by the
// program before there were secrets (commit 68836a9): topic orders, two messages.
func oldCluster(t *testing.T) *v1alpha1.Cluster {
	t.Helper()
	c := testCluster(t, 3)
	c.Spec.Shards = 1
	f, err := os.Open(filepath.Join("testdata", "formed-without-secret.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return c
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(c.Spec.DataRoot, h.Name)
		if h.FileInfo().IsDir() {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, h.FileInfo().Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAClusterFormedEarlierDrawsItsSecretOnce(t *testing.T) {
	c := oldCluster(t)
	for _, s := range c.Spec.Nodes {
		if !folderIdentity(t, c, s.ID).Member.Secret.IsZero() {
			t.Fatal("the old folder has a secret")
		}
	}
	nodes := map[string]*testNode{}
	nodes["n1"], nodes["n2"] = startNode(t, c, "n1"), startNode(t, c, "n2")
	v := dialNode(t, c, "n1")
	v.say("HISTORY orders read=linearizable")
	for _, want := range []string{"hello", "world"} {
		if head, text := v.line(), v.line(); text != want {
			t.Fatalf("%s %q, want %q", head, text, want)
		}
	}
	// n3 may be a program that reads no secret from the log: as long as it does not
	// answer, none is put there.
	asked, err := askPeer(t.Context(), &net.Dialer{}, peerAddr(c.Spec.Nodes[0]), Ask{Cluster: "demo", Node: "n3"})
	if err != nil || asked.Reads != 2 || !asked.Member.Secret.IsZero() {
		t.Fatalf("%+v %v", asked, err)
	}
	nodes["n3"] = startNode(t, c, "n3")
	uids := map[string]UID{}
	for _, n := range asked.Member.Nodes {
		uids[n.Name] = n.UID
	}
	for i, s := range c.Spec.Nodes {
		asker := c.Spec.Nodes[(i+1)%3].ID
		eventually(t, 30*time.Second, func() bool {
			a, err := askPeer(t.Context(), &net.Dialer{}, peerAddr(s), Ask{Cluster: "demo", Node: asker, UID: uids[asker]})
			return err == nil && a.Member != nil && !a.Member.Secret.IsZero()
		})
	}
	endAll(t, nodes)
	first := sameSecret(t, c)
	// A folder that lost only its secret learns it again from its peers or its log.
	withFolder(t, c, "n3", func(meta store.MetaStore) error {
		id, err := loadIdentity(meta, "n3")
		if err != nil {
			return err
		}
		id.Member.Secret = Secret{}
		return storeIdentity(meta, id)
	})
	nodes = startAll(t, c)
	eventually(t, 30*time.Second, func() bool {
		a, err := askPeer(t.Context(), &net.Dialer{}, peerAddr(c.Spec.Nodes[2]), Ask{Cluster: "demo", Node: "n1", UID: uids["n1"]})
		return err == nil && a.Member != nil && a.Member.Secret == first
	})
	endAll(t, nodes)
	if sameSecret(t, c) != first {
		t.Fatal("a second secret was drawn")
	}
}

// TestNoSecretIsDrawnForAProgramThatCannotReadIt: a peer of an earlier version
// answers questions without saying what it reads.
func TestNoSecretIsDrawnForAProgramThatCannotReadIt(t *testing.T) {
	c := testCluster(t, 2)
	ln, err := net.Listen("tcp", peerAddr(c.Spec.Nodes[1]))
	if err != nil {
		t.Fatal(err)
	}
	m := &Membership{ClusterID: "00112233445566778899aabbccddeeff", Cluster: "demo", Shards: 4}
	var mu sync.Mutex // guards answer
	answer := Answer{Cluster: "demo", Node: "n2", Member: m}
	pp := &peerPort{ln: ln, links: func(c net.Conn) { c.Close() }, reply: func(Ask) Answer {
		mu.Lock()
		defer mu.Unlock()
		return answer
	}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = pp.serve(ctx) })
	defer wg.Wait()
	defer cancel()
	n := &node{o: Options{Node: "n1", Cluster: c}, self: c.Spec.Nodes[0], clock: timesvc.NewSystem(timesvc.Skew{}), identity: Identity{Node: "n1", Member: m}}
	for _, step := range []struct {
		name   string
		change func()
		can    bool
		secret bool
	}{
		{"an earlier program", func() {}, false, false},
		{"the same cluster, and it reads version 2", func() { answer.Reads = 2 }, true, false},
		{"another cluster", func() { o := *m; o.ClusterID = "other"; answer.Member = &o }, false, false},
		{"it knows the secret", func() { o := *m; o.Secret = Secret{7}; answer.Member = &o }, false, true},
	} {
		mu.Lock()
		step.change()
		mu.Unlock()
		s, can := n.askForSecret(ctx)
		if can != step.can || s.IsZero() == step.secret {
			t.Fatalf("%s: can %v, secret %v", step.name, can, !s.IsZero())
		}
	}
	ln.Close()
	if _, can := n.askForSecret(ctx); can {
		t.Fatal("a node that does not answer would be passed over")
	}
	c.Spec.Nodes[1].Stopped = true
	if _, can := n.askForSecret(ctx); !can {
		t.Fatal("a stopped node is waited for")
	}
}
