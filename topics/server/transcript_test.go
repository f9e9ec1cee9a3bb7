package server

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

var update = flag.Bool("update", false, "write what the server answered into testdata")

// TestTranscripts plays testdata/*.txt over real sockets, one story a file:
//
//	# a comment
//	! words            something that happens to the node; see story.event
//	C: a line          the client sends it, with LF
//	C> "raw\x00"       the client sends these bytes
//	C* 1000 x          the client sends x so many times
//	C| one client      the client closes its sending side
//	S: a line          the server answers it
//	S> "raw\r"         the server's next bytes
//	S: <EOF>           the server closes
//
// C2 and S2 are a second connection, and so on. An expected line must be the
// next one: whatever is not expected fails the story at the next S.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			st := newStory(t)
			lines := strings.SplitAfter(string(text), "\n")
			for i, line := range lines {
				if line = strings.TrimSuffix(line, "\n"); line == "" || line[0] == '#' {
					continue
				}
				got, err := st.step(line)
				if err == nil && got != line && *update {
					lines[i] = got + "\n"
				} else if err == nil && got != line {
					err = fmt.Errorf("got  %s", got)
				}
				if err != nil {
					t.Fatalf("%s:%d:\nwant %s\n%v", file, i+1, line, err)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// story is one server with a Fake behind it, and the clients' connections.
type story struct {
	t     *testing.T
	fake  *Fake
	addr  string
	conns map[string]*peer
	stop  func() // drains the server and waits for it
}

type peer struct {
	net.Conn
	in *bufio.Reader
}

func newStory(t *testing.T, change ...func(*Options)) *story {
	fake := NewFake()
	fake.Max = 100
	opts := Options{Backend: fake, Clock: timesvc.NewSystem(timesvc.Skew{})}
	for _, f := range change {
		f(&opts)
	}
	srv, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.ServeTCP(ctx, ln) }()
	st := &story{t: t, fake: fake, addr: ln.Addr().String(), conns: map[string]*peer{}}
	ended := false
	st.stop = func() {
		cancel()
		if !ended {
			ended = true
			if err := <-served; err != nil {
				t.Errorf("ServeTCP: %v", err)
			}
		}
	}
	t.Cleanup(func() {
		for _, c := range st.conns {
			c.Close()
		}
		st.stop()
		if n := fake.Watches(); n != 0 {
			t.Errorf("%d watches were never stopped", n)
		}
		if used := srv.bytes.used; used != 0 {
			t.Errorf("%d bytes of the node's budget were never released", used)
		}
	})
	return st
}

func (st *story) conn(name string) *peer {
	c := st.conns[name]
	if c == nil {
		conn, err := net.Dial("tcp", st.addr)
		if err != nil {
			st.t.Fatal(err)
		}
		// Only a server that hangs meets this deadline.
		_ = conn.SetDeadline(timesvc.NewSystem(timesvc.Skew{}).Now().Add(20 * time.Second))
		c = &peer{conn, bufio.NewReader(conn)}
		st.conns[name] = c
	}
	return c
}

// step plays one line. For what the server says it returns the line as it
// should be.
func (st *story) step(line string) (string, error) {
	if words, ok := strings.CutPrefix(line, "! "); ok {
		return line, st.event(strings.Fields(words))
	}
	i := strings.IndexAny(line, ":>*|")
	if i < 0 {
		return "", fmt.Errorf("what is this line?")
	}
	who, rest := line[:i], strings.TrimPrefix(line[i+1:], " ")
	c := st.conn(who[1:])
	var send []byte
	switch who[:1] + line[i:i+1] {
	case "C:":
		send = []byte(rest + "\n")
	case "C>":
		raw, err := strconv.Unquote(rest)
		if err != nil {
			return "", err
		}
		send = []byte(raw)
	case "C*":
		var n int
		var what string
		if _, err := fmt.Sscan(rest, &n, &what); err != nil {
			return "", err
		}
		send = bytes.Repeat([]byte(what), n)
	case "C|":
		return line, c.Conn.(*net.TCPConn).CloseWrite()
	case "S:":
		got, err := c.in.ReadString('\n')
		if err == io.EOF && got == "" {
			return line[:i+1] + " <EOF>", nil
		}
		return strings.TrimSuffix(line[:i+1]+" "+strings.TrimSuffix(got, "\n"), " "), err
	case "S>":
		raw, err := strconv.Unquote(rest)
		if err != nil {
			return "", err
		}
		got := make([]byte, len(raw))
		_, err = io.ReadFull(c.in, got)
		return line[:i+1] + " " + strconv.Quote(string(got)), err
	default:
		return "", fmt.Errorf("what is this line?")
	}
	_, err := c.Write(send)
	return line, err
}

// event makes something happen to the node.
func (st *story) event(words []string) error {
	f := st.fake
	switch words[0] {
	case "topic": // topic NAME [partitions] [max]
		object := v1alpha1.NewTopic()
		object.Name, object.Spec.MaxMessageBytes = words[1], f.Max
		for i, n := range words[2:] {
			v, err := strconv.Atoi(n)
			if err != nil {
				return err
			}
			*[]*int{&object.Spec.Partitions, &object.Spec.MaxMessageBytes}[i] = v
		}
		_, _, err := f.PutTopic(context.Background(), object)
		return err
	case "delete":
		return f.DeleteTopic(context.Background(), words[1], true)
	case "trim": // trim NAME first
		first, err := strconv.ParseUint(words[2], 10, 64)
		f.Trim(words[1], 0, first)
		return err
	case "time": // time SECONDS after the start
		s, err := strconv.ParseUint(words[1], 10, 64)
		f.SetTime(FakeStart + s*1_000_000)
		return err
	case "hold":
		f.Hold()
	case "held":
		n, err := strconv.Atoi(words[1])
		f.WaitHeld(n)
		return err
	case "release": // release [place]
		if len(words) == 1 {
			f.Release()
			return nil
		}
		n, err := strconv.Atoi(words[1])
		f.ReleaseOne(n)
		return err
	case "silence", "speak": // silence GROUP
		group, err := strconv.ParseUint(words[1], 10, 64)
		map[string]func(uint64){"silence": f.Silence, "speak": f.Speak}[words[0]](group)
		return err
	case "no-auto-create":
		f.NoAutoCreate = true
	default:
		return fmt.Errorf("no event %s", words[0])
	}
	return nil
}
