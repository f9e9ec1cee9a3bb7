package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/wiber/wiber/topics/client"
)

// screenshots is the folder for pictures of the page, or empty for none.
var screenshots = os.Getenv("WIBER_SCREENSHOTS")

// launchController runs "wiberctl controller" in the background in place of up.
func (c *cluster) launchController() {
	c.t.Helper()
	log, err := os.OpenFile(filepath.Join(c.dir, "up.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd := c.command("controller", "--state", filepath.Join(c.dir, ".data", "controller"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.up = cmd
	eventually(c.t, 30*time.Second, "the controller answers", func() error {
		_, err := c.nodes()
		return err
	})
}

func (c *cluster) page() string { return fmt.Sprintf("http://127.0.0.1:%d/", c.gateway) }

// TestPage is the story of somebody who has only the page: start the cluster,
// publish, look back, kill a leader and watch, find out what happened, and go on
// when the controller dies.
func TestPage(t *testing.T) {
	findChromium(t)
	c := newCluster(t, manifest{})
	text, err := os.ReadFile(filepath.Join(c.dir, "cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c.write("cluster.yaml", regexp.MustCompile(`(port: \d+)}`).ReplaceAllString(string(text), "$1, stopped: true}"))
	c.launchController()
	c.run("apply", "-f", "cluster.yaml")

	b := newBrowser(t)
	b.open(c.page())
	b.awaitText("h1", "All nodes of e2e are stopped")
	b.excuse(true) // nodes that start refuse
	b.press("Start the cluster")
	b.awaitText(".health", "Ready 3/3")
	b.await("the picture has three nodes", "document.querySelectorAll('.picture .card').length === 3")
	b.await("every group has a leader", "document.querySelectorAll('.groups tbody .lead').length === 5")
	b.excuse(false)

	pageTopics(t, c, b)
	old := pageKill(t, c, b)
	pageTimeline(b, old)
	pageShoot(b, c)
	pageHold(t, c, b)
	pageHang(t, c, b)
	pageRestart(t, c, b)
}

// pageTopics publishes and reads.
func pageTopics(t *testing.T, c *cluster, b *browser) {
	b.show("#/topic/orders")
	b.awaitText(".messages [role=status]", "Listening")
	b.fill("#p-value", `{"order": 1}`)
	b.fill("#p-key", "table-7")
	b.press("Publish")
	b.awaitText(".receipt", "Acknowledged")
	b.awaitText(".receipt", "offset0")
	b.awaitText(".msg", `{"order": 1}`)

	cl := c.client(client.Options{}, c.names...)
	for i := range 120 {
		publishOne(t, cl, "orders", fmt.Sprintf("message %d", i+1))
	}
	b.awaitText(".msg", "message 120")
	b.show("#/topic/orders?show=history")
	b.awaitText(".foot", "offsets 71 – 120")
	b.press("Older messages")
	b.awaitText(".foot", "offsets 21 – 70")
	b.press("Older messages")
	b.awaitText(".foot", "offsets 0 – 20")
	b.press("Last page")
	b.awaitText(".foot", "offsets 71 – 120")
	b.press("First page")
	b.awaitText(".foot", "offsets 0 – 49")
	b.press("Newer messages")
	b.awaitText(".foot", "offsets 50 – 99")
	b.fill(".messages input[type=number]", "100")
	b.press("Go")
	b.awaitText(".foot", "offsets 100 – 120")
	b.fillTime(".messages input[type=datetime-local]", clock.Now().Add(-24*time.Hour))
	b.awaitText(".foot", "offsets 0 – 49")
	b.fillTime(".messages input[type=datetime-local]", clock.Now().Add(24*time.Hour))
	b.awaitText(".messages", "No message from there on")
	b.show("#/topics")
	b.awaitText(".topiclist tr", "orders")
	b.awaitText(".topiclist tr", "121")
}

func publishOne(t testing.TB, cl *client.Client, topic, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := cl.Publish(ctx, client.Message{Topic: topic, Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

// pageKill kills the catalogue's leader and sees it fall and come back.
func pageKill(t *testing.T, c *cluster, b *browser) (old string) {
	b.show("#/")
	b.await("the catalogue has a leader", "document.querySelector('.groups tbody tr:first-child .lead')")
	old = ask[string](b, "document.querySelector('.groups tbody tr:first-child td a').textContent")
	if !slices.Contains(c.names, old) {
		t.Fatalf("the catalogue's leader is %q", old)
	}
	before := c.pid(old)
	ask[chromedp.Void](b, fmt.Sprintf(`window.fell = false; new MutationObserver(() => {
		const row = [...document.querySelectorAll('.nodes li')].find((e) => e.textContent.startsWith(%q));
		if (row && /Down|Starting|Pending/.test(row.textContent)) window.fell = true;
	}).observe(document.body, {subtree: true, childList: true, characterData: true})`, old))
	b.excuse(true) // a node that has just died may be asked once more
	b.press("Kill " + old)
	b.await("the node is seen to fall", "window.fell")
	b.awaitText(".eventlist .event", "LeaderChanged")
	b.await("it comes back", fmt.Sprintf(`[...document.querySelectorAll('.nodes li')].some((e) => e.textContent.startsWith(%q) && /Running/.test(e.textContent) && /restarts 1/.test(e.textContent))`, old))
	b.awaitText(".health", "Ready 3/3")
	b.excuse(false)
	if after := c.pid(old); after == before {
		t.Errorf("the process of %s is still %d", old, after)
	}
	return old
}

// pageHold stops and restarts a node, keeps one down by the page's button, and
// another one for a time by the command line, and starts them.
func pageHold(t *testing.T, c *cluster, b *browser) {
	b.show("#/node/n2")
	b.awaitText(".nodehead .phase", "Running")
	b.excuse(true)
	before := c.pid("n2")
	b.press("Restart n2")
	b.await("another process runs", fmt.Sprintf("/^(?!%d$)\\d+$/.test(document.querySelector('.facts dd').textContent)", before))
	b.awaitText(".health", "Ready 3/3")
	b.press("Stop n2")
	b.await("it is stopped", "document.querySelector('.nodehead .phase').textContent.endsWith('Stopped')")
	b.press("Start n2")
	b.awaitText(".health", "Ready 3/3")
	b.press("Hold down n2")
	b.await("it is held", "document.querySelector('.nodehead .phase').textContent.endsWith('Held down')")
	b.press("Start n2")
	b.awaitText(".nodehead .phase", "Running")
	b.awaitText(".health", "Ready 3/3")
	c.run("kill", "n3", "--for", "90s")
	b.show("#/node/n3")
	b.await("it is held for a time", "/Held down for \\d+ s$/.test(document.querySelector('.nodehead .phase').textContent)")
	b.press("Start n3")
	b.awaitText(".nodehead .phase", "Running")
	b.awaitText(".health", "Ready 3/3")
	b.excuse(false)
}

// pageHang stops a process in its tracks: its connections stay open, and still its
// links are seen to be down.
func pageHang(t *testing.T, c *cluster, b *browser) {
	b.show("#/")
	b.await("no link is down", "document.querySelectorAll('.picture .link').length === 3 && !document.querySelector('.picture .link.broken')")
	b.excuse(true)
	pid := c.pid("n3")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	b.awaitText(".health", "2/3")
	b.awaitText(".brokenlabel", "n1→n3")
	b.awaitText(".brokenlabel", "n2→n3")
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.awaitText(".health", "Ready 3/3")
	b.await("its links are whole again", "!document.querySelector('.picture .link.broken')")
	b.excuse(false)
}

// pageTimeline finds the end of the node, and its output of that moment.
func pageTimeline(b *browser, node string) {
	b.show("#/timeline")
	b.await("the throughput is drawn", "document.querySelector('.plot canvas')")
	b.await("the election is on the axis", "document.querySelector('.lanes .mark.tone-accent')")
	exited := fmt.Sprintf("[...document.querySelectorAll('.lanes a.mark')].find((e) => e.getAttribute('aria-label').includes(%q))", node+" Exited")
	b.await("the end of the node is on the axis", exited)
	ask[chromedp.Void](b, exited+".dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}))")
	b.await("it leads to the node's output", fmt.Sprintf("location.hash.startsWith('#/node/%s?at=')", node))
	b.await("the line of that moment is marked", "document.querySelector('.ln.flash')")
}

// pageRestart kills the controller under the page and starts another one.
func pageRestart(t *testing.T, c *cluster, b *browser) {
	cl := c.client(client.Options{}, c.names...)
	b.show("#/topic/orders")
	b.awaitText(".messages [role=status]", "Listening")
	publishOne(t, cl, "orders", "before the end")
	b.awaitText(".msg", "before the end")
	pids := []int{c.pid("n1"), c.pid("n2"), c.pid("n3")}
	b.excuse(true)
	if err := c.up.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.up.Wait()
	b.awaitText(".banner", "The connection to the controller is lost")
	publishOne(t, cl, "orders", "while it was away")
	c.launchController()
	b.await("the banner goes", "!document.querySelector('.banner.bad')")
	b.awaitText(".conn", "Live")
	publishOne(t, cl, "orders", "after it came back")
	b.awaitText(".msg", "after it came back")
	b.awaitText(".msg", "while it was away") // nothing is missed
	if now := []int{c.pid("n1"), c.pid("n2"), c.pid("n3")}; !slices.Equal(now, pids) {
		t.Errorf("the nodes' processes were %v and are %v", pids, now)
	}
	for _, v := range b.axe(false) {
		t.Errorf("%s (%s): %s", v.ID, v.Impact, v.Help)
	}
}

// pageShoot takes the four pictures of the documentation, if it was asked to.
func pageShoot(b *browser, c *cluster) {
	if screenshots == "" {
		return
	}
	cl := c.client(client.Options{}, c.names...)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { // a page of a cluster that works
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = cl.Publish(ctx, client.Message{Topic: "orders", Value: fmt.Appendf(nil, `{"order": %d}`, i)})
		}
	})
	defer wg.Wait()
	defer stop()
	for _, size := range [][2]int64{{1280, 800}, {390, 844}} {
		for _, theme := range []string{"light", "dark"} {
			b.size(size[0], size[1])
			b.theme(theme)
			b.open(c.page())
			b.await("every group has a leader", "document.querySelectorAll('.groups tbody .lead').length === 5")
			b.await("every node leads again", "[...document.querySelectorAll('.picture .card')].every((e) => e.querySelector('.cell.on'))")
			b.await("the throughput is known", "Number.parseFloat(document.querySelector('.picture .middle .big')?.textContent) > 0")
			b.await("what happened is known", "document.querySelector('.event')")
			b.shoot(filepath.Join(screenshots, fmt.Sprintf("page-%d-%s.png", size[0], theme)))
		}
	}
	b.size(1280, 800)
}

// BenchmarkMeasurePage opens the page of a running cluster in an empty browser:
// how long until the picture has its nodes, and what was sent for it.
func BenchmarkMeasurePage(tb *testing.B) {
	if _, err := exec.LookPath("chromium"); err != nil {
		tb.Skip("there is no chromium on the PATH")
	}
	c := newCluster(tb, manifest{})
	c.start()
	var times, sizes []float64
	for tb.Loop() {
		b := newBrowser(tb)
		b.onLoad(`new MutationObserver((_, o) => {
			if (document.querySelectorAll('.picture .card').length < 3) return;
			o.disconnect();
			requestAnimationFrame(() => requestAnimationFrame(() => (window.picture = performance.now())));
		}).observe(document, {subtree: true, childList: true})`)
		b.open(c.page())
		b.await("the picture is there", "window.picture > 0")
		times = append(times, ask[float64](b, "window.picture"))
		sizes = append(sizes, ask[float64](b, "performance.getEntries().filter((e) => e.name.includes('/ui/') || e.entryType === 'navigation').reduce((n, e) => n + e.encodedBodySize, 0)"))
	}
	slices.Sort(times)
	tb.ReportMetric(0, "ns/op")
	tb.ReportMetric(times[len(times)/2], "ms-picture-p50")
	tb.ReportMetric(times[len(times)-1], "ms-picture-max")
	tb.ReportMetric(sizes[0]/1000, "kB-sent")
}
