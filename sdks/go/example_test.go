package optimizer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	optimizer "github.com/llm-auto-optimizer/go-sdk"
)

// server stands for the optimizer.
func server() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			fmt.Fprint(w, `{"accepted": 1, "rejected": 0}`)
		case r.URL.Path == "/api/v1/config/service/chat-service":
			fmt.Fprint(w, `{"service": "chat-service", "version": "chat-service@3",
				"config": {"provider": "anthropic", "model": "claude-sonnet-4", "temperature": 0.2}}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error": {"code": "NOT_FOUND", "message": "no configuration yet", "retryable": false}}`)
		}
	}))
}

func ExampleClient_Track() {
	server := server()
	defer server.Close()
	client := optimizer.NewClient(optimizer.Config{Endpoint: server.URL})
	defer client.Close(context.Background())

	ctx := optimizer.WithCall(context.Background(), "user-1")
	err := client.Track(ctx, "chat-service", "/api/chat",
		func(ctx context.Context, tracker *optimizer.RequestTracker) error {
			config, err := tracker.Config(ctx)
			if err != nil {
				return err
			}
			fmt.Println("calling", config.Model, "as", config.Version, "says")
			tracker.SetTokens(150, 500)
			return nil
		})
	fmt.Println(err)
	// Output:
	// calling claude-sonnet-4 as chat-service@3 says
	// <nil>
}

func ExampleAPIError() {
	server := server()
	defer server.Close()
	client := optimizer.NewClient(optimizer.Config{Endpoint: server.URL})
	defer client.Close(context.Background())

	_, err := client.GetConfig(context.Background())
	var failed *optimizer.APIError
	fmt.Println(errors.Is(err, optimizer.ErrNotFound), errors.As(err, &failed), failed.Status, failed.Retryable)
	// Output: true true 404 false
}

func ExampleClient_SubscribeConfigUpdates() {
	server := server()
	defer server.Close()
	client := optimizer.NewClient(optimizer.Config{Endpoint: server.URL})
	defer client.Close(context.Background())

	updates, err := client.SubscribeConfigUpdates(context.Background(), optimizer.Scope{Service: "chat-service"})
	if err != nil {
		panic(err)
	}
	update := <-updates
	fmt.Println(update.Version, update.Config.Model)
	// Output: chat-service@3 claude-sonnet-4
}
