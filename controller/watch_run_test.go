package controller

import (
	"bufio"
	"encoding/json"
	"net/http"
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
