//go:build planted_promise_unbound

package sim

const planted = "promise_unbound"
