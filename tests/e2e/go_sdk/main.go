// Command go_sdk lives through a rollout as an application does, and prints what it saw as one JSON object per
// line. Its arguments are the server's address and the service. It goes on to the end of the rollout when a line
// comes in.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	optimizer "github.com/llm-auto-optimizer/go-sdk"
)

const (
	units = 200
	calls = 40
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	service := os.Args[2]
	scope := optimizer.Scope{Service: service}
	client := optimizer.NewClient(optimizer.Config{Endpoint: os.Args[1], PollInterval: time.Hour})
	started := time.Now()

	config := optimizer.LLMConfig{Provider: "openai", Model: "gpt-4o", Temperature: 0.7, TopP: 1, MaxTokens: 1024}
	first := must(client.UpdateConfig(ctx, optimizer.ConfigUpdateRequest{Config: config, Reason: "first", Service: service}))
	served := must(client.GetConfigForService(ctx, service, ""))
	show(map[string]any{"updated": first.Version, "served": served.Version, "model": served.Model})

	for n := 0; n < calls; n++ {
		call := optimizer.WithCall(ctx, fmt.Sprint("user-", n))
		check(client.Track(call, service, "/api/chat", func(ctx context.Context, tracker *optimizer.RequestTracker) error {
			must(tracker.Config(ctx))
			tracker.SetTokens(150, 500)
			return nil
		}))
	}
	check(client.Flush(ctx))
	check(client.ReportMetrics(ctx, optimizer.Metrics{
		Timestamp: time.Now().UnixMilli(), Service: service, Endpoint: "/api/chat", Model: "gpt-4o", Provider: "openai",
		LatencyMs: 1234, TokensInput: 150, TokensOutput: 500, TokensTotal: 650, CostUsd: 0.0325, StatusCode: 200,
	}))
	counted := 0.0
	for counted < calls+1 && ctx.Err() == nil {
		counted = count(ctx, client, service, started)
	}
	show(map[string]any{"counted": counted, "dropped": client.DroppedReports()})

	policy := must(client.GetPolicy(ctx, service))
	policy["rollout"] = map[string]any{"strategy": "canary", "steps": []float64{50, 100}, "stepSeconds": 600}
	must(client.PutPolicy(ctx, service, policy))
	config.Temperature = 0.2
	rollout := must(client.UpdateConfig(ctx, optimizer.ConfigUpdateRequest{
		Config: config, Reason: "cooler", Service: service, DeploymentStrategy: "canary",
	}))
	await(ctx, func() bool { return client.ConfigFor("user-0", scope).DeploymentID == rollout.DeploymentID })
	assigned := map[string]string{}
	for n := 0; n < units; n++ {
		unit := fmt.Sprint("user-", n)
		assigned[unit] = client.ConfigFor(unit, scope).Version
	}
	show(map[string]any{"canary": rollout.Version, "assigned": assigned})

	bufio.NewScanner(os.Stdin).Scan()
	updates := must(client.SubscribeConfigUpdates(ctx, scope))
	<-updates
	must(client.AbortDeployment(ctx, rollout.DeploymentID, "seen enough"))
	await(ctx, func() bool { return client.ConfigFor("user-0", scope).DeploymentID == "" })
	left := must(client.GetConfigForService(ctx, service, ""))
	check(client.Close(ctx))
	show(map[string]any{"temperature": left.Temperature, "dropped": client.DroppedReports()})
}

// count gives how many requests the server's analytics know of.
func count(ctx context.Context, client *optimizer.Client, service string, since time.Time) float64 {
	answer := must(client.QueryMetrics(ctx, optimizer.MetricsQuery{
		Services: []string{service},
		Metrics:  []string{"requests.count"},
		TimeRange: optimizer.TimeRange{
			Start: since.Add(-time.Minute).UnixMilli(), End: time.Now().Add(time.Minute).UnixMilli(),
		},
	}))
	sum := 0.0
	for _, point := range answer.Metrics[0].DataPoints {
		sum += point.Value
	}
	return sum
}

func await(ctx context.Context, holds func() bool) {
	for !holds() {
		check(ctx.Err())
		time.Sleep(20 * time.Millisecond)
	}
}

func show(seen map[string]any) {
	check(json.NewEncoder(os.Stdout).Encode(seen))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
