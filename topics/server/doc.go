// Package server is the door of a node: client sessions over TCP, which speak
// the text protocol, and the node's HTTP. What is behind the door is a Backend.
//
// The way of a publish: readLoop reads a request, puts its reply into the
// session's queue, and gives the record batch to Backend.Publish; whenever the
// backend has an outcome it calls Complete; writeLoop writes the replies that are
// done, as many as there are in one write. readLoop waits for the outcome of
// earlier requests only where a budget is used up, or where a 65th topic would
// have to be made at the same time. Publishes to a topic that is being made wait
// behind each other, and hold up no others.
//
// Invariants, each held by a test or a transcript of that story:
//
//	Order:     replies leave in the order of the requests; only those with a tag
//	           overtake (order.txt).
//	OwnWrites: a read sees what was published before it on the same connection
//	           (session.txt, TestReadsAskForTheirLevel).
//	Bounded:   what is unanswered is bounded for a session and for the node; who
//	           is over a bound waits. A subscription holds a position, not
//	           messages (TestUnansweredRequestsAreBounded,
//	           TestTheNodesBudgetIsShared).
//	SlowIsCut: a client that takes nothing is told, then cut. It slows no topic;
//	           until it is cut it holds its session's budget of what the node has
//	           for all (TestASlowSubscriberIsTold, TestAClientThatTakesNothingIsCut).
//	ByTime:    in order of time nothing is lost or given twice, what is late says
//	           so, nothing waits longer than maxdelay, and what waits holds few
//	           bytes (TestOrderByTimeLosesNothing, TestOrderByTimeHoldsLittle,
//	           TestOrderByTimeWaitsAsLongAsItIsTold).
//
// Not here: the bytes of the protocol (topics/wire), what a publish means
// (topics), raft. Fake is a Backend for tests. Start reading at Backend, then
// session.handle and session.writeLoop.
package server
