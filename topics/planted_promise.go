//go:build !planted_promise_unbound

package topics

// plantedPromiseUnbound is a bug that tests build in to see that it is caught:
// a promise is believed before what was on its way when it was given is applied.
const plantedPromiseUnbound = false
