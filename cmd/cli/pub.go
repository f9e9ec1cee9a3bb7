package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// pubInFlight is how many messages may be sent and not yet printed.
const pubInFlight = 8192

// pubFlags are the flags of pub, as they were written.
type pubFlags struct {
	key, id string
	headers []string
	count   int
	quiet   bool

	hasKey, hasID bool
}

// pubCommand publishes a text, or the lines of standard input.
func (a *app) pubCommand() *cobra.Command {
	var f pubFlags
	cmd := &cobra.Command{
		Use:   "pub TOPIC[/PARTITION] [TEXT|-]",
		Short: "Publish messages",
		Long: `Publishes TEXT, or with - (or without TEXT) one message per line of standard
input, and prints a receipt for each. Lines end in LF and nothing else: CR stays,
an empty line is an empty message, and the last line needs no LF.

Messages are sent without waiting for each other, under a producer name of their
own, so their order and that each is stored once survive the death of a node. A
message that is refused, or whose outcome stays unknown, ends the command with an
error that names its line.`,
		Example: `  wiberctl pub orders 'two coffees' --key table-7
  seq 1000 | wiberctl pub numbers - -q`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeTopic,
		Annotations:       map[string]string{outputsKey: "json"},
		RunE: func(cmd *cobra.Command, args []string) error {
			text := "-"
			if len(args) == 2 {
				text = args[1]
			}
			f.hasKey, f.hasID = cmd.Flags().Changed("key"), cmd.Flags().Changed("id")
			m, err := f.message(args[0], text)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			return a.pub(cmd.Context(), f, m, text == "-")
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "the messages' `key`: equal keys go to one partition")
	flags.StringVar(&f.id, "id", "", "the message's `id`: of several with one id the topic keeps the first")
	flags.StringArrayVar(&f.headers, "header", nil, "a `name=value` beside the message; may be repeated")
	flags.IntVar(&f.count, "count", 1, "publish TEXT `N` times")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print one line at the end instead of a receipt each")
	nodesFlag(cmd)
	return cmd
}

// message checks the flags and makes what all messages have in common.
func (f *pubFlags) message(topic, text string) (client.Message, error) {
	m := client.Message{Topic: topic, Value: []byte(text)}
	switch {
	case f.count < 1:
		return m, errors.New("--count is 1 or more")
	case text == "-" && f.count > 1:
		return m, errors.New("--count repeats a TEXT, not the lines of standard input")
	case text == "-" && f.hasID:
		return m, errors.New("--id with the lines of standard input would keep only the first of them")
	case f.hasID && f.id == "":
		return m, errors.New("--id is empty")
	}
	if f.hasKey {
		m.Key = []byte(f.key)
	}
	if f.hasID {
		m.ID = []byte(f.id)
	}
	for _, h := range f.headers {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" {
			return m, fmt.Errorf("--header %q is not of the form name=value", h)
		}
		m.Headers = append(m.Headers, wire.Header{Name: []byte(name), Value: []byte(value)})
	}
	return m, nil
}

// published is what pub says at the end.
type published struct {
	Messages   int     `json:"messages"`
	Duplicates int     `json:"duplicates"`
	Seconds    float64 `json:"seconds"`
}

// pub sends everything and prints what became of it. One goroutine reads and
// sends, this one prints. It does not wait for the other after an error: that
// one may be reading a terminal, and ends with the process.
func (a *app) pub(ctx context.Context, f pubFlags, m client.Message, fromStdin bool) error {
	c, err := a.dial(ctx, "")
	if err != nil {
		return err
	}
	defer c.Close()
	producer, err := c.Producer(client.ProducerOptions{})
	if err != nil {
		return err
	}
	defer producer.Close()

	start := a.clock.Mono()
	next := repeat(m.Value, f.count)
	if fromStdin {
		next = newLineReader(a.stdin, v1alpha1.MaxMessageBytes).next
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	noun := "message"
	if fromStdin {
		noun = "line"
	}
	out := send(ctx, producer, m, next)

	sum := published{}
	p := newPrinter(a.stdout, a.output)
	take := func(r client.Result) error {
		if r.Err != nil {
			return outcomeError(r, noun, fromStdin || f.count > 1)
		}
		sum.Messages++
		if r.Receipt.Duplicate {
			sum.Duplicates++
		}
		if !f.quiet {
			if err := p.receipt(&r.Receipt); err != nil {
				return err
			}
		}
		<-out.tokens
		if len(out.resultc) > 0 {
			return nil
		}
		return p.flush()
	}
	if err := out.drain(take); err != nil {
		return errors.Join(p.flush(), err)
	}
	if out.err != nil {
		return fmt.Errorf("%w; %d %ss are acknowledged", out.err, sum.Messages, noun)
	}
	if f.quiet {
		sum.Seconds = (a.clock.Mono() - start).Seconds()
		return a.printPublished(m.Topic, sum)
	}
	return nil
}

// sending is what pub's two goroutines share.
type sending struct {
	tokens  chan struct{}      // one for each message that is sent and not yet taken
	resultc chan client.Result // outcomes in order; never full, because of tokens; never closed
	endc    chan struct{}      // closed when the last outcome is in resultc
	err     error              // why sending ended early; valid once endc is closed
}

// send starts sending what next returns until io.EOF or ctx ends.
func send(ctx context.Context, producer *client.Producer, m client.Message, next func() ([]byte, error)) *sending {
	out := &sending{
		tokens:  make(chan struct{}, pubInFlight),
		resultc: make(chan client.Result, pubInFlight),
		endc:    make(chan struct{}),
	}
	go func() {
		defer close(out.endc)
		out.err = out.run(ctx, producer, m, next)
		// An error of a message is reported as that message's outcome.
		if err := producer.Flush(ctx); ctx.Err() != nil && out.err == nil {
			out.err = err
		}
	}()
	return out
}

// run sends what next returns and says why it ended early.
func (out *sending) run(ctx context.Context, producer *client.Producer, m client.Message, next func() ([]byte, error)) error {
	for {
		value, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case out.tokens <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		m.Value = value
		if err := producer.Send(ctx, m, func(r client.Result) { out.resultc <- r }); err != nil {
			return err
		}
	}
}

// drain gives every outcome to take until the last or take's first error.
func (out *sending) drain(take func(client.Result) error) error {
	for {
		select {
		case r := <-out.resultc:
			if err := take(r); err != nil {
				return err
			}
			continue
		case <-out.endc:
		}
		for {
			select {
			case r := <-out.resultc:
				if err := take(r); err != nil {
					return err
				}
				continue
			default:
				return nil
			}
		}
	}
}

// repeat returns value count times, then io.EOF.
func repeat(value []byte, count int) func() ([]byte, error) {
	return func() ([]byte, error) {
		if count == 0 {
			return nil, io.EOF
		}
		count--
		return value, nil
	}
}

// outcomeError names the message that failed. All before it are acknowledged,
// because outcomes come in the order of the messages.
func outcomeError(r client.Result, noun string, several bool) error {
	if !several {
		return r.Err
	}
	return fmt.Errorf("%s %d: %w; the %d before it are acknowledged", noun, r.N, r.Err, r.N-1)
}

// printPublished prints the one line of -q.
func (a *app) printPublished(topic string, sum published) error {
	if a.output == "json" {
		return json.NewEncoder(a.stdout).Encode(sum)
	}
	elapsed := time.Duration(sum.Seconds * float64(time.Second)).Round(time.Millisecond)
	_, err := fmt.Fprintf(a.stdout, "%d messages acknowledged by %s in %s, %d of them duplicates\n", sum.Messages, topic, elapsed, sum.Duplicates)
	return err
}
