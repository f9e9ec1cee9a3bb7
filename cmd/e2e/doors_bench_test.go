package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/topics/client"
)

const doorsMessages = 300 // of each door, in each repetition

// BenchmarkMeasureDoors compares one publish at a time of 128 bytes through a
// node's text port, the same node's HTTP, and the controller's: three nodes under
// a controller, fsync on. In each repetition the doors take turns, message by
// message, so that all meet the same machine.
func BenchmarkMeasureDoors(b *testing.B) {
	c := newCluster(b, manifest{})
	c.start()
	machine(b, b.TempDir())
	text := c.client(client.Options{}, "n1")
	defer text.Close()
	body := strings.Repeat("x", measureBytes)
	post := func(url string) func() error {
		return func() error {
			resp, err := http.Post(url, "text/plain", strings.NewReader(body))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			answer, err := io.ReadAll(resp.Body)
			if err == nil && resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s: %s", resp.Status, answer)
			}
			return err
		}
	}
	var node string
	nodes, err := c.nodes()
	if err != nil {
		b.Fatal(err)
	}
	n1 := nodes["n1"].Spec
	node = fmt.Sprintf("http://%s:%d", n1.Host, n1.Port+200)
	doors := []struct {
		unit    string
		publish func() error
	}{
		{"text_ms", func() error {
			_, err := text.Publish(b.Context(), client.Message{Topic: "doors", Value: []byte(body)})
			return err
		}},
		{"node_http_ms", post(node + "/topics/doors/messages")},
		{"gateway_ms", post(fmt.Sprintf("http://127.0.0.1:%d/topics/doors/messages", c.gateway))},
	}
	result := sample{}
	round := func(n int) (took [3][]float64) {
		for range n {
			for i, door := range doors {
				began := clock.Mono()
				if err := door.publish(); err != nil {
					b.Fatalf("%s: %v", door.unit, err)
				}
				took[i] = append(took[i], float64(clock.Mono()-began)/float64(time.Millisecond))
			}
		}
		return took
	}
	round(50) // topics are made, connections open
	for b.Loop() {
		for i, took := range round(doorsMessages) {
			slices.Sort(took)
			result.add(doors[i].unit, took[len(took)/2])
		}
	}
	result.report(b, "text_ms", "node_http_ms", "gateway_ms")
}
