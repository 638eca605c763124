//go:build race

package optimizer

// slowdown is what the race detector may cost.
const slowdown = 20
