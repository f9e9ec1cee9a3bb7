//go:build planted_vote_not_persisted

package sim

const planted = "vote_not_persisted"
