package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func raftMessage(from, to uint64, data ...string) Message {
	m := &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: new(from), To: new(to), Term: new(uint64(3)), Index: new(uint64(7)), LogTerm: new(uint64(2)), Commit: new(uint64(6))}
	for i, d := range data {
		m.Entries = append(m.Entries, &raftpb.Entry{Term: new(uint64(3)), Index: new(uint64(8 + i)), Data: []byte(d)})
	}
	return Message{Kind: KindRaft, Group: 2, Raft: m}
}

func same(a, b Message) bool {
	return a.Kind == b.Kind && a.Group == b.Group && bytes.Equal(a.Body, b.Body) && proto.Equal(a.Raft, b.Raft)
}

func mustFrame(t testing.TB, b []byte, m Message) []byte {
	t.Helper()
	b, err := appendFrame(b, &m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFramesComeBackWhole(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // more than a step
	sent := []Message{
		raftMessage(1, 2), raftMessage(1, 2, "a", "", string(big)),
		{Kind: KindRequests, Group: 1 << 60, Body: []byte("x")}, {Kind: KindResults, Body: big}, {Kind: KindNack, Group: 1}, {Kind: KindAsk, Group: 2}, {Kind: KindPromise, Group: 2, Body: []byte("p")},
		raftMessage(1, 2, "small again"),
	}
	var b []byte
	for _, m := range sent {
		b = mustFrame(t, b, m)
	}
	for _, r := range []io.Reader{bytes.NewReader(b), iotest.HalfReader(bytes.NewReader(b))} {
		f := newFrameReader(r)
		for i, m := range sent {
			got, err := f.next()
			if err != nil || !same(got, m) {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if _, err := f.next(); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	}
}

func TestABrokenFrameIsFound(t *testing.T) {
	whole := mustFrame(t, nil, raftMessage(1, 2, "some data"))
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0x40
		if m, err := newFrameReader(bytes.NewReader(b)).next(); err == nil {
			t.Fatalf("byte %d changed, and %v was read", i, m)
		}
	}
	for n := 1; n < len(whole); n++ {
		if _, err := newFrameReader(bytes.NewReader(whole[:n])).next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

// A length alone must cost little memory, however large it is.
func TestALengthAllocatesOnlyWhatComes(t *testing.T) {
	head := binary.LittleEndian.AppendUint32(nil, MaxFrameBytes)
	head = append(head, 0, 0, 0, 0, 1, 2, 3)
	f := newFrameReader(bytes.NewReader(head))
	if _, err := f.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if cap(f.buf) > maxStepBytes {
		t.Errorf("%d bytes for a length", cap(f.buf))
	}
	var fe *FrameError
	head = binary.LittleEndian.AppendUint32(nil, MaxFrameBytes+1)
	if _, err := newFrameReader(bytes.NewReader(append(head, 0, 0, 0, 0))).next(); !errors.As(err, &fe) {
		t.Errorf("a length above the limit: %v", err)
	}
}

func TestAMessageThatIsTooLargeIsNoFrame(t *testing.T) {
	before := []byte("before")
	b, err := appendFrame(before, &Message{Kind: KindResults, Body: make([]byte, MaxFrameBytes)})
	if !errors.Is(err, ErrTooLarge) || !bytes.Equal(b, before) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestGreetings(t *testing.T) {
	g := greeting{version: 1, from: 1, to: 2, incarnation: 77, cluster: "a cluster"}
	b := g.append(nil)
	got, err := readGreeting(bytes.NewReader(b))
	if err != nil || got != g {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := readGreeting(bytes.NewReader(bad)); err == nil {
			t.Errorf("byte %d changed and nobody noticed", i)
		}
	}
	v, inc, err := readAnswer(bytes.NewReader(appendAnswer(nil, otherCluster, 9)))
	if v != otherCluster || inc != 9 || err != nil {
		t.Errorf("%v %d %v", v, inc, err)
	}
}

// Whatever comes, the reader returns messages that encode again, or an error.
func FuzzFrames(f *testing.F) {
	f.Add(mustFrame(f, mustFrame(f, nil, raftMessage(1, 2, "a", "b")), Message{Kind: KindNack, Group: 3, Body: []byte("n")}))
	f.Add(mustFrame(f, nil, Message{Kind: KindRaft, Raft: &raftpb.Message{Responses: []*raftpb.Message{{Context: []byte("c")}}}}))
	f.Add([]byte{9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newFrameReader(bytes.NewReader(b))
		for {
			m, err := r.next()
			if err != nil {
				return
			}
			if got, err := newFrameReader(bytes.NewReader(mustFrame(t, nil, m))).next(); err != nil || !same(got, m) {
				t.Fatalf("%+v came back as %+v, %v", m, got, err)
			}
		}
	})
}

// The checksum keeps a fuzzer out; here it is mended, so that what lies behind
// it is reached.
func FuzzFramePayload(f *testing.F) {
	f.Add(byte(1), uint64(2), []byte("\x08\x03\x10\x02"))
	f.Add(byte(2), uint64(0), []byte("body"))
	f.Add(byte(200), uint64(0), []byte(nil))
	f.Fuzz(func(t *testing.T, kind byte, group uint64, payload []byte) {
		b := binary.LittleEndian.AppendUint32(nil, uint32(frameMetaBytes+len(payload)))
		rest := append(binary.LittleEndian.AppendUint64([]byte{kind}, group), payload...)
		b = binary.LittleEndian.AppendUint32(b, frameSum(b, rest))
		m, err := newFrameReader(bytes.NewReader(append(b, rest...))).next()
		if err == nil && (m.Group != group || !m.Kind.valid()) {
			t.Fatalf("%+v", m)
		}
	})
}

func FuzzGreeting(f *testing.F) {
	g := greeting{version: 1, from: 1, to: 2, incarnation: 77, cluster: "a cluster"}
	f.Add(g.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := readGreeting(bytes.NewReader(b)); err == nil && len(g.cluster) > maxClusterBytes {
			t.Fatal(g)
		}
		_, _, _ = readAnswer(bytes.NewReader(b))
	})
}
