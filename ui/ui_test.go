package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

func page(t *testing.T, o Options) http.Handler {
	t.Helper()
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// get asks for a path; header is name, value, name, value, …
func get(h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

var addresses = regexp.MustCompile(`(?:href|src)="(/ui/[^"]+)"|"(/ui/[^"]+)"`)

// links are the addresses of files in the page.
func links(index string) []string {
	var all []string
	for _, m := range addresses.FindAllStringSubmatch(index, -1) {
		all = append(all, m[1]+m[2])
	}
	return all
}

func TestThePageAndAllItNamesAreServed(t *testing.T) {
	h := page(t, Options{})
	index := get(h, "/")
	if index.Code != http.StatusOK || index.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("GET /: %d %q", index.Code, index.Header().Get("Content-Type"))
	}
	if left := regexp.MustCompile(`\{\{\w+\}\}`).FindString(index.Body.String()); left != "" {
		t.Errorf("the page still has the placeholder %s", left)
	}
	all := links(index.Body.String())
	if len(all) < 20 {
		t.Fatalf("the page names only %d files", len(all))
	}
	for _, target := range all {
		w := get(h, target)
		if w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("GET %s: %d, Cache-Control %q", target, w.Code, w.Header().Get("Cache-Control"))
		}
	}
}

func TestOnlyTheImportMapMayBeInline(t *testing.T) {
	w := get(page(t, Options{}), "/")
	policy := w.Header().Get("Content-Security-Policy")
	inline := regexp.MustCompile(`(?s)<script type="importmap">(.*?)</script>`).FindStringSubmatch(w.Body.String())
	if inline == nil {
		t.Fatal("the page has no import map")
	}
	sum := sha256.Sum256([]byte(inline[1]))
	if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, "script-src 'self' "+want+";") {
		t.Errorf("the policy is %q, and the import map's hash %s", policy, want)
	}
	for _, never := range []string{"unsafe", "http:", "https:", "*"} {
		if strings.Contains(policy, never) {
			t.Errorf("the policy allows %s: %s", never, policy)
		}
	}
	if regexp.MustCompile(`(?i)\son\w+=|\sstyle=|<style`).MatchString(w.Body.String()) {
		t.Error("the page has an inline style or handler, which its policy forbids")
	}
	for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestABrowserAsksAgainOnlyForThePage(t *testing.T) {
	h := page(t, Options{})
	first := get(h, "/", "Accept-Encoding", "gzip")
	if first.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("the page has Cache-Control %q", first.Header().Get("Cache-Control"))
	}
	again := get(h, "/", "Accept-Encoding", "gzip", "If-None-Match", first.Header().Get("ETag"))
	if again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("the same page again: %d with %d bytes", again.Code, again.Body.Len())
	}
	other := get(h, "/ui/000000000000/app.js")
	if other.Code != http.StatusOK || other.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("a file under another version: %d, Cache-Control %q", other.Code, other.Header().Get("Cache-Control"))
	}
}

func TestCompressedIsTheSame(t *testing.T) {
	h := page(t, Options{})
	plain := get(h, "/ui/x/app.css")
	packed := get(h, "/ui/x/app.css", "Accept-Encoding", "br, gzip;q=0.8")
	if packed.Header().Get("Content-Encoding") != "gzip" || packed.Header().Get("Vary") != "Accept-Encoding" {
		t.Fatalf("the answer's headers are %v", packed.Header())
	}
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if err != nil || !bytes.Equal(unpacked, plain.Body.Bytes()) {
		t.Errorf("unpacked %d bytes, want %d: %v", len(unpacked), plain.Body.Len(), err)
	}
	if refused := get(h, "/ui/x/app.css", "Accept-Encoding", "gzip;q=0"); refused.Header().Get("Content-Encoding") != "" {
		t.Error("gzip was sent to a client that refuses it")
	}
}

func TestOtherPathsAndMethodsAreRefused(t *testing.T) {
	h := page(t, Options{})
	for _, target := range []string{"/ui/", "/ui/x", "/ui/x/", "/ui/x/no.js", "/ui/x/../ui.go", "/ui/x/index.html"} {
		if w := get(h, target); w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d", target, w.Code)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %d", w.Code)
	}
}

func TestAFolderIsServedAsItIsNow(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web")
	if err := os.CopyFS(dir, os.DirFS("web")); err != nil {
		t.Fatal(err)
	}
	h := page(t, Options{Dir: dir})
	if err := os.WriteFile(filepath.Join(dir, "app.css"), []byte("body{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := get(h, "/ui/x/app.css")
	if w.Body.String() != "body{}" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("a changed file: %q, Cache-Control %q", w.Body, w.Header().Get("Cache-Control"))
	}
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS("web")); err != nil { // as a checkout does
		t.Fatal(err)
	}
	if w := get(h, "/"); w.Code != http.StatusOK {
		t.Errorf("after the folder was replaced: %d %s", w.Code, w.Body)
	}
	if _, err := New(Options{Dir: t.TempDir()}); err == nil {
		t.Error("an empty folder is taken for a page")
	}
	if _, err := New(Options{Dir: filepath.Join(dir, "none")}); err == nil {
		t.Error("a folder that is not there is taken for a page")
	}
}

func TestVendoredFilesAreAsPublished(t *testing.T) {
	for _, dir := range []string{"web/vendor", "testdata/axe"} {
		t.Run(dir, func(t *testing.T) { compareSums(t, dir) })
	}
}

// compareSums compares a folder with its SHA256SUMS, which names every file but
// those that are ours.
func compareSums(t *testing.T, dir string) {
	sums, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{"SHA256SUMS": true, "README.md": true}
	for line := range strings.Lines(string(sums)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Fatalf("the line %q is no checksum", line)
		}
		listed[name] = true
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s is not the file that was published: sha256 %x", name, got)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !listed[f.Name()] {
			t.Errorf("%s is not in SHA256SUMS", f.Name())
		}
	}
}

// TestModulesParseAndFindTheirImports reads the modules as a browser would: a
// syntax error, a file that is not there, or a name that a module does not
// export would show only when somebody opens the view.
func TestModulesParseAndFindTheirImports(t *testing.T) {
	alias := map[string]string{}
	for name, target := range bare {
		full, err := filepath.Abs(filepath.Join("web", target))
		if err != nil {
			t.Fatal(err)
		}
		alias[name] = full
	}
	var entries []string
	err := fs.WalkDir(os.DirFS("web"), ".", func(name string, d fs.DirEntry, err error) error {
		if ext := path.Ext(name); err == nil && !d.IsDir() && (ext == ".js" || ext == ".mjs") {
			entries = append(entries, filepath.Join("web", name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	result := api.Build(api.BuildOptions{
		EntryPoints: entries,
		Alias:       alias,
		Bundle:      true,
		Write:       false,
		Outdir:      t.TempDir(),
		Format:      api.FormatESModule,
		Target:      api.ES2022,
		LogLevel:    api.LogLevelSilent,
	})
	for _, m := range append(result.Errors, result.Warnings...) {
		where := ""
		if m.Location != nil {
			where = fmt.Sprintf("%s:%d:%d: ", m.Location.File, m.Location.Line, m.Location.Column)
		}
		t.Errorf("%s%s", where, m.Text)
	}
}

// TestEveryModuleIsUsed finds files that nobody imports any more.
func TestEveryModuleIsUsed(t *testing.T) {
	imports := regexp.MustCompile(`(?:from|import)\s*\(?\s*'(\.[^']+)'`)
	used := map[string]bool{"app.js": true, "theme.js": true}
	var modules []string
	err := fs.WalkDir(os.DirFS("web"), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".js" {
			return err
		}
		modules = append(modules, name)
		data, err := os.ReadFile(filepath.Join("web", name))
		for _, m := range imports.FindAllSubmatch(data, -1) {
			used[path.Join(path.Dir(name), string(m[1]))] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range modules {
		if !used[name] {
			t.Errorf("nobody imports %s", name)
		}
	}
}
