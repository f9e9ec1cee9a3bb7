package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wiber/wiber/timesvc"
)

// logOf makes a folder with the logs of a node's incarnations, the oldest first.
func logOf(t testing.TB, incarnations ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "logs", "console.log")
	for _, text := range incarnations {
		write(t, path, true, text)
	}
	return path
}

// write appends to a log, as a new incarnation if fresh is set.
func write(t testing.TB, path string, fresh bool, text string) {
	t.Helper()
	var f *os.File
	var err error
	if fresh {
		f, err = OpenLog(path)
	} else {
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	}
	if err == nil {
		_, err = io.WriteString(f, text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// readAll reads a log that is not followed.
func readAll(t testing.TB, path string, o LogOptions) string {
	t.Helper()
	r, err := ReadLog(path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all strings.Builder
	for {
		lines, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return all.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) == 0 || lines[len(lines)-1] != '\n' {
			t.Fatalf("%q are no whole lines", lines)
		}
		all.Write(lines)
	}
}

func stamped(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "time=2026-11-22T10:%02d:%02d.000Z level=INFO msg=%d\n", i/60, i%60, i)
	}
	return b.String()
}

func TestReadLogChoosesLines(t *testing.T) {
	at := func(minute, second int) time.Time { return time.Date(2026, 11, 22, 10, minute, second, 0, time.UTC) }
	crash := "panic: it\n\ngoroutine 1:\n"
	path := logOf(t, "first\n", "second\n", stamped(0, 3)+crash+stamped(3, 5)+"no end")
	for name, c := range map[string]struct {
		o    LogOptions
		want string
	}{
		"all":                    {LogOptions{Tail: -1}, stamped(0, 3) + crash + stamped(3, 5) + "no end\n"},
		"none":                   {LogOptions{Tail: 0}, ""},
		"the last, without LF":   {LogOptions{Tail: 1}, "no end\n"},
		"the last two":           {LogOptions{Tail: 2}, stamped(4, 5) + "no end\n"},
		"more than there are":    {LogOptions{Tail: 99}, stamped(0, 3) + crash + stamped(3, 5) + "no end\n"},
		"since a line":           {LogOptions{Tail: -1, Since: at(0, 2)}, stamped(2, 3) + crash + stamped(3, 5) + "no end\n"},
		"since between lines":    {LogOptions{Tail: -1, Since: at(0, 3).Add(-time.Millisecond)}, stamped(3, 5) + "no end\n"},
		"since before all":       {LogOptions{Tail: -1, Since: at(0, 0)}, stamped(0, 3) + crash + stamped(3, 5) + "no end\n"},
		"since after all":        {LogOptions{Tail: -1, Since: at(9, 0)}, ""},
		"the fewer of both":      {LogOptions{Tail: 3, Since: at(0, 1)}, stamped(3, 5) + "no end\n"},
		"the incarnation before": {LogOptions{Tail: -1, Previous: true}, "second\n"},
	} {
		if got := readAll(t, path, c.o); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", name, got, c.want)
		}
	}
}

func TestReadLogOfManyBlocks(t *testing.T) {
	const lines = 5000 // 6 blocks
	path := logOf(t, stamped(0, lines/2)+strings.Repeat("x", 3*logBlock)+"\n"+stamped(lines/2, lines))
	if got := readAll(t, path, LogOptions{Tail: lines / 2}); got != stamped(lines/2, lines) {
		t.Errorf("the last half has %d bytes", len(got))
	}
	since, _ := LineTime([]byte(stamped(17, 18)))
	if got := readAll(t, path, LogOptions{Tail: -1, Since: since}); !strings.HasPrefix(got, stamped(17, 30)) || !strings.HasSuffix(got, stamped(lines/2, lines)) {
		t.Errorf("since line 17: %d bytes, %.80s", len(got), got)
	}
	if got := strings.Count(readAll(t, path, LogOptions{Tail: -1}), "x"); got != 3*logBlock {
		t.Errorf("a line longer than a block has %d bytes", got)
	}
}

func TestReadLogSaysWhatIsMissing(t *testing.T) {
	none := logOf(t)
	if _, err := ReadLog(none, LogOptions{}); !errors.Is(err, ErrNoLog) {
		t.Errorf("no log: %v", err)
	}
	if _, err := ReadLog(logOf(t, "one\n"), LogOptions{Previous: true}); !errors.Is(err, ErrNoPreviousLog) {
		t.Errorf("no previous log: %v", err)
	}
}

// A follower sees every line once, in order, and where incarnations begin, also
// of those that began and ended between two of its looks.
func TestFollowingGoesOnThroughIncarnations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := logOf(t)
		r, err := ReadLog(path, LogOptions{Tail: -1, Follow: true, Clock: timesvc.NewSystem(timesvc.Skew{})})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got := make(chan string, 100)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			for {
				lines, err := r.Next(ctx)
				if err != nil {
					done <- err
					return
				}
				got <- string(lines)
			}
		}()
		seen := func() string {
			time.Sleep(2 * followEvery) // of the bubble
			synctest.Wait()
			var all string
			for len(got) > 0 {
				all += <-got
			}
			return all
		}
		expect := func(what, want string) {
			t.Helper()
			if got := seen(); got != want {
				t.Errorf("%s: got %q, want %q", what, got, want)
			}
		}
		expect("before the first start", "--- there is no log yet; waiting for the first start ---\n")
		write(t, path, true, "a1\na2")
		expect("a whole line and the beginning of one", "a1\n")
		write(t, path, false, " goes on\n")
		expect("its end", "a2 goes on\n")
		write(t, path, false, "a3 never ends")
		write(t, path, true, "b1\n")
		write(t, path, true, "c1\n")
		write(t, path, true, "")
		write(t, path, true, "d1\n")
		expect("three more incarnations", "a3 never ends\n"+
			"--- a new incarnation begins here; the one before is in console.1.log ---\nb1\n"+
			"--- a new incarnation begins here; the one before is in console.2.log ---\nc1\n"+
			"--- a new incarnation begins here; the one before is in console.3.log ---\nd1\n")
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		write(t, path, false, "e1")
		write(t, path, false, "\n")
		expect("somebody emptied the file", "") // as long as before: nobody can tell
		write(t, path, false, "e2\n")
		expect("and what comes then", "e2\n")
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		expect("emptied", "--- the log was cut off; it goes on here ---\n")
		write(t, path, false, "f1\n")
		expect("and written again", "f1\n")
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the end: %v", err)
		}
	})
}

// Who was cut off from a log goes on where it was, in the incarnation that wrote
// then, whatever has begun and ended since.
func TestResumingBeginsInTheIncarnationThatWroteThen(t *testing.T) {
	const begins = "--- a new incarnation begins here; the one before is in console.%d.log ---\n"
	one, two, three := stamped(0, 10)+"panic: no time\n", "goroutine 1\n", stamped(20, 30)
	mark1, mark2 := fmt.Sprintf(begins, 1), fmt.Sprintf(begins, 2)
	for _, c := range []struct {
		second int
		want   string
	}{
		{5, stamped(5, 10) + "panic: no time\n" + mark1 + two + mark2 + three},
		{9, stamped(9, 10) + "panic: no time\n" + mark1 + two + mark2 + three},
		{15, mark1 + two + mark2 + three},
		{20, mark1 + two + mark2 + three}, // the first line of an incarnation may have the time of the last one before
		{21, stamped(21, 30)},
		{40, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			path := logOf(t, one, two, three)
			at := time.Date(2026, 11, 22, 10, 0, c.second, 0, time.UTC)
			r, err := ReadLog(path, LogOptions{Tail: -1, Follow: true, Resume: at, Clock: timesvc.NewSystem(timesvc.Skew{})})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var got strings.Builder
			for {
				lines, err := r.Next(ctx)
				if err != nil {
					break
				}
				got.Write(lines)
			}
			if got.String() != c.want {
				t.Errorf("from second %d on: got\n%swant\n%s", c.second, got.String(), c.want)
			}
		})
	}
	// What is kept may all be younger.
	path := logOf(t, three)
	r, err := ReadLog(path, LogOptions{Tail: -1, Follow: true, Resume: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if lines, err := r.Next(t.Context()); err != nil || string(lines) != three {
		t.Errorf("%q, %v", lines, err)
	}
}

func TestLineTime(t *testing.T) {
	want := time.Date(2026, 11, 22, 10, 0, 0, 123e6, time.UTC)
	for line, ok := range map[string]bool{
		"time=2026-11-22T10:00:00.123Z level=INFO": true,
		"2026-11-22T10:00:00.123Z it":              true,
		"2026-11-22T11:00:00.123+01:00":            true,
		"time=2026-11-22T10:00:00.123Zlevel":       false,
		"panic: 2026-11-22T10:00:00.123Z":          false,
		"":                                         false,
		"time=":                                    false,
		"time=2026-11-22T10:00:00.123000000000000000000000000000000000Z": false,
	} {
		if at, got := LineTime([]byte(line)); got != ok || ok && !at.Equal(want) {
			t.Errorf("%q: %v %v", line, at, got)
		}
	}
}

func TestParseLogSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"5m": now.Add(-5 * time.Minute), "0s": now, "2026-11-22T09:00:00Z": now.Add(-time.Hour), "2026-11-22t09:00:00.5z": now.Add(-time.Hour + time.Second/2),
		"": {}, "-5m": {}, "yesterday": {},
	} {
		if got, err := ParseLogSince(text, now); !got.Equal(want) || (err == nil) == want.IsZero() {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
}

// FuzzLogReader compares with a reader that loads everything.
func FuzzLogReader(f *testing.F) {
	f.Add([]byte(stamped(0, 5)), 2, 3)
	f.Add([]byte("panic\n\n\nno end"), 1, 0)
	f.Add([]byte("time=2026-11-22T10:00:02.000Z x\ny\ntime=2026-11-22T10:00:01.000Z z"), -1, 2)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte, tail, second int) {
		path := filepath.Join(dir, "console.log")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		o := LogOptions{Tail: tail % 100}
		if second >= 0 {
			o.Since = time.Date(2026, 11, 22, 10, 0, second%60, 0, time.UTC)
		}
		var want []byte
		lines := bytes.SplitAfter(text, []byte("\n"))
		if n := len(lines); len(lines[n-1]) == 0 {
			lines = lines[:n-1]
		}
		if !o.Since.IsZero() {
			for len(lines) > 0 {
				if at, ok := LineTime(lines[0]); ok && !at.Before(o.Since) {
					break
				}
				lines = lines[1:]
			}
		}
		if o.Tail >= 0 {
			lines = lines[max(0, len(lines)-o.Tail):]
		}
		want = bytes.Join(lines, nil)
		if n := len(want); n > 0 && want[n-1] != '\n' {
			want = append(want, '\n')
		}
		if got := readAll(t, path, o); got != string(want) && len(text) < logBlock {
			t.Errorf("%+v of %q: got %q, want %q", o, text, got, want)
		}
	})
}
