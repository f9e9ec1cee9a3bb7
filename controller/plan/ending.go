package plan

import (
	"fmt"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// Ending is how a process ended.
type Ending struct {
	// Asked: the controller had asked it to end.
	Asked bool
	// Known is false if nobody knows how it ended.
	Known bool
	// Code is the exit code; not 0 if a signal ended the process.
	Code int
	// How says the same for a person: "exit code 1", "signal SIGKILL".
	How string
	// Ran is how long the process had run.
	Ran time.Duration
}

// Outcome is what follows from an Ending.
type Outcome struct {
	// Failures is the number of ends in a row that nobody asked for.
	Failures int
	// Delay is how long to wait before the next start.
	Delay time.Duration
	// Halted says why there is no next start; empty if there is one.
	Halted string
}

// After says what follows from an end, after so many failures in a row before
// it. jitter is between -1 and 1 and moves the delay by up to a tenth.
//
// The delay doubles from backoff.initial to backoff.max. A run of twice the
// maximum forgets all failures before it. There is no last try.
func After(spec *v1alpha1.ClusterSpec, failures int, e Ending, jitter float64) Outcome {
	if e.Asked {
		return Outcome{}
	}
	if e.Ran >= 2*spec.Backoff.Max.Duration() {
		failures = 0
	}
	failures++
	return Outcome{
		Failures: failures,
		Delay:    Delay(spec.Backoff, failures, jitter),
		Halted:   halted(spec.RestartPolicy, e),
	}
}

func halted(policy v1alpha1.RestartPolicy, e Ending) string {
	switch {
	case e.Known && e.Code == v1alpha1.ExitNoRestart:
		return fmt.Sprintf("exit code %d: starting it again cannot help; see its log, then restart it", v1alpha1.ExitNoRestart)
	case policy == v1alpha1.RestartNever:
		return "restartPolicy is Never; it ended with " + e.How
	case policy == v1alpha1.RestartOnFailure && e.Known && e.Code == 0:
		return "restartPolicy is OnFailure; it ended with " + e.How
	}
	return ""
}

// Delay returns the pause after so many failures in a row, at least one.
func Delay(b v1alpha1.Backoff, failures int, jitter float64) time.Duration {
	d, most := b.Initial.Duration(), b.Max.Duration()
	for i := 1; i < failures && d < most; i++ {
		d *= 2
	}
	d = min(d, most)
	return d + time.Duration(float64(d)/10*max(-1, min(1, jitter)))
}
