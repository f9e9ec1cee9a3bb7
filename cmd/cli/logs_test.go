package cli

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

// A connection that is opened again repeats what was printed since the last line
// that says a time, and what says where incarnations begin. Each is printed once.
func TestALogThatBrokeOffGoesOnWhereItWas(t *testing.T) {
	const old, fresh = "time=2026-11-22T10:00:01.000Z msg=1|trace|", "time=2026-11-22T10:00:02.000Z msg=2|"
	for _, c := range []struct{ first, resume, again, want string }{
		{"untimed|", "", "untimed|more|", "untimed|more|"}, // without a time all comes again
		{old, "10:00:01Z", old + "rest|--- new ---|" + fresh, "rest|--- new ---|" + fresh},
		{old + "--- new ---|boot|", "10:00:01Z", old + "--- new ---|boot|" + fresh, fresh},
		{old + "--- new ---|" + fresh, "10:00:02Z", "--- new ---|" + fresh + "more|", "more|"},
		{old + "--- new ---|" + fresh, "10:00:02Z", fresh + "--- newer ---|more|", "--- newer ---|more|"},
		{old, "10:00:01Z", fresh + old, fresh + old}, // what was printed is not there any more
	} {
		var p resumePoint
		query := url.Values{"tail": {"3"}, "since": {"5m"}}
		p.resume(query)
		if query.Get("tail") != "3" || query.Get("since") != "5m" || query.Has("resume") {
			t.Errorf("the first connection asks for %v", query)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(c.first, "|"), "|") {
			if p.printed([]byte(line)) {
				t.Errorf("%q was never printed", line)
			}
		}
		p.resume(query)
		if got := query.Get("resume"); !strings.HasSuffix(got, c.resume) || query.Has("tail") == (c.resume != "") || query.Has("since") == (c.resume != "") {
			t.Errorf("after %q it asks for %v", c.first, query)
		}
		var got []string
		for line := range strings.SplitSeq(strings.TrimSuffix(c.again, "|"), "|") {
			if !p.printed([]byte(line)) {
				got = append(got, line)
			}
		}
		if want := strings.Split(strings.TrimSuffix(c.want, "|"), "|"); !slices.Equal(got, want) {
			t.Errorf("after %q, of %q it prints %q, want %q", c.first, c.again, got, want)
		}
	}
}
