package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

func TestPrepareSendsClustersFirstAndFillsInWhatOnlyThisSideKnows(t *testing.T) {
	const topic = "apiVersion: wiber.dev/v1alpha1\nkind: Topic\nmetadata: {name: orders}\n---\n"
	cluster := func(name, root string) string {
		return fmt.Sprintf("apiVersion: wiber.dev/v1alpha1\nkind: Cluster\nmetadata: {name: %s}\nspec: {replicas: 1, dataRoot: %s}\n---\n", name, root)
	}
	for _, c := range []struct{ text, want string }{
		{topic, "/orders"},
		{topic + cluster("demo", "/d"), "demo demo/orders"},
		{topic + cluster("b", "/d") + cluster("a", "/e"), "b a /orders"},
	} {
		documents, err := manifests.DecodeBytes("x.yaml", []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if documents, err = prepare(documents); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range documents {
			name := d.Object.Meta().Name
			if d.Object.Type().Kind == "Topic" {
				name = d.Object.Meta().Namespace + "/" + name
			}
			got = append(got, name)
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%q is sent as %q, want %q", c.text, text, c.want)
		}
	}
	built, err := builtInCluster()
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(built.Spec.DataRoot) {
		t.Errorf("the data root of the built-in cluster is %q", built.Spec.DataRoot)
	}
}

func TestUpTellsHowToReachIt(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080",
		"0.0.0.0:80":     "http://127.0.0.1:80",
		":8080":          "http://127.0.0.1:8080",
		"[::1]:8080":     "http://[::1]:8080",
		"wiber.local:99": "http://wiber.local:99",
	} {
		if got := baseOf(listen); got != want {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
	for arg0, want := range map[string]string{
		"./bin/wiberctl":                           "./bin/wiberctl",
		"/tmp/go-build123/b001/exe/wiberctl":       "go run ./cmd/wiberctl",
		"/root/.cache/go-build/1a/1a2b-d/wiberctl": "go run ./cmd/wiberctl",
	} {
		if got := programName(arg0); got != want {
			t.Errorf("%s: got %s, want %s", arg0, got, want)
		}
	}
}

func TestAFailedPublishNamesItsLine(t *testing.T) {
	unknown := client.Result{N: 12, Err: &client.PublishError{Class: wire.Unknown, Err: wire.Errorf(wire.Timeout, "no answer")}}
	for want, err := range map[string]error{
		"line 12: publish: unknown outcome: TIMEOUT no answer; the 11 before it are acknowledged": outcomeError(unknown, "line", true),
		"publish: unknown outcome: TIMEOUT no answer":                                             outcomeError(unknown, "message", false),
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

func TestPubRefusesWhatCannotBeMeant(t *testing.T) {
	for _, c := range []struct {
		flags pubFlags
		text  string
		want  string
	}{
		{pubFlags{count: 1}, "x", ""},
		{pubFlags{count: 3, id: "i", hasID: true}, "x", ""},
		{pubFlags{count: 0}, "x", "--count is 1 or more"},
		{pubFlags{count: 2}, "-", "--count repeats a TEXT, not the lines of standard input"},
		{pubFlags{count: 1, id: "i", hasID: true}, "-", "--id with the lines of standard input would keep only the first of them"},
		{pubFlags{count: 1, hasID: true}, "x", "--id is empty"},
		{pubFlags{count: 1, headers: []string{"novalue"}}, "x", `--header "novalue" is not of the form name=value`},
	} {
		_, err := c.flags.message("t", c.text)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v %q: got %q, want %q", c.flags, c.text, got, c.want)
		}
	}
	m, err := (&pubFlags{count: 1, hasKey: true, headers: []string{"a=b=c", "d="}}).message("t", "x")
	if err != nil {
		t.Fatal(err)
	}
	if m.Key == nil || len(m.Key) != 0 {
		t.Errorf("an empty key is a key: %v", m.Key)
	}
	if len(m.Headers) != 2 || string(m.Headers[0].Value) != "b=c" || string(m.Headers[1].Value) != "" {
		t.Errorf("headers: %q", m.Headers)
	}
}
