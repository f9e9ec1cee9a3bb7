// Package wire is the text protocol of a node's client port: bytes in, structs
// out, and back. It opens no socket and starts no goroutine.
//
// A node reads requests with Reader and writes replies with the Append
// functions; a client writes requests with AppendRequest and reads replies with
// ReplyReader. Requests are read strictly: what is unknown, doubled or malformed
// is an *Error that can be sent back as it is. Replies are read leniently:
// fields that a later version adds are skipped.
//
// Invariants, each with a test of the same name:
//
//	RoundTrip:   what AppendRequest writes, Reader reads back; likewise replies.
//	KeepsFrame:  after an error that does not close, the next byte read is the
//	             first of the next request.
//	Bounded:     memory follows what was received, up to the limits, never what
//	             a length field promises.
//
// Not here: what a request does (topics, topics/server), retries (topics/client).
// The protocol for people is docs/protocol.md. Start reading at Reader.Next.
package wire
