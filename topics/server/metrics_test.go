package server

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/metrics.md names every metric of ours that a node has, and no other.
func TestTheMetricsAreThoseOfTheirPage(t *testing.T) {
	d := newDoor(t)
	if status, body, _ := d.ask("POST", "/topics/t/messages", "", "hello"); status != 200 {
		t.Fatal(body)
	}
	d.ask("POST", "/topics/t/7/messages", "", "hello")
	status, body, _ := d.ask("GET", "/metrics", "", "")
	for _, want := range []string{
		`wiber_publishes_total{result="OK"} 1`, `wiber_publishes_total{result="RANGE"} 1`, "wiber_publish_bytes_total 5", "wiber_publish_seconds_count 1",
		`wiber_group_term{group="catalogue"} 1`, `wiber_group_leader{group="catalogue"} 1`, "wiber_node_ready 1", "process_start_time_seconds",
	} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("%d, no %s in\n%s", status, want, body)
		}
	}
	names := func(pattern, text string) (all []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			all = append(all, m[1])
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	nodes, _, _ := strings.Cut(string(page), "\n## The controller\n")
	have, told := names(`(?m)^# TYPE (wiber_\w+)`, body), names("(?m)^\\| `(wiber_\\w+)", nodes)
	for _, optional := range []string{"wiber_gossip_nodes"} { // the fake knows no other nodes
		if !slices.Contains(have, optional) {
			have = append(have, optional)
		}
	}
	slices.Sort(have)
	if !slices.Equal(have, told) {
		t.Errorf("a node has\n%q\nand the page tells of\n%q", have, told)
	}
}
