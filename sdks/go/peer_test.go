package optimizer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// seen is a request as it arrived.
type seen struct {
	method, path string
	query        map[string][]string
	header       http.Header
	body         map[string]any
}

// answer is what the peer sends. A stream sends its events and stays open; hang says nothing until the test
// ends, cut ends the connection at once.
type answer struct {
	status int
	header map[string]string
	body   any
	hang   bool
	cut    bool
	stream <-chan string
}

// peer is a server on loopback that answers as it is told: streams apart, since they come and go by themselves.
type peer struct {
	*httptest.Server
	t        *testing.T
	released chan struct{}

	mu       sync.Mutex
	all      []seen
	queued   []answer
	standing func(seen) answer
	streams  func(seen) answer
}

var llm = map[string]any{
	"provider": "openai", "model": "gpt-4-1106-preview", "temperature": 0.7, "topP": 1.0, "maxTokens": 1024,
	"streaming": false, "functionCalling": false, "visionEnabled": false,
}

var canaryLLM = map[string]any{
	"provider": "mistral", "model": "mixtral-8x7b-instruct-v0.1", "temperature": 0.7, "topP": 1.0,
	"maxTokens": 1024, "streaming": false, "functionCalling": false, "visionEnabled": false,
}

func configBody(version string) map[string]any {
	return map[string]any{"service": "chat", "version": version, "config": llm}
}

func configAnswer(version string) answer { return answer{body: configBody(version)} }

// rolloutBody has a canary whose watch has this long left.
func rolloutBody(percent float64, left time.Duration) map[string]any {
	body := configBody("chat@1")
	body["rollout"] = map[string]any{
		"deploymentId":   "dep-1",
		"trafficPercent": percent,
		"watchedUntil":   time.Now().Add(left).UnixMilli(),
		"control":        map[string]any{"version": "chat@1", "config": llm},
		"canary":         map[string]any{"version": "chat@2", "config": canaryLLM},
	}
	return body
}

func errorAnswer(code string, status int, retryable bool) answer {
	return answer{status: status, body: map[string]any{
		"error":     map[string]any{"code": code, "message": code + " it is", "retryable": retryable},
		"requestId": "req-7", "timestamp": 0,
	}}
}

// serve answers as a sound server with one configuration does.
func serve(s seen) answer {
	if s.method == http.MethodPost {
		items, _ := s.body["metrics"].([]any)
		return answer{body: map[string]any{"accepted": len(items), "rejected": 0}}
	}
	return configAnswer("chat@1")
}

func newPeer(t *testing.T) *peer {
	p := &peer{
		t:        t,
		released: make(chan struct{}),
		standing: serve,
		streams:  func(seen) answer { return errorAnswer("NOT_FOUND", 404, false) },
	}
	p.Server = httptest.NewServer(p)
	t.Cleanup(func() {
		p.release()
		p.CloseClientConnections()
		p.Close()
	})
	return p
}

func (p *peer) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.released:
	default:
		close(p.released)
	}
}

func (p *peer) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := seen{method: r.Method, path: r.URL.EscapedPath(), query: r.URL.Query(), header: r.Header}
	if content, _ := io.ReadAll(r.Body); len(content) > 0 {
		if err := json.Unmarshal(content, &s.body); err != nil {
			p.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
	}
	p.mu.Lock()
	reply := p.standing
	if strings.HasSuffix(s.path, "/stream") {
		reply = p.streams
	} else {
		p.all = append(p.all, s)
		if len(p.queued) > 0 {
			next := p.queued[0]
			p.queued, reply = p.queued[1:], func(seen) answer { return next }
		}
	}
	released := p.released
	p.mu.Unlock()
	p.send(w, r, reply(s), released)
}

func (p *peer) send(w http.ResponseWriter, r *http.Request, a answer, released <-chan struct{}) {
	if a.hang {
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}
	if a.hang || a.cut {
		panic(http.ErrAbortHandler)
	}
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	if a.stream != nil {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for {
			select {
			case text, open := <-a.stream:
				if !open {
					return
				}
				fmt.Fprint(w, text)
				w.(http.Flusher).Flush()
			case <-released:
				return
			case <-r.Context().Done():
				return
			}
		}
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	if text, isText := a.body.(string); isText {
		fmt.Fprint(w, text)
	} else if a.body != nil {
		_ = json.NewEncoder(w).Encode(a.body)
	}
}

// requests gives what arrived, streams apart.
func (p *peer) requests() []seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]seen(nil), p.all...)
}

// posted gives the metrics that arrived.
func (p *peer) posted() []map[string]any {
	var metrics []map[string]any
	for _, s := range p.requests() {
		if s.path != "/api/v1/metrics" {
			continue
		}
		items, _ := s.body["metrics"].([]any)
		for _, item := range items {
			metrics = append(metrics, item.(map[string]any))
		}
	}
	return metrics
}

func event(body any) string {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return ": ping\n\nevent: config\ndata: " + string(encoded) + "\n\n"
}

var ctx = context.Background()

// client gives a quiet client of the peer that polls, unless config says otherwise; it is closed with the test.
func (p *peer) client(change ...func(*Config)) *Client {
	config := Config{Endpoint: p.URL, APIKey: "key-1", PollOnly: true, Logger: quiet()}
	for _, c := range change {
		c(&config)
	}
	client := NewClient(config)
	p.t.Cleanup(func() {
		p.release()
		_ = client.Close(ctx)
	})
	return client
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until something holds; a long wait only tells a hang.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// noLeak fails where what do starts in the package outlives it.
func noLeak(t *testing.T, do func()) {
	t.Helper()
	do()
	stacks := make([]byte, 1<<20)
	ours := func() string {
		var left []string
		for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(stack, "go-sdk.(*entry)") || strings.Contains(stack, "go-sdk.(*queue)") ||
				strings.Contains(stack, "net/http.(*persistConn)") {
				left = append(left, stack)
			}
		}
		return strings.Join(left, "\n\n")
	}
	for deadline := time.Now().Add(5 * time.Second); ours() != ""; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("goroutines left:\n%s", ours())
		}
	}
}
