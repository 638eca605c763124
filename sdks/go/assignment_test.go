package optimizer

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
)

func TestAssignmentVectors(t *testing.T) {
	content, err := os.ReadFile("../../tests/vectors/assignment.json")
	check(t, err)
	var file struct {
		Vectors []struct {
			Salt, Unit   string
			Hash, Bucket uint32
		}
	}
	check(t, json.Unmarshal(content, &file))
	if len(file.Vectors) < 50 {
		t.Fatalf("only %d vectors", len(file.Vectors))
	}
	for _, v := range file.Vectors {
		if hash := murmur3([]byte(v.Salt + ":" + v.Unit)); hash != v.Hash {
			t.Errorf("hash of %q: %d, not %d", v.Unit, hash, v.Hash)
		}
		if place := bucket(v.Salt, v.Unit); place != v.Bucket {
			t.Errorf("bucket of %q: %d, not %d", v.Unit, place, v.Bucket)
		}
	}
}

func TestALargerShareKeepsThoseWhoHaveTheCanary(t *testing.T) {
	before := map[string]bool{}
	for _, share := range []float64{0, 5, 25, 50, 95, 100} {
		now := map[string]bool{}
		for n := 0; n < 2000; n++ {
			if unit := fmt.Sprintf("user-%d", n); takesCanary("dep-1", unit, share) {
				now[unit] = true
			} else if before[unit] {
				t.Errorf("%s lost the canary at %v %%", unit, share)
			}
		}
		if got := float64(len(now)) / 2000; math.Abs(got-share/100) > 0.04 {
			t.Errorf("%v of the units at %v %%", got, share)
		}
		before = now
	}
}

func TestWithoutAUnitEachCallIsDrawn(t *testing.T) {
	count := func(share float64) (drawn int) {
		for n := 0; n < 4000; n++ {
			if takesCanary("dep-1", "", share) {
				drawn++
			}
		}
		return drawn
	}
	if none, some, all := count(0), count(25), count(100); none != 0 || some < 800 || some > 1200 || all != 4000 {
		t.Errorf("drawn %d, %d, %d of 4000", none, some, all)
	}
}
