// Package controller keeps the wanted nodes running.
//
// It compares what is wanted (the Cluster objects of its store) with what it
// sees (processes, and what nodes answer over HTTP), and does what
// controller/plan says about the difference. Everything is level-triggered: a
// pass reads the world anew, and an event only makes the next pass come sooner.
//
// A work queue hands out keys, one worker per key at a time:
//
//	cluster/demo   makes the Node objects, sums up their status, and wakes
//	               the nodes that have something to do
//	node/demo/n1   sees how the process is, decides, acts on this one node,
//	               and writes its status
//
// Decisions are made under one lock, from what all nodes were last seen to be,
// and what was decided counts as seen at once. So two nodes are never stopped
// because each took the other for alive.
//
// Nodes are independent of the controller: they outlive it, and when it returns
// it adopts those that still live, by their start records or by the answer of the
// node on its port (adopt.go), without a restart. An adopted node is treated like
// one that this controller started. One that says it is somebody else, or that
// uses another data folder, is named and left alone.
//
// Whatever happens to an object is told by Controller.normal or warning; the
// recorder in events.go writes it.
//
// Lock order: Controller.applyMu, then Controller.mu. applyMu is held while a
// cluster's spec is changed: checks, write of the store and the making of Node
// objects. mu guards what the workers share; it is never held across I/O but a
// read of the store. holdMu is held while a hold is changed in memory and in the
// store, and mu may be taken under it. fileMu is held while the file that nodes read their cluster
// from is written, and no other lock is taken under it.
//
// Not here: HTTP (controller/apiserver), how processes work (controller/proc),
// what a node does (member). Start reading at Run and Controller.reconcileNode.
package controller
