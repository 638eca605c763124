// Command go_sdk is an application on the Go SDK: lines of JSON in and out, as lines.py says.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	optimizer "github.com/llm-auto-optimizer/go-sdk"
)

type setup struct {
	API, Key, Service, Endpoint string
}

type asked struct {
	Unit         string
	RequestID    string `json:"requestId"`
	LatencyMs    float64
	TokensInput  int
	TokensOutput int
	CostUsd      float64
	Failed       bool
	Score        *float64
}

type answer struct {
	Version     string  `json:"version"`
	Model       string  `json:"model"`
	Temperature float64 `json:"temperature"`
	TookMs      float64 `json:"tookMs"`
}

type failed struct{}

func (failed) Error() string   { return "the provider failed" }
func (failed) StatusCode() int { return 503 }

type application struct {
	setup  setup
	client *optimizer.Client
	judged []optimizer.Quality
}

func main() {
	var given setup
	check(json.Unmarshal([]byte(os.Args[len(os.Args)-1]), &given))
	client := optimizer.NewClient(optimizer.Config{Endpoint: given.API, APIKey: given.Key})
	app := &application{setup: given, client: client}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var call asked
		check(json.Unmarshal(lines.Bytes(), &call))
		say(app.call(call))
	}
	check(lines.Err())
	app.end()
}

func (a *application) call(call asked) answer {
	started := time.Now()
	var config *optimizer.ServedConfig
	ctx := optimizer.WithCall(context.Background(), call.Unit)
	err := a.client.Track(ctx, a.setup.Service, a.setup.Endpoint,
		func(ctx context.Context, tracker *optimizer.RequestTracker) (err error) {
			if config, err = tracker.Config(ctx); err != nil {
				return err
			}
			tracker.SetRequestID(call.RequestID)
			time.Sleep(time.Duration(call.LatencyMs * float64(time.Millisecond)))
			if call.Failed {
				return failed{}
			}
			tracker.SetTokens(call.TokensInput, call.TokensOutput)
			tracker.SetCost(call.CostUsd)
			return nil
		})
	if !errors.As(err, &failed{}) {
		check(err)
	}
	if call.Score != nil {
		a.judged = append(a.judged, optimizer.Quality{
			Timestamp: time.Now().UnixMilli(), Service: a.setup.Service, RequestID: call.RequestID,
			OverallScore: *call.Score, EvaluationMethod: "judge",
		})
	}
	took := float64(time.Since(started)) / float64(time.Millisecond)
	return answer{config.Version, config.Model, config.Temperature, took}
}

func (a *application) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	check(a.client.Flush(ctx))
	check(a.client.ReportQualityBatch(ctx, a.judged))
	check(a.client.Close(ctx))
	say(map[string]any{"dropped": a.client.DroppedReports()})
}

func say(said any) { check(json.NewEncoder(os.Stdout).Encode(said)) }

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
