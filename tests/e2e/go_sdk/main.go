// An application that steers a canary and serves units under it, and prints what it saw as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	optimizer "github.com/llm-auto-optimizer/go-sdk"
)

const (
	service = "go-application"
	calls   = 40
	units   = 200
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client := optimizer.NewClient(optimizer.Config{Endpoint: os.Args[1]})

	change := optimizer.ConfigUpdateRequest{
		Service: service,
		Reason:  "a first configuration",
		Config:  optimizer.LLMConfig{Provider: "openai", Model: "gpt-4o", TopP: 1, MaxTokens: 256},
	}
	must(client.UpdateConfig(ctx, change))
	config := must(client.GetConfigForService(ctx, service, ""))
	for i := 0; i < calls; i++ {
		tracker := client.NewRequestTracker(service, "/chat")
		tracker.SetConfig(config)
		tracker.SetTokens(10, 5)
		tracker.Done()
	}
	if err := client.Flush(ctx); err != nil {
		log.Fatal(err)
	}

	change.Config.Model, change.Reason, change.DeploymentStrategy = "gpt-4o-mini", "cheaper", "canary"
	deployment := must(client.UpdateConfig(ctx, change)).DeploymentID
	scope := optimizer.Scope{Service: service}
	for client.ConfigFor("any", scope).DeploymentID != deployment {
		if ctx.Err() != nil {
			log.Fatal("the rollout did not reach the client")
		}
		time.Sleep(20 * time.Millisecond)
	}
	assigned := map[string]string{}
	for i := 0; i < units; i++ {
		unit := fmt.Sprintf("user-%d", i)
		assigned[unit] = client.ConfigFor(unit, scope).Version
	}
	if err := client.Close(ctx); err != nil {
		log.Fatal(err)
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"service": service, "calls": calls, "dropped": client.DroppedReports(),
		"first": config.Version, "deployment": deployment, "assigned": assigned,
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
