package wire

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

const testMax = 1000

// show is what a transcript says about a request.
func show(q *Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", q.Verb)
	put := func(name string, v any, given bool) {
		if given {
			fmt.Fprintf(&b, " %s=%q", name, fmt.Sprint(v))
		}
	}
	put("topic", q.Topic, q.Topic.Name != "")
	put("topics", q.Topics, len(q.Topics) > 0)
	put("sid", q.SID, q.SID != "")
	put("text", string(q.Text), len(q.Text) > 0)
	put("help", q.HelpVerb, q.HelpVerb != "")
	put("payload", string(q.Payload), q.Payload != nil)
	put("key", string(q.Key), q.Key != nil)
	put("id", string(q.ID), q.ID != nil)
	for _, h := range q.Headers {
		put("hdr."+string(h.Name), string(h.Value), true)
	}
	put("p", q.Producer, q.Producer != "")
	put("seq", q.Seq, q.Seq != 0)
	put("lam", q.Lamport, q.Lamport != 0)
	put("timeout", q.Timeout, q.Timeout != 0)
	put("noack", q.NoAck, q.NoAck)
	put("tag", q.Tag, q.Tag != "")
	put("from", q.From, q.From.Kind != Unset)
	put("froms", q.Froms, len(q.Froms) > 0)
	put("bytime", q.ByTime, q.ByTime)
	put("maxdelay", q.MaxDelay, q.MaxDelay != 0)
	put("until", q.Until, q.Until.Kind != Unset)
	put("last", q.Last, q.Last != 0)
	put("limit", q.Limit, q.Limit != 0)
	put("reverse", q.Reverse, q.Reverse)
	put("read", q.Read, q.Read != ReadSession)
	return b.String()
}

// transcript reads all requests of in and says what came of each.
func transcript(r *Reader) string {
	var b strings.Builder
	var q Request
	for {
		err := r.Next(&q)
		var refused *Error
		switch {
		case err == nil:
			fmt.Fprintf(&b, "%s\n", show(&q))
		case errors.As(err, &refused):
			b.Write(AppendError(nil, refused))
			if refused.Close {
				b.WriteString("closed\n")
				return b.String()
			}
		default:
			fmt.Fprintf(&b, "%v\n", err)
			return b.String()
		}
	}
}

// Each file of testdata/requests holds what a client sends, a line ----, and
// what the Reader makes of it. In the first part ␍ stands for CR and ∅ at the
// end for a missing last LF.
func TestGoldenRequests(t *testing.T) {
	files, err := filepath.Glob("testdata/requests/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in, want, _ := strings.Cut(string(data), "----\n")
			sent := strings.TrimSuffix(strings.ReplaceAll(in, "␍", "\r"), "∅\n")
			got := transcript(NewReader(strings.NewReader(sent), testMax))
			// However the bytes arrive, the answers are the same.
			if slow := transcript(NewReader(iotest.OneByteReader(strings.NewReader(sent)), testMax)); slow != got {
				t.Errorf("byte by byte:\n%s\nat once:\n%s", slow, got)
			}
			if *update {
				if err := os.WriteFile(file, []byte(in+"----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// After an error that does not close, the next byte read is the first of the
// next request, whatever the sizes are.
func TestKeepsFrame(t *testing.T) {
	long := strings.Repeat("x", 3*requestBuffer)
	for name, bad := range map[string]string{
		"payload over max":            "PUBN t 1001 tag=a\n" + long[:1001] + "\n",
		"payload of 4 max":            "PUBN t 4000\r\n" + long[:4000] + "\r\n",
		"bad topic":                   "PUBN a/b/c 3\nabc\n",
		"unknown option":              "PUBN t 3 x=1\nabc\n",
		"line over the limit":         "PUB t " + long[:testMax] + strings.Repeat("y", 4*testMax+lineOverhead) + "\n",
		"PUBN line over the limit":    "PUBN t 3 key=" + strings.Repeat("k", 4*testMax+lineOverhead) + "\nabc\n",
		"garbage":                     "\x00\xff \x7f\n",
		"unknown verb":                "PUBB t 10\n",
		"key and payload over max":    "PUBN t 600 key=" + long[:600] + "\n" + long[:600] + "\n",
		"payload that looks like PUB": "PUBN t 9 nope\nPUB t abc\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(strings.NewReader(bad+"PING after\n"), testMax)
			var q Request
			var refused *Error
			if err := r.Next(&q); !errors.As(err, &refused) || refused.Close {
				t.Fatalf("first request: %v", err)
			}
			if err := r.Next(&q); err != nil || q.Verb != Ping || string(q.Text) != "after" {
				t.Fatalf("after %v: %v %v", refused, show(&q), err)
			}
		})
	}
}

func TestTheLongestLineIsTaken(t *testing.T) {
	line := func(n int) string { return "PING " + strings.Repeat("x", n-5) + "\n" }
	most := 4*testMax + lineOverhead
	r := NewReader(strings.NewReader(line(most)+line(most+1)+line(most)), testMax)
	var q Request
	var refused *Error
	if err := r.Next(&q); err != nil || len(q.Text) != most-5 {
		t.Fatalf("%d bytes: %v", most, err)
	}
	if err := r.Next(&q); !errors.As(err, &refused) || refused.Code != TooLarge {
		t.Fatalf("%d bytes: %v", most+1, err)
	}
	if err := r.Next(&q); err != nil {
		t.Fatalf("after it: %v", err)
	}
}

// A reader that announces much and sends little costs little.
func TestBounded(t *testing.T) {
	const most = 64 << 20
	r := NewReader(io.MultiReader(strings.NewReader(fmt.Sprintf("PUBN t %d\n", most)), bytes.NewReader(make([]byte, 1000))), most)
	var q Request
	if err := r.Next(&q); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("cut payload: %v", err)
	}
	if n := cap(r.in.scratch); n > 4*growBytes {
		t.Errorf("%d bytes were set aside for 1000 received", n)
	}
}

func TestLargePayloadsArriveWhole(t *testing.T) {
	for _, n := range []int{0, 1, requestBuffer - 3, requestBuffer - 2, requestBuffer - 1, requestBuffer, requestBuffer + 1, 5*growBytes + 7} {
		for _, eol := range []string{"\n", "\r\n"} {
			payload := bytes.Repeat([]byte("0123456789abcde"), n/15+1)[:n]
			in := fmt.Sprintf("PUBN t %d key=k%%20%%ff id=%s\n%s%sPING x\n", n, strings.Repeat("i", 100), payload, eol)
			r := NewReader(iotest.HalfReader(strings.NewReader(in)), 1<<20)
			var q Request
			if err := r.Next(&q); err != nil || !bytes.Equal(q.Payload, payload) || string(q.Key) != "k \xff" || len(q.ID) != 100 {
				t.Fatalf("n=%d eol=%q: %v, %d bytes, key %q", n, eol, err, len(q.Payload), q.Key)
			}
			if err := r.Next(&q); err != nil || q.Verb != Ping {
				t.Fatalf("n=%d eol=%q: next: %v %v", n, eol, q.Verb, err)
			}
		}
	}
}

// A client that has sent LF waits for the answer; reading one byte further would
// wait for the client.
func TestNothingIsReadAheadOfTheAnswer(t *testing.T) {
	pr, pw := io.Pipe()
	go func() { _, _ = pw.Write([]byte("PUBN t 3\nabc\n")) }()
	var q Request
	if err := NewReader(pr, testMax).Next(&q); err != nil || string(q.Payload) != "abc" {
		t.Fatalf("%v %q", err, q.Payload)
	}
}

func TestPositions(t *testing.T) {
	for in, want := range map[string]Position{
		"earliest": {Kind: Earliest}, "latest": {Kind: Latest}, "0": {Kind: AtOffset}, "18446744073709551615": {Kind: AtOffset, Offset: 1<<64 - 1},
		"-10m": {Kind: BackInTime, Back: 10 * time.Minute}, "-0s": {Kind: BackInTime}, "-1h30m": {Kind: BackInTime, Back: 90 * time.Minute},
		"2026-11-22T07:00:00Z":             {Kind: AtTime, Micros: 1795330800000000},
		"2026-11-22T08:00:00.123456+01:00": {Kind: AtTime, Micros: 1795330800123456},
	} {
		got, err := ParsePosition(in)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", in, got, err, want)
		}
		if again, err := ParsePosition(got.String()); err != nil || again != got {
			t.Errorf("%s: written as %q, read as %+v, %v", in, got, again, err)
		}
	}
	for _, in := range []string{"", "10m", "+10m", "-1", "1.5", "18446744073709551616", "2026-11-22", "2026-11-22 07:00:00Z", "newest", "--1m", "Earliest"} {
		if got, err := ParsePosition(in); err == nil {
			t.Errorf("%q is read as %+v", in, got)
		}
	}
	if got, ok := (Position{Kind: BackInTime, Back: time.Second}).Time(3_000_000); !ok || got != 2_000_000 {
		t.Errorf("a second before 3 s is %d", got)
	}
	if got, _ := (Position{Kind: BackInTime, Back: time.Hour}).Time(3_000_000); got != 0 {
		t.Errorf("an hour before 3 s is %d", got)
	}
}

func TestPatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		partition     int
		want          bool
	}{
		{"orders", "orders", 3, true}, {"orders", "order", 0, false}, {"orders/3", "orders", 3, true}, {"orders/3", "orders", 2, false},
		{"*", "orders", 0, true}, {"*", "orders.eu", 0, false}, {">", "orders.eu", 0, true}, {">", "a", 0, true},
		{"orders.*", "orders.eu", 0, true}, {"orders.*", "orders", 0, false}, {"orders.*", "orders.eu.x", 0, false}, {"orders.*", "orders.", 0, false},
		{"*.eu", "orders.eu", 0, true}, {"*.eu", "orders.us", 0, false}, {"a.*.c", "a.b.c", 0, true}, {"a.*.c", "a.b", 0, false},
		{"a.>", "a.b.c", 0, true}, {"a.>", "a", 0, false}, {"a.>/1", "a.b", 1, true}, {"a.>/1", "a.b", 0, false},
	} {
		p, err := ParsePattern(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		if got := p.Matches(tt.name, tt.partition); got != tt.want {
			t.Errorf("%s matches %s/%d: %v", tt.pattern, tt.name, tt.partition, got)
		}
		if p.String() != tt.pattern {
			t.Errorf("%s is written %s", tt.pattern, p)
		}
	}
	for _, bad := range []string{"", "a*", "*a", ">.a", "a..*", "a.>.b", "*.ä", "*/x", "*/", strings.Repeat("*.", 130) + "*"} {
		if p, err := ParsePattern(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, p)
		}
	}
}

func TestClasses(t *testing.T) {
	for _, c := range []Code{Syntax, UnknownVerb, BadTopic, NoTopic, TooLarge, Range, Gap, NoQuorum, Busy} {
		if c.Class() != NotWritten {
			t.Errorf("%s: %v", c, c.Class())
		}
		if later := c == NoQuorum || c == Busy; c.Later() != later {
			t.Errorf("%s: Later is %v", c, c.Later())
		}
	}
	if Timeout.Class() != Unknown || !Timeout.Later() || Internal.Class() != Fault || Code("NEW").Class() != Unknown {
		t.Error("TIMEOUT and codes to come have an unknown outcome")
	}
	if n, ok := GapError(17).Expected(); !ok || n != 17 {
		t.Errorf("GAP: %d %v", n, ok)
	}
	if v, ok := SlowError("s1", "42", 7).Field("next"); !ok || v != "42" {
		t.Errorf("BUSY: %q %v", v, ok)
	}
}
