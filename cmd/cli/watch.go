package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// pollEvery is how often the list of topics is read.
const pollEvery = time.Second

// change is what became of an object.
type change struct {
	object  json.RawMessage
	deleted bool
}

// watcher follows the objects of one kind. It knows what it has told, so a watch
// that breaks and begins anew tells only what changed meanwhile.
type watcher struct {
	resource resource
	names    []string                        // only these; none: all
	query    url.Values                      // of the list
	wants    func(item json.RawMessage) bool // nil: all
	tell     func(changes []change) error    // what exists first, at once; then one at a time
	known    map[string]json.RawMessage      // what was told
	fresh    map[string]bool                 // what this watch has named so far; nil behind its bookmark
	first    []change                        // what the first watch has named so far
	told     bool                            // the first is told
}

// watch tells what becomes of objects until ctx ends.
func (a *app) watch(ctx context.Context, k *keeper, w *watcher) error {
	w.known = map[string]json.RawMessage{}
	open := func() (io.ReadCloser, error) {
		query := url.Values{"watch": {"1"}}
		maps.Copy(query, w.query)
		w.fresh = map[string]bool{}
		return k.server.open(ctx, apiPath+w.resource.plural, query)
	}
	return k.keep(ctx, open, func(body io.Reader) error {
		decoder := json.NewDecoder(bufio.NewReader(body))
		for {
			var e v1alpha1.WatchEvent
			if err := decoder.Decode(&e); err != nil {
				return err
			}
			if err := w.take(e); err != nil {
				return err
			}
		}
	})
}

// poll tells what becomes of topics until ctx ends. They are kept by the cluster
// and not by the controller, so a watch of them is refused while no node answers;
// their list is read again and again instead, and such a time passes in silence.
func (a *app) poll(ctx context.Context, k *keeper, w *watcher) error {
	w.known = map[string]json.RawMessage{}
	look := func() error {
		var list v1alpha1.List[json.RawMessage]
		err := k.server.get(ctx, apiPath+w.resource.plural, w.query, &list)
		var refused *serverError
		if errors.As(err, &refused) && refused.Code == http.StatusServiceUnavailable {
			return nil // its nodes do not answer now
		}
		if err != nil {
			return err
		}
		w.fresh = map[string]bool{}
		for _, item := range list.Items {
			if err := w.object(item, false); err != nil {
				return stopped(err)
			}
		}
		return stopped(w.bookmark())
	}
	open := func() (io.ReadCloser, error) { return http.NoBody, look() }
	err := k.keep(ctx, open, func(io.Reader) error {
		for {
			if err := k.server.pause(ctx, pollEvery); err != nil {
				return err
			}
			if err := look(); err != nil {
				return err
			}
		}
	})
	var stop *stopError
	if errors.As(err, &stop) { // of the first look
		return stop.err
	}
	return err
}

// take takes one event of a watch.
func (w *watcher) take(e v1alpha1.WatchEvent) error {
	switch e.Type {
	case v1alpha1.WatchError:
		var status v1alpha1.Status
		if err := json.Unmarshal(e.Object, &status); err != nil {
			return err
		}
		if status.Code == http.StatusGone || status.Code == http.StatusServiceUnavailable {
			return &status // it begins anew
		}
		return &stopError{&serverError{int(status.Code), string(status.Reason), status.Message}}
	case v1alpha1.WatchBookmark:
		return stopped(w.bookmark())
	case v1alpha1.WatchAdded, v1alpha1.WatchModified, v1alpha1.WatchDeleted:
		return stopped(w.object(e.Object, e.Type == v1alpha1.WatchDeleted))
	}
	return nil // of a newer controller
}

// stopped ends a stream with an error that opening it again does not mend.
func stopped(err error) error {
	if err == nil {
		return nil
	}
	return &stopError{err}
}

// object tells what became of an object, if that is news.
func (w *watcher) object(item json.RawMessage, deleted bool) error {
	var o struct {
		Metadata v1alpha1.ObjectMeta `json:"metadata"`
	}
	if err := json.Unmarshal(item, &o); err != nil {
		return fmt.Errorf("the controller's %s cannot be read: %w", w.resource.singular, err)
	}
	if len(w.names) > 0 && !slices.Contains(w.names, o.Metadata.Name) || w.wants != nil && !w.wants(item) {
		return nil
	}
	key := o.Metadata.Namespace + "/" + o.Metadata.Name
	if w.fresh != nil {
		w.fresh[key] = true
	}
	if before, ok := w.known[key]; ok && !deleted && bytes.Equal(before, item) {
		return nil
	}
	w.known[key] = item
	if deleted {
		delete(w.known, key)
	}
	if !w.told {
		w.first = append(w.first, change{item, deleted})
		return nil
	}
	return w.tell([]change{{item, deleted}})
}

// bookmark ends what a watch begins with: what it did not name is gone.
func (w *watcher) bookmark() error {
	if !w.told {
		w.told = true
		first := w.first
		w.first = nil
		for _, name := range w.names {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(w.known)), func(key string) bool { return strings.HasSuffix(key, "/"+name) }) {
				return &serverError{http.StatusNotFound, string(v1alpha1.ReasonNotFound), fmt.Sprintf("%s %q not found", w.resource.plural, name)}
			}
		}
		if err := w.tell(first); err != nil {
			return err
		}
	}
	if w.fresh == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(w.known)) {
		if w.fresh[key] {
			continue
		}
		gone := w.known[key]
		delete(w.known, key)
		if w.resource.kind == v1alpha1.KindEvent {
			continue // the oldest ones go by themselves
		}
		if err := w.tell([]change{{gone, true}}); err != nil {
			return err
		}
	}
	w.fresh = nil
	return nil
}

// watchTargets prints the targets as they are, and then every change of them.
func (a *app) watchTargets(ctx context.Context, targets []target, adjust func(*watcher)) error {
	k := &keeper{server: a.controller(), stderr: a.stderr}
	p := &changePrinter{app: a, withKind: len(targets) > 1, start: a.clock.Now()}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(targets))
	for i, t := range targets {
		rows := &liveRows{}
		w := &watcher{resource: t.resource, names: t.names}
		w.tell = func(changes []change) error { return p.print(t.resource, rows, changes) }
		if adjust != nil {
			adjust(w)
		}
		wg.Go(func() {
			follow := a.watch
			if t.resource.kind == v1alpha1.KindTopic {
				follow = a.poll
			}
			if errs[i] = follow(own, k, w); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// widestLive is the widest that a long cell makes the rows after its own.
const widestLive = 36

// changePrinter prints changes of several kinds in the format of -o. It may be
// used concurrently.
type changePrinter struct {
	app      *app
	withKind bool
	start    time.Time

	mu      sync.Mutex // guards what follows
	kind    string     // of the table whose header was printed last
	printed int        // documents
}

// liveRows are the rows of one kind that were printed.
type liveRows struct {
	widths []int
	last   map[string]string // of each object, what its row said, ages apart
}

func (p *changePrinter) print(r resource, rows *liveRows, changes []change) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.app
	format, template, _ := strings.Cut(a.output, "=")
	for _, c := range changes {
		var err error
		switch format {
		case "", "wide":
			return p.printRows(r, rows, changes, format == "wide")
		case "name":
			d, bad := newDescription(r, c.object)
			if err = bad; err == nil {
				_, err = fmt.Fprintf(a.stdout, "%s/%s\n", r.singular, d.meta.Name)
			}
		case "yaml":
			if p.printed > 0 {
				fmt.Fprintln(a.stdout, "---")
			}
			err = manifests.EncodeYAML(a.stdout, c.object)
		case "jsonpath":
			var b bytes.Buffer
			if err = printJSONPath(&b, template, c.object); err == nil {
				_, err = fmt.Fprintf(a.stdout, "%s\n", bytes.TrimSuffix(b.Bytes(), []byte("\n")))
			}
		default:
			err = printJSON(a.stdout, c.object)
		}
		if err != nil {
			return err
		}
		p.printed++
	}
	return nil
}

// printRows prints a row per change. One that says the same as the object's row
// before, but for ages, is left out.
func (p *changePrinter) printRows(r resource, rows *liveRows, changes []change, wide bool) error {
	if rows.last == nil {
		rows.last = map[string]string{}
	}
	var t *table
	for _, c := range changes {
		one := found{resource: r, items: []json.RawMessage{c.object}}
		then, err := rowsOf(one, p.start)
		if err != nil {
			return err
		}
		now, err := rowsOf(one, p.app.clock.Now())
		if err != nil {
			return err
		}
		key := now.namespaces[0] + "/" + now.names[0]
		says := strings.Join(then.table(r, false, wide).rows[0], "\x00")
		if !c.deleted && rows.last[key] == says {
			continue
		}
		rows.last[key] = says
		if c.deleted {
			delete(rows.last, key)
			now.names[0] += " (deleted)"
		}
		if row := now.table(r, p.withKind, wide); t == nil {
			t = row
		} else {
			t.rows = append(t.rows, row.rows...)
		}
	}
	if t == nil {
		return nil
	}
	if len(rows.widths) == 0 {
		rows.widths = make([]int, len(t.header))
	}
	for _, row := range append(t.rows, t.header) {
		for i, cell := range row {
			rows.widths[i] = max(rows.widths[i], min(utf8.RuneCountInString(cell), widestLive))
		}
	}
	t.widths = rows.widths
	if p.kind != "" && p.kind != r.kind {
		fmt.Fprintln(p.app.stdout)
	}
	noHeader := p.app.settings.NoHeaders || p.kind == r.kind
	p.kind = r.kind
	return t.print(p.app.stdout, noHeader)
}
