package optimizer

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// runProgram builds and runs a program in a folder of its own, which has this module by a replace directive.
func runProgram(t *testing.T, source string) string {
	t.Helper()
	module, err := os.Getwd()
	check(t, err)
	folder := t.TempDir()
	goMod := fmt.Sprintf("module example\n\ngo 1.21\n\nrequire github.com/llm-auto-optimizer/go-sdk v0.0.0\n\n"+
		"replace github.com/llm-auto-optimizer/go-sdk => %s\n", module)
	check(t, os.WriteFile(filepath.Join(folder, "go.mod"), []byte(goMod), 0o600))
	check(t, os.WriteFile(filepath.Join(folder, "main.go"), []byte(source), 0o600))
	command := exec.Command("go", "run", ".")
	command.Dir = folder
	command.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "OPTIMIZER_API_KEY=key-1")
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, output, source)
	}
	return string(output)
}

// goBlock gives the first Go block of a text after a heading.
func goBlock(t *testing.T, file, heading string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	check(t, err)
	_, after, found := strings.Cut(string(content), heading)
	block := regexp.MustCompile("(?s)```go\n(.*?)```").FindStringSubmatch(after)
	if !found || block == nil {
		t.Fatalf("%s has no Go after %q", file, heading)
	}
	return block[1]
}

// TestTheSpecificationsProgram completes the program of section 5.3 with what it leaves out (two imports, the
// prompt and two functions of the application's, a use of the variables that it sets and never reads) and
// changes its host, and nothing else.
func TestTheSpecificationsProgram(t *testing.T) {
	p := newPeer(t)
	events := make(chan string, 1)
	events <- event(configBody("global@2"))
	p.streams = func(seen) answer { return answer{stream: events} }
	p.standing = func(s seen) answer {
		if strings.HasSuffix(s.path, "/analytics/metrics") {
			return answer{body: map[string]any{"metrics": []any{}}}
		}
		return serve(s)
	}
	program := goBlock(t, "../../tests/specification/interfaces.md", "\n### 5.3 Go SDK\n")
	replace := func(old, new string) {
		if strings.Count(program, old) != 1 {
			t.Fatalf("the program has %q %d times", old, strings.Count(program, old))
		}
		program = strings.Replace(program, old, new, 1)
	}
	replace("http://optimizer:8080", p.URL)
	replace("import (\n", "import (\n    \"fmt\"\n    \"log\"\n    \"os\"\n")
	end := strings.LastIndex(program, "}")
	program = program[:end] + `
    fmt.Println("updated to", <-updated)
    fmt.Println(response, serviceConfig.Version, len(metrics.Metrics), err)
}

var (
    prompt  = "Hello"
    updated = make(chan string, 10)
)

func callLLM(prompt string, config *optimizer.ServedConfig) string { return "asked " + config.Model }

func updateLLMSettings(config optimizer.LLMConfig) { updated <- config.Model }
`
	output := runProgram(t, program)
	if !strings.Contains(output, "updated to gpt-4-1106-preview\nasked gpt-4-1106-preview chat@1 0 <nil>\n") {
		t.Error(output)
	}
	var wire []string
	for _, s := range p.requests() {
		wire = append(wire, s.method+" "+s.path)
		if s.header.Get("Authorization") != "Bearer key-1" {
			t.Error(s.header)
		}
	}
	want := []string{
		"GET /api/v1/config/current", "GET /api/v1/config/service/chat-service", "POST /api/v1/metrics",
		"POST /api/v1/metrics", "POST /api/v1/analytics/metrics", "POST /api/v1/metrics",
	}
	if strings.Join(wire, ", ") != strings.Join(want, ", ") {
		t.Error(wire)
	}
	metrics := p.posted()
	if len(metrics) != 2 { // the batch is empty
		t.Fatal(metrics)
	}
	for _, metric := range metrics {
		if metric["costUsd"] != 0.0325 || metric["tags"].(map[string]any)["configVersion"] != "chat@1" {
			t.Error(metric)
		}
	}
}

func TestTheReadmesFirstLines(t *testing.T) {
	p := newPeer(t)
	p.standing = func(s seen) answer {
		if s.method == http.MethodGet {
			return answer{body: rolloutBody(100, time.Minute)}
		}
		return serve(s)
	}
	lines := goBlock(t, "README.md", "# Go client")
	if count := strings.Count(lines, "\n"); count != 10 {
		t.Errorf("%d lines", count)
	}
	runProgram(t, `package main

import (
	"context"
	"log"

	optimizer "github.com/llm-auto-optimizer/go-sdk"
)

func callLLM(ctx context.Context, config *optimizer.ServedConfig, setTokens func(input, output int)) error {
	setTokens(7, 1)
	return nil
}

func main() {
`+strings.ReplaceAll(lines, "http://localhost:8080", p.URL)+`
	if err != nil {
		log.Fatal(err)
	}
}
`)
	metrics := p.posted()
	if len(metrics) != 1 || metrics[0]["tokensTotal"] != 8.0 || metrics[0]["model"] != canaryLLM["model"] ||
		metrics[0]["tags"].(map[string]any)["configVersion"] != "chat@2" {
		t.Error(metrics)
	}
}
