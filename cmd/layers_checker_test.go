package cmd

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestAPlantedViolationIsFound plants one violation of each rule in a small
// tree, and the nearest thing that is allowed.
func TestAPlantedViolationIsFound(t *testing.T) {
	w := module + "/"
	for _, tc := range []struct {
		name, file, source string
		want               string // in the only line; empty: nothing is wrong
	}{
		{"up", "topics/a.go", imports(w + "member"), "topics/a.go:3:8: topics imports " + w + "member: it is in layer 5, above layer 3"},
		{"down", "topics/a.go", imports(w + "manifests/v1alpha1"), ""},
		{"up, in a test", "topics/a_test.go", imports(w + "topics/server"), "layer 4, above layer 3"},
		{"right", "controller/plan/a.go", imports(w + "controller/store"), "stands to the right"},
		{"left", "controller/store/a.go", imports(w + "controller/proc"), ""},
		{"right, in a test", "controller/plan/a_test.go", imports(w + "controller/store"), ""},
		{"beside, on the ground", "config/a.go", imports(w + "timesvc"), "none imports another"},
		{"beside, on the ground, in a test", "config/a_test.go", imports(w + "timesvc"), ""},
		{"across the bar", "cmd/cli/a.go", imports(w + "member/sim"), "other side of the bar"},
		{"member and controller", "controller/apiserver/a.go", imports(w + "member"), "other side of the bar"},
		{"raftnode and topics", "raftnode/wal/a.go", imports(w + "topics/batch"), "raftnode never knows topics"},
		{"controller and topics", "controller/a.go", imports(w + "topics/wire"), "as any client does"},
		{"controller and the client", "controller/a.go", imports(w + "topics/client"), ""},
		{"controller and the log", "controller/proc/a.go", imports(w + "raftnode/vfs"), "as any client does"},
		{"an unknown package", "topics/util/a.go", "package util\n", "topics/util has no place"},
		{"an import of an unknown package", "topics/a.go", imports(w + "raftnode/common"), "has no place"},
		{"a new folder", "pkg/a.go", "package pkg\n", "pkg: not one of the top-level folders"},
		{"a build folder", "bin/a.go", "package broken {", ""},
		{"a hidden folder", ".git/a.go", "package broken {", ""},
		{"test data", "topics/testdata/a.go", "package broken {", ""},
		{"code among end-to-end tests", "cmd/e2e/a.go", "package e2e\n", "cmd/e2e holds only tests"},
		{"an end-to-end test", "cmd/e2e/a_test.go", imports(w+"member", "os/exec", "github.com/rogpeppe/go-internal/testscript"), ""},
		{"another door", "topics/a.go", imports("github.com/spf13/viper"), "its door is config"},
		{"another door, in a test", "manifests/a_test.go", imports("github.com/spf13/viper"), "its door is config"},
		{"the right door", "raftnode/transport/a.go", imports("go.etcd.io/raft/v3/raftpb"), ""},
		{"the log of raft outside", "member/a.go", imports("go.etcd.io/raft/v3/raftpb"), "its door is raftnode/…"},
		{"yaml", "config/a.go", imports("go.yaml.in/yaml/v3"), "its door is manifests"},
		{"yaml in the types", "manifests/v1alpha1/a.go", imports("go.yaml.in/yaml/v3"), "its door is manifests"},
		{"an unknown dependency", "topics/a.go", imports("github.com/pkg/errors"), "no door is known"},
		{"a test's dependency", "topics/batch/a.go", imports("github.com/twmb/franz-go/pkg/kmsg"), "its door is the tests of"},
		{"a test's dependency in a test", "topics/batch/a_test.go", imports("github.com/twmb/franz-go/pkg/kmsg"), ""},
		{"a process", "member/a.go", imports("os/exec"), "only controller/proc starts processes"},
		{"a process in a test", "member/a_test.go", imports("os/exec"), ""},
		{"a process from proc", "controller/proc/a.go", imports("os/exec"), ""},
		{"a process without exec", "member/a.go", uses("os", "os.StartProcess"), "member/a.go:5:9: os.StartProcess: only controller/proc"},
		{"a file of the log", "raftnode/wal/a.go", imports("os"), "only raftnode/vfs touches files"},
		{"a file of a test", "raftnode/wal/a_test.go", imports("os"), ""},
		{"the clock", "topics/a.go", uses("time", "time.Now"), "topics/a.go:5:9: time.Now: only timesvc"},
		{"the clock by another name", "topics/a.go", strings.Replace(uses("time", "tm.NewTicker"), `"time"`, `tm "time"`, 1), "time.NewTicker: only timesvc"},
		{"the clock without a name", "topics/a.go", strings.Replace(uses("time", "Now"), `"time"`, `. "time"`, 1), "with a dot"},
		{"a length of time", "topics/a.go", uses("time", "time.Second"), ""},
		{"the clock in its service", "timesvc/a.go", uses("time", "time.Now"), ""},
		{"a sleep in a test", "topics/a_test.go", uses("time", "time.Sleep"), "tests wait for a condition"},
		{"a deadline in a test", "topics/a_test.go", uses("time", "time.After"), ""},
		{"a sleep in a bubble", "topics/a_test.go", uses("time\"\nimport \"testing/synctest", "time.Sleep"), ""},
		{"a goroutine in the core", "raftnode/a.go", "package raftnode\n\nfunc f() {\n\tgo f()\n}\n", "raftnode/a.go:4:2: raftnode starts a goroutine"},
		{"a goroutine in the shell", "member/a.go", "package member\n\nfunc f() {\n\tgo f()\n}\n", ""},
		{"an entry", "topics/a.go", uses(w+"raftnode", "raftnode.Entry{}"), ""},
		{"more than an entry", "topics/a.go", uses(w+"raftnode", "raftnode.New"), "topics uses New of raftnode; it may use Entry"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wrong, _, err := check(fstest.MapFS{tc.file: {Data: []byte(tc.source)}})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tc.want == "" && len(wrong) > 0:
				t.Errorf("got %q, want nothing", wrong)
			case tc.want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0], tc.want)):
				t.Errorf("got %q, want one line with %q", wrong, tc.want)
			}
		})
	}
}

// imports is a file that imports the packages and does nothing.
func imports(paths ...string) string {
	source := "package x\n\n"
	for _, p := range paths {
		source += `import _ "` + p + "\"\n"
	}
	return source
}

// uses is a file that imports a package and has an expression.
func uses(imported, expression string) string {
	return "package x\n\nimport \"" + imported + "\"\n\nvar x = " + expression + "\n"
}
