package cli

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

func TestWishes(t *testing.T) {
	object := json.RawMessage(`{"metadata":{"name":"n2","generation":3},"status":{"phase":"Running","restarts":0,"conditions":[
		{"type":"Ready","status":"True","observedGeneration":3},
		{"type":"Joined","status":"False","observedGeneration":3,"message":"n1 does\nnot see it"},
		{"type":"CaughtUp","status":"True","observedGeneration":2}]}}`)
	for _, c := range []struct{ text, why, whyNone string }{
		{"condition=Ready", "", "it does not exist"},
		{"CONDITION=ready=true", "", "it does not exist"},
		{"condition=Ready=False", "Ready is True", "it does not exist"},
		{"condition=Joined", "Joined is False: n1 does not see it", "it does not exist"},
		{"condition=Joined=False", "", "it does not exist"},
		{"condition=CaughtUp", "CaughtUp is known of generation 2, and not yet of 3", "it does not exist"},
		{"condition=Odd", "it has no condition Odd", "it does not exist"},
		{"create", "", "it does not exist"},
		{"delete", "it exists", ""},
		{"jsonpath={.status.phase}=Running", "", "it does not exist"},
		{"jsonpath='{.status.phase}'=Running", "'{.status.phase}' is 'Running'", "it does not exist"}, // quotes that no shell took away
		{`jsonpath={.status.phase}="Running"`, "", "it does not exist"},
		{"jsonpath=.status.phase=Stopped", ".status.phase is Running", "it does not exist"},
		{"jsonpath={.status.restarts}=0", "", "it does not exist"},
		{"jsonpath={.status.phase}", "", "it does not exist"},
		{"jsonpath={.status.nextStart}", "{.status.nextStart} is not set", "it does not exist"},
		{`jsonpath={.status.conditions[?(@.type=="Ready")].status}=True`, "", "it does not exist"},
	} {
		w, err := parseWish([]string{c.text})
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if ok, why := w.met(object); ok != (c.why == "") || why != c.why && !ok {
			t.Errorf("%s: %v, %q; want %q", c.text, ok, why, c.why)
		}
		if ok, why := w.met(nil); ok != (c.whyNone == "") || why != c.whyNone && !ok {
			t.Errorf("%s of nothing: %v, %q; want %q", c.text, ok, why, c.whyNone)
		}
	}
	both, err := parseWish([]string{"condition=Ready", "jsonpath={.status.phase}=Stopped"})
	if err != nil {
		t.Fatal(err)
	}
	if ok, why := both.met(object); ok || why != "{.status.phase} is Running" {
		t.Errorf("both: %v, %q", ok, why)
	}
	for _, text := range []string{"", "ready", "condition", "condition=", "condition=Ready=", "create=1", "jsonpath", "jsonpath={.a[", "jsonpath==x"} {
		if _, err := parseWish([]string{text}); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

// A log goes on behind the line that was printed last, also where several lines
// have one time, and none is left out where the log holds others now.
func TestAFollowedLogGoesOnWhereItWas(t *testing.T) {
	var p resumePoint
	print := func(lines ...string) string {
		var printed []string
		for _, line := range lines {
			if !p.printed([]byte(line)) {
				printed = append(printed, line)
			}
		}
		return strings.Join(printed, "|")
	}
	query := url.Values{"tail": {"5"}}
	p.resume(query)
	if query.Get("tail") != "5" || query.Has("resume") {
		t.Errorf("at first: %v", query)
	}
	const a, b, c = "time=2026-11-22T10:00:00.000Z a", "time=2026-11-22T10:00:01.000Z b", "time=2026-11-22T10:00:01.000Z c"
	if got := print(a, "stack", b, c, "stack", "--- marker"); got != a+"|stack|"+b+"|"+c+"|stack|--- marker" {
		t.Errorf("printed %s", got)
	}
	p.resume(query)
	if query.Has("tail") || query.Get("resume") != "2026-11-22T10:00:01Z" {
		t.Errorf("then: %v", query)
	}
	if got := print(b, c, "stack", "stack", a); got != "stack|"+a {
		t.Errorf("then printed %s", got)
	}
	p.resume(query)
	if got := print(b, a); got != b+"|"+a {
		t.Errorf("of another incarnation printed %s", got)
	}
}
