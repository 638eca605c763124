package optimizer

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// helpers is what the specification's snippet leaves undefined.
const helpers = `package main

import optimizer "github.com/llm-auto-optimizer/go-sdk"

const prompt = "Hello"

func callLLM(prompt string, config *optimizer.ServedConfig) string { return prompt + config.Model }

func updateLLMSettings(optimizer.LLMConfig) {}
`

// TestTheSpecificationsSnippetRuns compiles section 5.3 as it stands in the specification and runs it. Added are the
// imports that it forgets, uses of the variables that it leaves unused, and the address of a server.
func TestTheSpecificationsSnippetRuns(t *testing.T) {
	var mu sync.Mutex
	received := map[string][]any{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		route := r.Method + " " + r.URL.Path
		mu.Lock()
		received[route] = append(received[route], body)
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		answer := map[string]any{"version": "chat@1", "config": llm}
		switch route {
		case "POST /api/v1/metrics":
			metrics, _ := body["metrics"].([]any)
			answer = map[string]any{"accepted": len(metrics), "rejected": 0}
		case "POST /api/v1/analytics/metrics":
			answer = map[string]any{"metrics": []any{}}
		case "GET /api/v1/config/stream":
			w.WriteHeader(http.StatusNotFound)
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	defer server.Close()

	folder := t.TempDir()
	module, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"go.mod": "module snippet\n\ngo 1.21\n\nrequire github.com/llm-auto-optimizer/go-sdk v0.0.0\n\n" +
			"replace github.com/llm-auto-optimizer/go-sdk => " + module + "\n",
		"helpers.go": helpers,
		"main.go":    completed(t, server.URL),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := exec.Command("go", "run", ".")
	run.Dir = folder
	run.Env = append(os.Environ(), "OPTIMIZER_API_KEY=key-of-snippet")
	var output bytes.Buffer
	run.Stdout, run.Stderr = &output, &output
	if err := run.Run(); err != nil {
		t.Fatalf("%v\n%s", err, output.String())
	}

	mu.Lock()
	defer mu.Unlock()
	for _, route := range []string{
		"GET /api/v1/config/current", "GET /api/v1/config/service/chat-service", "POST /api/v1/analytics/metrics",
	} {
		if len(received[route]) == 0 {
			t.Errorf("no %s", route)
		}
	}
	var reported []map[string]any
	for _, body := range received["POST /api/v1/metrics"] {
		for _, metric := range body.(map[string]any)["metrics"].([]any) {
			reported = append(reported, metric.(map[string]any))
		}
	}
	if len(reported) != 2 {
		t.Fatalf("not one metric by hand and one by the tracker: %v", reported)
	}
	for _, metric := range reported {
		if metric["tokensTotal"] != 650.0 || metric["costUsd"] != 0.0325 || metric["service"] != "chat-service" {
			t.Error(metric)
		}
	}
	if reported[0]["latencyMs"] != 1234.0 || reported[1]["model"] != "gpt-4-1106-preview" {
		t.Error(reported)
	}
}

// completed is the snippet, made to compile and pointed at address.
func completed(t *testing.T, address string) string {
	t.Helper()
	text, err := os.ReadFile("../../tests/specification/interfaces.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n### 5.3 Go SDK\n")
	snippet := regexp.MustCompile("(?s)```go\n(.*?)\n```").FindStringSubmatch(section)
	if !found || snippet == nil {
		t.Fatal("no snippet in section 5.3")
	}
	code := snippet[1]
	for old, replacement := range map[string]string{
		"    \"time\"\n":        "    \"log\"\n    \"os\"\n    \"time\"\n",
		"http://optimizer:8080": address,
	} {
		if strings.Count(code, old) != 1 {
			t.Fatalf("the snippet has not one %q", old)
		}
		code = strings.Replace(code, old, replacement, 1)
	}
	end := strings.LastIndex(code, "}")
	return code[:end] + "    _, _, _, _ = serviceConfig, response, metrics, err\n}\n"
}
