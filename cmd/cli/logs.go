package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/controller/apiserver"
	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// logOptions are the flags of logs.
type logOptions struct {
	follow     bool
	previous   bool
	all        bool
	timestamps bool
	tail       int
	since      string
}

// logsCommand prints what nodes wrote.
func (a *app) logsCommand() *cobra.Command {
	var o logOptions
	cmd := &cobra.Command{
		Use:   "logs NODE | --all",
		Short: "Print a node's log",
		Long: `Prints what a node's process wrote: of the one that runs or, if none does, ran
last. With -f it goes on, through new processes of the node, which a line says,
and through a restart of the controller.

With --all the lines of all nodes are merged by their times, each with its node in
front; followed, they come as they are written.`,
		Example: `  wiberctl logs n2 --tail 20
  wiberctl logs n2 -f --since 5m
  wiberctl logs n2 -p                 # of the process before: why it ended
  wiberctl logs --all -f --tail 10`,
		Args:              cobra.RangeArgs(0, 2),
		ValidArgsFunction: a.completeNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args, a.clock.Now()); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			if o.all {
				return a.logsOfAll(cmd.Context(), o)
			}
			name, err := parseNode(args)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			return a.logs(cmd.Context(), o, name)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&o.follow, "follow", "f", false, "go on with what is written, until Ctrl-C")
	flags.BoolVarP(&o.previous, "previous", "p", false, "the log of the process before the one that runs or ran last")
	flags.BoolVar(&o.all, "all", false, "the logs of all nodes")
	flags.BoolVar(&o.timestamps, "timestamps", false, "put a time in front of every line, also of one that has none: that of the line before it")
	flags.IntVar(&o.tail, "tail", -1, "only the last `N` lines, of each node; -1 for all")
	flags.StringVar(&o.since, "since", "", "only lines from this `time` on: a duration back, as 5m, or a time")
	return cmd
}

func (o *logOptions) check(args []string, now time.Time) error {
	switch {
	case o.all && len(args) > 0:
		return errors.New("name a node, or say --all, not both")
	case !o.all && len(args) == 0:
		return errors.New("say which node: NODE, or --all")
	case o.follow && o.previous:
		return errors.New("-f with -p: nothing is added to the log of a process that has ended")
	case o.tail < -1:
		return errors.New("--tail is a number of lines, or -1 for all")
	}
	if o.since == "" {
		return nil
	}
	at, err := proc.ParseLogSince(o.since, now)
	if err != nil {
		return fmt.Errorf("--since: %w", err)
	}
	// As a time, so that a connection that is opened again means the same.
	o.since = at.UTC().Format(time.RFC3339Nano)
	return nil
}

// query asks for what the flags say.
func (o *logOptions) query(cluster string) url.Values {
	q := url.Values{}
	if o.follow {
		q.Set("follow", "1")
	}
	if o.previous {
		q.Set("previous", "1")
	}
	if o.tail >= 0 {
		q.Set("tail", strconv.Itoa(o.tail))
	}
	if o.since != "" {
		q.Set("since", o.since)
	}
	if cluster != "" {
		q.Set("cluster", cluster)
	}
	return q
}

// logs prints the log of one node.
func (a *app) logs(ctx context.Context, o logOptions, name string) error {
	out := &logWriter{w: a.stdout, timestamps: o.timestamps}
	if !o.follow {
		return a.readLog(ctx, o, logSource{name: name}, out)
	}
	return a.followLog(ctx, &keeper{server: a.controller(), stderr: a.stderr}, o, logSource{name: name}, out)
}

// logSource is a node whose log is read, and what stands in front of its lines.
type logSource struct {
	name, cluster, prefix string
}

func (l *logSource) path() string { return "/nodes/" + url.PathEscape(l.name) + "/logs" }

// readLog prints a log to its end.
func (a *app) readLog(ctx context.Context, o logOptions, from logSource, out *logWriter) error {
	body, err := a.controller().open(ctx, from.path(), o.query(from.cluster))
	if err != nil {
		return err
	}
	defer body.Close()
	lines := newLogLines(body)
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the log of node %s broke off: %w", from.name, err)
		}
		if err := out.write(from.prefix, line); err != nil {
			return err
		}
	}
}

// followLog prints a log until ctx ends. A connection that is opened again goes
// on where the last one was: from the time of the last line that says one, in the
// incarnation that wrote it, without the lines that were printed since.
func (a *app) followLog(ctx context.Context, k *keeper, o logOptions, from logSource, out *logWriter) error {
	var at resumePoint
	open := func() (io.ReadCloser, error) {
		query := o.query(from.cluster)
		at.resume(query)
		return k.server.open(ctx, from.path(), query)
	}
	return k.keep(ctx, open, func(body io.Reader) error {
		lines := newLogLines(body)
		for {
			line, err := lines.next()
			if err != nil {
				return err // it has no end: whatever it is, it broke
			}
			if at.printed(line) {
				continue
			}
			if err := out.write(from.prefix, line); err != nil {
				return &stopError{err}
			}
			if string(line) == apiserver.NodeDeletedLine {
				return &stopError{}
			}
		}
	})
}

// resumePoint is how far a log was printed.
type resumePoint struct {
	last  time.Time
	since [][]byte // lines that were printed since last, in order
	again int      // of these, how many a new connection has repeated so far; -1 if it is past them
}

// maxResumeLines bounds the lines that are remembered to recognise them again.
const maxResumeLines = 1000

// resume makes a query go on from here.
func (p *resumePoint) resume(query url.Values) {
	p.again = -1
	if p.last.IsZero() {
		return
	}
	p.again = 0
	query.Del("tail")
	query.Del("since")
	query.Set("resume", p.last.UTC().Format(time.RFC3339Nano))
}

// printed takes note of a line, and says whether it was printed already.
func (p *resumePoint) printed(line []byte) bool {
	if p.again >= 0 {
		if p.again < len(p.since) && bytes.Equal(p.since[p.again], line) {
			p.again++
			return true
		}
		if p.again < len(p.since) && bytes.HasPrefix(line, []byte("--- ")) {
			return true // it stands before a line that was printed
		}
		p.again = -1
	}
	if at, ok := proc.LineTime(line); ok && !at.Equal(p.last) {
		p.last, p.since = at, p.since[:0]
	}
	if !p.last.IsZero() && len(p.since) < maxResumeLines && !bytes.HasPrefix(line, []byte("--- ")) {
		p.since = append(p.since, slices.Clone(line))
	}
	return false
}

// logsOfAll prints the logs of all nodes.
func (a *app) logsOfAll(ctx context.Context, o logOptions) error {
	s := a.controller()
	var nodes v1alpha1.NodeList
	if err := s.get(ctx, apiPath+"nodes", nil, &nodes); err != nil {
		return err
	}
	if len(nodes.Items) == 0 {
		_, err := fmt.Fprintln(a.stderr, "No resources found.")
		return err
	}
	var sources []logSource
	for i := range nodes.Items {
		n := &nodes.Items[i]
		sources = append(sources, logSource{name: n.Name, cluster: n.Namespace, prefix: "[" + n.Name + "] "})
		if n.Namespace != nodes.Items[0].Namespace {
			for i := range sources {
				sources[i].prefix = "[" + sources[i].cluster + "/" + sources[i].name + "] "
			}
		}
	}
	out := &logWriter{w: a.stdout, timestamps: o.timestamps}
	if !o.follow {
		return a.mergeLogs(ctx, o, sources, out)
	}
	k := &keeper{server: s, stderr: a.stderr}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(sources))
	for i, from := range sources {
		wg.Go(func() {
			if errs[i] = a.followLog(own, k, o, from, out); errs[i] != nil {
				var refused *serverError
				if !errors.As(errs[i], &refused) {
					cancel()
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// mergeLogs prints logs that have an end, in the order of their times. A line
// without a time belongs to the one before it.
func (a *app) mergeLogs(ctx context.Context, o logOptions, sources []logSource, out *logWriter) error {
	type reading struct {
		logSource
		lines *logLines
		line  []byte
		at    time.Time
	}
	advance := func(r *reading) error {
		line, err := r.lines.next()
		if err != nil {
			return err
		}
		r.line = slices.Clone(line)
		if at, ok := proc.LineTime(line); ok {
			r.at = at
		}
		return nil
	}
	var open []*reading
	for _, from := range sources {
		body, err := a.controller().open(ctx, from.path(), o.query(from.cluster))
		var refused *serverError
		if errors.As(err, &refused) && refused.Code == http.StatusNotFound {
			printError(a.stderr, err) // it has no log: the others have
			continue
		}
		if err != nil {
			return err
		}
		defer body.Close()
		r := &reading{logSource: from, lines: newLogLines(body)}
		if err := advance(r); err == nil {
			open = append(open, r)
		} else if !errors.Is(err, io.EOF) {
			return fmt.Errorf("the log of node %s broke off: %w", from.name, err)
		}
	}
	for len(open) > 0 {
		next := slices.MinFunc(open, func(x, y *reading) int { return x.at.Compare(y.at) })
		if err := out.write(next.prefix, next.line); err != nil {
			return err
		}
		err := advance(next)
		if errors.Is(err, io.EOF) {
			open = slices.DeleteFunc(open, func(r *reading) bool { return r == next })
		} else if err != nil {
			return fmt.Errorf("the log of node %s broke off: %w", next.name, err)
		}
	}
	return nil
}

// logLines cuts a stream into lines. A line that is longer than the buffer comes
// in several.
type logLines struct{ r *bufio.Reader }

func newLogLines(r io.Reader) *logLines { return &logLines{bufio.NewReaderSize(r, 128<<10)} }

// next returns a line without its end, valid until the next call, and io.EOF
// behind the last one.
func (l *logLines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) && (len(line) == 0 || !errors.Is(err, io.EOF)) {
		return nil, err
	}
	return bytes.TrimSuffix(line, []byte("\n")), nil
}

// logWriter prints lines of one or several logs. It may be used concurrently.
type logWriter struct {
	w          io.Writer
	timestamps bool

	mu   sync.Mutex // guards what follows, and keeps lines whole
	last map[string]time.Time
}

// write prints a line of the log with that prefix.
func (l *logWriter) write(prefix string, line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := make([]byte, 0, len(prefix)+len(line)+40)
	text = append(text, prefix...)
	if l.timestamps {
		if l.last == nil {
			l.last = map[string]time.Time{}
		}
		if at, ok := proc.LineTime(line); ok {
			l.last[prefix] = at
			if bytes.HasPrefix(line, []byte("time=")) {
				_, line, _ = bytes.Cut(line, []byte(" ")) // it says nothing else
			}
		}
		stamp := "<unknown>"
		if at := l.last[prefix]; !at.IsZero() {
			stamp = at.UTC().Format("2006-01-02T15:04:05.000Z07:00")
		}
		text = append(append(text, stamp...), ' ')
	}
	_, err := l.w.Write(append(append(text, line...), '\n'))
	return err
}
