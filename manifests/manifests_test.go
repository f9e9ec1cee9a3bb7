package manifests

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/wiber/wiber/config"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

const demo = `apiVersion: wiber.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  nodes:
    - {id: n1, host: 127.0.0.1, port: 9101}
    - {id: n2, host: 127.0.0.1, port: 9102}
    - {id: n3, host: 127.0.0.1, port: 9103}
`

func decodeCluster(t *testing.T, text string) *v1alpha1.Cluster {
	t.Helper()
	docs, err := DecodeBytes("cluster.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != 1 {
		t.Fatalf("got %d documents, want 1", len(docs))
	}
	return docs[0].Object.(*v1alpha1.Cluster)
}

func TestWhatIsLeftOutHasItsDefault(t *testing.T) {
	got := decodeCluster(t, demo)
	full, err := fs.ReadFile(Samples(), "cluster-3.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if want := decodeCluster(t, string(full)); !reflect.DeepEqual(got, want) {
		t.Errorf("the short file means\n%+v\nthe sample with every default means\n%+v", got, want)
	}
	replicas := decodeCluster(t, "apiVersion: wiber.dev/v1alpha1\nkind: Cluster\nmetadata: {name: demo}\nspec: {replicas: 3}\n")
	if !reflect.DeepEqual(got, replicas) {
		t.Errorf("replicas: 3 means\n%+v\nwant\n%+v", replicas, got)
	}
}

func TestWhatIsWrittenIsKept(t *testing.T) {
	got := decodeCluster(t, `
apiVersion: wiber.dev/v1alpha1
kind: Cluster
metadata:
  name: demo
  labels: {team: "7"}
  annotations: &a {note: "yes"}
spec:
  nodes: [{id: a, host: localhost, port: 1, peerPort: 2, httpPort: 3, kafkaPort: 4, stopped: true, labels: *a}]
  shards: 7
  dataRoot: /srv/wiber
  restartPolicy: Never
  backoff: {initial: 2s, max: 3s}
  terminationGracePeriod: 0s
  autoCreateTopics: false
  electionTimeout: 250ms
  hotLog: "1073741824"
  dedupIds: 5
`)
	want := v1alpha1.NewCluster()
	want.Name, want.Labels, want.Annotations = "demo", map[string]string{"team": "7"}, map[string]string{"note": "yes"}
	want.Spec.Nodes = []v1alpha1.NodeSpec{{ID: "a", Host: "localhost", Port: 1, PeerPort: 2, HTTPPort: 3, KafkaPort: 4, Stopped: true, Labels: map[string]string{"note": "yes"}}}
	want.Spec.Shards, want.Spec.ReplicationFactor, want.Spec.DataRoot, want.Spec.RestartPolicy = 7, 1, "/srv/wiber", v1alpha1.RestartNever
	want.Spec.Backoff = v1alpha1.Backoff{Initial: 2e9, Max: 3e9}
	want.Spec.TerminationGracePeriod, want.Spec.AutoCreateTopics, want.Spec.ElectionTimeout, want.Spec.DedupIDs = 0, false, 250e6, 5
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestStrict(t *testing.T) {
	topic := "apiVersion: wiber.dev/v1alpha1\nkind: Topic\nmetadata: {name: orders}\nspec:\n"
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"a port that is none", strings.Replace(demo, "9102", "91o2", 1), []string{`cluster.yaml:7: spec.nodes[1].port: is the string "91o2"; write a whole decimal number`}},
		{"a misspelt field", strings.Replace(demo, "port: 9102", "prot: 9102", 1), []string{`cluster.yaml:7: spec.nodes[1].prot: unknown field; did you mean port?`}},
		{"an unknown field", demo + "  zzzzzzzzzz: 1\n", []string{"cluster.yaml:9: spec.zzzzzzzzzz: unknown field; the fields here are autoCreateTopics, backoff,"}},
		{"a field in another case", demo + "  Shards: 1\n", []string{"cluster.yaml:9: spec.Shards: unknown field; did you mean shards?"}},
		{"an unknown field on top", demo + "sepc: {}\n", []string{"cluster.yaml:9: sepc: unknown field; did you mean spec?"}},
		{"a field twice", demo + "  shards: 4\n  shards: 5\n", []string{"cluster.yaml:10: spec.shards: is already written in line 9"}},
		{"a merge", demo + "  <<: {shards: 5}\n", []string{"cluster.yaml:9: spec.<<: unknown field"}},
		{"a value outside its range", demo + "  shards: 0\n", []string{"cluster.yaml:9: spec.shards: is 0; the range is 1 to 1024"}},
		{"a zero that was written", strings.Replace(demo, "port: 9102", "port: 9102, peerPort: 0", 1) + "  replicationFactor: 0\n", []string{
			"cluster.yaml:7: spec.nodes[1].peerPort: is 0; the least is 1", "cluster.yaml:9: spec.replicationFactor: is 0; the least is 1"}},
		{"a number that does not fit", demo + "  shards: 99999999999999999999\n", []string{"cluster.yaml:9: spec.shards: "}},
		{"a fraction", demo + "  shards: 4.0\n", []string{"cluster.yaml:9: spec.shards: is the number 4.0; write a whole decimal number"}},
		{"an octal number", demo + "  shards: 0o4\n", []string{"cluster.yaml:9: spec.shards: is the number 0o4; write"}},
		{"a truth value of old YAML", demo + "  autoCreateTopics: yes\n", []string{`cluster.yaml:9: spec.autoCreateTopics: is the string "yes"; write true or false`}},
		{"a number as a name", strings.Replace(demo, "name: demo", "name: 17", 1), []string{`cluster.yaml:3: metadata.name: is the number 17, not a string; write "17"`}},
		{"a duration without a unit", demo + "  electionTimeout: 10\n", []string{`cluster.yaml:9: spec.electionTimeout: duration "10" needs a unit, as in 10s`}},
		{"a size in wrong units", demo + "  hotLog: 1GB\n", []string{`cluster.yaml:9: spec.hotLog: "1GB" is not a size`}},
		{"a list for a group", demo + "  backoff: [1s]\n", []string{"cluster.yaml:9: spec.backoff: is a list, not a group of fields"}},
		{"a group for a list", "apiVersion: wiber.dev/v1alpha1\nkind: Cluster\nmetadata: {name: demo}\nspec:\n  nodes: {}\n", []string{"cluster.yaml:5: spec.nodes: is a group of fields, not a list"}},
		{"a field without a value", demo + "  shards:\n", []string{"cluster.yaml:9: spec.shards: is without a value; write a whole decimal number"}},
		{"what is not built", demo + "  hotLog: 2GiB\n  faultInjection: true\n", []string{"cluster.yaml:9: spec.hotLog: is 2GiB; other values than 1GiB are not supported yet",
			"cluster.yaml:10: spec.faultInjection: is true; other values than false are not supported yet"}},
		{"retention", topic + "  retention:\n    age: 1h\n", []string{"cluster.yaml:6: spec.retention.age: is 1h; other values than 0s are not supported yet"}},
		{"five nodes", "apiVersion: wiber.dev/v1alpha1\nkind: Cluster\nmetadata: {name: x}\nspec:\n  replicas: 5\n", []string{"cluster.yaml:4: spec.replicationFactor: is 3 (min(3, nodes) if left out) and less than the 5 nodes, which is not supported yet; write replicationFactor: 5"}},
		{"no kind", "apiVersion: wiber.dev/v1alpha1\nmetadata: {name: x}\n", []string{`cluster.yaml:1: kind: is ""; write Cluster or Topic`}},
		{"a kind that is not built", "apiVersion: wiber.dev/v1alpha1\nkind: Fault\n", []string{`cluster.yaml:2: kind: is "Fault"; write Cluster or Topic`}},
		{"a node", "apiVersion: wiber.dev/v1alpha1\nkind: Node\n", []string{"cluster.yaml:2: kind: Node objects are made by the controller"}},
		{"a kind that is a list", "apiVersion: wiber.dev/v1alpha1\nkind: [Cluster]\n", []string{"cluster.yaml:2: kind: is a list, not a string"}},
		{"another version", strings.Replace(demo, "v1alpha1", "v1", 1), []string{`cluster.yaml:1: apiVersion: is "wiber.dev/v1"; write wiber.dev/v1alpha1`}},
		{"no version", "kind: Cluster\n", []string{`cluster.yaml:1: apiVersion: is ""; write`}},
		{"a bare word", "hello\n", []string{`cluster.yaml:1: is the string "hello", not an object with apiVersion`}},
		{"a bare list", "- 1\n", []string{"cluster.yaml:1: is a list, not an object"}},
		{"no YAML", "spec: {\n", []string{"cluster.yaml:1: not YAML: "}},
		{"a tab", "spec:\n\tshards: 1\n", []string{"cluster.yaml:2: not YAML: "}},
		{"the same object twice", demo + "---\n" + demo, []string{`cluster.yaml:10: metadata.name: Cluster "demo" is already declared at cluster.yaml:1`}},
		{"the second document", "# a comment\n---\n" + demo + "---\n" + topic + "  partitons: 1\n", []string{"cluster.yaml:16: spec.partitons: unknown field; did you mean partitions?"}},
		{"errors of all documents", "apiVersion: wiber.dev/v1alpha1\nkind: X\n---\napiVersion: wiber.dev/v1alpha1\nkind: Y\n", []string{`cluster.yaml:2: kind: is "X"`, `cluster.yaml:5: kind: is "Y"`}},
		{"the short form", "nodes:\n  - {id: n1, host: 127.0.0.1, port: 9101}\n  - {id: n1, host: 127.0.0.1, port: 9102}\n", []string{"cluster.yaml:3: nodes[1].id: n1 is already the id of nodes[0]"}},
		{"the short form and more", "nodes: []\nshards: 4\n", []string{"cluster.yaml:2: shards: unknown field; the fields here are nodes"}},
		{"the short form of nothing", "nodes: []\n", []string{"cluster.yaml:1: nodes: is empty; write at least one node"}},
		{"a list of another kind", "apiVersion: wiber.dev/v1alpha1\nkind: TopicList\nitems:\n- {apiVersion: wiber.dev/v1alpha1, kind: Cluster, metadata: {name: x}}\n", []string{`cluster.yaml:4: items[0].kind: is "Cluster" in a list of Topic objects`}},
		{"a wrong item of a list", "apiVersion: wiber.dev/v1alpha1\nkind: TopicList\nitems:\n- kind: Topic\n  metadata: {name: x}\n  spec:\n    partitions: 0\n", []string{"cluster.yaml:7: items[0].spec.partitions: is 0;"}},
		{"JSON with a repeated field", "{\"apiVersion\": \"wiber.dev/v1alpha1\", \"kind\": \"Topic\",\n\t\"metadata\": {\"name\": \"x\",\n\t\"name\": \"y\"}}", []string{"cluster.yaml:3: metadata.name: is already written in line 2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			docs, err := DecodeBytes("cluster.yaml", []byte(tc.text))
			if len(docs) > 0 {
				t.Errorf("got %d documents beside the error", len(docs))
			}
			expect(t, err, tc.want)
		})
	}
}

func expect(t *testing.T, err error, want []string) {
	t.Helper()
	var errs Errors
	if !errors.As(err, &errs) {
		t.Fatalf("got error %v, want %q", err, want)
	}
	for i := range max(len(errs), len(want)) {
		switch {
		case i >= len(errs):
			t.Errorf("no error, want %q", want[i])
		case i >= len(want):
			t.Errorf("unexpected error %q", errs[i].Error())
		case !strings.HasPrefix(errs[i].Error(), want[i]):
			t.Errorf("got  %q\nwant %q…", errs[i].Error(), want[i])
		}
	}
}

func TestBounded(t *testing.T) {
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	laughs := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		p := string(c - 1)
		laughs += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 10) + "]\n"
	}
	many := "nodes: [&n {id: n1, host: 127.0.0.1, port: 9101}" + strings.Repeat(",*n", 100_000) + "]\n"
	for _, tc := range []struct{ name, text, want string }{
		{"a huge file", strings.Repeat("#", MaxFileBytes+1), "cluster.yaml: is larger than 1048576 bytes"},
		{"deep YAML", demo + "  labels: " + deep + "\n", "cluster.yaml:9: spec.labels: unknown field"},
		{"deep JSON", `{"spec":` + deep + `}`, "cluster.yaml: values lie inside each other more than 32 deep"},
		{"very deep YAML", strings.Repeat("[", 500_000), "cluster.yaml: not YAML: "},
		{"aliases of aliases", laughs, `cluster.yaml:1: apiVersion: is ""`},
		{"an alias many times", many, "cluster.yaml:1: nodes[24999].id: the file holds more than 200000 values"},
		{"an alias of itself", "apiVersion: wiber.dev/v1alpha1\nkind: Cluster\nmetadata: &a\n  labels: *a\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := DecodeBytes("cluster.yaml", []byte(tc.text))
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				got := "nothing"
				if err != nil {
					got = err.Error()[:min(200, len(err.Error()))]
				}
				t.Errorf("got %s, want %s…", got, tc.want)
			}
			var errs Errors
			if errors.As(err, &errs) && len(errs) > maxErrors {
				t.Errorf("%d errors are reported, want at most %d", len(errs), maxErrors)
			}
		})
	}
}

func TestTheShortFormIsTheClusterNamedDefault(t *testing.T) {
	docs, err := DecodeBytes(config.ClusterFile, config.ClusterYAML())
	if err != nil {
		t.Fatal(err)
	}
	got := docs[0].Object.(*v1alpha1.Cluster)
	want := decodeCluster(t, demo)
	want.Name = "default"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the built-in cluster means\n%+v\nwant\n%+v", got, want)
	}
}

func TestStatusIsReadAndDropped(t *testing.T) {
	c := decodeCluster(t, demo+"status: {observedGeneration: 3, conditions: [{type: Ready, status: \"True\", lastTransitionTime: 2026-11-22T10:00:00Z, reason: x, message: y}]}\n")
	if c.Status.ObservedGeneration != 0 || c.Status.Conditions != nil {
		t.Errorf("got status %+v", c.Status)
	}
	_, err := DecodeBytes("cluster.yaml", []byte(demo+"status: {observedGeneration: x}\n"))
	expect(t, err, []string{"cluster.yaml:9: status.observedGeneration: is the string"})
}

func TestEverySampleIsValid(t *testing.T) {
	entries, err := fs.ReadDir(Samples(), ".")
	if err != nil || len(entries) < 4 {
		t.Fatalf("got %d samples, %v", len(entries), err)
	}
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) {
			data, err := fs.ReadFile(Samples(), e.Name())
			if err != nil {
				t.Fatal(err)
			}
			docs, err := DecodeBytes(e.Name(), data)
			if err != nil {
				t.Fatal(err)
			}
			if nodes, ok := strings.CutPrefix(e.Name(), "cluster-"); ok {
				if c := docs[0].Object.(*v1alpha1.Cluster); len(c.Spec.Nodes) != int(nodes[0]-'0') {
					t.Errorf("got %d nodes", len(c.Spec.Nodes))
				}
			}
		})
	}
	topic, _ := fs.ReadFile(Samples(), "topic.yaml")
	docs, err := DecodeBytes("topic.yaml", topic)
	if err != nil {
		t.Fatal(err)
	}
	if got := docs[0].Object.(*v1alpha1.Topic).Spec; got != v1alpha1.DefaultTopicSpec() {
		t.Errorf("the sample topic is not the default one: %+v", got)
	}
}

func TestRoundTrip(t *testing.T) {
	c := decodeCluster(t, demo)
	c.Labels = map[string]string{"a": "true", "b": "1", "c": "", "e": "null", "f": "0x1", "g": "2026-11-22"}
	c.Annotations = map[string]string{"text": "line one\nline two\n", "colon": "a: b # c", "quote": `"'\`, "utf": "größe 😀 \u2028", "control": "\x01\t", "dash": "- x", "space": " x ", "tilde": "~", "yes": "yes", "crlf": "a\r\nb", "html": "<&>"}
	c.Spec.Nodes[2].Stopped = true
	c.Spec.AutoCreateTopics = false
	topic := v1alpha1.NewTopic()
	topic.Name, topic.Namespace = "orders", "demo"
	topic.Spec.Partitions = 3
	topics := v1alpha1.NewList(v1alpha1.KindTopic, []v1alpha1.Topic{*topic})

	var yaml, json bytes.Buffer
	if err := errors.Join(EncodeYAML(&yaml, c, topic), EncodeJSON(&json, c)); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(yaml.String(), "apiVersion: wiber.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: demo\n") {
		t.Errorf("the order of the fields is not kept:\n%s", yaml.String())
	}
	docs, err := DecodeBytes("x.yaml", yaml.Bytes())
	if err != nil {
		t.Fatalf("%v\n%s", err, yaml.String())
	}
	for i, want := range []v1alpha1.Object{c, topic} {
		if !reflect.DeepEqual(docs[i].Object, want) {
			t.Errorf("got\n%+v\nwant\n%+v\nfrom\n%s", docs[i].Object, want, yaml.String())
		}
	}
	if object, err := DecodeObject(v1alpha1.KindCluster, json.Bytes()); err != nil || !reflect.DeepEqual(object, c) {
		t.Errorf("from JSON: got %+v, %v", object, err)
	}
	yaml.Reset()
	if err := EncodeYAML(&yaml, topics); err != nil {
		t.Fatal(err)
	}
	if docs, err := DecodeBytes("x.yaml", yaml.Bytes()); err != nil || !reflect.DeepEqual(docs[0].Object, topic) {
		t.Errorf("from a list: got %+v, %v", docs, err)
	}
}

func TestARequestHoldsOneObjectOfItsKind(t *testing.T) {
	_, err := DecodeObject(v1alpha1.KindTopic, []byte(demo))
	expect(t, err, []string{"kind: is Cluster; this address takes a Topic"})
	_, err = DecodeObject(v1alpha1.KindCluster, []byte(demo+"---\n"+strings.Replace(demo, "name: demo", "name: other", 1)))
	expect(t, err, []string{"the request holds 2 objects; send one"})
	_, err = DecodeObject(v1alpha1.KindCluster, nil)
	if err == nil {
		t.Error("nothing is accepted as an object")
	}
	_, err = DecodeObject(v1alpha1.KindCluster, []byte(demo+"  shards: x\n"))
	var errs Errors
	if !errors.As(err, &errs) || len(errs.Fields()) != 1 || errs.Fields()[0].Field != "spec.shards" {
		t.Errorf("got %v", err)
	}
}

func TestASpecOfATopicIsCompletedAndValidated(t *testing.T) {
	want := v1alpha1.DefaultTopicSpec()
	for _, empty := range []string{"", "{}", "\n"} {
		if got, err := DecodeTopicSpec([]byte(empty)); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", empty, got, err)
		}
	}
	want.Partitions = 7
	if got, err := DecodeTopicSpec([]byte("{\n\t\"partitions\": 7\n}")); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for text, message := range map[string]string{
		`{"partitions":0}`:            "partitions: is 0; the range is 1 to 10000",
		`{"partition":1}`:             "partition: unknown field; did you mean partitions?",
		`{"retention":{"bytes":5}}`:   "retention.bytes: is 5; other values than 0 are not supported yet",
		`{"dedupWindow":120}`:         `dedupWindow: duration "120" needs a unit`,
		`[]`:                          "is a list, not a group of fields",
		"partitions: 1\n---\na: 1\n":  "the request holds 2 documents; send one",
		strings.Repeat(" ", 1<<20+1):  "is larger than 1048576 bytes",
		`{"partitions":1} {"more":1}`: "not YAML",
	} {
		_, err := DecodeTopicSpec([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), message) {
			t.Errorf("%.40q: got %v, want %s", text, err, message)
		}
	}
}

func TestFilesFoldersAndStandardInputAreRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	topic := func(name string) string {
		return "apiVersion: wiber.dev/v1alpha1\nkind: Topic\nmetadata: {name: " + name + "}\n"
	}
	b := write("b.yaml", topic("b")+"---\n---\n"+topic("b2"))
	write("a.yml", topic("a"))
	write("c.json", `{"apiVersion":"wiber.dev/v1alpha1","kind":"Topic","metadata":{"name":"c"}}`)
	write("README.md", "not a manifest")
	write("deeper/d.yaml", "not: read")
	names := func(docs []Document, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range docs {
			names = append(names, d.Object.Meta().Name)
		}
		return strings.Join(names, " ")
	}
	if got := names(Decode([]string{dir}, nil)); got != "a b b2 c" {
		t.Errorf("the folder holds %s", got)
	}
	if got := names(Decode([]string{"-", b}, strings.NewReader(topic("s")))); got != "s b b2" {
		t.Errorf("standard input and the file hold %s", got)
	}
	docs, _ := Decode([]string{b}, nil)
	if docs[1].File != b || docs[1].Line != 6 {
		t.Errorf("the second document is at %s:%d", docs[1].File, docs[1].Line)
	}

	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	bad := write("bad.yaml", topic("b"))
	for _, tc := range []struct {
		paths []string
		want  string
	}{
		{nil, "no file is given"},
		{[]string{filepath.Join(dir, "missing.yaml")}, "read " + filepath.Join(dir, "missing.yaml") + ": no such file"},
		{[]string{empty}, "no *.yaml, *.yml or *.json file in the folder"},
		{[]string{write("comment.txt", "# nothing\n")}, "no object in "},
		{[]string{"-"}, "there is no standard input"},
		{[]string{b, bad}, bad + `:1: metadata.name: Topic "b" is already declared at ` + b + ":1"},
	} {
		docs, err := Decode(tc.paths, nil)
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) || docs != nil {
			t.Errorf("%v: got %d documents and error %v, want %s", tc.paths, len(docs), err, tc.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	entries, _ := fs.ReadDir(Samples(), ".")
	for _, e := range entries {
		data, _ := fs.ReadFile(Samples(), e.Name())
		f.Add(data)
	}
	f.Add([]byte("nodes:\n- {id: n1, host: 127.0.0.1, port: 9101}\n"))
	f.Add([]byte("kind: &a [*a]\n"))
	f.Add([]byte("apiVersion: wiber.dev/v1alpha1\nkind: Cluster\nmetadata: &m\n  labels: *m\n"))
	f.Add([]byte(`{"apiVersion":"wiber.dev/v1alpha1","kind":"TopicList","items":[{"kind":"Topic","metadata":{"name":"x","creationTimestamp":null}}]}`))
	f.Add([]byte("? [a]\n: b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := DecodeBytes("fuzz.yaml", data)
		if err != nil {
			if docs != nil {
				t.Fatal("documents beside an error")
			}
			return
		}
		for _, doc := range docs {
			var out bytes.Buffer
			if err := EncodeYAML(&out, doc.Object); err != nil {
				t.Fatal(err)
			}
			again, err := DecodeBytes("again.yaml", out.Bytes())
			if err != nil {
				t.Fatalf("what was written is refused: %v\n%s", err, out.Bytes())
			}
			if len(again) != 1 || !reflect.DeepEqual(again[0].Object, doc.Object) {
				t.Fatalf("read back as\n%+v\nwant\n%+v", again[0].Object, doc.Object)
			}
		}
	})
}
