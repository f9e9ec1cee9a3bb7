//go:build planted_promise_unbound

package topics

const plantedPromiseUnbound = true
