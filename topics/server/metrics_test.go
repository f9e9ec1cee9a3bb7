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
		`wiber_group_follower_lag{follower="n2",group="catalogue"} 2`, `wiber_group_leader_changes_total{group="catalogue"} 8`, `wiber_link_up{peer="n2"} 1`,
		"wiber_log_syncs_total 5", "wiber_log_frames_total 6", "wiber_log_bytes_total 700",
		`wiber_forwards{state="sent"} 9`, `wiber_forwards{state="waiting"} 10`, "wiber_raft_messages_dropped_total 11",
		`wiber_peer_packets_total{what="sent"} 12`, `wiber_peer_packets_total{what="received"} 13`, `wiber_peer_packets_total{what="untaken"} 14`,
		`wiber_peer_packets_total{what="strange"} 15`, `wiber_peer_packets_total{what="no-room"} 16`,
		`wiber_clock_probes_total{what="asked"} 17`, `wiber_clock_probes_total{what="answered"} 18`,
		"wiber_clock_eps_microseconds 40", "wiber_clock_offset_microseconds 12", "wiber_clock_drift_ppm -0.5",
		`wiber_gossip_nodes{state="alive"} 1`, `wiber_gossip_nodes{state="suspect"} 1`, "wiber_streams 0", "wiber_subscriptions 0",
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
	if !slices.Equal(have, told) {
		t.Errorf("a node has\n%q\nand the page tells of\n%q", have, told)
	}
}
