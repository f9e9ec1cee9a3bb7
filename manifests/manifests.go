// Package manifests reads and writes the documents in which people declare
// clusters and topics.
//
// Reading is strict. An unknown, misspelt or repeated field, a wrong type or a
// bad value is an error that names file, line and field:
//
//	cluster.yaml:7: spec.nodes[1].port: 91o2 is not a number
//
// All documents of all files are read, completed with their defaults and
// validated before anything is returned; one error spoils all of them, so a
// caller never acts on half of what somebody wrote.
//
// Invariants, each with a test of the same name:
//
//	Strict:    nothing that was written is ignored, but status, which is
//	           dropped as kubectl does.
//	Bounded:   size, depth and expansion of aliases are limited before memory
//	           is spent on them.
//	RoundTrip: what EncodeYAML or EncodeJSON wrote, Decode reads as the same
//	           object.
//
// Not here: what a field means and whether a value makes sense
// (manifests/v1alpha1); sending anything anywhere (cmd/cli). This is the only
// package that imports a YAML parser. Start reading at Decode.
package manifests

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// The limits of what is read.
const (
	// MaxFileBytes is the size of one file, of standard input, or of a request.
	MaxFileBytes = 1 << 20
	// MaxTotalBytes is the size of everything that one call reads.
	MaxTotalBytes = 16 << 20
	// maxDepth is how deeply values may lie inside each other.
	maxDepth = 32
	// maxValues is the number of values in one file, aliases expanded.
	maxValues = 200_000
	// maxErrors is how many errors of one file are reported.
	maxErrors = 50
)

// Stdin is the path that stands for standard input.
const Stdin = "-"

// DefaultCluster is the name of a cluster that was written in the short form, a
// bare list of nodes.
const DefaultCluster = "default"

// Document is one object that somebody declared, complete with its defaults
// and valid by itself.
type Document struct {
	// Object is a *v1alpha1.Cluster or a *v1alpha1.Topic.
	Object v1alpha1.Object
	// File and Line say where it begins. File is the path as it was given, or
	// "stdin".
	File string
	Line int
}

// Error is one thing that is wrong with what was read.
type Error struct {
	File    string // empty for a request
	Line    int    // from 1; 0 if there is no line to name
	Field   string // as in spec.nodes[1].port; empty if no field is to blame
	Message string
}

// Error returns "file:line: field: message" without the parts that are unknown.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// Errors is everything that is wrong with what was read, in the order of the
// files and lines.
type Errors []*Error

// Error returns one error a line.
func (errs Errors) Error() string {
	lines := make([]string, len(errs))
	for i, e := range errs {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Fields returns the errors without their places, as the HTTP API reports them.
func (errs Errors) Fields() v1alpha1.FieldErrors {
	fields := make(v1alpha1.FieldErrors, len(errs))
	for i, e := range errs {
		fields[i] = v1alpha1.FieldError{Field: e.Field, Message: e.Message}
	}
	return fields
}

// Decode reads files, folders (their *.yaml, *.yml and *.json files in the order
// of their names, not the folders inside) and "-", which is stdin. It returns
// either every document or an error: Errors if the content is wrong, another
// error if something could not be read.
func Decode(paths []string, stdin io.Reader) ([]Document, error) {
	if len(paths) == 0 {
		return nil, errors.New("no file is given: name a file, a folder or - with -f")
	}
	var (
		docs  []Document
		errs  Errors
		total int
	)
	for _, path := range paths {
		files, err := filesAt(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			name, data, err := readFile(file, stdin)
			if err != nil {
				return nil, err
			}
			if total += len(data); total > MaxTotalBytes {
				return nil, fmt.Errorf("%s: more than %d bytes of manifests at once; apply them in parts", name, MaxTotalBytes)
			}
			more, bad := decodeFile(name, data)
			docs = append(docs, more...)
			errs = append(errs, bad...)
		}
	}
	errs = append(errs, repeated(docs)...)
	if len(errs) > 0 {
		return nil, errs
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("no object in %s", strings.Join(paths, ", "))
	}
	return docs, nil
}

// DecodeBytes reads the documents in data as Decode does; name stands for the
// file in errors.
func DecodeBytes(name string, data []byte) ([]Document, error) {
	if len(data) > MaxFileBytes {
		return nil, tooLarge(name)
	}
	docs, errs := decodeFile(name, data)
	errs = append(errs, repeated(docs)...)
	if len(errs) > 0 {
		return nil, errs
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("no object in %s", name)
	}
	return docs, nil
}

// DecodeObject reads the one object of the given kind that a request holds, as
// JSON or YAML, completes it and validates it. The error is Errors if the
// content is wrong.
func DecodeObject(kind string, data []byte) (v1alpha1.Object, error) {
	docs, err := DecodeBytes("", data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, Errors{{Message: fmt.Sprintf("the request holds %d objects; send one", len(docs))}}
	}
	object := docs[0].Object
	if got := object.Type().Kind; got != kind {
		return nil, Errors{{Field: "kind", Message: fmt.Sprintf("is %s; this address takes a %s", got, kind)}}
	}
	return object, nil
}

// DecodeTopicSpec reads the body of a node's PUT /v1/topics/{t}: the fields of a
// topic's spec, as JSON or YAML, completed and validated. The error is Errors.
func DecodeTopicSpec(data []byte) (v1alpha1.TopicSpec, error) {
	if len(data) > MaxFileBytes {
		return v1alpha1.TopicSpec{}, tooLarge("")
	}
	d := &decoder{}
	spec := v1alpha1.DefaultTopicSpec()
	switch roots := d.parse(data); {
	case len(d.errs) > 0:
	case len(roots) > 1:
		d.errorf(0, "", "the request holds %d documents; send one", len(roots))
	case len(roots) == 1:
		spec = d.topicSpec(roots[0])
	}
	if len(d.errs) > 0 {
		return v1alpha1.TopicSpec{}, d.errs
	}
	return spec, nil
}

// repeated returns an error for every document that names an object which an
// earlier one named.
func repeated(docs []Document) Errors {
	var errs Errors
	seen := map[string]Document{}
	for _, doc := range docs {
		meta := doc.Object.Meta()
		kind := doc.Object.Type().Kind
		key := kind + "\x00" + meta.Namespace + "\x00" + meta.Name
		if first, ok := seen[key]; ok {
			errs = append(errs, &Error{File: doc.File, Line: doc.Line, Field: "metadata.name",
				Message: fmt.Sprintf("%s %q is already declared at %s:%d", kind, meta.Name, first.File, first.Line)})
			continue
		}
		seen[key] = doc
	}
	return errs
}

// filesAt returns the files that a path stands for.
func filesAt(path string) ([]string, error) {
	if path == Stdin {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, readError(path, err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, readError(path, err)
	}
	var files []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".yaml", ".yml", ".json":
			if !e.IsDir() {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no *.yaml, *.yml or *.json file in the folder %s", path)
	}
	slices.Sort(files)
	return files, nil
}

// readFile returns the content of a file and the name to call it by.
func readFile(path string, stdin io.Reader) (name string, data []byte, err error) {
	r := stdin
	name = "stdin"
	if path != Stdin {
		name = path
		f, err := os.Open(path)
		if err != nil {
			return name, nil, readError(path, err)
		}
		defer f.Close()
		r = f
	} else if stdin == nil {
		return name, nil, errors.New("there is no standard input to read")
	}
	data, err = io.ReadAll(io.LimitReader(r, MaxFileBytes+1))
	if err != nil {
		return name, nil, readError(name, err)
	}
	if len(data) > MaxFileBytes {
		return name, nil, tooLarge(name)
	}
	return name, data, nil
}

func readError(path string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("read %s: %w", path, err)
}

func tooLarge(name string) error {
	return Errors{{File: name, Message: fmt.Sprintf("is larger than %d bytes, the most that is read at once", MaxFileBytes)}}
}
