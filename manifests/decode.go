package manifests

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// decodeFile reads every document of a file. The content is at most
// MaxFileBytes.
func decodeFile(name string, data []byte) ([]Document, Errors) {
	d := &decoder{file: name}
	for _, root := range d.parse(data) {
		d.document(root)
	}
	slices.SortStableFunc(d.errs, func(a, b *Error) int { return a.Line - b.Line })
	return d.docs, d.errs
}

// decoder turns the node trees of one file into objects.
type decoder struct {
	file   string
	docs   []Document
	errs   Errors
	values int            // read so far, aliases expanded
	lines  map[string]int // field path -> line, of the document being read
}

// stop is panicked with to end the reading of a document, and recovered by
// stopped; what is wrong is in errs.
type stop struct{}

func (d *decoder) stopped() {
	if r := recover(); r != nil {
		if _, ok := r.(stop); !ok {
			panic(r)
		}
	}
}

func (d *decoder) errorf(line int, field, format string, args ...any) {
	if len(d.errs) < maxErrors {
		d.errs = append(d.errs, &Error{File: d.file, Line: line, Field: field, Message: fmt.Sprintf(format, args...)})
	}
}

// parse splits the content into its documents' trees. JSON goes through the
// JSON parser: it may be indented with tabs and escape what YAML does not know.
func (d *decoder) parse(data []byte) []*yaml.Node {
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(trimmed) {
		if nestedTooDeep(data) {
			d.errorf(0, "", "values lie inside each other more than %d deep", maxDepth)
			return nil
		}
		return []*yaml.Node{jsonTree(data)}
	}
	var roots []*yaml.Node
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var root yaml.Node
		err := dec.Decode(&root)
		if errors.Is(err, io.EOF) {
			return roots
		}
		if err != nil {
			line, message := yamlError(err)
			d.errorf(line, "", "%s", message)
			return roots
		}
		if content := contentOf(&root); content != nil {
			roots = append(roots, content)
		}
	}
}

// contentOf returns the value of a document, or nil if it holds none, as one of
// comments only does.
func contentOf(root *yaml.Node) *yaml.Node {
	if root.Kind != yaml.DocumentNode || len(root.Content) == 0 {
		return nil
	}
	if c := root.Content[0]; c.Kind != yaml.ScalarNode || c.Tag != "!!null" {
		return c
	}
	return nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// yamlError takes the line out of the parser's message.
func yamlError(err error) (line int, message string) {
	message = err.Error()
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = strings.TrimPrefix(message, m[0])
	}
	return line, "not YAML: " + message
}

// document reads one document: an object, a list of objects, or the short form.
func (d *decoder) document(root *yaml.Node) {
	defer d.stopped()
	d.lines = map[string]int{}
	root = d.resolve(root, "")
	if root.Kind != yaml.MappingNode {
		d.errorf(root.Line, "", "is %s, not an object with apiVersion, kind, metadata and spec", describe(root))
		return
	}
	kind, hasKind := d.header(root, "kind")
	version, hasVersion := d.header(root, "apiVersion")
	if !hasKind && !hasVersion && child(root, "nodes") != nil {
		d.shortForm(root)
		return
	}
	if !hasVersion || version != v1alpha1.APIVersion {
		d.errorf(lineOf(root, "apiVersion"), "apiVersion", "is %q; write %s", version, v1alpha1.APIVersion)
		return
	}
	if item, ok := strings.CutSuffix(kind, "List"); ok && (item == v1alpha1.KindCluster || item == v1alpha1.KindTopic) {
		d.list(root, item)
		return
	}
	d.object(root, kind, "")
}

// header returns a top-level string and whether the field is there at all.
func (d *decoder) header(root *yaml.Node, key string) (string, bool) {
	n := child(root, key)
	if n == nil {
		return "", false
	}
	n = d.resolve(n, key)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		d.errorf(n.Line, key, "is %s, not a string", describe(n))
		panic(stop{})
	}
	return n.Value, true
}

// object reads one object whose fields are named from prefix.
func (d *decoder) object(root *yaml.Node, kind, prefix string) {
	before := len(d.errs)
	switch kind {
	case v1alpha1.KindCluster:
		c := v1alpha1.NewCluster()
		d.value(root, reflect.ValueOf(c).Elem(), strings.TrimSuffix(prefix, "."), 0)
		if len(d.errs) > before {
			return
		}
		if !d.sameType(root, c.TypeMeta, kind, prefix) {
			return
		}
		c.Status = v1alpha1.ClusterStatus{}
		c.Default()
		d.finish(root, c, c.Validate(), func(path string) string { return prefix + path })
	case v1alpha1.KindTopic:
		t := v1alpha1.NewTopic()
		d.value(root, reflect.ValueOf(t).Elem(), strings.TrimSuffix(prefix, "."), 0)
		if len(d.errs) > before {
			return
		}
		if !d.sameType(root, t.TypeMeta, kind, prefix) {
			return
		}
		t.Status = v1alpha1.TopicStatus{}
		d.finish(root, t, t.Validate(), func(path string) string { return prefix + path })
	case v1alpha1.KindNode:
		d.errorf(lineOf(root, "kind"), prefix+"kind", "Node objects are made by the controller; write the node under spec.nodes of its Cluster")
	default:
		d.errorf(lineOf(root, "kind"), prefix+"kind", "is %q; write %s or %s", kind, v1alpha1.KindCluster, v1alpha1.KindTopic)
	}
}

// sameType checks the type that an item of a list states against the list's.
func (d *decoder) sameType(root *yaml.Node, got v1alpha1.TypeMeta, kind, prefix string) bool {
	if got.Kind != kind {
		d.errorf(lineOf(root, "kind"), prefix+"kind", "is %q in a list of %s objects", got.Kind, kind)
		return false
	}
	if got.APIVersion != v1alpha1.APIVersion {
		d.errorf(lineOf(root, "apiVersion"), prefix+"apiVersion", "is %q; write %s", got.APIVersion, v1alpha1.APIVersion)
		return false
	}
	return true
}

// finish adds what is wrong with the object's values, or the object.
func (d *decoder) finish(root *yaml.Node, object v1alpha1.Object, errs v1alpha1.FieldErrors, rename func(string) string) {
	for _, e := range errs {
		path := rename(e.Field)
		d.errorf(d.line(path, root.Line), path, "%s", e.Message)
	}
	if len(errs) == 0 {
		d.docs = append(d.docs, Document{Object: object, File: d.file, Line: root.Line})
	}
}

// line returns the line of a field, or of the innermost field around it that
// was written.
func (d *decoder) line(path string, otherwise int) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return otherwise
}

// shortForm reads a bare list of nodes, the Cluster of the first versions.
func (d *decoder) shortForm(root *yaml.Node) {
	var short struct {
		Nodes []v1alpha1.NodeSpec `json:"nodes"`
	}
	before := len(d.errs)
	d.value(root, reflect.ValueOf(&short).Elem(), "", 0)
	if len(d.errs) > before {
		return
	}
	c := v1alpha1.NewCluster()
	c.Name = DefaultCluster
	c.Spec.Nodes = short.Nodes
	c.Default()
	errs := c.Validate()
	for i := range errs { // as they are written here
		errs[i].Message = strings.ReplaceAll(errs[i].Message, "spec.nodes[", "nodes[")
	}
	d.finish(root, c, errs, func(path string) string { return strings.TrimPrefix(path, "spec.") })
}

// topicSpec reads the fields of a topic's spec.
func (d *decoder) topicSpec(root *yaml.Node) (spec v1alpha1.TopicSpec) {
	defer d.stopped()
	d.lines = map[string]int{}
	spec = v1alpha1.DefaultTopicSpec()
	d.value(root, reflect.ValueOf(&spec).Elem(), "", 0)
	if len(d.errs) == 0 {
		for _, e := range spec.Validate() {
			path := strings.TrimPrefix(e.Field, "spec.")
			d.errorf(d.line(path, root.Line), path, "%s", e.Message)
		}
	}
	return spec
}

// list reads a ClusterList or TopicList, as "get -o yaml" prints them.
func (d *decoder) list(root *yaml.Node, kind string) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		switch key := root.Content[i]; key.Value {
		case "apiVersion", "kind", "metadata":
		case "items":
			items := d.resolve(root.Content[i+1], "items")
			if items.Kind != yaml.SequenceNode {
				d.errorf(items.Line, "items", "is %s, not a list", describe(items))
				return
			}
			for j, item := range items.Content {
				prefix := fmt.Sprintf("items[%d]", j)
				item = d.resolve(item, prefix)
				d.object(item, kind, prefix+".")
			}
		default:
			d.errorf(key.Line, key.Value, "unknown field")
		}
	}
}

// value reads n into v. Every value that is written passes here once; path
// names it.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, depth int) {
	if depth > maxDepth {
		d.errorf(n.Line, path, "values lie inside each other more than %d deep", maxDepth)
		panic(stop{})
	}
	if _, seen := d.lines[path]; !seen {
		d.lines[path] = n.Line
	}
	n = d.resolve(n, path)
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, u, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path, depth)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.errorf(n.Line, path, "is %s, not a list", describe(n))
			return
		}
		list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, item := range n.Content {
			d.value(item, list.Index(i), fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
		v.Set(list)
	case reflect.Map:
		d.stringMap(n, v, path, depth)
	default:
		d.scalar(n, v, path)
	}
}

// structure reads a mapping into a struct, whose fields are known by their JSON
// names.
func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		d.errorf(n.Line, path, "is %s, not a group of fields", describe(n))
		return
	}
	fields := fieldsOf(v.Type())
	for i, key := range d.keys(n, path) {
		at := join(path, key.Value)
		f, ok := fields[key.Value]
		if !ok {
			d.errorf(key.Line, at, "unknown field%s", suggestion(key.Value, fields))
			continue
		}
		before := len(d.errs)
		d.lines[at] = key.Line
		field := v.FieldByIndex(f.Index)
		d.value(n.Content[2*i+1], field, at, depth+1)
		if len(d.errs) == before && f.Tag.Get("written") == "positive" && field.Int() < 1 {
			d.errorf(key.Line, at, "is %d; the least is 1", field.Int())
		}
	}
}

// stringMap reads labels and annotations.
func (d *decoder) stringMap(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		d.errorf(n.Line, path, "is %s, not a group of name: value pairs", describe(n))
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	for i, key := range d.keys(n, path) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(n.Content[2*i+1], item, join(path, key.Value), depth+1)
		m.SetMapIndex(reflect.ValueOf(key.Value), item)
	}
	if m.Len() > 0 {
		v.Set(m)
	}
}

// keys returns the keys of a mapping, each a string and there only once.
func (d *decoder) keys(n *yaml.Node, path string) []*yaml.Node {
	keys := make([]*yaml.Node, 0, len(n.Content)/2)
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := d.resolve(n.Content[i], path)
		if key.Kind != yaml.ScalarNode {
			d.errorf(key.Line, path, "has %s as the name of a field", describe(key))
			panic(stop{})
		}
		if line, ok := first[key.Value]; ok {
			d.errorf(key.Line, join(path, key.Value), "is already written in line %d", line)
		}
		first[key.Value] = key.Line
		keys = append(keys, key)
	}
	return keys
}

// text reads a value that has a spelling of its own: a duration, a size, a time.
func (d *decoder) text(n *yaml.Node, u encoding.TextUnmarshaler, path string) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null" && isTime(u):
		return
	case n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Tag == "!!bool":
		d.errorf(n.Line, path, "is %s, not a value such as %s", describe(n), example(u))
		return
	}
	if err := u.UnmarshalText([]byte(n.Value)); err != nil {
		d.errorf(n.Line, path, "%v", err)
	}
}

func isTime(u encoding.TextUnmarshaler) bool {
	switch u.(type) {
	case *v1alpha1.Time, *v1alpha1.MicroTime:
		return true
	}
	return false
}

func example(u encoding.TextUnmarshaler) string {
	switch u.(type) {
	case *v1alpha1.Duration:
		return "10s"
	case *v1alpha1.ByteSize:
		return "1GiB"
	}
	return "2026-11-22T10:00:00Z"
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// scalar reads a string, a number or a truth value.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	switch kind := v.Kind(); kind {
	case reflect.String:
		switch {
		case n.Kind != yaml.ScalarNode || n.Tag == "!!null":
			d.errorf(n.Line, path, "is %s, not a string", describe(n))
		case n.Tag != "!!str":
			d.errorf(n.Line, path, "is %s, not a string; write %q", describe(n), n.Value)
		default:
			v.SetString(n.Value)
		}
	case reflect.Bool:
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Value != "true" && n.Value != "false" {
			d.errorf(n.Line, path, "is %s; write true or false", describe(n))
			return
		}
		v.SetBool(n.Value == "true")
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint64:
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || !decimal.MatchString(n.Value) {
			d.errorf(n.Line, path, "is %s; write a whole decimal number", describe(n))
			return
		}
		if kind == reflect.Uint64 {
			u, err := strconv.ParseUint(n.Value, 10, 64)
			if err != nil {
				d.errorf(n.Line, path, "%s is out of range", n.Value)
			}
			v.SetUint(u)
			return
		}
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil || v.OverflowInt(i) {
			d.errorf(n.Line, path, "%s is out of range", n.Value)
			return
		}
		v.SetInt(i)
	default:
		panic(fmt.Sprintf("manifests: no way to read a %s at %s", v.Type(), path))
	}
}

// resolve follows an alias and counts the value, so that a short text cannot
// stand for a huge document.
func (d *decoder) resolve(n *yaml.Node, path string) *yaml.Node {
	for {
		if d.values++; d.values > maxValues {
			d.errorf(n.Line, path, "the file holds more than %d values, aliases expanded", maxValues)
			panic(stop{})
		}
		if n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
}

func child(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func lineOf(mapping *yaml.Node, key string) int {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i].Line
		}
	}
	return mapping.Line
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// describe says what a value is, for "is …, not …".
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of fields"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		value := n.Value
		if len(value) > 40 {
			value = strings.ToValidUTF8(value[:40], "") + "…"
		}
		switch n.Tag {
		case "!!null":
			return "without a value"
		case "!!str":
			return fmt.Sprintf("the string %q", value)
		case "!!int", "!!float":
			return "the number " + value
		case "!!bool":
			return value
		}
		return fmt.Sprintf("%q", value)
	}
	return "not a value"
}
