package optimizer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	optimizer "github.com/llm-auto-optimizer/go-sdk"
)

// newServer stands for the optimizer: it has one configuration, takes every report, and knows no deployment.
func newServer() *httptest.Server {
	routes := http.NewServeMux()
	routes.HandleFunc("/api/v1/config/service/chat-service", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"service": "chat-service", "version": "chat-service@1", "config": {"provider": "anthropic",
			"model": "claude-sonnet-4", "temperature": 0.7, "topP": 1, "maxTokens": 1024, "streaming": false,
			"functionCalling": false, "visionEnabled": false}}`)
	})
	routes.HandleFunc("/api/v1/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"accepted": 1, "rejected": 0}`)
	})
	routes.HandleFunc("/api/v1/deployments/", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error": {"code": "NOT_FOUND", "message": "unknown deployment", "retryable": false},
			"requestId": "req-1", "timestamp": 0}`)
	})
	return httptest.NewServer(routes)
}

// Each call is made with the configuration of its unit, and reported in the background.
func ExampleClient_Track() {
	server := newServer()
	defer server.Close()
	client := optimizer.NewClient(optimizer.Config{Endpoint: server.URL, PollOnly: true})

	ctx := optimizer.WithCall(context.Background(), "user-1")
	err := client.Track(ctx, "chat-service", "", func(ctx context.Context, tracker *optimizer.RequestTracker) error {
		config, err := tracker.Config(ctx)
		if err != nil {
			return err
		}
		fmt.Println(config.Version, config.Model) // call it here
		tracker.SetTokens(150, 500)
		return nil
	})
	fmt.Println(err, client.Close(context.Background()))
	// Output:
	// chat-service@1 claude-sonnet-4
	// <nil> <nil>
}

// A configuration is told as soon as it is known, and again whenever it changes.
func ExampleClient_SubscribeConfigUpdates() {
	server := newServer()
	defer server.Close()
	client := optimizer.NewClient(optimizer.Config{Endpoint: server.URL, PollOnly: true})
	defer client.Close(context.Background())

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	updates, err := client.SubscribeConfigUpdates(ctx, optimizer.Scope{Service: "chat-service"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println((<-updates).Version)
	// Output: chat-service@1
}

// Errors are told apart by their code, and say which request it was.
func ExampleAPIError() {
	server := newServer()
	defer server.Close()
	client := optimizer.NewClient(optimizer.Config{Endpoint: server.URL})
	defer client.Close(context.Background())

	_, err := client.GetDeployment(context.Background(), "dep-1")
	var failed *optimizer.APIError
	fmt.Println(errors.Is(err, optimizer.ErrNotFound), errors.As(err, &failed))
	fmt.Println(failed.Status, failed.Retryable, failed.RequestID)
	// Output:
	// true true
	// 404 false req-1
}
