// Package proc starts the processes of nodes, sees them end, and signals them.
//
// A process is meant by its Identity: pid, start time and boot id together.
// A pid alone says nothing, because the system gives it to the next process;
// no signal leaves this package before the identity has been compared. On
// Linux a pidfd is held from then on, so that not even the moment between
// comparing and signalling is open; elsewhere it is, and the files say so.
//
// Processes outlive whoever started them: each has a session of its own and
// writes to an append file, never through a pipe. OS.Close forgets them and
// ends none.
//
// Two kinds of Processes pass the same contract test: OS, and Fake with
// scripted exits for tests.
//
// Not here: whether a node should run (controller/plan), when it is tried
// again (controller), what a node answers about itself (controller).
// Start reading at Processes.
package proc
