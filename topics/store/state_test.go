package store

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/topics"
	"github.com/wiber/wiber/topics/batch"
)

// shard is a Broker with the log that it was made from.
type shard struct {
	t      *testing.T
	broker *topics.Broker
	log    []topics.Entry
	ts     uint64
}

func newShard(t *testing.T) *shard { return &shard{t: t, broker: topics.NewBroker(), ts: 1e6} }

// publish appends an entry with n publishes with ids.
func (s *shard) publish(rng *rand.Rand, n int) {
	s.t.Helper()
	records := []batch.Record{{Value: []byte("value")}}
	b, err := batch.Build(nil, records)
	if err != nil {
		s.t.Fatal(err)
	}
	var data []byte
	if len(s.log) == 0 {
		for uid := uint64(1); uid <= 50; uid++ {
			s.ts++
			body := make([]byte, 28) // uid, partitions, generation, window
			body[0], body[8], body[12], body[20], body[22] = byte(uid), 4, 1, 0, 100
			data = topics.AppendCommand(data, topics.Command{Kind: topics.KindConfigure, Stamp: topics.Stamp{TS: s.ts}, Body: body})
		}
	}
	from := topics.Origin{RaftID: 1 + rng.Uint64N(2), Counter: 1}
	next, _ := s.broker.NextNumber(from)
	for i := range n {
		s.ts += rng.Uint64N(20_000) + 1
		st := topics.Stream{UID: 1 + rng.Uint64N(50), Partition: rng.Uint32N(4)}
		p := topics.Publish{UID: st.UID, Partition: st.Partition, HasID: true, ID: topics.HashID(st, fmt.Sprint(rng.IntN(100))), Batch: b}
		data = topics.AppendCommand(data, topics.Command{
			Kind: topics.KindPublish, Origin: from, Number: next + uint64(i), Stamp: topics.Stamp{TS: s.ts}, Body: topics.NewPublish(p, 0, 0).Body,
		})
	}
	e := topics.Entry{Index: uint64(len(s.log) + 1), Term: 1, Data: data, Pos: topics.Pos{Segment: uint64(len(s.log)/10 + 1)}}
	s.log = append(s.log, e)
	outs, err := s.broker.Apply(e)
	if err != nil || len(outs) != n {
		s.t.Fatal(len(outs), err)
	}
}

// restart restores a broker from the state and applies the rest of the log.
func (s *shard) restart(st *State, group uint64) *topics.Broker {
	s.t.Helper()
	b := topics.NewBroker()
	if err := st.Restore(group, b); err != nil {
		s.t.Fatal(err)
	}
	for _, e := range s.log {
		if _, err := b.Apply(e); err != nil {
			s.t.Fatal(err)
		}
	}
	if b.Chain() != s.broker.Chain() {
		s.t.Fatalf("group %d: chain %s after a restart, %s before", group, b.Chain(), s.broker.Chain())
	}
	return b
}

func open(t *testing.T, fsys vfs.FS, meta MetaStore) *State {
	t.Helper()
	st, err := OpenState(StateOptions{FS: fsys, Dir: "node/state", Meta: meta, MaxDeltas: 3})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestWholeCheckpoint makes checkpoints of two groups while the power fails at
// random places, and restarts both from what is left.
func TestWholeCheckpoint(t *testing.T) {
	var crashes, merged, restored int
	for seed := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 5))
		disk, meta := vfs.NewMem(rng), NewMem()
		shards := []*shard{newShard(t), newShard(t)}
		st := open(t, disk, meta)
		var applied [2]uint64 // of the last checkpoint that was acknowledged
		for range 60 {
			for _, s := range shards {
				for range rng.IntN(4) {
					s.publish(rng, 1+rng.IntN(5))
				}
			}
			if rng.IntN(2) == 0 {
				continue
			}
			if rng.IntN(3) == 0 {
				disk.PowerOffAfter(1 + rng.IntN(30))
			}
			var groups []GroupState
			for i, s := range shards {
				groups = append(groups, GroupState{Group: uint64(i), ConfState: []byte{byte(i), 7}, State: s.broker.Checkpoint()})
			}
			err := st.Save(groups)
			if err == nil {
				for i, g := range groups {
					applied[i] = g.State.Applied
					if m, ok := st.Manifest(uint64(i)); !ok || m.Applied != g.State.Applied || string(m.ConfState) != string([]byte{byte(i), 7}) {
						t.Fatalf("manifest %+v", m)
					} else if len(m.Files) == 1 && groups[i].State.Applied > 5 && !groups[i].State.Full {
						merged++
					}
				}
				disk.PowerOffAfter(0)
				if rng.IntN(3) > 0 {
					continue
				}
			} else if !disk.Off() {
				t.Fatal(err)
			}
			crashes++
			disk, meta = disk.Crash(), meta.Snapshot()
			st = open(t, disk, meta)
			both := [2]uint64{}
			for i, s := range shards {
				m, ok := st.Manifest(uint64(i))
				if both[i] = m.Applied; ok {
					restored++
				}
				if m.Applied < applied[i] {
					t.Fatalf("seed %d: group %d is back at entry %d, %d was acknowledged", seed, i, m.Applied, applied[i])
				}
				s.broker = s.restart(st, uint64(i))
			}
			if (both[0] == applied[0]) != (both[1] == applied[1]) && both[0] != 0 {
				if int(both[0]) != len(shards[0].log) && int(both[1]) != len(shards[1].log) {
					t.Fatalf("seed %d: half of a checkpoint: %v, before %v", seed, both, applied)
				}
			}
		}
		if names, err := disk.ReadDir("node/state"); err != nil || len(names) > 30 {
			t.Fatalf("%d files are left, %v", len(names), err)
		}
	}
	if crashes == 0 || merged == 0 || restored == 0 {
		t.Fatalf("too little happened: %d crashes, %d merges, %d restores", crashes, merged, restored)
	}
}

// TestDamageIsNamed flips single bits in state files and in cut off ones.
func TestDamageIsNamed(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 6))
	disk, meta := vfs.NewMem(rng), NewMem()
	s := newShard(t)
	st := open(t, disk, meta)
	for range 2 {
		s.publish(rng, 50)
		if err := st.Save([]GroupState{{Group: 3, State: s.broker.Checkpoint()}}); err != nil {
			t.Fatal(err)
		}
	}
	m, _ := st.Manifest(3)
	if len(m.Files) != 2 {
		t.Fatalf("%d files", len(m.Files))
	}
	s.restart(st, 3)
	for _, f := range m.Files {
		path := "node/state/" + f.Name
		for range 300 {
			off, bit := rng.Int64N(f.Size), uint(rng.IntN(8))
			if err := disk.Flip(path, off, bit); err != nil {
				t.Fatal(err)
			}
			err := st.Restore(3, topics.NewBroker())
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || !strings.HasSuffix(corrupt.File, f.Name) {
				t.Fatalf("bit %d of byte %d of %s: %v", bit, off, f.Name, err)
			}
			if err := disk.Flip(path, off, bit); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.restart(open(t, disk, meta), 3)
	if err := disk.Remove("node/state/" + m.Files[1].Name); err != nil {
		t.Fatal(err)
	}
	if err := st.Restore(3, topics.NewBroker()); err == nil {
		t.Fatal("a missing file is not noticed")
	}
}

// TestMergingLeavesOutWhatIsForgotten: expired ids are not in a new base.
func TestMergingLeavesOutWhatIsForgotten(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 7))
	disk, meta := vfs.NewMem(rng), NewMem()
	s := newShard(t)
	st := open(t, disk, meta)
	var smallest, largest uint64 = 1 << 60, 0
	for range 40 {
		s.publish(rng, 100)
		s.ts += 10e6 // longer than the window
		if err := st.Save([]GroupState{{Group: 1, State: s.broker.Checkpoint()}}); err != nil {
			t.Fatal(err)
		}
		if m, _ := st.Manifest(1); len(m.Files) == 1 {
			smallest, largest = min(smallest, m.Files[0].Records), max(largest, m.Files[0].Records)
		}
	}
	// 200 partitions, 50 topics, and at the end 4,000 results; not 4,000 ids.
	m, _ := st.Manifest(1)
	ids := uint64(0)
	records, err := openMerge(disk, "node/state", m.Files, 1)
	if err != nil {
		t.Fatal(err)
	}
	for {
		key, _, err := records.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if key[0] == 5 {
			ids++
		}
	}
	if ids > 500 || smallest == largest {
		t.Fatalf("%d ids in the files, bases of %d to %d records", ids, smallest, largest)
	}
}

// TestOtherVersionsAreNamed: a manifest of another version is not read.
func TestOtherVersionsAreNamed(t *testing.T) {
	meta := NewMem()
	st := open(t, vfs.NewMem(rand.New(rand.NewPCG(1, 1))), meta)
	s := newShard(t)
	s.publish(rand.New(rand.NewPCG(1, 1)), 1)
	if err := st.Save([]GroupState{{Group: 0, State: s.broker.Checkpoint()}}); err != nil {
		t.Fatal(err)
	}
	b, _ := meta.Get(manifestKey(0))
	b[0] = 9
	if err := meta.Update(map[string][]byte{manifestKey(0): b}); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenState(StateOptions{FS: vfs.NewMem(nil), Dir: "d", Meta: meta}); err == nil || !strings.Contains(err.Error(), "version 9") {
		t.Fatal(err)
	}
}

// FuzzManifest: no value of the manifest makes the decoder panic.
func FuzzManifest(f *testing.F) {
	m := Manifest{Applied: 5, Term: 2, ConfState: []byte{1, 2}, Files: []File{{Name: "g1-0.state", Size: 9, Records: 1}}}
	f.Add(m.append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeManifest(b); err == nil && string(m.append(nil)) != string(b) {
			t.Fatal("a manifest does not encode to itself")
		}
		(&State{}).decodeGroups(b)
	})
}

// FuzzStateFile: no file makes the reader panic or return more than it has.
func FuzzStateFile(f *testing.F) {
	disk := vfs.NewMem(rand.New(rand.NewPCG(1, 1)))
	w, err := newFileWriter(disk, "x", 1, 2)
	if err != nil {
		f.Fatal(err)
	}
	for _, k := range []string{"a", "b", "c"} {
		if err := w.add([]byte(k), []byte("value"), k == "b"); err != nil {
			f.Fatal(err)
		}
	}
	file, err := w.finish("x")
	if err != nil {
		f.Fatal(err)
	}
	b, _ := disk.ReadFile("x", 1<<20)
	f.Add(b)
	f.Add(b[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		disk := vfs.NewMem(rand.New(rand.NewPCG(1, 1)))
		if err := disk.WriteFile("x", b); err != nil {
			t.Fatal(err)
		}
		file := file
		file.Size = int64(len(b))
		r, err := openFileReader(disk, ".", file, 1)
		if err != nil {
			return
		}
		n := 0
		for err == nil {
			if err = r.next(); err == nil {
				n += len(r.key) + len(r.value)
			}
		}
		if n > len(b) {
			t.Fatalf("%d bytes of records from %d", n, len(b))
		}
		r.close()
	})
}
