package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// The script of the README: every line that goes in comes out on every node,
// byte for byte, although the leader of the topic dies three times meanwhile.
func TestSeqSurvivesThreeKills(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts real clusters")
	}
	path := filepath.Join(t.TempDir(), "input")
	write(t, path, func(w *bufio.Writer) {
		for i := 1; i <= 200_000; i++ {
			w.WriteString(strconv.Itoa(i))
			w.WriteByte('\n')
		}
	})
	linesSurvive(t, "numbers", path)
}

// The same with what lines may be: empty, invalid UTF-8, control bytes, CR, and
// 100 KB long; 50 MB of them.
func TestOddLinesSurviveThreeKills(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts real clusters")
	}
	random := rand.New(rand.NewPCG(7, 7))
	path := filepath.Join(t.TempDir(), "input")
	write(t, path, func(w *bufio.Writer) {
		for size := 0; size < 50_000_000; {
			line := oddLine(random)
			w.Write(line)
			w.WriteByte('\n')
			size += len(line) + 1
		}
	})
	linesSurvive(t, "odd", path)
}

// oddLine makes a line without LF.
func oddLine(random *rand.Rand) []byte {
	switch random.IntN(8) {
	case 0, 1, 2:
		return nil
	case 3:
		return []byte("plain text\r")
	case 4:
		return []byte("\xff\xfe\x00\x80 not UTF-8 \xc3\x28")
	case 5:
		return bytes.Repeat([]byte{byte(11 + random.IntN(200))}, random.IntN(1000))
	case 6:
		if random.IntN(20) > 0 {
			return []byte("ends with spaces   ")
		}
		line := make([]byte, 100<<10)
		for i := range line {
			if line[i] = byte(random.Uint32()); line[i] == '\n' {
				line[i] = '\r'
			}
		}
		return line
	default:
		return fmt.Appendf(nil, "+ACK %d\x1b[0m", random.IntN(1000))
	}
}

func write(t *testing.T, path string, fill func(*bufio.Writer)) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(file, 1<<20)
	fill(w)
	if err := errors.Join(w.Flush(), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// linesSurvive publishes a file line by line, kills the leader of the topic
// three times meanwhile, and compares what each node holds with the file.
func linesSurvive(t *testing.T, topic, path string) {
	c := newCluster(t, manifest{})
	c.start()
	input, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	info, err := input.Stat()
	if err != nil {
		t.Fatal(err)
	}
	slow := &gate{r: input, size: info.Size(), openc: make(chan struct{}, 4)}
	cmd := c.command("pub", topic, "-", "-q")
	cmd.Stdin = slow
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for kill := range 3 {
		slow.openc <- struct{}{}
		eventually(t, 60*time.Second, "some more lines are stored", func() error {
			if n, err := c.stored(topic); err != nil || n < 10*(kill+1) {
				return fmt.Errorf("%d messages, %v", n, err)
			}
			return nil
		})
		leader := c.leader(topic)
		c.signal(leader, syscall.SIGKILL)
		c.awaitReady(c.others(leader)...)
		eventually(t, 30*time.Second, "another node leads", func() error {
			if now := c.leader(topic); now == leader && !c.restarted(leader) {
				return fmt.Errorf("%s still does", now)
			}
			return nil
		})
		c.awaitReady(c.names...)
	}
	slow.openc <- struct{}{}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("pub: %v\n%s", err, problem.String())
	}
	t.Logf("%s", out.String())
	want := sumOf(t, func(h hash.Hash) error {
		_, err := input.Seek(0, io.SeekStart)
		if err == nil {
			_, err = io.Copy(h, input)
		}
		return err
	})
	c.awaitSettled()
	for _, node := range c.names {
		got := sumOf(t, func(h hash.Hash) error {
			history := c.command("history", topic, "--node", node, "-o", "value")
			history.Stdout, history.Stderr = h, os.Stderr
			return history.Run()
		})
		if got != want {
			t.Errorf("%s: what came back differs from what was published", node)
		}
	}
	c.run("down")
}

// gate lets a quarter of its input through each time it is opened, so that a
// kill falls between.
type gate struct {
	r     io.Reader
	size  int64
	openc chan struct{}
	left  int64
}

func (g *gate) Read(p []byte) (int, error) {
	if g.left <= 0 {
		<-g.openc
		g.left = g.size/4 + 1
	}
	n, err := g.r.Read(p[:min(int64(len(p)), g.left)])
	g.left -= int64(n)
	return n, err
}

func sumOf(t *testing.T, fill func(hash.Hash) error) string {
	t.Helper()
	h := sha256.New()
	if err := fill(h); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// stored is the number of messages of a topic of one partition.
func (c *cluster) stored(topic string) (int, error) {
	lines, err := c.topics()
	if err != nil {
		return 0, err
	}
	for _, line := range lines {
		if line.Topic == topic {
			return int(line.Next), nil
		}
	}
	return 0, nil
}

// restarted says whether a node has been started again by the controller.
func (c *cluster) restarted(node string) bool {
	nodes, err := c.nodes()
	return err == nil && nodes[node].Status.Restarts > 0
}
