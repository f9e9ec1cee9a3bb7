package cli

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/wiber/wiber/topics/wire"
)

func TestLinesAreCutAtLFOnly(t *testing.T) {
	for text, want := range map[string][]string{
		"":                 nil,
		"\n":               {""},
		"a":                {"a"},
		"a\n":              {"a"},
		"a\n\n\nb":         {"a", "", "", "b"},
		"a\r\nb\r":         {"a\r", "b\r"},
		"\xff\x00\v\u2028": {"\xff\x00\v\u2028"},
	} {
		r := newLineReader(iotest.OneByteReader(strings.NewReader(text)), 10)
		var got []string
		for {
			line, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			got = append(got, string(line))
		}
		if strings.Join(got, "|") != strings.Join(want, "|") || len(got) != len(want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestLinesOfAnySizeComeBackAsTheyWere(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var input bytes.Buffer
	for range 500 {
		line := make([]byte, random.IntN(300)*random.IntN(1000))
		for i := range line {
			if line[i] = byte(random.Uint32()); line[i] == '\n' {
				line[i] = 0
			}
		}
		input.Write(line)
		input.WriteByte('\n')
	}
	want := bytes.Clone(input.Bytes())
	var got bytes.Buffer
	p := newPrinter(&got, "value")
	r := newLineReader(&input, 300_000)
	for {
		line, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := p.message(&wire.Message{Value: line}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("the lines differ from what was read")
	}
}

func TestALineOverTheMaximumIsNamed(t *testing.T) {
	for _, size := range []int{10, 200_000} {
		exact := strings.Repeat("x", size)
		r := newLineReader(strings.NewReader("a\n"+exact+"\n"+exact+"x\nb\n"), size)
		for range 2 {
			if _, err := r.next(); err != nil {
				t.Fatal(err)
			}
		}
		_, err := r.next()
		var long *lineTooLongError
		if !errors.As(err, &long) || long.number != 3 || long.max != size {
			t.Errorf("got %v", err)
		}
	}
	r := newLineReader(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(errors.New("gone"))), 10)
	if _, err := r.next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.next(); err == nil || err.Error() != "read line 2: gone" {
		t.Errorf("got %v", err)
	}
}

func TestMessagesAndReceiptsPrintForAPerson(t *testing.T) {
	var b strings.Builder
	p := newPrinter(&b, "")
	for _, m := range []wire.Message{
		{Topic: "orders", Offset: 42, TS: 1795341600123456, Eps: -1, Value: []byte("hello wörld")},
		{Topic: "orders", Partition: 3, Partitioned: true, Offset: 7, TS: 1795341600000001, Eps: 180, Key: []byte("k"), ID: []byte("i 1"),
			Headers: []wire.Header{{Name: []byte("h"), Value: []byte("v\n")}}, Late: true, Value: []byte("\xff\x1b[31m")},
	} {
		if err := p.message(&m); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []wire.Receipt{
		{Topic: "orders", Offset: 42, TS: 1795341600123456, Eps: -1, Lamport: 991, Term: 7, Index: 1201, Synced: 2, Replicas: 3},
		{Topic: "orders", Offset: wire.NoOffset, TS: 1795341600123456, Duplicate: true, Replicas: 1, Synced: 1},
	} {
		if err := p.receipt(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	want := `orders@42 2026-11-22T10:00:00.123456Z eps=-1 | hello wörld
orders/3@7 2026-11-22T10:00:00.000001Z eps=180 key=k id=i 1 hdr.h="v\n" late | "\xff\x1b[31m"
orders@42 2026-11-22T10:00:00.123456Z eps=-1 lamport=991 term=7 index=1201 synced=2/3
orders@- 2026-11-22T10:00:00.123456Z eps=0 lamport=0 term=0 index=0 synced=1/1 duplicate
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
