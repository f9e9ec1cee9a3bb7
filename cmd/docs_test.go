package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
)

// docs collects what is wrong with the Markdown files of a tree: links that
// lead nowhere, and names of tests that do not exist. Links with a scheme are
// not followed. Of the packages' comments it looks at the names of tests, and at
// the invariants that promise a test of the same name.
type docs struct {
	tree  fs.FS
	wrong []string
	tests map[string]bool            // names of all test functions
	of    map[string]map[string]bool // the same by folder
}

var (
	inlineLink = regexp.MustCompile(`\[[^\]]*\]\(([^()\s]+)\)`)
	definition = regexp.MustCompile(`^\s{0,3}\[[^\]]+\]:\s*(\S+)`)
	scheme     = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
	codeSpan   = regexp.MustCompile("`[^`]*`")
	testName   = regexp.MustCompile(`\bTest[A-Z][A-Za-z0-9]+\b`)
	testFunc   = regexp.MustCompile(`(?m)^func (Test[A-Z][A-Za-z0-9]+)\(`)
	comment    = regexp.MustCompile(`(?m)((?:^//.*\n)+)^package `)
	invariant  = regexp.MustCompile(`(?m)^//\t([A-Z][A-Za-z0-9]*):`)
)

// promise is what a package's comment says above its list of invariants.
const promise = "each with a test of the same name"

// checkDocs returns what is wrong, one line each, and the number of pages.
func checkDocs(tree fs.FS) (wrong []string, pages int, err error) {
	d := &docs{tree: tree, tests: map[string]bool{}, of: map[string]map[string]bool{}}
	var files, sources []string
	err = fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && name != "." && (strings.HasPrefix(e.Name(), ".") || slices.Contains(ignored, name)):
			return fs.SkipDir
		case strings.HasSuffix(name, ".md"):
			files = append(files, name)
		case strings.HasSuffix(name, "_test.go"):
			source, err := fs.ReadFile(tree, name)
			dir := path.Dir(name)
			if d.of[dir] == nil {
				d.of[dir] = map[string]bool{}
			}
			for _, m := range testFunc.FindAllSubmatch(source, -1) {
				d.tests[string(m[1])], d.of[dir][string(m[1])] = true, true
			}
			return err
		case strings.HasSuffix(name, ".go"):
			sources = append(sources, name)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	for _, name := range files {
		if err := d.page(name); err != nil {
			return nil, 0, err
		}
	}
	for _, name := range sources {
		if err := d.source(name); err != nil {
			return nil, 0, err
		}
	}
	return d.wrong, len(files), nil
}

// source checks the package's comment in a Go file, if it has one.
func (d *docs) source(name string) error {
	source, err := fs.ReadFile(d.tree, name)
	if err != nil {
		return err
	}
	m := comment.FindSubmatch(source)
	if m == nil {
		return nil
	}
	text := string(m[1])
	names := testName.FindAllString(text, -1)
	if strings.Contains(text, promise) {
		found := invariant.FindAllStringSubmatch(text, -1)
		if len(found) == 0 {
			d.wrong = append(d.wrong, fmt.Sprintf("%s: promises a test for each invariant and lists none", name))
		}
		for _, m := range found {
			names = append(names, "Test"+m[1])
		}
	}
	for _, test := range names {
		if !d.of[path.Dir(name)][test] {
			d.wrong = append(d.wrong, fmt.Sprintf("%s: the package has no test %s", name, test))
		}
	}
	return nil
}

// page checks one Markdown file.
func (d *docs) page(name string) error {
	text, err := fs.ReadFile(d.tree, name)
	if err != nil {
		return err
	}
	at := 0
	for line, code := range lines(string(text)) {
		at++
		if code {
			continue
		}
		for _, test := range testName.FindAllString(line, -1) {
			if !d.tests[test] {
				d.wrong = append(d.wrong, fmt.Sprintf("%s:%d: there is no test %s", name, at, test))
			}
		}
		plain := codeSpan.ReplaceAllString(line, "")
		links := inlineLink.FindAllStringSubmatch(plain, -1)
		if m := definition.FindStringSubmatch(plain); m != nil {
			links = append(links, m)
		}
		for _, m := range links {
			why, err := d.link(name, m[1])
			if err != nil {
				return err
			}
			if why != "" {
				d.wrong = append(d.wrong, fmt.Sprintf("%s:%d: %s: %s", name, at, m[1], why))
			}
		}
	}
	return nil
}

// lines yields the lines of a page, and whether each belongs to a fenced block
// of code.
func lines(text string) func(yield func(string, bool) bool) {
	return func(yield func(string, bool) bool) {
		fenced := false
		for line := range strings.SplitSeq(text, "\n") {
			fence := strings.HasPrefix(strings.TrimSpace(line), "```")
			if !yield(line, fenced || fence) {
				return
			}
			fenced = fenced != fence
		}
	}
}

// link returns why a link of a page leads nowhere, or "".
func (d *docs) link(from, target string) (string, error) {
	target, anchor, _ := strings.Cut(target, "#")
	if scheme.MatchString(target) {
		return "", nil
	}
	to := from
	if target != "" {
		to = path.Join(path.Dir(from), target)
	}
	if path.IsAbs(target) || !fs.ValidPath(to) {
		return "it leads out of the repository", nil
	}
	info, err := fs.Stat(d.tree, to)
	if errors.Is(err, fs.ErrNotExist) {
		return "there is no such file", nil
	}
	if err != nil || anchor == "" || info.IsDir() || !strings.HasSuffix(to, ".md") {
		return "", err
	}
	text, err := fs.ReadFile(d.tree, to)
	if err != nil {
		return "", err
	}
	for line, code := range lines(string(text)) {
		if head := strings.TrimLeft(line, "#"); !code && head != line && anchorOf(head) == anchor {
			return "", nil
		}
	}
	return "there is no such heading", nil
}

// anchorOf is the name by which a heading is linked to.
func anchorOf(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(heading)) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

func TestTheDocumentsLeadSomewhere(t *testing.T) {
	wrong, pages, err := checkDocs(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
	if pages < 10 {
		t.Errorf("only %d pages were read", pages)
	}
}

// TestABrokenLinkIsFound plants what checkDocs must find, next to what it must
// leave alone.
func TestABrokenLinkIsFound(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"a file", "[a](b.md)", ""},
		{"a folder", "see [a](../docs) and [b](b.md)", ""},
		{"another place", "[a](https://example.org/x.md)", ""},
		{"a heading", "[a](b.md#two-words-d1)", ""},
		{"a heading of the same page", "# Here\n[a](#here)", ""},
		{"code", "`[a](gone.md)`\n```\n[a](gone.md)\n```\n", ""},
		{"a test", "`TestOne` and Testing", ""},
		{"no file", "x\n[a](gone.md)", "docs/a.md:2: gone.md: there is no such file"},
		{"no file, behind one", "[a](b.md) [c](../gone)", "docs/a.md:1: ../gone: there is no such file"},
		{"no file, defined apart", "[a]: gone.md", "docs/a.md:1: gone.md: there is no such file"},
		{"no file, behind code", "```\n```\n[a](gone.md)", "docs/a.md:3: gone.md: there is no such file"},
		{"no heading", "[a](b.md#three)", "docs/a.md:1: b.md#three: there is no such heading"},
		{"out of the repository", "[a](../../x)", "docs/a.md:1: ../../x: it leads out of the repository"},
		{"no test", "`TestTwo`", "docs/a.md:1: there is no test TestTwo"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wrong, pages, err := checkDocs(fstest.MapFS{
				"docs/a.md":   {Data: []byte(tc.text)},
				"docs/b.md":   {Data: []byte("## Two words: (D1)\n")},
				"x/x.go":      {Data: []byte("// Package x is one.\n//\n// Invariants, each with a test of the same name:\n//\n//\tOne: it is one (TestOne).\npackage x\n")},
				"x/x_test.go": {Data: []byte("package x\n\nfunc TestOne(t *testing.T) {}\n")},
				".git/c.md":   {Data: []byte("[a](gone.md)")},
				"bin/d.md":    {Data: []byte("[a](gone.md)")},
			})
			if err != nil || pages != 2 {
				t.Fatalf("%d pages, %v", pages, err)
			}
			if got := strings.Join(wrong, "\n"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestAPromisedTestIsMissed plants packages whose comments promise tests.
func TestAPromisedTestIsMissed(t *testing.T) {
	const head = "// Package a is one.\n//\n// Invariants, each with a test of the same name:\n//\n"
	for _, tc := range []struct{ name, comment, want string }{
		{"kept", head + "//\tOne: x.\n//\tTwo:  y,\n//\t      see below\n", ""},
		{"no promise", "// Package a is one:\n//\n//\tSix: x.\n", ""},
		{"named and there", "// Package a is as TestOne says.\n", ""},
		{"missing", head + "//\tSix: x.\n", "a/a.go: the package has no test TestSix"},
		{"in another package", head + "//\tThree: x.\n", "a/a.go: the package has no test TestThree"},
		{"named and missing", "// Package a is as TestSix says.\n", "a/a.go: the package has no test TestSix"},
		{"an empty promise", head, "a/a.go: promises a test for each invariant and lists none"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wrong, _, err := checkDocs(fstest.MapFS{
				"a/a.go":      {Data: []byte(tc.comment + "package a\n")},
				"a/b.go":      {Data: []byte("// A note on TestNine.\n\npackage a\n")},
				"a/a_test.go": {Data: []byte("package a\n\nfunc TestOne(t *testing.T) {}\nfunc TestTwo(t *testing.T) {}\n")},
				"b/b_test.go": {Data: []byte("package b\n\nfunc TestThree(t *testing.T) {}\n")},
			})
			if got := strings.Join(wrong, "\n"); err != nil || got != tc.want {
				t.Errorf("got %q, want %q; %v", got, tc.want, err)
			}
		})
	}
}

// TestTheTableOfLayersIsTold holds the table of this package to what the
// documents say.
func TestTheTableOfLayersIsTold(t *testing.T) {
	names := []string{"ground", "tools", "consensus", "meaning", "door", "processes", "outside"}
	for _, page := range []string{"../docs/architecture.md", "../docs/adr/002.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for row, cells := range layers {
			told := strings.ReplaceAll(strings.Join(cells, " · "), " · | · ", ` \| `)
			if want := fmt.Sprintf("| %d %s | %s |", row, names[row], told); !strings.Contains(string(text), want) {
				t.Errorf("%s does not have the row\n%s", page, want)
			}
		}
	}
}
