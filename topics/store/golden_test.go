package store

import (
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/topics"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGoldenCheckpoint: the bytes of state files and of the manifest do not change
// by accident. It makes a base and a delta of the catalogue and of a shard.
func TestGoldenCheckpoint(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	disk, meta := vfs.NewMem(rng), NewMem()
	st := open(t, disk, meta)
	shard, catalogue := newShard(t), topics.NewCatalogue()
	index := uint64(0)
	change := func(r topics.Request) {
		index++
		data := topics.AppendCommand(nil, topics.Command{Kind: r.Kind, Origin: topics.Origin{RaftID: 2, Counter: 3}, Number: index,
			Stamp: topics.Stamp{TS: 1795341600000000 + index, EPS: -1, Lamport: index}, Body: r.Body})
		if _, err := catalogue.Apply(topics.Entry{Index: index, Term: 1, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	save := func() {
		if err := st.Save([]GroupState{
			{Group: 0, ConfState: []byte{8, 1}, State: catalogue.Checkpoint()},
			{Group: 1, ConfState: []byte{8, 1}, State: shard.broker.Checkpoint()},
		}); err != nil {
			t.Fatal(err)
		}
	}
	change(topics.NewForm(topics.Form{ClusterInfo: topics.ClusterInfo{ID: [16]byte{9}, Shards: 4}, Nodes: []topics.Node{{Name: "n1", RaftID: 1, UID: [16]byte{1}}}}))
	change(topics.NewSecret(topics.Secret{31: 9}))
	change(topics.NewCreate(topics.TopicChange{Name: "orders", Spec: topics.DefaultSpec}))
	change(topics.NewCreate(topics.TopicChange{Name: "gone", Spec: topics.DefaultSpec}))
	shard.publish(rng, 2)
	save()
	change(topics.NewDelete(topics.Delete{Name: "gone"}))
	shard.publish(rng, 1)
	save()

	var got strings.Builder
	names, err := disk.ReadDir("node/state")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := disk.ReadFile("node/state/"+name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s\n%s\n", name, hex.Dump(b))
	}
	for _, key := range slices.Sorted(maps.Keys(meta.values)) {
		fmt.Fprintf(&got, "%s\n%s\n", key, hex.Dump(meta.values[key]))
	}
	path := filepath.Join("testdata", "golden", "checkpoint.hex")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Fatalf("the format of checkpoints has changed: raise its version, or what is on disk can no longer be read\n%s", got.String())
	}
}

// TestCheckpointsOfVersion1AreRead: what the program before secrets wrote.
func TestCheckpointsOfVersion1AreRead(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "golden", "checkpoint-v1.hex"))
	if err != nil {
		t.Fatal(err)
	}
	disk, meta := vfs.NewMem(rand.New(rand.NewPCG(1, 1))), NewMem()
	if err := disk.MkdirAll("node/state"); err != nil {
		t.Fatal(err)
	}
	for name, b := range readDumps(t, string(raw)) {
		if strings.HasSuffix(name, ".state") {
			if err := disk.WriteFile("node/state/"+name, b); err != nil {
				t.Fatal(err)
			}
		} else {
			meta.values[name] = b
		}
	}
	st := open(t, disk, meta)
	catalogue := topics.NewCatalogue()
	if err := st.Restore(0, catalogue); err != nil {
		t.Fatal(err)
	}
	if names := catalogue.Names(); len(names) != 1 || names[0] != "orders" {
		t.Fatalf("topics %v", names)
	}
	if _, ok := catalogue.Secret(); ok {
		t.Fatal("a secret that nobody drew")
	}
}

// readDumps reads what hex.Dump wrote under names.
func readDumps(t *testing.T, text string) map[string][]byte {
	t.Helper()
	files, name := map[string][]byte{}, ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch fields := strings.Fields(strings.Split(line, "|")[0]); {
		case line == "":
		case !strings.Contains(line, "|") && len(fields) == 1 && len(line) == 8 && name != "":
			// the length that ends a dump
		case !strings.Contains(line, "|"):
			name = line
		default:
			b, err := hex.DecodeString(strings.Join(fields[1:], ""))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = append(files[name], b...)
		}
	}
	return files
}
