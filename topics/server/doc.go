// Package server is the door of a node: client sessions over TCP, which speak
// the text protocol, and the node's HTTP. Everything behind the door is a
// Backend.
package server
