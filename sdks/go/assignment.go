package optimizer

import (
	"encoding/binary"
	"math/bits"
	"math/rand"
)

const buckets = 10_000

// takesCanary says whether the unit gets the canary at this share (0..100). Without a unit it is drawn anew
// each time.
func takesCanary(deploymentID, unit string, trafficPercent float64) bool {
	place := uint32(0)
	if unit == "" {
		place = uint32(rand.Intn(buckets))
	} else {
		place = bucket(deploymentID, unit)
	}
	return float64(place) < trafficPercent*100
}

// bucket is the unit's place, 0..9999: MurmurHash3_x86_32 of "salt:unit" in UTF-8, seed 0, modulo 10,000.
func bucket(salt, unit string) uint32 {
	return murmur3([]byte(salt+":"+unit)) % buckets
}

// murmur3 is MurmurHash3_x86_32 with seed 0 (Austin Appleby, MurmurHash3.cpp of SMHasher).
func murmur3(data []byte) uint32 {
	const c1, c2 = 0xcc9e2d51, 0x1b873593
	var hash uint32
	length := uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		hash ^= bits.RotateLeft32(binary.LittleEndian.Uint32(data)*c1, 15) * c2
		hash = bits.RotateLeft32(hash, 13)*5 + 0xe6546b64
	}
	var tail uint32
	for i, b := range data {
		tail |= uint32(b) << (8 * i)
	}
	hash ^= bits.RotateLeft32(tail*c1, 15) * c2
	hash ^= length
	hash = (hash ^ hash>>16) * 0x85ebca6b
	hash = (hash ^ hash>>13) * 0xc2b2ae35
	return hash ^ hash>>16
}
