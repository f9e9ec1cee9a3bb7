// Package e2e tests Wiber from outside: it builds wiberctl, starts controllers
// and nodes as processes, breaks them, and compares what every node holds with
// what was acknowledged.
//
// There is nothing here but tests. The long one is TestEndToEnd; it prints a
// line per run and is repeated with
//
//	make e2e RUNS=20
//
// Not here: exact repetition (member/sim), single commands (cmd/cli). Start
// reading at TestEndToEnd, then at history.check, which decides.
package e2e
