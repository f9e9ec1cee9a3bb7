package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestPageNodeThatIsHeld follows a node that a person kills and keeps down, with
// and without an end, until it is started.
func TestPageNodeThatIsHeld(t *testing.T) {
	f := newFakeController(t, 3)
	b := newBrowser(t)
	b.open(f.server.URL + "/#/node/n2")
	b.press("Hold down n2")
	b.await("the button works again", "!document.querySelector('.actions button:disabled')")
	held := func(next any) object {
		gone := object{"type": "Ready", "status": "False", "reason": "NoProcess", "message": "its process does not run"}
		return object{
			"phase": "Stopped", "reason": "Held", "pid": 0, "incarnation": 2, "restarts": 4, "term": 0, "commit": 0, "lag": 0, "nextStart": next,
			"lastTermination": object{"exitCode": -1, "signal": "SIGKILL", "at": clock.Now()}, "conditions": []object{gone},
		}
	}
	f.change(1, held(clock.Now().Add(90*time.Second)))
	b.awaitText(".nodehead .phase", "Held down for")
	first := ask[string](b, "document.querySelector('.nodehead .phase').textContent")
	b.await("it counts down", fmt.Sprintf("document.querySelector('.nodehead .phase').textContent !== %q", first))
	f.change(1, held(clock.Now().Add(2*time.Hour)))
	b.awaitText(".nodehead .phase", "Held down for 120m")
	f.change(1, held(nil))
	b.await("it is held without an end", "document.querySelector('.nodehead .phase').textContent.endsWith('Held down')")
	if got := ask[string](b, "[...document.querySelectorAll('.nodehead button')].map((e) => e.textContent).join()"); got != "Start,Stop" {
		t.Errorf("the buttons are %s", got)
	}

	// A node without a process has no term and no lag, and nothing else is zero.
	facts := ask[string](b, "[...document.querySelector('.facts').childNodes].map((e) => e.nodeType === 1 ? [...e.children].map((c) => c.textContent).join('=') : e.data.trim()).join(' ')")
	for _, want := range []string{"pid=–", "up=–", "term=–", "lag=–", "leads=–", "restarts=4"} {
		if !strings.Contains(facts, want) {
			t.Errorf("%s is not in the facts: %s", want, facts)
		}
	}
	if slices.Contains(strings.Fields(strings.ReplaceAll(facts, "=", " ")), "0") {
		t.Errorf("the facts have a zero: %s", facts)
	}

	// The first view says the same, and shows the node as bad as one that crashed.
	b.show("#/")
	b.awaitText(".nodes li:nth-child(2)", "Held down")
	b.awaitText(".picture .card.tone-bad", "term – · lag –")
	b.awaitText(".health", "2/3")
	f.change(1, held(clock.Now().Add(90*time.Second)))
	for _, place := range []string{".nodes li:nth-child(2) .phase", ".picture .card.tone-bad .state"} {
		b.awaitText(place, "Held down for")
		first := ask[string](b, fmt.Sprintf("document.querySelector(%q).textContent", place))
		b.await("it counts down in "+place, fmt.Sprintf("document.querySelector(%q).textContent !== %q", place, first))
	}
	b.press("Start n2")
	b.await("the button works again", "!document.querySelector('.actions button:disabled')")
	want := []string{"/cluster/node/n2/kill?hold=true", "/cluster/node/n2/start"}
	if got := f.requests(); !slices.Equal(got, want) {
		t.Errorf("the page asked for %q", got)
	}
}

// TestPageNodeThatHangs: its process is there and its connections are open, but
// it says nothing (SIGSTOP). Who waits for it says so before the controller is
// sure.
func TestPageNodeThatHangs(t *testing.T) {
	f := newFakeController(t, 3)
	b := newBrowser(t)
	b.open(f.server.URL + "/")
	b.awaitText(".health", "Ready 3/3")
	b.await("one link is down", "document.querySelectorAll('.picture .link.broken').length === 1")
	f.hang("demo/n1")
	silent := object{"type": "Ready", "status": "False", "reason": "Running", "message": "no answer within 1s"}
	f.change(0, object{"phase": "Running", "pid": 4001, "incarnation": 2, "restarts": 0, "term": 3, "lag": 0, "startedAt": f.start, "conditions": []object{silent}})
	b.awaitText(".nodes li:nth-child(1)", "Not ready")
	b.awaitText(".nodes li:nth-child(1)", "no answer within 1s")
	b.awaitText(".health", "2/3")
	f.hears("n2", "n1", "suspect")
	f.hears("n3", "n1", "dead")
	b.await("its links are drawn broken too", "document.querySelectorAll('.picture .link.broken').length === 3")
	b.awaitText(".brokenlabel", "n2→n1")
	b.awaitText(".brokenlabel", "n3→n1")
	unknown := "it does not answer: no answer within 1s"
	silent["message"] = unknown
	f.change(0, object{"phase": "Unknown", "reason": unknown, "pid": 4001, "incarnation": 2, "restarts": 0, "term": 3, "lag": 0, "startedAt": f.start, "conditions": []object{silent}})
	b.awaitText(".picture .card.tone-bad", "Unknown")
	b.awaitText(".picture .card.tone-bad", "term – · lag –")
	b.show("#/node/n1")
	b.awaitText(".facts", unknown)
	if got := ask[int](b, fmt.Sprintf("document.querySelector('.facts').textContent.split(%q).length - 1", unknown)); got != 1 {
		t.Errorf("the reason is said %d times", got)
	}
}

// TestPageSeveralClusters switches between two clusters whose nodes have the
// same names. The address says which one is meant, wherever one goes.
func TestPageSeveralClusters(t *testing.T) {
	f := newFakeController(t, 3)
	f.addCluster("other", 1)
	b := newBrowser(t)
	b.open(f.server.URL + "/#/node/n1")
	b.awaitText(".ln", "node runs in demo")
	choose := func(name string) {
		b.t.Helper()
		ask[chromedp.Void](b, fmt.Sprintf("{const e = document.querySelector('.health select'); e.value = %q; e.dispatchEvent(new Event('change', {bubbles: true}));}", name))
	}
	choose("other")
	b.await("the address names it", "location.hash === '#/?cluster=other'")
	b.await("it has one node", "document.querySelectorAll('.nodes li').length === 1")
	b.await("its groups have leaders", "document.querySelectorAll('.groups tbody .lead').length === 5")
	b.keys("gl")
	b.await("the timeline is its own", "location.hash === '#/timeline?cluster=other'")
	b.keys("1")
	b.await("the node is its own", "location.hash === '#/node/n1?cluster=other'")
	b.awaitText(".ln", "node runs in other")
	b.press("Kill n1")
	b.await("the page asks back for the only node", "document.querySelector('dialog[open] button.danger')")
	ask[chromedp.Void](b, "document.querySelector('dialog[open] button.danger').click()")
	b.await("it was asked for", "!document.querySelector('dialog') && !document.querySelector('.actions button:disabled')")
	if got, want := f.requests(), []string{"/cluster/node/n1/kill?cluster=other"}; !slices.Equal(got, want) {
		t.Errorf("the page asked for %q", got)
	}
	b.open(f.server.URL + "/#/node/n1?cluster=other")
	b.awaitText(".ln", "node runs in other")
	b.show("#/node/n1?cluster=demo")
	b.awaitText(".ln", "node runs in demo")

	// Another cluster than the address names is never shown in its place.
	b.show("#/node/n1?cluster=gone")
	b.awaitText("h1", "There is no cluster gone")
	b.press("demo")
	b.await("the cluster is drawn", "document.querySelectorAll('.picture .card').length === 3")
}

// TestPagePublishFails: the page says what is known of the message, when to try
// again, and keeps what was typed.
func TestPagePublishFails(t *testing.T) {
	f := newFakeController(t, 3)
	b := newBrowser(t)
	b.open(f.server.URL + "/#/topic/orders")
	b.fill("#p-value", "precious")
	b.excuse(true)
	for _, c := range []struct {
		refusal refusal
		says    []string
	}{
		{refusal{http.StatusServiceUnavailable, "NO_QUORUM", "shard 1 has no leader", "1"}, []string{"It was not written.", "NO_QUORUM: shard 1 has no leader", "Try again in 1 s."}},
		{refusal{http.StatusServiceUnavailable, "BUSY", "4,096 ids are remembered", "7"}, []string{"It was not written.", "BUSY: 4,096 ids are remembered", "Try again in 7 s."}},
		{refusal{http.StatusGatewayTimeout, "TIMEOUT", "no acknowledgement within 10s", ""}, []string{"It is not known whether it was written.", "TIMEOUT: no acknowledgement within 10s", "with the same id"}},
	} {
		f.refuse(&c.refusal)
		b.press("Publish")
		for _, text := range c.says {
			b.awaitText(".answer .refusal", text)
		}
		if typed := ask[string](b, "document.querySelector('#p-value').value"); typed != "precious" {
			t.Errorf("after %s the field has %q", c.refusal.code, typed)
		}
	}
	if text := ask[string](b, "document.querySelector('.answer').textContent"); strings.Contains(text, "Try again") {
		t.Errorf("the server did not say when to try again: %s", text)
	}
	f.refuse(nil)
	b.press("Publish")
	b.awaitText(".receipt", "Acknowledged")
	b.await("the refusal is gone", "!document.querySelector('.answer .refusal')")
}

// TestPageTopicRates: the list of topics says how fast each grows.
func TestPageTopicRates(t *testing.T) {
	f := newFakeController(t, 3)
	b := newBrowser(t)
	b.open(f.server.URL + "/#/topics")
	b.await("it does not grow", "document.querySelector('.topiclist tbody td:nth-child(3)')?.textContent === '0'")
	f.grow(500)
	b.awaitText(".topiclist tbody tr", "680")
	b.await("it grew", "Number.parseFloat(document.querySelector('.topiclist tbody td:nth-child(3)').textContent) > 0")
	b.await("it is quiet again", "document.querySelector('.topiclist tbody td:nth-child(3)').textContent === '0'")
}

// TestPageGoesToTheMoment: of an event in the list, of a mark on the axis, and of
// messages.
func TestPageGoesToTheMoment(t *testing.T) {
	f := newFakeController(t, 3)
	var output strings.Builder
	for i := range 240 { // a line a second, until now; n2 ended 140 s after the start
		output.WriteString(f.line(float64(i), "INFO", fmt.Sprintf("second %d", i)))
	}
	f.outputs["demo/n2"] = output.String()
	b := newBrowser(t)
	b.open(f.server.URL + "/#/timeline")
	marks := `[...document.querySelectorAll('.lanes a.mark')].find((e) => e.getAttribute('aria-label').includes('n2 Exited'))`
	b.await("the end of n2 is on the axis", marks)
	ask[chromedp.Void](b, marks+".dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}))")
	inSight := "[...document.querySelectorAll('.ln.flash')].some((e) => /second 14[01]/.test(e.textContent) && e.getBoundingClientRect().top > 0 && e.getBoundingClientRect().bottom < innerHeight)"
	b.await("its output of that second is in sight", inSight)
	b.show("#/timeline")
	row := "[...document.querySelectorAll('.eventlist a')].find((e) => e.textContent.includes('Exited'))"
	b.await("it is in the list too", row)
	ask[chromedp.Void](b, row+".click()")
	b.await("its output of that second is in sight again", inSight)

	b.show("#/topic/orders?show=history")
	b.awaitText(".foot", "offsets 130 – 179")
	b.fillTime(".messages input[type=datetime-local]", f.start.Add(100*time.Second)) // offset 100, or just before it
	b.awaitText(".foot", "offsets 100 – 149")
}
