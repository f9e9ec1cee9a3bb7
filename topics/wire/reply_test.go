package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// The lines are those of the public contract, byte for byte.
func TestGoldenReplies(t *testing.T) {
	receipt := Receipt{Topic: "orders", Offset: 42, TS: 1795341600123456, Eps: 180, Lamport: 991, Term: 7, Index: 1201, Synced: 2, Replicas: 3}
	third := receipt
	third.Partition, third.Partitioned, third.Duplicate, third.Eps = 3, true, true, Unsynchronised
	forgotten := Receipt{Topic: "orders", Offset: NoOffset, Eps: -1, Synced: 3, Replicas: 3, Duplicate: true}
	message := Message{Topic: "orders", Offset: 42, TS: 1795341600123456, Eps: 180, Lamport: 991, Value: []byte("a\nb")}
	full := Message{Topic: "orders", Partition: 3, Partitioned: true, Offset: 7, TS: 5, Eps: -1, Lamport: 6, Key: []byte{}, ID: []byte("€ %"),
		Headers: []Header{{[]byte("a=b c"), []byte("d=e f")}}, Late: true, Value: []byte{}}
	node := NodeLine{Node: "n1", Fields: []Field{{"role", "leader"}, {"term", "7"}, {"addr", "127.0.0.1:9101"}, {"why", "a b"}}}
	tests := []struct{ got, want string }{
		{string(AppendHello(nil, &Hello{"n1", "demo", 1795341600123456, 180, 1048576})), "+HELLO wiber/1 node=n1 cluster=demo now=1795341600123456 eps=180 max=1048576\n"},
		{string(AppendPong(nil, nil)), "PONG\n"},
		{string(AppendPong(nil, []byte("a  b"))), "PONG a  b\n"},
		{string(AppendAck(nil, &receipt, "")), "+ACK orders 42 ts=1795341600123456 eps=180 lam=991 term=7 idx=1201 sync=2/3 dup=0\n"},
		{string(AppendAck(nil, &third, "a b")), "+ACK orders/3 42 ts=1795341600123456 eps=-1 lam=991 term=7 idx=1201 sync=2/3 dup=1 tag=a%20b\n"},
		{string(AppendAck(nil, &forgotten, "")), "+ACK orders - ts=0 eps=-1 lam=0 term=0 idx=0 sync=3/3 dup=1\n"},
		{string(AppendSub(nil, "s1")), "+SUB s1\n"},
		{string(AppendOK(nil)), "+OK\n"},
		{string(AppendBye(nil)), "+BYE\n"},
		{string(AppendMessage(nil, "-", &message)), "MSG orders - 42 ts=1795341600123456 eps=180 lam=991 3\na\nb\n"},
		{string(AppendMessage(nil, "s1", &full)), "MSG orders/3 s1 7 ts=5 eps=-1 lam=6 key= id=%E2%82%AC%20%25 hdr.a%3Db%20c=d=e%20f late=1 0\n\n"},
		{string(AppendEnd(nil, &End{Topic: "orders", N: 3, Next: 45, AsOf: 1795341600123456})), "+END orders n=3 next=45 as_of=1795341600123456\n"},
		{string(AppendEnd(nil, &End{Topic: "orders", Partition: 1, Partitioned: true, Next: NoOffset})), "+END orders/1 n=0 next=- as_of=0\n"},
		{string(AppendEndCount(nil, 12)), "+END n=12\n"},
		{string(AppendTopicLine(nil, &TopicLine{Topic: "orders", Partitions: 1, Shard: 2, Leader: "n1", First: 0, Next: 43})), "TOPIC orders partitions=1 first=0 next=43 leader=n1 shard=2\n"},
		{string(AppendTopicLine(nil, &TopicLine{Topic: "orders", Partition: 1, Partitions: 2, Next: 9})), "TOPIC orders/1 partitions=2 first=0 next=9 leader=- shard=0\n"},
		{string(AppendClockLine(nil, &ClockLine{Node: "n2", Known: true, Offset: 250012, Eps: 40, DriftKnown: true, Drift: 300.04, State: "synchronised", Lamport: 991, Test: true})), "CLOCK n2 offset=250012 eps=40 drift=300.0 state=synchronised lam=991 test=1\n"},
		{string(AppendClockLine(nil, &ClockLine{Node: "n3", Eps: -1, State: "unknown"})), "CLOCK n3 offset=- eps=-1 drift=- state=unknown lam=0\n"},
		{string(AppendNodeLine(nil, &node)), "NODE n1 role=leader term=7 addr=127.0.0.1:9101 why=a%20b\n"},
		{string(AppendError(nil, GapError(17))), "-ERR GAP expected=17\n"},
		{string(AppendError(nil, PastEndError(99, 42))), "-ERR RANGE offset 99 is past the end: end=42\n"},
		{string(AppendError(nil, BelowStartError(1, 5))), "-ERR RANGE offset 1 is below the start: first=5\n"},
		{string(AppendError(nil, SlowError("s1", "42", 7))), "-ERR BUSY sub=s1 next=42 behind=7\n"},
		{string(AppendError(nil, &Error{Code: Timeout})), "-ERR TIMEOUT\n"},
		{string(AppendError(nil, &Error{Code: Syntax, Text: "two\nlines\x00 tag=x", Tag: "t 1"})), "-ERR SYNTAX two lines  \"tag=x\" tag=t%201\n"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got  %swant %s", tt.got, tt.want)
		}
	}
}

func TestHelpListsWhatIsBuilt(t *testing.T) {
	all, err := AppendHelp(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for v := Ping; int(v) < len(verbs); v++ {
		if !bytes.Contains(all, []byte("HELP "+v.String())) {
			t.Errorf("HELP leaves out %v", v)
		}
		if one, err := AppendHelp(nil, v.String()); err != nil || !bytes.HasPrefix(one, []byte("HELP "+v.String())) || !bytes.HasSuffix(one, []byte("\n+END\n")) {
			t.Errorf("HELP %v: %q %v", v, one, err)
		}
	}
	for _, v := range []string{"PUBB", "FETCH", "PRODUCER"} {
		if bytes.Contains(all, []byte("HELP "+v)) {
			t.Errorf("HELP lists %s", v)
		}
		if out, err := AppendHelp([]byte("x"), v); err == nil || err.Code != UnknownVerb || string(out) != "x" {
			t.Errorf("HELP %s: %q %v", v, out, err)
		}
	}
}

// docs/protocol.md is for a reader with nc: it must name what there is.
func TestTheDocumentNamesEverything(t *testing.T) {
	doc, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"`read=`", "`from=`", "`until=`", "`last=n`", "`limit=n`", "`reverse`", "`key=`", "`id=`", "`p=` `seq=`", "`lam=`", "`hdr.<name>=`", "`timeout=`", "`noack`", "`tag=`"}
	for v := Ping; int(v) < len(verbs); v++ {
		want = append(want, "`"+v.String())
	}
	for _, c := range []Code{Syntax, UnknownVerb, BadTopic, NoTopic, TooLarge, Range, Gap, NoQuorum, Busy, Timeout, Auth, Denied, Internal} {
		want = append(want, "`"+string(c)+"`")
	}
	for _, w := range want {
		if !bytes.Contains(doc, []byte(w)) {
			t.Errorf("it does not mention %s", w)
		}
	}
}

func randomBytes(rng *rand.Rand, most int) []byte {
	p := make([]byte, rng.IntN(most+1))
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

func maybe(rng *rand.Rand, most int) []byte {
	if rng.IntN(2) == 0 {
		return nil
	}
	return randomBytes(rng, most)
}

func randomHeaders(rng *rand.Rand) (out []Header) {
	for i := range rng.IntN(4) {
		out = append(out, Header{append([]byte{byte('a' + i)}, randomBytes(rng, 20)...), randomBytes(rng, 50)})
	}
	return out
}

func randomPosition(rng *rand.Rand) Position {
	switch k := PositionKind(rng.IntN(6)); k {
	case AtOffset:
		return Position{Kind: k, Offset: rng.Uint64()}
	case AtTime:
		return Position{Kind: k, Micros: rng.Uint64N(1 << 52)}
	case BackInTime:
		return Position{Kind: k, Back: time.Duration(rng.Int64N(1 << 50))}
	default:
		return Position{Kind: k}
	}
}

func randomTopic(rng *rand.Rand) Topic {
	t := Topic{Name: []string{"orders", "a.b-c_D", "x"}[rng.IntN(3)], Partition: AnyPartition}
	if rng.IntN(2) == 0 {
		t.Partition = rng.IntN(1000)
	}
	return t
}

func randomRequest(rng *rand.Rand) Request {
	q := Request{Verb: Ping + Verb(rng.IntN(int(Quit)))}
	switch q.Verb {
	case Ping:
		q.Text = []byte("a b  c")
	case Pub:
		q.Topic, q.Payload = randomTopic(rng), []byte("  some text ")
	case Pubn:
		q.Topic, q.Payload, q.Key, q.Headers = randomTopic(rng), randomBytes(rng, 3*requestBuffer), maybe(rng, 50), randomHeaders(rng)
		if id := maybe(rng, 50); len(id) > 0 {
			q.ID = id
		}
		if rng.IntN(2) == 0 {
			q.Producer, q.Seq = "p "+string(randomBytes(rng, 9)), 1+rng.Uint64N(1<<60)
		}
		q.Lamport, q.Timeout, q.NoAck, q.Tag = rng.Uint64(), time.Duration(rng.Int64N(int64(time.Hour))), rng.IntN(2) == 0, string(maybe(rng, 20))
	case Sub:
		q.Topics = []Topic{randomTopic(rng), {Name: "a.*.>", Partition: AnyPartition}}
		q.SID, q.From, q.Limit = []string{"", "s1"}[rng.IntN(2)], randomPosition(rng), rng.Uint64N(3)
	case Unsub:
		q.SID = "s1"
	case History:
		q.Topic, q.From, q.Until, q.Last, q.Limit = randomTopic(rng), randomPosition(rng), randomPosition(rng), rng.Uint64N(3), rng.Uint64N(3)
		q.Reverse, q.Read = rng.IntN(2) == 0, ReadLevel(rng.IntN(3))
	case Topics:
		if rng.IntN(2) == 0 {
			q.Topics = []Topic{randomTopic(rng)}
		}
	case Help:
		q.HelpVerb = "SUB"
	}
	return q
}

// normal makes absent slices nil and present ones not, as DeepEqual wants it.
func (q *Request) normal() Request {
	c := *q
	if len(c.Headers) == 0 {
		c.Headers = nil
	}
	if len(c.Topics) == 0 {
		c.Topics = nil
	}
	if len(c.Froms) == 0 {
		c.Froms = nil
	}
	if len(c.Text) == 0 {
		c.Text = nil
	}
	return c
}

func TestRoundTrip(t *testing.T) {
	t.Run("requests", func(t *testing.T) {
		for seed := range uint64(50) {
			rng := rand.New(rand.NewPCG(seed, 1))
			var sent []Request
			var stream []byte
			for range 40 {
				q := randomRequest(rng)
				sent = append(sent, q)
				stream = AppendRequest(stream, &q)
			}
			r := NewReader(iotest.HalfReader(bytes.NewReader(stream)), 1<<20)
			var got Request
			for i := range sent {
				if err := r.Next(&got); err != nil {
					t.Fatalf("seed %d, request %d %s: %v", seed, i, show(&sent[i]), err)
				}
				if a, b := got.normal(), sent[i].normal(); !reflect.DeepEqual(a, b) {
					t.Fatalf("seed %d, request %d:\nread %+v\nsent %+v", seed, i, a, b)
				}
			}
			if err := r.Next(&got); !errors.Is(err, io.EOF) {
				t.Fatalf("seed %d: at the end: %v", seed, err)
			}
		}
	})
	t.Run("a text that is no line is sent as PUBN", func(t *testing.T) {
		for _, text := range []string{"a\nb", "a\r", "\n"} {
			q := Request{Verb: Pub, Topic: Topic{"t", AnyPartition}, Payload: []byte(text)}
			var got Request
			if err := NewReader(bytes.NewReader(AppendRequest(nil, &q)), 100).Next(&got); err != nil || string(got.Payload) != text {
				t.Errorf("%q: read %q, %v", text, got.Payload, err)
			}
		}
	})
	t.Run("replies", func(t *testing.T) {
		for seed := range uint64(200) {
			rng := rand.New(rand.NewPCG(seed, 2))
			partitioned := rng.IntN(2) == 0
			partition := 0
			if partitioned {
				partition = rng.IntN(100)
			}
			m := Message{Topic: "orders", Partition: partition, Partitioned: partitioned, Offset: rng.Uint64N(1 << 60), TS: rng.Uint64(), Eps: rng.Int64N(1000) - 1,
				Lamport: rng.Uint64(), Key: maybe(rng, 30), ID: maybe(rng, 30), Headers: randomHeaders(rng), Late: rng.IntN(2) == 0, Value: randomBytes(rng, 2*replyBuffer)}
			c := Receipt{Topic: "orders", Partition: partition, Partitioned: partitioned, Offset: rng.Uint64(), TS: rng.Uint64(), Eps: rng.Int64N(1000) - 1,
				Lamport: rng.Uint64(), Term: rng.Uint64(), Index: rng.Uint64(), Synced: rng.IntN(4), Replicas: 3, Duplicate: rng.IntN(2) == 0}
			h := Hello{"n 1", "demo", rng.Uint64(), -1, 1 << 20}
			e := End{"orders", partition, partitioned, rng.Uint64(), NoOffset, rng.Uint64()}
			l := TopicLine{"orders", partition, partition + 1, 3, "", 1, rng.Uint64()}
			n := NodeLine{"n1", []Field{{"a", "b c"}, {"d", "="}}}
			k := ClockLine{"n 2", true, rng.Int64() - 1<<62, rng.Int64N(1000) - 1, true, float64(rng.IntN(20001)-10000) / 10, "hold over", rng.Uint64(), rng.IntN(2) == 0}
			f := Error{Code: Busy, Text: "sub=s1 next=4 behind=2", Tag: string(randomBytes(rng, 10))}
			stream := AppendHello(nil, &h)
			stream = AppendMessage(stream, "s1", &m)
			stream = AppendAck(stream, &c, f.Tag)
			stream = AppendEnd(stream, &e)
			stream = AppendTopicLine(stream, &l)
			stream = AppendNodeLine(stream, &n)
			stream = AppendClockLine(stream, &k)
			stream = AppendError(stream, &f)
			r := NewReplyReader(iotest.HalfReader(bytes.NewReader(stream)), 0)
			var p Reply
			next := func(want Kind) {
				t.Helper()
				if err := r.Next(&p); err != nil || p.Kind != want {
					t.Fatalf("seed %d: kind %d, want %d: %v", seed, p.Kind, want, err)
				}
			}
			same := func(got, want any) {
				t.Helper()
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d:\nread %+v\nsent %+v", seed, got, want)
				}
			}
			next(KindHello)
			same(p.Hello, h)
			next(KindMessage)
			same(p.Message, m)
			same(p.Message.Clone(), m)
			next(KindAck)
			same(p.Receipt, c)
			same(p.Tag, f.Tag)
			next(KindEnd)
			same(p.End, e)
			next(KindTopic)
			same(p.Topic, l)
			next(KindNode)
			same(p.Node, n)
			next(KindClock)
			same(p.Clock, k)
			next(KindError)
			same(*p.Err, f)
			if err := r.Next(&p); !errors.Is(err, io.EOF) {
				t.Fatalf("seed %d: at the end: %v", seed, err)
			}
		}
	})
}

func TestLaterVersionsFieldsAreSkipped(t *testing.T) {
	in := "+ACK orders 1 ts=5 new=1 flag eps=0 lam=1 term=1 idx=1 sync=1/1 dup=0 more=x\nMSG orders - 1 ts=5 new=1 flag 7x=1 2\nab\n+END n=1 new=2\n"
	r := NewReplyReader(strings.NewReader(in), 0)
	var p Reply
	for _, want := range []Kind{KindAck, KindMessage, KindEnd} {
		if err := r.Next(&p); err != nil || p.Kind != want {
			t.Fatalf("kind %d, want %d: %v", p.Kind, want, err)
		}
	}
	if string(p.Message.Value) != "ab" || p.Receipt.TS != 5 || p.End.N != 1 {
		t.Fatalf("%+v", p)
	}
}

func TestWhatIsNoReplyIsRefused(t *testing.T) {
	for _, in := range []string{"\n", "HTTP/1.1 400 Bad Request\r\n", "+HELLO wiber/2 max=5\n", "+HELLO wiber/1 node=n1\n", "+ACK\n", "+ACK orders\n", "+ACK orders x\n",
		"+ACK orders 1 ts=x\n", "+ACK orders 1 sync=2\n", "MSG orders - 1 ts=1 2\nabc\n", "MSG orders - 1 ts=1\nabc\n", "MSG orders - 1 x\n", "MSG o/x - 1 1\na\n",
		"MSG orders - 1 99999999999\n", "TOPIC\n", "NODE n%1\n", "-ERR\n", "TOPIC a b=1 partitions=-1\n"} {
		var p Reply
		if err := NewReplyReader(strings.NewReader(in), 1000).Next(&p); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestJSONIsThatOfTheContract(t *testing.T) {
	r := Receipt{Topic: "orders", Offset: 42, TS: 1795341600123456, Eps: 180, Lamport: 991, Term: 7, Index: 1201, Synced: 2, Replicas: 3}
	want := `{"topic":"orders","partition":0,"offset":42,"ts":1795341600123456,"eps":180,"lamport":991,"term":7,"index":1201,"synced":"2/3","duplicate":false}`
	got, err := json.Marshal(r)
	if err != nil || string(got) != want {
		t.Errorf("receipt: %s, %v", got, err)
	}
	var back Receipt
	if err := json.Unmarshal(got, &back); err != nil || back != r {
		t.Errorf("read back: %+v, %v", back, err)
	}
	r.Offset = NoOffset
	got, _ = json.Marshal(r)
	if err := json.Unmarshal(got, &back); err != nil || back != r || !bytes.Contains(got, []byte(`"offset":null`)) {
		t.Errorf("no offset: %s %+v, %v", got, back, err)
	}
	if err := json.Unmarshal([]byte(`{"synced":"2"}`), &back); err == nil {
		t.Error("synced without a slash is read")
	}

	for _, tt := range []struct {
		m    Message
		want string
	}{
		{Message{Topic: "t", Value: []byte("a\"\\\n\t\x01é€")}, `{"topic":"t","partition":0,"offset":0,"ts":0,"eps":0,"lamport":0,"value":"a\"\\\n\t\u0001é€"}`},
		{Message{Topic: "t", Partition: 2, Partitioned: true, Offset: 1, TS: 2, Eps: -1, Lamport: 3, Key: []byte("k"), ID: []byte("i"), Late: true, Value: []byte("\xff"),
			Headers: []Header{{[]byte("a"), []byte("1")}, {[]byte("b"), []byte("\xff")}, {[]byte("a"), []byte("2")}}},
			`{"topic":"t","partition":2,"offset":1,"ts":2,"eps":-1,"lamport":3,"key":"k","id":"i","headers":{"b":"` + "\ufffd" + `","a":"2"},"late":true,"valueBase64":"/w=="}`},
		{Message{Topic: "t", Key: []byte{0x80}}, `{"topic":"t","partition":0,"offset":0,"ts":0,"eps":0,"lamport":0,"keyBase64":"gA==","value":""}`},
	} {
		got, err := json.Marshal(tt.m)
		if err != nil || string(got) != tt.want || !json.Valid(got) {
			t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
		}
	}
}

// The dumb twin of our strings is encoding/json.
func FuzzJSONString(f *testing.F) {
	f.Add([]byte("a\"\\\x00\xff\xe2\x82"))
	f.Fuzz(func(t *testing.T, s []byte) {
		var got, want string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		p, _ := json.Marshal(string(s))
		if err := json.Unmarshal(p, &want); err != nil || got != want {
			t.Fatalf("%q: %q, want %q (%v)", s, got, want, err)
		}
	})
}
