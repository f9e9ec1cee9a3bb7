package member

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// scrape reads a node's /metrics; nil if it does not answer.
func scrape(c *v1alpha1.Cluster, id string) map[string]float64 {
	spec, _ := c.Spec.Node(id)
	resp, err := http.Get("http://" + net.JoinHostPort(spec.Host, strconv.Itoa(spec.HTTPPort)) + "/metrics")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	all := make(map[string]float64)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "} "); ok {
			all[name+"}"], _ = strconv.ParseFloat(value, 64)
		} else if name, value, ok := strings.Cut(lines.Text(), " "); ok && name != "#" {
			all[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return all
}

// What three nodes do is seen in the metrics of one.
func TestMetricsFollowWhatHappens(t *testing.T) {
	c := testCluster(t, 3)
	nodes := map[string]*testNode{}
	for _, s := range c.Spec.Nodes {
		nodes[s.ID] = startNode(t, c, s.ID)
	}
	v := dialNode(t, c, "n1")
	if got := v.ask("PUB orders first"); !strings.HasPrefix(got, "+ACK ") {
		t.Fatal(got)
	}
	before := scrape(c, "n1")
	if got := v.ask("SUB orders s1"); got != "+SUB s1" {
		t.Fatal(got)
	}
	payload := strings.Repeat("x", 10_000)
	for range 10 {
		v.say("PUB orders %s", payload)
		for acks, messages := 0, 0; acks+messages < 2; { // they may change places
			switch line := v.line(); {
			case strings.HasPrefix(line, "+ACK "):
				acks++
			case strings.HasPrefix(line, "MSG "):
				v.line()
				messages++
			default:
				t.Fatal(line)
			}
		}
	}
	var now map[string]float64
	rose := func(name string, by float64) bool { return now[name] >= before[name]+by }
	eventually(t, 10*time.Second, func() bool {
		now = scrape(c, "n1")
		return rose("wiber_log_syncs_total", 1) && rose("wiber_log_frames_total", 10) && rose("wiber_log_bytes_total", 100_000) &&
			rose(`wiber_clock_probes_total{what="asked"}`, 1) && rose(`wiber_clock_probes_total{what="answered"}`, 1) &&
			rose(`wiber_peer_packets_total{what="sent"}`, 2) && rose(`wiber_peer_packets_total{what="received"}`, 2)
	})
	for name, want := range map[string]float64{
		`wiber_link_up{peer="n2"}`: 1, `wiber_link_up{peer="n3"}`: 1, "wiber_subscriptions": 1, `wiber_forwards{state="waiting"}`: 0,
	} {
		if now[name] != want {
			t.Errorf("%s is %v", name, now[name])
		}
	}
	if now["wiber_clock_eps_microseconds"] <= 0 {
		t.Errorf("eps is %v", now["wiber_clock_eps_microseconds"])
	}
	for _, group := range []string{"catalogue", "0", "1", "2", "3"} {
		if now[fmt.Sprintf(`wiber_group_leader_changes_total{group="%s"}`, group)] < 1 {
			t.Errorf("group %s got no leader", group)
		}
	}

	if got := v.ask("UNSUB s1"); got != "+OK" {
		t.Fatal(got)
	}
	if err := nodes["n3"].end(t); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() bool {
		now = scrape(c, "n1")
		return now[`wiber_link_up{peer="n3"}`] == 0 && now["wiber_subscriptions"] == 0
	})
	for _, id := range []string{"n1", "n2"} {
		nodes[id].stop()
	}
	for _, id := range []string{"n1", "n2"} {
		if err := <-nodes[id].done; err != nil {
			t.Error(err)
		}
	}
}
