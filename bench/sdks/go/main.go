// Command go is the Go SDK's part of bench.sdks: it prints one JSON line of figures. Its argument is the file of
// the scenario.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"time"

	optimizer "github.com/llm-auto-optimizer/go-sdk"
)

const (
	rounds = 21
	calls  = 500
	queued = 10_000
)

var sink int

// bare is an LLM call that costs nothing.
//
//go:noinline
func bare() int { return 1 }

func tracked(client *optimizer.Client) {
	call := optimizer.WithCall(context.Background(), "user-1")
	tracker := client.NewRequestTracker("chat", "/api/chat")
	if _, err := tracker.Config(call); err != nil {
		log.Fatal(err)
	}
	sink += bare()
	tracker.SetTokens(150, 500)
	tracker.SetCost(0.0325)
	tracker.SetRequestID("550e8400-e29b-41d4-a716-446655440000")
	tracker.Done()
}

// microseconds is the best round's time per call: other work of the machine only makes rounds longer.
func microseconds(call func()) float64 {
	best := math.Inf(1)
	for round := 0; round < rounds; round++ {
		started := time.Now()
		for n := 0; n < calls; n++ {
			call()
		}
		best = min(best, float64(time.Since(started).Nanoseconds())/calls/1000)
	}
	return best
}

func heap() float64 {
	var read runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&read)
	return float64(read.HeapAlloc) / 1e6
}

func main() {
	scenario, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	// A service under rollout, and no database for reports.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write(scenario)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	clientOf := func() *optimizer.Client {
		quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
		return optimizer.NewClient(optimizer.Config{Endpoint: server.URL, PollOnly: true, Logger: quiet})
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()

	client := clientOf()
	tracked(client)
	trackedUs := microseconds(func() { tracked(client) })
	bareUs := microseconds(func() { sink += bare() })
	_ = client.Close(ended)

	client = clientOf()
	tracked(client)
	before := heap()
	for n := 0; n < queued; n++ {
		tracked(client)
	}
	queuedMB := heap() - before
	_ = client.Close(ended)
	fmt.Printf("{\"bareUs\": %g, \"trackedUs\": %g, \"queuedMB\": %g}\n", bareUs, trackedUs, queuedMB)
}
