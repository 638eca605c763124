package optimizer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"testing"
)

// vector is a call, what it does on the wire, and what its caller sees; the same for every SDK.
type vector struct {
	Name string
	Call struct {
		Method    string
		Arguments json.RawMessage
	}
	Exchanges []struct {
		Request struct {
			Method, Path string
			Query        map[string]any
			Headers      map[string]string
			Body         any
		}
		Response struct {
			Status  int
			Headers map[string]string
			Body    json.RawMessage
		}
	}
	Result  any
	Error   map[string]any
	Retries *int
}

func TestRequestVectors(t *testing.T) {
	const file = "../vectors/requests.json"
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("the calls that all SDKs share are to be in sdks/vectors/requests.json: %v", err)
	}
	var vectors struct{ Vectors []vector }
	check(t, json.Unmarshal(content, &vectors))
	if len(vectors.Vectors) == 0 {
		t.Fatalf("%s has no vectors", file)
	}
	for _, v := range vectors.Vectors {
		v := v
		t.Run(v.Name, func(t *testing.T) {
			replay := &replayServer{t: t, vector: v}
			server := httptest.NewServer(replay)
			defer server.Close()
			config := Config{Endpoint: server.URL, APIKey: "key-of-vectors", PollOnly: true, Logger: quiet()}
			if v.Retries != nil {
				config.Retries = *v.Retries
				if config.Retries == 0 {
					config.Retries = -1
				}
			}
			client := NewClient(config)
			defer client.Close(ctx)
			got, err := perform(t, client, v.Call.Method, v.Call.Arguments)
			if replay.next != len(v.Exchanges) {
				t.Errorf("%d of %d requests", replay.next, len(v.Exchanges))
			}
			if v.Error == nil {
				check(t, err)
				contains(t, "result", v.Result, wire(t, got))
				return
			}
			var failed *APIError
			if !errors.As(err, &failed) || !errors.Is(err, byCode[failed.Code]) {
				t.Fatalf("no error of the API: %v", err)
			}
			contains(t, "error", v.Error, wire(t, map[string]any{
				"code": failed.Code, "status": failed.Status, "retryable": failed.Retryable,
				"requestId": failed.RequestID, "message": failed.Message, "details": failed.Details,
			}))
		})
	}
}

// perform makes the call by its name in the vectors.
func perform(t *testing.T, c *Client, method string, arguments json.RawMessage) (any, error) {
	switch method {
	case "getConfig":
		of := read[struct{ Service, Endpoint, Unit string }](t, arguments)
		call := WithCall(ctx, of.Unit)
		if of.Service == "" {
			return c.GetConfig(call)
		}
		return c.GetConfigForService(call, of.Service, of.Endpoint)
	case "reportMetrics":
		return answered(1, c.ReportMetrics(ctx, read[Metrics](t, arguments)))
	case "reportMetricsBatch":
		batch := read[[]Metrics](t, arguments)
		return answered(len(batch), c.ReportMetricsBatch(ctx, batch))
	case "reportQuality":
		return answered(1, c.ReportQuality(ctx, read[Quality](t, arguments)))
	case "queryMetrics":
		return c.QueryMetrics(ctx, read[MetricsQuery](t, arguments))
	case "getHistory":
		return c.GetHistory(ctx, read[HistoryQuery](t, arguments))
	case "triggerOptimization":
		return c.TriggerOptimization(ctx, read[OptimizationRequest](t, arguments))
	case "getHealth":
		return c.GetHealth(ctx)
	case "getStatus":
		return c.GetStatus(ctx)
	}
	t.Fatalf("the runner does not know the method %s", method)
	return nil, nil
}

// answered is what a report's caller knows: all was taken, or the error says what was not.
func answered(count int, err error) (any, error) {
	var rejected *RejectedError
	if errors.As(err, &rejected) {
		return rejected, nil
	}
	return map[string]any{"accepted": count, "rejected": 0}, err
}

func read[T any](t *testing.T, arguments json.RawMessage) T {
	t.Helper()
	var value T
	decoder := json.NewDecoder(bytes.NewReader(arguments))
	decoder.DisallowUnknownFields()
	check(t, decoder.Decode(&value))
	return value
}

// wire gives a value as JSON has it.
func wire(t *testing.T, value any) any {
	t.Helper()
	encoded, err := json.Marshal(value)
	check(t, err)
	var decoded any
	check(t, json.Unmarshal(encoded, &decoded))
	return decoded
}

// contains fails where got lacks something of want. Lists are compared in full.
func contains(t *testing.T, where string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		fields, _ := got.(map[string]any)
		for name, value := range want {
			if _, there := fields[name]; !there && value != nil {
				t.Errorf("%s has no %s: %v", where, name, got)
				continue
			}
			contains(t, where+"."+name, value, fields[name])
		}
	case []any:
		items, _ := got.([]any)
		if len(items) != len(want) {
			t.Errorf("%s is %v, not %v", where, got, want)
			return
		}
		for i := range want {
			contains(t, where, want[i], items[i])
		}
	default:
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s is %v, not %v", where, got, want)
		}
	}
}

// replayServer answers a vector's exchanges in order, and checks each request.
type replayServer struct {
	t      *testing.T
	vector vector
	next   int
	key    string
}

func (s *replayServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.next >= len(s.vector.Exchanges) {
		s.t.Errorf("one request too many: %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusTeapot)
		return
	}
	exchange := s.vector.Exchanges[s.next]
	s.next++
	want := exchange.Request
	if r.Method != want.Method || r.URL.EscapedPath() != want.Path {
		s.t.Errorf("%s %s, not %s %s", r.Method, r.URL, want.Method, want.Path)
	}
	query := r.URL.Query()
	query.Del("unit") // the client's own: units of calls are assigned without a request
	got := map[string]any{}
	for name, values := range query {
		got[name] = values[0]
		if len(values) > 1 {
			got[name] = wire(s.t, values)
		}
	}
	if !reflect.DeepEqual(got, want.Query) {
		s.t.Errorf("query %v, not %v", got, want.Query)
	}
	for name, value := range want.Headers {
		if r.Header.Get(name) != value {
			s.t.Errorf("%s is %q, not %q", name, r.Header.Get(name), value)
		}
	}
	var body any
	if content, _ := io.ReadAll(r.Body); len(content) > 0 {
		check(s.t, json.Unmarshal(content, &body))
	}
	if !reflect.DeepEqual(body, want.Body) {
		s.t.Errorf("body %v, not %v", body, want.Body)
	}
	if key := r.Header.Get("Idempotency-Key"); r.Method == http.MethodPost && (key == "" || s.next > 1 && key != s.key) {
		s.t.Errorf("key %q after %q", key, s.key)
	} else {
		s.key = key
	}
	for name, value := range exchange.Response.Headers {
		w.Header().Set(name, value)
	}
	w.WriteHeader(exchange.Response.Status)
	_, _ = w.Write(exchange.Response.Body)
}

// TestCallsOnTheWire has the calls that the shared vectors leave out.
func TestCallsOnTheWire(t *testing.T) {
	least := 75.0
	cases := map[string]struct {
		call         func(context.Context, *Client) (any, error)
		method, path string
		body         map[string]any
	}{
		"update": {
			func(ctx context.Context, c *Client) (any, error) {
				return c.UpdateConfig(ctx, ConfigUpdateRequest{Config: LLMConfig{Model: "m"}, Reason: "why", Service: "chat", ValidateOnly: true})
			},
			"POST", "/api/v1/config/update",
			map[string]any{"reason": "why", "service": "chat", "validateOnly": true, "config": map[string]any{
				"provider": "", "model": "m", "temperature": 0.0, "topP": 0.0, "maxTokens": 0.0,
				"streaming": false, "functionCalling": false, "visionEnabled": false,
			}},
		},
		"roll back": {
			func(ctx context.Context, c *Client) (any, error) {
				return c.RollBackConfig(ctx, ConfigRollbackRequest{Version: "chat@1", Reason: "why"})
			},
			"POST", "/api/v1/config/rollback", map[string]any{"version": "chat@1", "reason": "why"},
		},
		"trigger": {
			func(ctx context.Context, c *Client) (any, error) {
				return c.TriggerOptimization(ctx, OptimizationRequest{
					Constraints: []Constraint{{Type: "hard", Metric: "quality.avg", Min: &least}},
				})
			},
			"POST", "/api/v1/optimize/trigger",
			map[string]any{"constraints": []any{map[string]any{"type": "hard", "metric": "quality.avg", "min": 75.0}}},
		},
		"optimization": {
			func(ctx context.Context, c *Client) (any, error) { return c.GetOptimization(ctx, "opt/1") },
			"GET", "/api/v1/optimize/opt%2F1", nil,
		},
		"versions": {
			func(ctx context.Context, c *Client) (any, error) {
				return c.GetVersions(ctx, Scope{Service: "chat"}, Page{Limit: 5})
			},
			"GET", "/api/v1/config/versions?limit=5&service=chat", nil,
		},
		"deployments": {
			func(ctx context.Context, c *Client) (any, error) {
				return c.ListDeployments(ctx, DeploymentQuery{Scope: "chat", Open: true, Offset: 5})
			},
			"GET", "/api/v1/deployments?offset=5&open=true&scope=chat", nil,
		},
		"deployment": {
			func(ctx context.Context, c *Client) (any, error) { return c.GetDeployment(ctx, "dep-1") },
			"GET", "/api/v1/deployments/dep-1", nil,
		},
		"pause": {
			func(ctx context.Context, c *Client) (any, error) { return c.PauseDeployment(ctx, "dep-1", "why") },
			"POST", "/api/v1/deployments/dep-1/pause", map[string]any{"reason": "why"},
		},
		"resume": {
			func(ctx context.Context, c *Client) (any, error) { return c.ResumeDeployment(ctx, "dep-1", "") },
			"POST", "/api/v1/deployments/dep-1/resume", map[string]any{},
		},
		"approve": {
			func(ctx context.Context, c *Client) (any, error) { return c.ApproveDeployment(ctx, "dep-1", "") },
			"POST", "/api/v1/deployments/dep-1/approve", map[string]any{},
		},
		"promote": {
			func(ctx context.Context, c *Client) (any, error) { return c.PromoteDeployment(ctx, "dep-1", "") },
			"POST", "/api/v1/deployments/dep-1/promote", map[string]any{},
		},
		"abort": {
			func(ctx context.Context, c *Client) (any, error) { return c.AbortDeployment(ctx, "dep-1", "") },
			"POST", "/api/v1/deployments/dep-1/abort", map[string]any{},
		},
		"policy": {
			func(ctx context.Context, c *Client) (any, error) { return c.GetPolicy(ctx, "chat") },
			"GET", "/api/v1/services/chat", nil,
		},
		"put policy": {
			func(ctx context.Context, c *Client) (any, error) {
				return c.PutPolicy(ctx, "chat", Policy{"automatic": false})
			},
			"PUT", "/api/v1/services/chat", map[string]any{"automatic": false},
		},
	}
	for name, c := range cases {
		c := c
		t.Run(name, func(t *testing.T) {
			var got *http.Request
			var body map[string]any
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r
				if content, _ := io.ReadAll(r.Body); len(content) > 0 {
					check(t, json.Unmarshal(content, &body))
				}
				_, _ = w.Write([]byte("{}"))
			}))
			defer server.Close()
			client := NewClient(Config{Endpoint: server.URL, Logger: quiet()})
			defer client.Close(ctx)
			if _, err := c.call(ctx, client); err != nil {
				t.Fatal(err)
			}
			if got.Method != c.method || got.RequestURI != c.path || !reflect.DeepEqual(body, c.body) {
				t.Errorf("%s %s %v", got.Method, got.RequestURI, body)
			}
		})
	}
}
