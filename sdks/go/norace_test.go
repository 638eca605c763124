//go:build !race

package optimizer

const slowdown = 1
