package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Blocks marked console do what they show.
func TestConsoleBlocks(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts real clusters")
	}
	for _, name := range []string{"README.md", "docs/operations.md", "docs/http.md"} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", "..", name))
			if err != nil {
				t.Fatal(err)
			}
			steps := consoleSteps(string(text))
			if len(steps) == 0 {
				t.Fatal("there is no console block")
			}
			for _, s := range steps {
				if _, err := exec.LookPath("curl"); err != nil && strings.HasPrefix(s.command, "curl ") {
					t.Skip("curl is not installed")
				}
			}
			runConsole(t, steps)
		})
	}
}

// step is a command of a console block with the output that it shows.
type step struct {
	line    int
	command string
	output  []string
}

// consoleSteps reads the console blocks of a page.
func consoleSteps(text string) []step {
	var steps []step
	inside := false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case !inside:
			inside = line == "```console"
		case line == "```":
			inside = false
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, step{line: i + 1, command: line[2:]})
		case len(steps) > 0:
			last := &steps[len(steps)-1]
			last.output = append(last.output, line)
		}
	}
	return steps
}

// runConsole runs the steps in a folder that has the program, on ports that are
// free instead of those that the page shows.
func runConsole(t *testing.T, steps []step) {
	c := newCluster(t, manifest{})
	short := "nodes:\n"
	for _, node := range c.names {
		short += fmt.Sprintf("  - {id: %s, host: 127.0.0.1, port: %d}\n", node, c.port[node])
	}
	c.write("cluster.yaml", short)
	bin := filepath.Join(c.dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(wiberctl, filepath.Join(bin, "wiberctl")); err != nil {
		t.Fatal(err)
	}
	ports := []string{"8080", fmt.Sprint(c.gateway)}
	for i, node := range c.names {
		ports = append(ports, fmt.Sprint(9101+i), fmt.Sprint(c.port[node]), fmt.Sprint(9301+i), fmt.Sprint(c.port[node]+200))
	}
	real := strings.NewReplacer(ports...)
	for _, s := range steps {
		if s.command == "make run" {
			c.launch()
			c.awaitUp(t, s)
			continue
		}
		cmd := exec.Command("sh", "-c", real.Replace(s.command))
		cmd.Dir = c.dir
		cmd.Env = append(c.command().Env, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
		var out, problem bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &problem
		if err := cmd.Run(); err != nil {
			t.Errorf("line %d: %s: %v\n%s%s", s.line, s.command, err, out.String(), problem.String())
			continue
		}
		if want, got := normal(strings.Join(s.output, "\n")), normal(out.String()); !matches(want, got) {
			t.Errorf("line %d: %s\nprints\n%s\nand the page shows\n%s", s.line, s.command, out.String(), strings.Join(s.output, "\n"))
		}
	}
	if c.up != nil {
		c.up.Wait()
		c.up = nil
	}
}

// awaitUp waits until the output of up is what the page shows.
func (c *cluster) awaitUp(t *testing.T, s step) {
	t.Helper()
	eventually(t, 60*time.Second, "up prints what the page shows", func() error {
		log, err := os.ReadFile(filepath.Join(c.dir, "up.log"))
		if err != nil {
			return err
		}
		if want, got := normal(strings.Join(s.output, "\n")), normal(string(log)); !matches(want, got) {
			return fmt.Errorf("it prints\n%s", log)
		}
		return nil
	})
}

var (
	times   = regexp.MustCompile(`\b\d+(\.\d+)?(ms|µs|[smhd])(\d+[smhd])*\b`)
	numbers = regexp.MustCompile(`\d+`)
	spaces  = regexp.MustCompile(` +`)
	roles   = regexp.MustCompile(`\b(leader|follower)\b`)
)

// normal replaces what differs from run to run: numbers, times, roles, and the
// widths of columns.
func normal(text string) string {
	text = strings.TrimSpace(text)
	text = times.ReplaceAllString(text, "TIME")
	text = roles.ReplaceAllString(text, "ROLE")
	text = numbers.ReplaceAllString(text, "0")
	return spaces.ReplaceAllString(text, " ")
}

// matches compares, where a line of … stands for any lines.
func matches(want, got string) bool {
	pattern := regexp.QuoteMeta(want)
	pattern = strings.ReplaceAll(pattern, "…\n", "(?s:.*)")
	pattern = strings.ReplaceAll(pattern, "…", "(?s:.*)")
	return regexp.MustCompile("^" + pattern + "$").MatchString(got)
}

func TestMatchesKnowsWhatDiffers(t *testing.T) {
	for _, c := range []struct {
		want, got string
		match     bool
	}{
		{"a@0 in 0.4s", "a@17 in 12ms", true},
		{"n1   leader   2s", "n2  follower  1m5s", true},
		{"…\nReady\n…", "x\nReady\ny", true},
		{"Ready", "Not Ready", false},
		{"node/n1 stopped", "node/n1 killed", false},
		{`{"code":"RANGE","at":99}`, `{"code":"RANGE","at":2}`, true},
		{`{"code":"RANGE"}`, `{"code":"NO_TOPIC"}`, false},
		{`[{"id":"n1",…},{"id":"n2","up":true}]`, `[{"id":"n1","up":false},{"id":"n2","up":true}]`, true},
		{`[{"id":"n1",…},{"id":"n2","up":true}]`, `[{"id":"n1","up":true},{"id":"n2","up":false}]`, false},
	} {
		if matches(normal(c.want), normal(c.got)) != c.match {
			t.Errorf("%q and %q", c.want, c.got)
		}
	}
}
