package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestPageDrawsClustersOfAnySize looks whether the nodes of the picture are all
// there, inside it, and not over each other.
func TestPageDrawsClustersOfAnySize(t *testing.T) {
	b := newBrowser(t)
	for _, n := range []int{1, 3, 5, 9} {
		f := newFakeController(t, n)
		for _, width := range []int64{1280, 390} {
			b.size(width, 844)
			b.open(f.server.URL + "/")
			b.await("the nodes are drawn", fmt.Sprintf("document.querySelectorAll('.picture .card').length === %d", n))
			wrong := ask[[]string](b, `(() => {
				const outer = document.querySelector('.picture').getBoundingClientRect();
				const cards = [...document.querySelectorAll('.picture .card .body')].map((e) => e.getBoundingClientRect());
				const wrong = [];
				const gap = cards.length <= 5 ? 16 : 0; // in which a line is seen
				cards.forEach((a, i) => {
					if (a.left < outer.left || a.right > outer.right || a.top < outer.top || a.bottom > outer.bottom) wrong.push('n' + (i + 1) + ' is not inside');
					cards.slice(i + 1).forEach((b, j) => {
						if (a.left < b.right + gap && b.left < a.right + gap && a.top < b.bottom + gap && b.top < a.bottom + gap) wrong.push('n' + (i + 1) + ' touches n' + (i + j + 2));
					});
				});
				if (document.documentElement.scrollWidth > innerWidth) wrong.push('the page is wider than the window');
				return wrong;
			})()`)
			for _, w := range wrong {
				t.Errorf("%d nodes at %d pixels: %s", n, width, w)
			}
		}
	}
}

// TestPageShowsWhatNodesSay: leaders, lag, silence, lost links and clocks.
func TestPageShowsWhatNodesSay(t *testing.T) {
	f := newFakeController(t, 5)
	b := newBrowser(t)
	b.open(f.server.URL + "/")
	b.awaitText(".groups tbody tr:first-child", "120,330")
	for selector, text := range map[string]string{
		".groups tbody tr:nth-child(1) td:nth-child(2)": "n1",
		".groups tbody tr:nth-child(2) td:nth-child(6)": "leads",
		".groups tbody tr:nth-child(1) td:nth-child(7)": "14",
		".groups tbody tr:nth-child(1) td:nth-child(9)": "silent",
		".picture .brokenlabel":                         "n2→n3",
		".clocks li:nth-child(2)":                       "−210 µs ± 200 µs",
		".eventlist li:nth-child(2)":                    "LeaderChanged",
		".health":                                       "Ready 5/5",
	} {
		b.awaitText(selector, text)
	}
	if got := ask[int](b, "document.querySelectorAll('.picture .link.broken').length"); got != 1 {
		t.Errorf("%d links are drawn broken", got)
	}

	// A node that goes is seen to go, with its countdown, and nothing else moves.
	f.change(1, object{"phase": "CrashLoopBackOff", "pid": 0, "restarts": 3, "term": 0, "lag": 0, "reason": "it ended with exit code 1", "nextStart": clock.Now().Add(30e9)})
	b.awaitText(".nodes li:nth-child(2)", "Down, next start in")
	b.awaitText(".nodes li:nth-child(2)", "exit code 1")
	b.awaitText(".picture .card:nth-of-type(3)", "term – · lag –")       // nobody knows
	b.awaitText(".groups tbody tr:nth-child(2) td:nth-child(2)", "none") // whatever the others last heard
	b.awaitText(".health", "4/5")

	// A refusal is told in the server's words, with the way round it.
	b.excuse(true) // the browser notes a refusal as a failed request
	b.press("Restart n1")
	b.awaitText(".refusal", "its restart would cost the quorum")
	b.press("Restart anyway")
	b.await("the forced restart was asked for", "!document.querySelector('.refusal')")
	if got := strings.Join(f.requests(), " "); got != "/cluster/node/n1/restart /cluster/node/n1/restart?force=true" {
		t.Errorf("the page asked for %s", got)
	}
}

// TestPageTerminal shows ten thousand lines as a hundred.
func TestPageTerminal(t *testing.T) {
	f := newFakeController(t, 3)
	var output strings.Builder
	for i := range 12000 {
		switch {
		case i == 11000:
			output.WriteString(f.line(110, "ERROR", "the needle") + "goroutine 1 [running]:\n")
		case i%100 == 0:
			output.WriteString(f.line(float64(i)/100, "WARN", "a warning"))
		case i == 11998:
			output.WriteString("\x1b[31mred\x1b[0m plain \x1b[38;5;208morange\x1b[0m " + strings.Repeat("long ", 100) + "\n")
		default:
			output.WriteString(f.line(float64(i)/100, "INFO", fmt.Sprintf("line %d", i)))
		}
	}
	f.outputs["demo/n1"] = output.String()
	b := newBrowser(t)
	b.open(f.server.URL + "/#/node/n1")
	b.awaitText(".foot", "10,000 lines of 12,001")
	b.awaitText(".ln", "line 11999")
	if rows := ask[int](b, "document.querySelectorAll('.ln').length"); rows > 150 {
		t.Errorf("%d lines are in the document", rows)
	}
	if !ask[bool](b, "[...document.querySelectorAll('.ln .a-fg1')].some((e) => e.textContent === 'red')") {
		t.Error("the red word is not red")
	}

	// New lines are followed, until somebody pauses.
	f.send("logs n1", f.line(130, "INFO", "one more"))
	b.awaitText(".ln", "one more")
	b.keys("p")
	f.send("logs n1", f.line(131, "INFO", "while paused")+f.line(131, "INFO", "and another"))
	b.awaitText(".pause", "Go on · 2 new")
	if ask[bool](b, "document.querySelector('.lines').textContent.includes('while paused')") {
		t.Error("a paused terminal went on")
	}
	b.keys("p")
	b.awaitText(".ln", "and another")

	// Search goes to what is not in sight; levels leave out lines, but never a stack.
	b.keys("/")
	b.await("/ goes to the field", "document.activeElement === document.querySelector('.search input')")
	b.fill(".search input", "needle") // a tool's key types its character even where the page prevents it
	b.awaitText(".found", "1 line")
	b.keys(kb.Enter)
	b.awaitText(".ln.mine mark", "needle")
	b.press("Error")
	b.await("only errors, and lines without a level, are left", "document.querySelectorAll('.ln').length <= 3")
	b.awaitText(".ln", "goroutine 1")
	b.press("All")
	b.fill(".search input", "/line 119[0-9]{2}/")
	b.awaitText(".found", "98 lines")
	b.fill(".search input", "/(/")
	b.awaitText(".found", "not a regexp")
	b.fill(".search input", "")
	b.must(chromedp.SendKeys(chromedp.CSS(".search input"), kb.Escape))

	// A long line has several rows, exactly those that were kept for it; without
	// wrapping it has one, and is reached sideways.
	long := "[...document.querySelectorAll('.ln')].find((e) => e.textContent.startsWith('red plain'))"
	b.keys(kb.End) // it follows again already if all that was left fitted
	b.await("the long line is wrapped", long+"?.offsetHeight >= 3 * 18")
	b.await("no line is wider than its place", "(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)(document.querySelector('.lines'))")
	b.await("the last line ends where the list ends", "Math.abs(document.querySelector('.part').getBoundingClientRect().bottom - document.querySelector('.whole').getBoundingClientRect().bottom) < 1")
	b.keys("w")
	b.await("every line has one row", "[...document.querySelectorAll('.ln')].every((e) => e.offsetHeight === 18)")
	b.await("the long line goes on to the right", "(({scrollWidth, clientWidth}) => scrollWidth > clientWidth)(document.querySelector('.lines'))")
	b.press("Wrap")
	b.await("and back", long+"?.offsetHeight >= 3 * 18")

	// A moment is found, in the run before if it is there.
	at := f.start.Add(-60e9).UTC().Format("2006-01-02T15:04:05.000Z")
	b.show("#/node/n1?at=" + at)
	b.awaitText(".ln.flash", "the run before")
	b.press("This run")
	b.awaitText(".ln", "line 11999")
	b.press("The run before")
	b.awaitText(".ln", "the run before")
	b.press("This run")
	b.show("#/node/n1?at=" + f.start.Add(110e9).UTC().Format("2006-01-02T15:04:05.000Z"))
	b.await("the moment is in sight", "[...document.querySelectorAll('.ln.flash')].some((e) => e.getBoundingClientRect().top > 0)")
}

// views are all there are, and a sign that each is complete.
var views = []struct{ name, fragment, complete string }{
	{"cluster", "#/", ".groups tbody tr:nth-child(5) .lead"},
	{"node", "#/node/n2", ".ln"},
	{"topics", "#/topics", ".topiclist tbody tr"},
	{"arriving", "#/topic/orders", ".messages .tone-ok"},
	{"history", "#/topic/orders?show=history", ".msg"},
	{"timeline", "#/timeline", ".lanes .mark"},
	{"nowhere", "#/nowhere", ".empty h1"},
}

func TestPageKeepsNobodyOut(t *testing.T) {
	f, ill, empty := newFakeController(t, 3), newFakeController(t, 3), newFakeController(t, 0)
	silent := object{"type": "Ready", "status": "False", "reason": "Running", "message": "no answer within 1s"}
	ill.change(0, object{"phase": "CrashLoopBackOff", "pid": 0, "restarts": 3, "reason": "exit code 1", "nextStart": clock.Now().Add(time.Hour)})
	ill.change(1, object{"phase": "Stopped", "reason": "Held", "pid": 0})
	ill.change(2, object{"phase": "Running", "pid": 4003, "conditions": []object{silent}})
	b := newBrowser(t)
	check := func(where, theme string) {
		t.Helper()
		for _, v := range b.axe(theme == "dark") {
			t.Errorf("%s, %s: %s (%s): %s\n\t%s", where, theme, v.ID, v.Impact, v.Help, strings.Join(v.Nodes, "\n\t"))
		}
	}
	for _, theme := range []string{"light", "dark"} {
		b.theme(theme)
		b.size(1280, 800)
		b.open(f.server.URL + "/")
		for _, v := range views {
			b.show(v.fragment)
			b.await(v.name+" is complete", fmt.Sprintf("document.querySelector(%q)", v.complete))
			if v.name == "history" {
				b.press("179")
				b.await("a message is open", "document.querySelector('.detail pre')")
			}
			check(v.name, theme)
		}
		b.keys("?")
		b.await("the shortcuts are shown", "document.querySelector('dialog[open]')")
		check("shortcuts", theme)
		b.size(390, 844)
		b.open(f.server.URL + "/")
		b.await("the cluster is complete", "document.querySelector('.groups tbody tr:nth-child(5) .lead')")
		check("cluster on a phone", theme)
		b.open(ill.server.URL + "/")
		b.await("the nodes are ill", "document.querySelectorAll('.picture .card.tone-bad').length === 2 && document.querySelector('.picture .card.tone-busy')")
		check("ill nodes", theme)
		b.show("#/node/n3")
		b.awaitText(".facts", "no answer within 1s")
		check("an ill node", theme)
		b.open(empty.server.URL + "/")
		b.awaitText("h1", "No cluster runs yet")
		check("start", theme)
	}
}

// TestPageDoesNotJump adds up what the browser counts as layout shifts.
func TestPageDoesNotJump(t *testing.T) {
	f := newFakeController(t, 3)
	b := newBrowser(t)
	b.onLoad(`window.shifts = 0; window.moved = ''; new PerformanceObserver((l) => { for (const e of l.getEntries()) if (!e.hadRecentInput) { window.shifts += e.value; for (const s of e.sources) window.moved += ' ' + (s.node?.className || s.node?.nodeName) + ':' + s.previousRect.y + '>' + s.currentRect.y; } }).observe({type: 'layout-shift', buffered: true});`)
	for _, width := range []int64{1280, 390} {
		b.size(width, map[int64]int64{1280: 800, 390: 844}[width])
		for _, v := range views {
			if v.name == "arriving" || v.name == "nowhere" {
				continue // as history, and nothing
			}
			b.open(f.server.URL + "/" + v.fragment)
			b.await(v.name+" is complete", fmt.Sprintf("document.querySelector(%q)", v.complete))
			if got := ask[float64](b, "new Promise((r) => requestAnimationFrame(() => setTimeout(() => r(window.shifts), 50)))"); got > 0.03 {
				t.Errorf("%s at %d pixels jumps: %.3f%s", v.name, width, got, ask[string](b, "window.moved"))
			}
		}
	}
}

// TestPageFits: no view is wider than the window, no event is cut off, and what
// just happened is seen at once, on a phone too.
func TestPageFits(t *testing.T) {
	f := newFakeController(t, 5)
	f.event("Node", "n3", "Warning", "BackOff", "end 4 in a row that nobody asked for; next try in 8s, at 2026-11-27T19:38:25Z, unless somebody starts it before", -time.Hour) // stays the newest
	b := newBrowser(t)
	for _, width := range []int64{1280, 390} {
		height := map[int64]int64{1280: 800, 390: 844}[width]
		b.size(width, height)
		for _, v := range views {
			b.open(f.server.URL + "/" + v.fragment)
			b.await(v.name+" is complete", fmt.Sprintf("document.querySelector(%q)", v.complete))
			wide := ask[[]string](b, `[document.documentElement, document.querySelector('main'), ...document.querySelectorAll('.event .what, .topiclist, .nodes .phase')]
				.filter((e) => e.scrollWidth > e.clientWidth || e.getBoundingClientRect().right > innerWidth).map((e) => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 60))`)
			for _, w := range wide {
				t.Errorf("%s at %d pixels: %s is too wide", v.name, width, w)
			}
		}
		b.open(f.server.URL + "/")
		b.await("what just happened is in sight, and marked", fmt.Sprintf("document.querySelector('.event.fresh')?.getBoundingClientRect().bottom < %d", height))
	}

	// The tabs stay where they are when the cluster's state has a longer name.
	b.size(1280, 800)
	b.awaitText(".health", "Ready 5/5")
	before := ask[float64](b, "document.querySelector('.bar nav').getBoundingClientRect().left")
	f.change(0, object{"phase": "Stopped", "reason": "Held", "pid": 0})
	f.setReady("False")
	b.awaitText(".health", "Degraded 4/5")
	if after := ask[float64](b, "document.querySelector('.bar nav').getBoundingClientRect().left"); after != before {
		t.Errorf("the tabs moved from %v to %v", before, after)
	}
}

// TestPageWorksByKeyboard goes through the views without a mouse.
func TestPageWorksByKeyboard(t *testing.T) {
	f := newFakeController(t, 3)
	b := newBrowser(t)
	b.open(f.server.URL + "/")
	b.await("the cluster is drawn", "document.querySelectorAll('.picture .card').length === 3")
	for _, step := range []struct{ keys, hash string }{
		{"2", "#/node/n2"}, {"gt", "#/topics"}, {"gl", "#/timeline"}, {"gc", "#/"},
	} {
		b.keys(step.keys)
		b.await(step.keys+" goes to "+step.hash, fmt.Sprintf("location.hash === %q", step.hash))
	}
	ask[chromedp.Void](b, "history.back()")
	b.await("back goes back", "location.hash === '#/timeline'")
	b.show("#/")
	b.await("the cluster is drawn", "document.querySelectorAll('.picture .card').length === 3")
	for i := 0; !ask[bool](b, "!!document.activeElement.closest('.card') && document.activeElement.matches(':focus-visible')"); i++ {
		if i > 40 {
			t.Fatal("tab does not come to the nodes of the picture, or the focus is not seen")
		}
		b.keys(kb.Tab)
	}
	b.keys(kb.Enter)
	b.await("Enter opens the node", "location.hash === '#/node/n1'")
	b.keys("d")
	b.await("d changes the theme", "document.documentElement.dataset.theme === 'light'")
	b.keys("?")
	b.await("? shows the shortcuts", "document.querySelector('dialog[open]')")
	b.keys(kb.Escape)
	b.await("Escape closes them", "!document.querySelector('dialog[open]')")
}

// TestPageSaysThatItIsCutOff and comes back with what happened meanwhile.
func TestPageSaysThatItIsCutOff(t *testing.T) {
	f := newFakeController(t, 3)
	b := newBrowser(t)
	b.open(f.server.URL + "/")
	b.awaitText(".conn", "Live")
	b.excuse(true)
	f.setDown(true)
	b.awaitText(".banner", "The connection to the controller is lost")
	b.await("it counts down", `/in [1-8] s/.test(document.querySelector('.banner')?.textContent)`)
	b.awaitText(".conn", "Offline")
	f.mu.Lock()
	f.nodes[2]["status"].(object)["phase"] = "Stopped"
	f.nodes[2]["status"].(object)["pid"] = 0
	f.nodes[2]["spec"].(object)["stopped"] = true
	f.mu.Unlock()
	f.setDown(false)
	b.press("Try now")
	b.await("the banner goes", "!document.querySelector('.banner')")
	b.awaitText(".conn", "Live")
	b.awaitText(".nodes li:nth-child(3)", "Stopped")
	b.awaitText(".health", "Ready 2/3") // of all, as the command line says it
}
