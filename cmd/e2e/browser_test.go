package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browser is a tab of a headless Chromium. What it complains about while the
// test runs fails the test at its end.
type browser struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	faults   []string
	excusing bool // requests that fail are expected
}

// findChromium returns the browser's program, or skips the test.
func findChromium(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser is not for -short")
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no chromium on the PATH; on Debian: apt-get install chromium")
	return ""
}

// chromium is the one process behind all tests: each has a tab, and storage, of
// its own.
var chromium struct {
	once sync.Once
	ctx  context.Context
	end  func()
	err  error
}

func startChromium(program string) {
	dir, err := os.MkdirTemp("", "wiber-chromium-")
	if err != nil {
		chromium.err = err
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(dir),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	allocator, release := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	chromium.ctx = ctx
	chromium.end = func() {
		cancel()
		release()
		os.RemoveAll(dir)
	}
	chromium.err = chromedp.Do(ctx) // the browser lives as long as the context of its first step
}

// endChromium ends the browser, if any test started one.
func endChromium() {
	if chromium.end != nil {
		chromium.end()
	}
}

// newBrowser opens a tab with an empty profile.
func newBrowser(t testing.TB) *browser {
	t.Helper()
	program := findChromium(t)
	chromium.once.Do(func() { startChromium(program) })
	if chromium.err != nil {
		t.Fatalf("start %s: %v", program, chromium.err)
	}
	ctx, end := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext())
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 800)); err != nil {
		end()
		t.Fatalf("open a tab: %v", err)
	}
	messages := chromedp.Events(ctx, runtime.ConsoleAPICalled)
	exceptions := chromedp.Events(ctx, runtime.ExceptionThrown)
	entries := chromedp.Events(ctx, log.EntryAdded)
	var wg sync.WaitGroup
	wg.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == "error" || m.Type == "warning" || m.Type == "assert" {
				text, _ := json.Marshal(m.Args)
				b.fault("console", string(text))
			}
		}
	})
	wg.Go(func() {
		for e, err := range exceptions {
			if err != nil {
				return
			}
			text := e.ExceptionDetails.Text
			if e.ExceptionDetails.Exception != nil {
				text += " " + e.ExceptionDetails.Exception.Description
			}
			b.fault("exception", text)
		}
	})
	wg.Go(func() {
		for e, err := range entries {
			if err != nil {
				return
			}
			if e.Entry.Level == "error" {
				b.fault("log", e.Entry.Text+" "+e.Entry.URL)
			}
		}
	})
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end()
		wg.Wait()
		for _, f := range b.faults {
			t.Errorf("the browser complains: %s", f)
		}
	})
	return b
}

func (b *browser) fault(kind, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	request := strings.Contains(text, "WebSocket connection to") || strings.Contains(text, "net::ERR_") || strings.Contains(text, "status of 50") || strings.Contains(text, "status of 409")
	if !b.excusing || !request {
		b.faults = append(b.faults, kind+": "+text)
	}
}

// excuse says whether failing requests are part of the story from now on.
func (b *browser) excuse(yes bool) {
	b.mu.Lock()
	b.excusing = yes
	b.mu.Unlock()
}

// do runs steps, which may take a minute together.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	return chromedp.Do(ctx, steps...)
}

func (b *browser) must(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := b.do(steps...); err != nil {
		b.t.Fatal(err)
	}
}

// size sets what the page has to fill; a narrow one is a phone.
func (b *browser) size(width, height int64) {
	b.t.Helper()
	if width < 600 {
		b.must(chromedp.EmulateViewport(width, height, chromedp.EmulateMobile))
		return
	}
	b.must(chromedp.EmulateViewport(width, height))
}

// theme sets what the system prefers: light or dark.
func (b *browser) theme(theme string) {
	b.t.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
		b.t.Fatal(err)
	}
}

// onLoad runs a script in every page before its own.
func (b *browser) onLoad(script string) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script}); err != nil {
		b.t.Fatal(err)
	}
}

// open loads the page, also if only the fragment is another one.
func (b *browser) open(url string) {
	b.t.Helper()
	b.must(chromedp.Navigate("about:blank"), chromedp.Navigate(url))
}

// show goes to another view of the page that is open.
func (b *browser) show(fragment string) {
	b.t.Helper()
	ask[chromedp.Void](b, fmt.Sprintf("location.hash = %q", fragment))
}

// ask evaluates an expression in the page.
func ask[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := try[T](b, expression)
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

func try[T any](b *browser, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// await waits until an expression is true in the page.
func (b *browser) await(what, expression string) {
	b.t.Helper()
	eventually(b.t, 30*time.Second, what, func() error {
		ok, err := try[bool](b, "!!("+expression+")")
		if err == nil && !ok {
			text, _ := try[string](b, "document.body.innerText.slice(0, 1500)")
			err = fmt.Errorf("the page says:\n%s", text)
		}
		return err
	})
}

// awaitText waits until the page, or the part of it that a selector names, has a
// text.
func (b *browser) awaitText(selector, text string) {
	b.t.Helper()
	b.await(fmt.Sprintf("%s says %q", selector, text), fmt.Sprintf("[...document.querySelectorAll(%q)].some((e) => e.textContent.includes(%q))", selector, text))
}

// press clicks the button that has a name, as people and screen readers find it.
func (b *browser) press(name string) {
	b.t.Helper()
	button := fmt.Sprintf("[...document.querySelectorAll('button, a')].find((e) => !e.disabled && (e.getAttribute('aria-label') || e.textContent).trim().startsWith(%q))", name)
	b.await("there is a button "+name, button)
	ask[chromedp.Void](b, button+".click()")
}

// fill types into a field in place of what is there.
func (b *browser) fill(selector, text string) {
	b.t.Helper()
	field := fmt.Sprintf("document.querySelector(%q)", selector)
	b.await("there is a field "+selector, field)
	ask[chromedp.Void](b, field+".focus(); "+field+".select()")
	b.keys(kb.Backspace + text)
}

// fillTime gives a field for a local time a value, whatever the browser's language
// makes of typed digits, and sends its form.
func (b *browser) fillTime(selector string, at time.Time) {
	b.t.Helper()
	field := fmt.Sprintf("document.querySelector(%q)", selector)
	b.await("there is a field "+selector, field)
	value := at.Local().Format("2006-01-02T15:04:05")
	ask[chromedp.Void](b, fmt.Sprintf("%s.value = %q; %[1]s.dispatchEvent(new Event('input', {bubbles: true}))", field, value))
	ask[chromedp.Void](b, field+".form.requestSubmit()")
}

// keys presses keys, wherever the focus is.
func (b *browser) keys(keys string) {
	b.t.Helper()
	b.must(chromedp.KeyEvent(keys))
}

// shoot writes what is seen to a file.
func (b *browser) shoot(path string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// violation is what axe found.
type violation struct {
	ID     string   `json:"id"`
	Impact string   `json:"impact"`
	Help   string   `json:"help"`
	Nodes  []string `json:"nodes"`
}

// axe looks for what keeps people out of the page as it is now, and returns the
// serious and critical findings. Only contrast depends on the theme.
func (b *browser) axe(onlyContrast bool) []violation {
	b.t.Helper()
	if !ask[bool](b, "!!window.axe") {
		source, err := os.ReadFile("../../ui/testdata/axe/axe.min.js")
		if err != nil {
			b.t.Fatal(err)
		}
		ask[chromedp.Void](b, string(source)+";undefined")
	}
	only := "undefined"
	if onlyContrast {
		only = "['color-contrast']"
	}
	return ask[[]violation](b, `axe.run(document, {resultTypes: ['violations'], runOnly: `+only+`}).then((r) => r.violations
		.filter((v) => v.impact === 'serious' || v.impact === 'critical')
		.map((v) => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.slice(0, 4).map((n) => n.html.slice(0, 200) + ' ' + (n.any[0]?.message || ''))})))`)
}
