package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// serverError is a refusal by the controller. It carries the reason and the
// message of the metav1.Status (or of the gateway's error object) that came
// back, and prints as kubectl prints it.
type serverError struct {
	Code    int    // HTTP status
	Reason  string // NotFound, Conflict, Invalid, …
	Message string
}

func (e *serverError) Error() string {
	return fmt.Sprintf("Error from server (%s): %s", e.Reason, e.Message)
}

// usageError is a mistake in the command's arguments or flags.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%v\nSee '%s --help' for usage.", e.err, e.command)
}

func (e *usageError) Unwrap() error { return e.err }

// silentError ends the program with status 1 after the reason was printed.
type silentError struct{}

func (silentError) Error() string { return "already reported" }

// exitCoder is what an error implements to end the program with a status of
// its own, as a node's error does when it must not be started again.
type exitCoder interface{ ExitCode() int }

// report prints err for a person and returns the process's exit status.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	status := 1
	var coder exitCoder
	if errors.As(err, &coder) && coder.ExitCode() > 0 {
		status = coder.ExitCode()
	}
	if errors.As(err, &silentError{}) {
		return status
	}
	printError(w, err)
	return status
}

// printError prints err on w in the form that fits its kind.
func printError(w io.Writer, err error) {
	text := strings.TrimRight(err.Error(), "\n")
	var server *serverError
	if errors.As(err, &server) {
		fmt.Fprintln(w, text)
		return
	}
	fmt.Fprintln(w, "error: "+text)
}
