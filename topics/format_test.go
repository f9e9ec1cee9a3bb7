package topics

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenEntry has one command of every kind.
func goldenEntry(t testing.TB) []byte {
	var data []byte
	n := uint64(0)
	add := func(k Kind, body []byte) {
		n++
		c := Command{Kind: k, Stamp: Stamp{TS: 1795341600000000 + n, EPS: int64(n) - 1, Lamport: 100 + n}, Body: body}
		if k != KindConfigure && k != KindDrop && k != KindClock && k != KindLimits {
			c.Origin, c.Number = Origin{RaftID: 3, Counter: 7}, n
		}
		if n == 1 {
			c.Stamp.EPS = -1
		}
		data = AppendCommand(data, c)
	}
	b := makeBatch(t, 2, "value")
	add(KindPublish, NewPublish(Publish{UID: 5, Partition: 1, Batch: b}, 0, 0).Body)
	add(KindPublish, NewPublish(Publish{UID: 5, Partition: 1, HasID: true, ID: HashID(stream(5, 1), "id"),
		HasProducer: true, Producer: HashProducer("producer"), Epoch: 2, Seq: 17, Batch: b}, 0, 0).Body)
	add(KindConfigure, configure{5, 3, 2, 120e6}.append(nil))
	add(KindDrop, appendDrop(nil, 5))
	add(KindClock, clock{77, Chain{1, 2, 3}}.append(nil))
	add(KindRefused, refused{NoTopic, 5, 1}.append(nil))
	add(KindLimits, appendLimits(nil, 1_000_000))
	add(KindForm, NewForm(Form{ClusterInfo{[16]byte{9}, 4}, []Node{{"n1", 1, [16]byte{1}}, {"n2", 2, [16]byte{}}}}).Body)
	add(KindEnter, NewEnter(Enter{"n2", [16]byte{2}}).Body)
	add(KindCreate, NewCreate(TopicChange{Name: "orders", Spec: DefaultSpec, SetAnnotations: true, Annotations: []Annotation{PublishAnnotation}}).Body)
	add(KindPut, NewPut(TopicChange{Name: "orders", Spec: Spec{3, 1, 2, 3, 4, 5, true}}).Body)
	add(KindDelete, NewDelete(Delete{"orders", 5}).Body)
	return data
}

// goldenEntry2 has one command of every kind that needs version 2.
func goldenEntry2() []byte {
	return AppendCommand(nil, Command{Kind: KindSecret, Origin: Origin{RaftID: 3, Counter: 7}, Number: 1,
		Stamp: Stamp{TS: 1795341600000000, EPS: -1, Lamport: 101}, Body: NewSecret(Secret{31: 9}).Body})
}

// TestGoldenEntry: the format does not change by accident.
func TestGoldenEntry(t *testing.T) {
	golden(t, "entry.hex", goldenEntry(t), "raise EntryVersion, or this log can no longer be read")
	golden(t, "entry-v2.hex", goldenEntry2(), "raise EntryVersion, or this log can no longer be read")
	var seen []string
	it := Commands(goldenEntry(t))
	for it.Next() {
		seen = append(seen, fmt.Sprint(it.Command.Kind))
	}
	if it.Err() != nil || strings.Join(seen, " ") != "1 1 2 3 4 5 6 16 17 18 19 20" {
		t.Fatal(seen, it.Err())
	}
}

// TestGoldenMessages: nodes of two builds understand each other.
func TestGoldenMessages(t *testing.T) {
	o := Origin{RaftID: 3, Counter: 7}
	golden(t, "requests.hex", EncodeRequests(nil, o, []Request{
		{Number: 4, Catalogue: 77, Lamport: 99, Kind: KindPublish, Body: []byte("body")},
		{Number: 5, Kind: KindDelete},
	}), "raise messageVersion")
	golden(t, "results.hex", EncodeResults(nil, o, []Result{
		{
			Number: 4, Code: Gap, Effect: Configured, Duplicate: true, Partition: 2, Count: 3, UID: 5, Base: 6, Expected: 17,
			TS: 1795341600000000, EPS: -1, Lamport: 100, Term: 8, Index: 9, Synced: 2, Replicas: 3,
		},
		{Number: 5, NoOffset: true},
	}), "raise messageVersion, and the version of state files, which hold results")
	golden(t, "nack.hex", EncodeNack(nil, o, Nack{Expect: 4, Busy: true}), "raise messageVersion")
	golden(t, "ask.hex", EncodeAsk(nil), "raise messageVersion")
	golden(t, "promise.hex", EncodePromise(nil, Promise{Term: 3, After: 1795341600000000, Safe: 1795341600123456}), "raise messageVersion")
}

// golden compares bytes with a file in testdata/golden.
func golden(t *testing.T, name string, b []byte, otherwise string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	got := hex.Dump(b)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("the format of %s has changed: %s\n%s", name, otherwise, got)
	}
}

// FuzzApply: no payload makes a state machine panic, two replicas decide alike,
// and what decodes encodes to the same bytes.
func FuzzApply(f *testing.F) {
	f.Add(goldenEntry(f))
	f.Add([]byte{})
	f.Add([]byte{2, 0})
	f.Add(goldenEntry2())
	f.Add(goldenEntry(f)[:200])
	f.Fuzz(func(t *testing.T, data []byte) {
		var again []byte
		it := Commands(data)
		for it.Next() {
			again = AppendCommand(again, it.Command)
			if !bytes.Equal(data[it.Command.Delta:it.Command.Delta+it.Command.Len], again[len(again)-it.Command.Len:]) {
				t.Fatal("a command does not encode to itself")
			}
			DecodeStored(data[it.Command.Delta : it.Command.Delta+it.Command.Len])
		}
		if it.Err() == nil && len(data) > 1 && !bytes.Equal(data[1:], again[1:]) {
			t.Fatal("an entry does not encode to itself")
		}
		seed := AppendCommand(nil, Command{Kind: KindConfigure, Stamp: Stamp{TS: 1}, Body: configure{5, 3, 1, 120e6}.append(nil)})
		var chains [2]Chain
		for i := range chains {
			b := NewBroker()
			b.Apply(Entry{Index: 1, Term: 1, Data: seed, Pos: Pos{Segment: 1}})
			outs, err := b.Apply(Entry{Index: 2, Term: 1, Data: data, Pos: Pos{Segment: 1, Offset: 100}})
			if err != nil && len(outs) != 0 {
				t.Fatal("outcomes and an error")
			}
			b.Apply(Entry{Index: 3, Term: 1, Data: data, Pos: Pos{Segment: 1, Offset: 1 << 20}})
			b.Seal(1).Records(nil)
			chains[i] = b.Chain()
			NewCatalogue().Apply(Entry{Index: 1, Term: 1, Data: data})
		}
		if chains[0] != chains[1] {
			t.Fatal("Deterministic: two replicas differ")
		}
	})
}

// FuzzMessages: no message body makes a decoder panic, and what decodes encodes
// to the same bytes.
func FuzzMessages(f *testing.F) {
	rs := []Request{{Number: 4, Catalogue: 7, Lamport: 3, Kind: KindPublish, Body: []byte("body")}, {Number: 6}}
	f.Add(EncodeRequests(nil, n1, rs))
	f.Add(EncodeResults(nil, n1, []Result{{Number: 1, Code: Gap, Expected: 17, EPS: -1, Synced: 2, Replicas: 3}, {Duplicate: true, NoOffset: true}}))
	f.Add(EncodeNack(nil, n1, Nack{Expect: 5, Busy: true}))
	f.Add(EncodeAsk(nil))
	f.Add(EncodePromise(nil, Promise{Term: 1, After: 2, Safe: 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, rs, err := DecodeRequests(b); err == nil && !bytes.Equal(EncodeRequests(nil, o, rs), b) {
			t.Fatal("requests do not encode to themselves")
		}
		if o, rs, err := DecodeResults(b); err == nil && !bytes.Equal(EncodeResults(nil, o, rs), b) {
			t.Fatal("results do not encode to themselves")
		}
		if o, n, err := DecodeNack(b); err == nil && !bytes.Equal(EncodeNack(nil, o, n), b) {
			t.Fatal("a nack does not encode to itself")
		}
		if p, err := DecodePromise(b); err == nil && !bytes.Equal(EncodePromise(nil, p), b) {
			t.Fatal("a promise does not encode to itself")
		}
		if err := DecodeAsk(b); err == nil && !bytes.Equal(EncodeAsk(nil), b) {
			t.Fatal("a question does not encode to itself")
		}
	})
}

func TestMessagesRoundTrip(t *testing.T) {
	want := []Result{{
		Number: 1, Code: Gap, Effect: Deleted, Duplicate: true, Partition: 2, Count: 3, UID: 4, Base: 5, Expected: 6,
		TS: 7, EPS: -1, Lamport: 8, Term: 9, Index: 10, Synced: 2, Replicas: 3,
	}, {NoOffset: true}}
	to, got, err := DecodeResults(EncodeResults(nil, n1, want))
	if err != nil || to != n1 || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v %v", got, err)
	}
	for n, b := range [][]byte{nil, {9}, make([]byte, 50)} {
		if _, _, err := DecodeRequests(b); err == nil {
			t.Errorf("case %d: decoded", n)
		}
		if _, _, err := DecodeResults(b); err == nil {
			t.Errorf("case %d: decoded", n)
		}
	}
}
