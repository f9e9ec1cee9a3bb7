package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// The story of package gateway, told by the node.
func TestTopicPathsTellTheirStory(t *testing.T) {
	d := newDoor(t)
	d.fake.Max = 100
	many := v1alpha1.NewTopic()
	many.Name, many.Spec.Partitions, many.Spec.MaxMessageBytes = "many", 3, 100
	if _, _, err := d.fake.PutTopic(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	url := d.url
	datadriven.RunTest(t, "../gateway/testdata/topics.txt", func(t *testing.T, d *datadriven.TestData) string {
		line, rest, _ := strings.Cut(d.Input, "\n")
		method, target, _ := strings.Cut(line, " ")
		head, body, _ := strings.Cut("\n"+rest, "\n\n")
		req, err := http.NewRequestWithContext(t.Context(), method, url+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for header := range strings.Lines(strings.TrimSpace(head)) {
			name, value, _ := strings.Cut(strings.TrimSpace(header), ": ")
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		out := fmt.Sprintf("%d %s\n", resp.StatusCode, resp.Header.Get("Content-Type"))
		if strings.HasSuffix(target, "/stream") {
			return out // words of the door, not of the path
		}
		return out + strings.TrimSpace(string(answer)) + "\n"
	})
}
