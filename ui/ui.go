// Package ui serves the web page: files that are in the program, or those of a
// folder while someone works on them.
//
//	GET /                 the page, the same for every view (views are in the fragment)
//	GET /ui/{version}/…   its modules, styles and pictures
//
// ui/web is the source and is served as it is: there is no build step. The
// version in the path is a hash of all files, so a browser keeps them for ever
// and never mixes two versions; a path with another version is answered with the
// files of this one and is not kept. The page itself is asked for each time and
// answered by 304 while it is the same.
//
// Modules name each other relatively, and vendored ones by their bare names,
// which the import map in the page resolves. The map is the only inline script;
// its hash is in the Content-Security-Policy, which allows nothing from
// elsewhere, no inline style and no frame.
//
// Not here: data. The page speaks to the HTTP API of whoever serves it. Start
// reading at New; in ui/web, at app.js.
package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed web
var embedded embed.FS

// Prefix is the path below which the page's files are served; the page itself
// is at "/".
const Prefix = "/ui/"

const indexFile = "index.html"

// bare are the names under which modules import vendored files.
var bare = map[string]string{
	"preact":               "vendor/preact.mjs",
	"preact/hooks":         "vendor/preact-hooks.mjs",
	"htm":                  "vendor/htm.mjs",
	"@preact/signals":      "vendor/signals.mjs",
	"@preact/signals-core": "vendor/signals-core.mjs",
	"uplot":                "vendor/uplot.mjs",
}

// Options say where the page's files are.
type Options struct {
	// Dir is a folder to serve instead of the files in the program. It is read
	// at each request and nothing is kept by the browser: for those who change
	// the page.
	Dir string
}

// New returns the page as a handler for "/" and for what is below Prefix. It
// may be used for any number of requests at a time. The error says that Dir is
// not a folder with a page.
func New(o Options) (http.Handler, error) {
	if o.Dir == "" {
		sub, err := fs.Sub(embedded, "web")
		if err != nil {
			return nil, fmt.Errorf("ui: %w", err)
		}
		s, err := read(sub)
		if err != nil {
			return nil, fmt.Errorf("ui: read the files in the program: %w", err)
		}
		return s, nil
	}
	if _, err := readDir(o.Dir); err != nil {
		return nil, fmt.Errorf("ui: %s is no folder with the page's files: %w", o.Dir, err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := readDir(o.Dir)
		if err != nil {
			http.Error(w, fmt.Sprintf("read %s: %v", o.Dir, err), http.StatusInternalServerError)
			return
		}
		s.volatile = true
		s.ServeHTTP(w, r)
	}), nil
}

// readDir opens the folder anew, because tools replace folders; nothing outside
// it is read, wherever a link in it points.
func readDir(dir string) (*site, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return read(root.FS())
}

// site is one version of the page's files. Only the compressed forms are made
// later, when they are first asked for.
type site struct {
	version  string
	files    map[string]*file
	index    *file
	policy   string
	volatile bool // the files change: the browser keeps none
}

// file is one file as it is sent.
type file struct {
	kind string // Content-Type
	etag string // without quotes
	data []byte
	gzip func() []byte // nil if it gets no smaller
}

// read takes all files of a tree into memory.
func read(tree fs.FS) (*site, error) {
	s := &site{files: map[string]*file{}}
	all := sha256.New()
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		f := newFile(name, data)
		s.files[name] = f
		fmt.Fprintf(all, "%s %s\n", name, f.etag)
		return nil
	})
	if err != nil {
		return nil, err
	}
	index, ok := s.files[indexFile]
	if !ok {
		return nil, fmt.Errorf("%s: %w", indexFile, fs.ErrNotExist)
	}
	s.version = hex.EncodeToString(all.Sum(nil))[:12]
	delete(s.files, indexFile)
	return s, s.makeIndex(index.data)
}

func newFile(name string, data []byte) *file {
	f := &file{kind: kindOf(name), etag: digest(data), data: data}
	f.gzip = sync.OnceValue(func() []byte { return compress(data) })
	return f
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:12])
}

// kindOf does not ask the machine's table of types, which may say anything.
func kindOf(name string) string {
	switch path.Ext(name) {
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return "text/plain; charset=utf-8"
	}
}

func compress(data []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	_, _ = z.Write(data)                                  // into memory
	_ = z.Close()
	if b.Len() >= len(data) {
		return nil
	}
	return b.Bytes()
}

// makeIndex fills the page's placeholders: the version, the import map, and the
// modules that the browser may fetch before it has read who imports them. A
// module whose first line says "lazy" is fetched when it is needed.
func (s *site) makeIndex(source []byte) error {
	imports := map[string]string{}
	for name, target := range bare {
		if s.files[target] == nil {
			return fmt.Errorf("%s: %w", target, fs.ErrNotExist)
		}
		imports[name] = s.at(target)
	}
	importMap, err := json.Marshal(map[string]any{"imports": imports})
	if err != nil {
		return err
	}
	var preload strings.Builder
	for _, name := range s.modules() {
		fmt.Fprintf(&preload, "<link rel=\"modulepreload\" href=\"%s\">\n", s.at(name))
	}
	page := strings.NewReplacer(
		"{{base}}", s.at(""),
		"{{version}}", s.version,
		"{{importmap}}", string(importMap),
		"{{preload}}\n", preload.String(),
	).Replace(string(source))
	s.index = newFile(indexFile, []byte(page))
	sum := sha256.Sum256(importMap)
	s.policy = strings.Join([]string{
		"default-src 'none'",
		"script-src 'self' 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		"style-src 'self'",
		"img-src 'self'",
		"connect-src 'self'",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")
	return nil
}

// modules are the files that are needed for the first picture.
func (s *site) modules() []string {
	var names []string
	for name, f := range s.files {
		lazy := bytes.HasPrefix(f.data, []byte("// lazy")) || name == bare["uplot"]
		if strings.HasPrefix(f.kind, "text/javascript") && !lazy {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (s *site) at(name string) string { return Prefix + s.version + "/" + name }

// ServeHTTP implements http.Handler.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "the page is only for reading")
		return
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Content-Security-Policy", s.policy)
	if r.URL.Path == "/" {
		s.send(w, r, s.index, "no-cache")
		return
	}
	version, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	f := s.files[name]
	if f == nil {
		h.Set("Cache-Control", "no-store")
		refuse(w, http.StatusNotFound, "NOT_FOUND", "the page has no such file")
		return
	}
	keep := "no-cache"
	if version == s.version {
		keep = "public, max-age=31536000, immutable"
	}
	s.send(w, r, f, keep)
}

// refuse answers an error as the paths around the page do.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "{\"error\":{\"code\":%q,\"message\":%q}}\n", code, message) // the client left
}

func (s *site) send(w http.ResponseWriter, r *http.Request, f *file, keep string) {
	h := w.Header()
	if s.volatile {
		keep = "no-store"
	}
	data, etag := f.data, f.etag
	h.Add("Vary", "Accept-Encoding")
	if acceptsGzip(r) {
		if z := f.gzip(); z != nil {
			data, etag = z, etag+"-gzip"
			h.Set("Content-Encoding", "gzip")
		}
	}
	h.Set("Cache-Control", keep)
	h.Set("ETag", strconv.Quote(etag))
	if matches(r.Header.Get("If-None-Match"), f.etag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.kind)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(data) // the browser is gone: nobody to tell
	}
}

// matches says whether a browser has this content already, in either form.
func matches(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
		if strings.TrimSuffix(tag, "-gzip") == etag {
			return true
		}
	}
	return false
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err == nil && coding == "gzip" {
			q, err := strconv.ParseFloat(params["q"], 64)
			return err != nil || q > 0
		}
	}
	return false
}
