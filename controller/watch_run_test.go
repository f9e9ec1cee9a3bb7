package controller

import (
	"bufio"
	"encoding/json"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

func TestAWatchOverHTTPEndsWithTheController(t *testing.T) {
	l := run(t, Options{State: t.TempDir()})
	resp, err := http.Get(l.base + "/apis/wiber.dev/v1alpha1/clusters?watch=1")
	must(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func(want v1alpha1.WatchType) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("it ended: %v", lines.Err())
		}
		var e v1alpha1.WatchEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Type != want {
			t.Fatalf("%s, %v; want %s", lines.Bytes(), err, want)
		}
	}
	next(v1alpha1.WatchBookmark)
	cl := machineCluster(t)
	for i := range cl.Spec.Nodes {
		cl.Spec.Nodes[i].Stopped = true
	}
	l.ask("PUT", "/apis/wiber.dev/v1alpha1/clusters/demo", cl, 201)
	next(v1alpha1.WatchAdded)
	next(v1alpha1.WatchModified) // its status

	begin := time.Now()
	l.ask("POST", "/cluster/shutdown", nil, 200)
	l.end()
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil || time.Since(begin) >= shutdownGrace {
		t.Errorf("it ended with %v after %v", err, time.Since(begin))
	}
}

func TestAMisspeltManifestChangesNothing(t *testing.T) {
	l := run(t, Options{State: t.TempDir()})
	cl := machineCluster(t)
	for i := range cl.Spec.Nodes {
		cl.Spec.Nodes[i].Stopped = true
	}
	l.ask("PUT", "/apis/wiber.dev/v1alpha1/clusters/demo", cl, 201)
	read := func(path string) (o struct {
		Metadata v1alpha1.ObjectMeta
		Items    []struct{ Metadata v1alpha1.ObjectMeta }
	}) {
		t.Helper()
		must(t, json.Unmarshal(l.ask("GET", "/apis/wiber.dev/v1alpha1/"+path, nil, 200), &o))
		return o
	}
	// The status is written, and settled.
	last, same := "", 0
	eventually(t, 20*time.Second, func() bool {
		now := read("nodes").Metadata.ResourceVersion // of all that is in the store
		if same++; now != last {
			last, same = now, 0
		}
		return same == 20
	})
	before, nodes, events := read("clusters/demo"), read("nodes"), read("events")

	var manifest map[string]any
	b, err := json.Marshal(cl)
	must(t, err)
	must(t, json.Unmarshal(b, &manifest))
	spec := manifest["spec"].(map[string]any)
	for _, change := range []func(){
		func() { spec["shardz"] = 4 },
		func() { spec["shards"] = "four" },
		func() { spec["restartPolicy"] = "Sometimes" },
		func() { manifest["Spec"] = spec },
	} {
		saved := map[string]any{}
		for k, v := range spec {
			saved[k] = v
		}
		change()
		l.ask("PUT", "/apis/wiber.dev/v1alpha1/clusters/demo", manifest, http.StatusUnprocessableEntity)
		delete(manifest, "Spec")
		spec = saved
		manifest["spec"] = spec
	}
	for path, was := range map[string]any{"clusters/demo": before, "nodes": nodes, "events": events} {
		if now := read(path); !reflect.DeepEqual(any(now), was) {
			t.Errorf("%s was %+v\nand is  %+v", path, was, now)
		}
	}
	l.ask("PUT", "/apis/wiber.dev/v1alpha1/clusters/demo", manifest, 200)
	if now := read("clusters/demo"); now.Metadata.Generation != 1 || now.Metadata.ResourceVersion != before.Metadata.ResourceVersion {
		t.Errorf("the same again is a change: %+v", now.Metadata)
	}
	l.ask("POST", "/cluster/shutdown", nil, 200)
	l.end()
}
