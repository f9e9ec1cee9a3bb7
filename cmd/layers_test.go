// Package cmd holds the test of the rules in docs/architecture.md about who may
// import whom.
//
// The test reads the import lines itself, with go/parser. One that asked "go
// list" would be cached and miss violations.
package cmd

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/wiber/wiber"

// layers is the table of docs/architecture.md, section 3: a package may import
// lower layers and, in its own row, what stands to its left on the same side of
// a bar. Row 0 is the ground, where none imports another.
var layers = [][]string{
	{"timesvc", "raftnode/vfs", "topics/batch", "topics/wire", "manifests/v1alpha1", "config", "ui"},
	{"raftnode/wal", "topics/client", "topics/gateway", "member/gossip", "manifests", "controller/plan", "controller/proc", "controller/store"},
	{"raftnode", "raftnode/transport"},
	{"topics", "topics/store"},
	{"topics/server"},
	{"member", "|", "controller/apiserver", "controller"},
	{"member/sim", "|", "cmd/cli", "cmd/wiberctl"},
}

// testsOnly are the packages without a place in the table: they hold tests,
// which may import everything.
var testsOnly = []string{"cmd", "cmd/e2e"}

// never lists imports that the table would allow: whatever is at or below a
// package of the first column never imports what is at or below the second,
// but for the exceptions.
var never = []struct{ from, to, except, why string }{
	{"raftnode", "topics", "", "raftnode never knows topics"},
	{"controller", "topics", "topics/client topics/gateway", "the controller speaks to nodes as any client does"},
	{"controller", "raftnode", "", "the controller speaks to nodes as any client does"},
	{"controller", "member", "", "the controller speaks to nodes as any client does"},
}

// only lists the names that a package may use of another.
var only = []struct{ from, of, names string }{
	{"topics", "raftnode", "Entry"},
	{"topics", "raftnode/wal", "Pos Stream StreamRecord Located"}, // where an Entry lies, and what index files say of it
}

// doors says who may import a dependency: one door each. A package name with /…
// also stands for what is below it. Dependencies that only tests import are in
// testDoors.
var doors = map[string][]string{
	"github.com/spf13/cobra":                {"cmd/cli"},
	"github.com/spf13/pflag":                {"cmd/cli"},
	"github.com/spf13/viper":                {"config"},
	"github.com/hashicorp/memberlist":       {"member/gossip"},
	"go.etcd.io/raft":                       {"raftnode/…"},
	"google.golang.org/protobuf":            {"raftnode/…"}, // raft's messages
	"go.etcd.io/bbolt":                      {"topics/store", "controller/store"},
	"github.com/gorilla/websocket":          {"topics/gateway", "topics/server", "controller/apiserver", "cmd/e2e"},
	"github.com/prometheus/client_golang":   {"topics/server", "controller/apiserver"},
	"go.yaml.in/yaml":                       {"manifests"},
	"k8s.io/client-go/util/workqueue":       {"controller"},
	"k8s.io/client-go/util/jsonpath":        {"cmd/cli"},
	"k8s.io/apimachinery/pkg/util/duration": {"cmd/cli"},
	"golang.org/x/sys":                      {"raftnode/vfs", "controller/proc", "timesvc"},
}

// testDoors says in which packages' tests a dependency may appear that nothing
// else imports.
var testDoors = map[string][]string{
	"github.com/twmb/franz-go/pkg/kmsg": {"topics/batch", "topics/client", "topics/server", "cmd/e2e"},
	"github.com/rogpeppe/go-internal":   {"cmd/…"},
	"github.com/evanw/esbuild":          {"ui"},
	"github.com/chromedp":               {"cmd/e2e"},
	"github.com/cockroachdb/datadriven": {"raftnode/…", "topics/…", "controller/…", "member/…", "timesvc"},
}

// guards are standard packages with one door, tests excepted.
var guards = []struct {
	imports string
	from    []string // all packages, if empty
	except  []string
	why     string
}{
	{"os/exec", nil, []string{"controller/proc"}, "only controller/proc starts processes"},
	{"os", []string{"raftnode", "raftnode/wal", "raftnode/transport", "topics", "topics/batch", "topics/wire"}, nil, "only raftnode/vfs touches files on the publish path"},
	{"io/ioutil", nil, []string{}, "it is deprecated"},
	{"math/rand", nil, []string{}, "randomness is injected, or comes from crypto/rand or math/rand/v2"},
	{"log", nil, []string{}, "log/slog is passed in Options"},
}

// clock are the functions of package time that read the machine's clock or wait
// for it. Only timesvc uses them.
//
// Tests may measure and wait with a deadline, as "eventually" must, but never
// sleep: a sleep is either too short for a busy machine or too long for
// everybody. In a file that imports testing/synctest time is not the machine's,
// and everything is allowed.
var (
	clock        = []string{"Now", "Since", "Until", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc", "Sleep"}
	clockOfTests = []string{"Tick", "Sleep"}
)

// starters are the other ways to start a process.
var starters = map[string][]string{
	"os":                    {"StartProcess"},
	"syscall":               {"ForkExec", "StartProcess", "Exec"},
	"golang.org/x/sys/unix": {"Exec"},
}

// pure are the packages that only step: no goroutine.
var pure = []string{"raftnode", "topics", "topics/batch", "topics/wire", "controller/plan", "manifests/v1alpha1"}

// topLevel are the folders of the repository, but for those that .gitignore
// names and those of other tools, which begin with a dot.
var topLevel = []string{"cmd", "config", "controller", "docs", "manifests", "member", "raftnode", "timesvc", "topics", "ui"}

var ignored = []string{"bin"}

// checker collects what is wrong with a source tree.
type checker struct {
	tree   fs.FS
	wrong  []string
	seen   int // files read
	places map[string]place
}

// place is where a package stands in the table.
type place struct{ row, side, column int }

// check returns the violations in the tree, one line each, and the number of Go
// files read.
func check(tree fs.FS) (wrong []string, files int, err error) {
	c := &checker{tree: tree, places: map[string]place{}}
	for row, cells := range layers {
		side := 0
		for column, pkg := range cells {
			if pkg == "|" {
				side++
				continue
			}
			c.places[pkg] = place{row, side, column}
		}
	}
	if err := c.walk("."); err != nil {
		return nil, 0, err
	}
	return c.wrong, c.seen, nil
}

func (c *checker) errorf(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// walk visits a folder and what is below it: the module's packages, in order.
func (c *checker) walk(dir string) error {
	entries, err := fs.ReadDir(c.tree, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir() && dir == "." && slices.Contains(ignored, e.Name()):
		case e.IsDir() && strings.HasPrefix(e.Name(), "."), e.Name() == "testdata":
		case e.IsDir() && dir == "." && !slices.Contains(topLevel, e.Name()):
			c.errorf("%s: not one of the top-level folders (%s)", name, strings.Join(topLevel, " "))
		case e.IsDir():
			if _, err := fs.Stat(c.tree, path.Join(name, "go.mod")); err == nil {
				continue // a module of its own
			}
			if err := c.walk(name); err != nil {
				return err
			}
		case strings.HasSuffix(name, ".go"):
			if err := c.file(dir, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// file checks one Go file of the package at dir.
func (c *checker) file(dir, name string) error {
	source, err := fs.ReadFile(c.tree, name)
	if err != nil {
		return err
	}
	c.seen++
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	s := &sourceFile{checker: c, files: files, pkg: dir, test: strings.HasSuffix(name, "_test.go"), names: map[string]string{}}
	if _, ok := c.places[dir]; !ok && !slices.Contains(testsOnly, dir) {
		c.errorf("%s: package %s has no place in the table of layers", name, dir)
		return nil
	}
	if slices.Contains(testsOnly, dir) && !s.test && path.Base(name) != "doc.go" {
		c.errorf("%s: %s holds only tests", name, dir)
	}
	for _, spec := range f.Imports {
		s.imported(spec)
	}
	ast.Inspect(f, s.node)
	return nil
}

// sourceFile is one file while it is checked.
type sourceFile struct {
	*checker
	files *token.FileSet
	pkg   string
	test  bool
	names map[string]string // name in the file -> import path
}

func (s *sourceFile) at(pos token.Pos) token.Position { return s.files.Position(pos) }

// imported checks one import line and remembers its name.
func (s *sourceFile) imported(spec *ast.ImportSpec) {
	imported, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		s.errorf("%s: %v", s.at(spec.Pos()), err)
		return
	}
	name := path.Base(imported)
	if strings.HasPrefix(name, "v") && strings.Trim(name[1:], "0123456789") == "" {
		name = path.Base(path.Dir(imported)) // as in math/rand/v2
	}
	if spec.Name != nil {
		name = spec.Name.Name
	}
	s.names[name] = imported
	if why := s.allowed(imported); why != "" {
		s.errorf("%s: %s imports %s: %s", s.at(spec.Pos()), s.pkg, imported, why)
	}
	if name == "." && imported != module {
		s.errorf("%s: %s imports %s with a dot, which hides where names come from", s.at(spec.Pos()), s.pkg, imported)
	}
}

// allowed returns why the file may not import the package, or "".
func (s *sourceFile) allowed(imported string) string {
	if inner, ok := strings.CutPrefix(imported, module+"/"); ok {
		return s.allowedInside(inner)
	}
	first, _, _ := strings.Cut(imported, "/")
	if strings.Contains(first, ".") {
		return s.allowedOutside(imported)
	}
	for _, g := range guards {
		if imported == g.imports && !s.test && (g.from == nil || slices.Contains(g.from, s.pkg)) && !slices.Contains(g.except, s.pkg) {
			return g.why
		}
	}
	return ""
}

// allowedInside decides about a package of this module.
func (s *sourceFile) allowedInside(imported string) string {
	if slices.Contains(testsOnly, s.pkg) || imported == s.pkg {
		return ""
	}
	to, ok := s.places[imported]
	if !ok {
		return "it has no place in the table of layers"
	}
	from := s.places[s.pkg]
	switch {
	case to.row > from.row:
		return fmt.Sprintf("it is in layer %d, above layer %d", to.row, from.row)
	case s.test:
		return "" // tests may import anything of their row or below
	case to.row == from.row && to.side != from.side:
		return "it is on the other side of the bar"
	case to.row == from.row && from.row == 0:
		return "in layer 0 none imports another"
	case to.row == from.row && to.column > from.column:
		return "it stands to the right in the same layer"
	}
	for _, n := range never {
		if below(s.pkg, n.from) && below(imported, n.to) && !slices.ContainsFunc(strings.Fields(n.except), func(p string) bool { return below(imported, p) }) {
			return n.why
		}
	}
	return ""
}

// allowedOutside decides about a dependency.
func (s *sourceFile) allowedOutside(imported string) string {
	for dependency, pkgs := range doors {
		if below(imported, dependency) {
			if s.isOneOf(pkgs) {
				return ""
			}
			return "its door is " + strings.Join(pkgs, ", ")
		}
	}
	for dependency, pkgs := range testDoors {
		if below(imported, dependency) {
			if s.test && s.isOneOf(pkgs) {
				return ""
			}
			return "its door is the tests of " + strings.Join(pkgs, ", ")
		}
	}
	return "no door is known for it: add one here and a line to docs/adr/001.md"
}

func (s *sourceFile) isOneOf(pkgs []string) bool {
	return slices.ContainsFunc(pkgs, func(pkg string) bool {
		root, all := strings.CutSuffix(pkg, "/…")
		return s.pkg == pkg || all && below(s.pkg, root)
	})
}

// below reports whether pkg is root or lies below it.
func below(pkg, root string) bool { return pkg == root || strings.HasPrefix(pkg, root+"/") }

// node checks one piece of the syntax.
func (s *sourceFile) node(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		if !s.test && slices.Contains(pure, s.pkg) {
			s.errorf("%s: %s starts a goroutine; it only steps", s.at(n.Pos()), s.pkg)
		}
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok {
			if imported, ok := s.names[x.Name]; ok {
				s.used(n, imported, n.Sel.Name)
			}
		}
	}
	return true
}

// used checks the use of one name of an imported package.
func (s *sourceFile) used(n ast.Node, imported, name string) {
	if imported == "time" && s.pkg != "timesvc" {
		switch bubble := s.inBubble(); {
		case !s.test && slices.Contains(clock, name):
			s.errorf("%s: time.%s: only timesvc reads the machine's clock; take a timesvc.Clock", s.at(n.Pos()), name)
		case s.test && !bubble && slices.Contains(clockOfTests, name):
			s.errorf("%s: time.%s: tests wait for a condition with a deadline, or live in a synctest bubble", s.at(n.Pos()), name)
		}
	}
	if slices.Contains(starters[imported], name) && !s.test && s.pkg != "controller/proc" {
		s.errorf("%s: %s.%s: only controller/proc starts processes", s.at(n.Pos()), imported, name)
	}
	for _, o := range only {
		if s.pkg == o.from && imported == module+"/"+o.of && !s.test && !slices.Contains(strings.Fields(o.names), name) {
			s.errorf("%s: %s uses %s of %s; it may use %s", s.at(n.Pos()), s.pkg, name, o.of, o.names)
		}
	}
}

// inBubble reports whether the file's tests have a clock of their own.
func (s *sourceFile) inBubble() bool {
	for _, imported := range s.names {
		if imported == "testing/synctest" {
			return true
		}
	}
	return false
}

func TestTheTreeKeepsTheLayers(t *testing.T) {
	wrong, files, err := check(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
	if files < 50 {
		t.Errorf("only %d Go files were read", files)
	}
}
