//go:build ignore

// Report reads the output of "go test -json" and prints what a person wants to
// see of it: one line for each package, the whole output of what failed, and
// what was skipped, with the reasons.
//
// It fails if a test failed, and with -no-skips also if one was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

func main() {
	noSkips := flag.Bool("no-skips", false, "fail if a test was skipped")
	flag.Parse()
	var (
		output           = map[[2]string][]string{} // package and test -> lines
		broken           = map[string]bool{}        // packages with a failed test
		skipped          []string
		failed, packages int
		passed           int
	)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text()) // from the go command itself
			continue
		}
		key := [2]string{e.Package, e.Test}
		switch e.Action {
		case "build-output":
			fmt.Print(e.Output)
		case "build-fail":
			failed++
		case "output":
			if e.Test == "" && closing(e.Output) {
				fmt.Print(e.Output)
				continue
			}
			output[key] = append(output[key], e.Output)
		case "pass":
			if e.Test == "" {
				packages++
			} else {
				passed++
			}
			delete(output, key)
		case "skip":
			if e.Test != "" {
				skipped = append(skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(output[key])))
			}
			delete(output, key)
		case "fail":
			if e.Test == "" {
				packages++
			}
			if e.Test != "" || !broken[e.Package] {
				failed++
			}
			broken[e.Package] = true
			for _, line := range output[key] {
				fmt.Print(line)
			}
			delete(output, key)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Println("the output of go test cannot be read:", err)
		failed++
	}
	slices.Sort(skipped)
	for _, s := range skipped {
		fmt.Println("skipped:", s)
	}
	if packages == 0 && failed == 0 {
		fmt.Println("no tests ran")
		failed++
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, len(skipped))
	if failed > 0 || *noSkips && len(skipped) > 0 {
		os.Exit(1)
	}
}

// closing reports whether a package's line says how it ended.
func closing(line string) bool {
	for _, start := range []string{"ok ", "FAIL\t", "?  ", "--- "} {
		if strings.HasPrefix(line, start) {
			return true
		}
	}
	return strings.HasPrefix(line, "\t") && strings.Contains(line, "coverage:")
}

// reason finds in the output of a skipped test why it was.
func reason(lines []string) string {
	for _, line := range slices.Backward(lines) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			return line
		}
	}
	return "no reason given"
}
