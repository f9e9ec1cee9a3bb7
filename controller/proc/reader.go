package proc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wiber/wiber/timesvc"
)

const (
	// logBlock is how much of a log is read at once.
	logBlock = 64 << 10
	// maxLogLine is the longest line that is returned whole; a longer one becomes
	// several.
	maxLogLine = logBlock
	// followEvery is how often a log that is followed is looked at.
	followEvery = 100 * time.Millisecond
)

// ErrNoLog and ErrNoPreviousLog say that there is no log to read.
var (
	ErrNoLog         = errors.New("it has no log yet, because it was never started")
	ErrNoPreviousLog = errors.New("there is no log of an incarnation before the last one")
)

// LogOptions say what of a node's logs is read.
type LogOptions struct {
	// Tail is how many lines at most, the newest; negative for all.
	Tail int
	// Since leaves out the lines before the first that says a later time, or this
	// one. Zero leaves out nothing.
	Since time.Time
	// Previous reads the log of the incarnation before the last one.
	Previous bool
	// Follow goes on with what is written later, through new incarnations.
	Follow bool
	// Resume goes on following after a break: it begins as Since does, but in the
	// incarnation that wrote then, so that nothing of it is missed if another one
	// runs now. Zero begins in the last one.
	Resume time.Time
	// Clock paces following. It is needed for nothing else.
	Clock timesvc.Clock
}

// LogReader reads a node's log in whole lines. However long the log is, it holds
// two blocks of it. One goroutine uses it.
//
// Followed, it goes on through new incarnations, for which OpenLog renames the
// file: what the old one holds is returned to its end, then a line that says so,
// then what the next one holds, even if several began between two looks.
type LogReader struct {
	path   string
	o      LogOptions
	file   *os.File // nil while a followed log does not exist
	offset int64    // of what is read next
	end    int64    // where to stop; negative: nowhere
	rest   []byte   // the beginning of a line
	marker string   // to return before what comes next
}

// ReadLog begins to read the log that OpenLog was given the path of.
func ReadLog(path string, o LogOptions) (*LogReader, error) {
	r := &LogReader{path: path, o: o, end: -1}
	files, err := LogFiles(path)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Previous && len(files) < 2:
		return nil, ErrNoPreviousLog
	case o.Previous:
		files = files[1:]
	case len(files) == 0 && o.Follow:
		r.marker = "--- there is no log yet; waiting for the first start ---\n"
		return r, nil
	case len(files) == 0:
		return nil, ErrNoLog
	}
	if !o.Resume.IsZero() {
		files = files[begunBefore(files, o.Resume):]
	}
	if r.file, err = os.Open(files[0]); err != nil {
		return nil, err
	}
	if err := r.seek(); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", files[0], err), r.Close())
	}
	return r, nil
}

// Close ends reading.
func (r *LogReader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// seek finds where to begin, and where to stop.
func (r *LogReader) seek() error {
	st, err := r.file.Stat()
	if err != nil {
		return err
	}
	size := st.Size()
	tail, err := tailOffset(r.file, size, r.o.Tail)
	if err != nil {
		return err
	}
	since, err := sinceOffset(r.file, size, r.o.Since)
	if err != nil {
		return err
	}
	resume, err := sinceOffset(r.file, size, r.o.Resume)
	if err != nil {
		return err
	}
	r.offset = max(tail, since, resume)
	if !r.o.Follow {
		r.end = size
	}
	return nil
}

// begunBefore finds, of logs of which the newest comes first, the newest that says
// a time before this one; the oldest if none does.
func begunBefore(files []string, at time.Time) int {
	block := make([]byte, logBlock)
	for i, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue // it was removed, being among the oldest
		}
		n, _ := io.ReadFull(f, block) // what cannot be read says no time
		_ = f.Close()
		if first, ok := firstTime(block[:n]); ok && first.Before(at) {
			return i
		}
	}
	return len(files) - 1
}

// tailOffset is where the last n lines begin. It reads from the end, in blocks.
func tailOffset(f io.ReaderAt, size int64, n int) (int64, error) {
	if n < 0 {
		return 0, nil
	}
	if n == 0 {
		return size, nil
	}
	block := make([]byte, logBlock)
	for end := size; end > 0; {
		begin := max(0, end-logBlock)
		part := block[:end-begin]
		if _, err := f.ReadAt(part, begin); err != nil {
			return 0, err
		}
		if end == size && part[len(part)-1] == '\n' {
			part = part[:len(part)-1] // it ends the last line
		}
		for {
			i := bytes.LastIndexByte(part, '\n')
			if i < 0 {
				break
			}
			if n--; n == 0 {
				return begin + int64(i) + 1, nil
			}
			part = part[:i]
		}
		end = begin
	}
	return 0, nil
}

// sinceOffset is where the first line begins that says since or later. It looks
// for an earlier one from the end, in blocks, and then forward line by line.
func sinceOffset(f io.ReaderAt, size int64, since time.Time) (int64, error) {
	if since.IsZero() {
		return 0, nil
	}
	block := make([]byte, logBlock)
	begin := size
	for begin > 0 {
		end := begin
		begin = max(0, end-logBlock)
		part := block[:end-begin]
		if _, err := f.ReadAt(part, begin); err != nil {
			return 0, err
		}
		if begin > 0 { // most likely inside a line
			i := bytes.IndexByte(part, '\n')
			part = part[i+1:]
		}
		if at, ok := firstTime(part); ok && at.Before(since) {
			break
		}
	}
	lines := bufio.NewReaderSize(io.NewSectionReader(f, begin, size-begin), logBlock)
	inside := begin > 0
	for {
		part, err := lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if at, ok := LineTime(part); ok && !inside && !at.Before(since) {
			return begin, nil
		}
		begin += int64(len(part))
		inside = errors.Is(err, bufio.ErrBufferFull)
		if errors.Is(err, io.EOF) {
			return begin, nil
		}
	}
}

// firstTime is the time of the first line that says one.
func firstTime(lines []byte) (time.Time, bool) {
	for line := range bytes.SplitSeq(lines, []byte("\n")) {
		if at, ok := LineTime(line); ok {
			return at, true
		}
	}
	return time.Time{}, false
}

// LineTime is the time that a line of a log begins with, as log/slog writes it
// (time=2026-11-22T10:00:00.123Z …), or bare.
func LineTime(line []byte) (time.Time, bool) {
	const longest = len("2026-11-22T10:00:00.123456789+00:00")
	line = bytes.TrimPrefix(line, []byte("time="))
	word := line[:min(len(line), longest+1)]
	if i := bytes.IndexAny(word, " \r\n"); i >= 0 {
		word = word[:i]
	}
	if len(word) > longest || len(word) < len("2026-11-22T10:00:00Z") {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(word))
	return at, err == nil
}

// Next returns whole lines, at least one; they are the reader's until the next
// call. At the end of a log that is not followed it returns io.EOF; one that is
// followed has no end, and Next waits for more until ctx ends. A last line without
// its LF gets one.
func (r *LogReader) Next(ctx context.Context) ([]byte, error) {
	for {
		if r.marker != "" {
			line := []byte(r.marker)
			r.marker = ""
			return line, nil
		}
		lines, err := r.read()
		switch {
		case len(lines) > 0 || err != nil && !errors.Is(err, io.EOF):
			return lines, err
		case err == nil:
			continue
		case !r.o.Follow:
			if lines := r.lastLine(); len(lines) > 0 {
				return lines, nil
			}
			return nil, io.EOF
		}
		lines, moved, err := r.move()
		switch {
		case len(lines) > 0 || err != nil:
			return lines, err
		case moved:
			continue
		}
		timer := r.o.Clock.NewTimer(followEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C():
		}
	}
}

// read returns the whole lines of the next block, which may be none, and io.EOF
// if there is nothing to read.
func (r *LogReader) read() ([]byte, error) {
	if r.file == nil {
		return nil, io.EOF
	}
	want := int64(logBlock)
	if r.end >= 0 {
		want = min(want, r.end-r.offset)
	}
	if want <= 0 {
		return nil, io.EOF
	}
	buf := make([]byte, int64(len(r.rest))+want)
	copy(buf, r.rest)
	n, err := r.file.ReadAt(buf[len(r.rest):], r.offset)
	if n == 0 {
		return nil, err
	}
	r.offset += int64(n)
	buf = buf[:len(r.rest)+n]
	cut := bytes.LastIndexByte(buf, '\n') + 1
	if cut == 0 && len(buf) > maxLogLine {
		r.rest = nil
		return append(buf, '\n'), nil
	}
	r.rest = slices.Clone(buf[cut:])
	return buf[:cut], nil
}

// lastLine returns what stands behind the last LF.
func (r *LogReader) lastLine() []byte {
	if len(r.rest) == 0 {
		return nil
	}
	line := append(r.rest, '\n')
	r.rest = nil
	return line
}

// move goes on in the next incarnation's file if there is one. It is called at
// the end of this one's, and returns what was written to it meanwhile.
func (r *LogReader) move() (lines []byte, moved bool, err error) {
	named, err := os.Stat(r.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, false, err
	}
	if r.file == nil {
		if err != nil {
			return nil, false, nil
		}
		r.file, err = os.Open(r.path)
		return nil, err == nil, err
	}
	open, statErr := r.file.Stat()
	if statErr != nil {
		return nil, false, statErr
	}
	if err == nil && os.SameFile(open, named) {
		if open.Size() < r.offset { // somebody emptied it
			r.offset, r.rest = 0, nil
			r.marker = "--- the log was cut off; it goes on here ---\n"
			return nil, true, nil
		}
		return nil, false, nil
	}
	// It was renamed, so its process has ended, and nothing is added any more.
	if lines, err := r.read(); len(lines) > 0 || err == nil {
		return lines, true, nil
	}
	if lines := r.lastLine(); len(lines) > 0 {
		return lines, true, nil
	}
	next, name, err := r.following(open)
	if err != nil || next == nil {
		return nil, false, err
	}
	r.file.Close()
	r.file, r.offset = next, 0
	r.marker = "--- a new incarnation begins here ---\n"
	if name != "" {
		r.marker = fmt.Sprintf("--- a new incarnation begins here; the one before is in %s ---\n", name)
	}
	return nil, true, nil
}

// following opens the log of the incarnation after that of a file that was
// renamed, and returns its new name. There is no next one between a rename and
// the creation of the new file.
func (r *LogReader) following(renamed os.FileInfo) (next *os.File, name string, err error) {
	old, err := oldLogs(r.path)
	if err != nil {
		return nil, "", err
	}
	path := r.path
	for _, n := range slices.Backward(old) {
		candidate := numbered(r.path, n)
		if st, err := os.Stat(candidate); err == nil && os.SameFile(st, renamed) {
			name = filepath.Base(candidate)
			break
		}
		path = candidate
	}
	if name == "" {
		path = r.path // it was removed: what came between is not known
	}
	next, err = os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", nil
	}
	return next, name, err
}

// ParseLogSince reads a time or a duration back, as in 5m.
func ParseLogSince(text string, now time.Time) (time.Time, error) {
	if back, err := time.ParseDuration(text); err == nil && back >= 0 {
		return now.Add(-back), nil
	}
	if at, err := time.Parse(time.RFC3339Nano, strings.ToUpper(text)); err == nil {
		return at, nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a duration back, as in 5m, nor a time, as in 2026-11-22T10:00:00Z", text)
}
