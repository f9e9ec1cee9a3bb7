package wire

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// FuzzRequests feeds a stream to the Reader: it never panics, an error that
// closes is the last, and what it reads it reads again from AppendRequest.
func FuzzRequests(f *testing.F) {
	files, _ := filepath.Glob("testdata/requests/*.txt")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		in, _, _ := bytes.Cut(data, []byte("----\n"))
		f.Add(bytes.ReplaceAll(in, []byte("␍"), []byte("\r")))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReader(bytes.NewReader(stream), testMax)
		var q, again Request
		for {
			err := r.Next(&q)
			var refused *Error
			if errors.As(err, &refused) {
				line := AppendError(nil, refused)
				if bytes.Count(line, []byte{'\n'}) != 1 {
					t.Fatalf("an error of several lines: %q", line)
				}
				if refused.Close {
					return
				}
				continue
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				return
			}
			if q.MessageBytes() > testMax {
				t.Fatalf("a message of %d bytes was taken", q.MessageBytes())
			}
			if q.Verb == Help && q.HelpVerb != "" && len(q.HelpVerb) != len(bytes.ToUpper([]byte(q.HelpVerb))) {
				continue
			}
			sent := AppendRequest(nil, &q)
			if err := NewReader(bytes.NewReader(sent), 4*testMax).Next(&again); err != nil {
				t.Fatalf("%q was read, and is refused as %q: %v", show(&q), sent, err)
			}
			again.Verb = q.Verb // a PUB may be sent as PUBN
			if !reflect.DeepEqual(q.normal(), again.normal()) {
				t.Fatalf("%q was read, and again as %q", show(&q), show(&again))
			}
		}
	})
}

// FuzzReplies feeds a stream to the ReplyReader.
func FuzzReplies(f *testing.F) {
	f.Add(AppendHello(nil, &Hello{"n1", "demo", 1, -1, 100}))
	f.Add(AppendMessage(nil, "s1", &Message{Topic: "a", Partition: 1, Partitioned: true, Key: []byte("k"), ID: []byte("%"), Headers: []Header{{[]byte("a"), []byte("b")}}, Value: []byte("v")}))
	f.Add(AppendAck(nil, &Receipt{Topic: "a", Synced: 2, Replicas: 3}, "t"))
	f.Add([]byte("CLOCK n2 offset=-5 eps=40 drift=-0.5 state=ok lam=9 test=1\nCLOCK n3 offset=- eps=-1 drift=- state=x lam=0\n"))
	f.Add([]byte("+END a n=1 next=- as_of=5\n+END n=3\nTOPIC a/1 partitions=2 leader=-\nNODE n1 role=x\n-ERR GAP expected=1 tag=x\nPONG a\nHELP b\n+OK\n+BYE\n+SUB s\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReplyReader(bytes.NewReader(stream), testMax)
		var p Reply
		for {
			if err := r.Next(&p); err != nil {
				return
			}
			if p.Kind == KindMessage {
				line := AppendMessage(nil, p.SID, &p.Message)
				var again Reply
				if err := NewReplyReader(bytes.NewReader(line), 4*testMax).Next(&again); err != nil || !reflect.DeepEqual(p.Message, again.Message) {
					t.Fatalf("%+v was read, and again as %+v, %v", p.Message, again.Message, err)
				}
			}
		}
	})
}
