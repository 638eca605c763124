package optimizer

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

var healthy = answer{body: map[string]any{"status": "healthy"}}

func TestAPostKeepsItsIdempotencyKeyOverAllTries(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	p.queued = []answer{errorAnswer("DATABASE_ERROR", 503, true), {cut: true}}
	check(t, client.ReportMetrics(ctx, Metrics{Service: "chat"}))
	check(t, client.ReportMetrics(ctx, Metrics{Service: "chat"}))
	var keys []string
	for _, s := range p.requests() {
		keys = append(keys, s.header.Get("Idempotency-Key"))
	}
	if len(keys) != 4 || keys[0] == "" || keys[0] != keys[1] || keys[1] != keys[2] || keys[2] == keys[3] {
		t.Error(keys)
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	cases := map[string]struct {
		standing answer
		tries    int
		sentinel error
	}{
		"not what cannot help":      {errorAnswer("CONFLICT", 409, false), 1, ErrConflict},
		"as the server says":        {errorAnswer("SERVICE_UNAVAILABLE", 503, false), 1, ErrServiceUnavailable},
		"up to the limit":           {errorAnswer("TIMEOUT", 504, true), 2, ErrServerTimeout},
		"a gateway's page":          {answer{status: 502, body: "<html>"}, 2, ErrUnexpectedAnswer},
		"not a page of another":     {answer{status: 404, body: "<html>"}, 1, ErrUnexpectedAnswer},
		"not an answer without":     {answer{status: 200, body: "[]"}, 1, ErrUnexpectedAnswer},
		"a connection that is gone": {answer{cut: true}, 2, ErrNoAnswer},
		"a server that hangs":       {answer{hang: true}, 2, ErrNoAnswer},
	}
	for name, c := range cases {
		c := c
		t.Run(name, func(t *testing.T) {
			p := newPeer(t)
			p.standing = func(seen) answer { return c.standing }
			client := p.client(func(config *Config) { config.Retries, config.Timeout = 1, 200*time.Millisecond })
			if _, err := client.GetHealth(ctx); !errors.Is(err, c.sentinel) {
				t.Error(err)
			}
			if tries := len(p.requests()); tries != c.tries {
				t.Errorf("%d tries", tries)
			}
		})
	}
}

func TestRetryAfterIsWaitedOutUnlessItIsLong(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	limited := errorAnswer("RATE_LIMITED", 429, true)
	limited.header = map[string]string{"Retry-After": "1"}
	p.queued = []answer{limited, healthy}
	started := time.Now()
	must[*Health](t)(client.GetHealth(ctx))
	if took := time.Since(started); took < time.Second {
		t.Errorf("waited %v", took)
	}
	limited.header = map[string]string{"Retry-After": "3600"}
	p.queued = []answer{limited}
	var failed *APIError
	if _, err := client.GetHealth(ctx); !errors.As(err, &failed) || failed.RetryAfter != time.Hour || len(p.requests()) != 3 {
		t.Error(err, len(p.requests()))
	}
}

func TestTheContextEndsRetries(t *testing.T) {
	p := newPeer(t)
	p.standing = func(seen) answer { return answer{hang: true} }
	client := p.client()
	limited, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := client.GetHealth(limited)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(started) > 4*time.Second || len(p.requests()) != 1 {
		t.Error(err, time.Since(started), len(p.requests()))
	}
}

func TestDelaysDoubleWithJitterUpToTheLimit(t *testing.T) {
	full := []time.Duration{200, 400, 800, 1600, 3200, 6400, 8000, 8000}
	for attempt, ms := range full {
		lowest, highest := time.Hour, time.Duration(0)
		for range [300]int{} {
			delay := backoff(attempt, initialDelay, maxDelay)
			lowest, highest = min(lowest, delay), max(highest, delay)
		}
		if limit := ms * time.Millisecond; lowest < limit/2 || highest > limit || highest-lowest < limit/4 {
			t.Errorf("attempt %d: %v to %v", attempt, lowest, highest)
		}
	}
	if delay := backoff(1000, initialDelay, maxDelay); delay < maxDelay/2 || delay > maxDelay {
		t.Error(delay)
	}
}

func TestRetryAfterAsSecondsAsADateAndAsNonsense(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"7": 7 * time.Second,
		now.Add(100 * time.Second).Format(http.TimeFormat):  100 * time.Second,
		now.Add(-100 * time.Second).Format(http.TimeFormat): 0,
		"soon": 0, "-1": 0, "": 0,
	} {
		if got := parseRetryAfter(value, now); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestEveryCodeHasItsError(t *testing.T) {
	p := newPeer(t)
	client := p.client(func(c *Config) { c.Retries = -1 })
	for code, sentinel := range byCode {
		if sentinel == ErrNoAnswer || sentinel == ErrUnexpectedAnswer {
			continue
		}
		failing := errorAnswer(code, 500, true)
		failing.body.(map[string]any)["error"].(map[string]any)["details"] = map[string]any{"isValid": false}
		p.queued = []answer{failing}
		_, err := client.GetHealth(ctx)
		var failed *APIError
		if !errors.Is(err, sentinel) || !errors.As(err, &failed) {
			t.Fatal(err)
		}
		for other, unlike := range byCode {
			if other != code && errors.Is(err, unlike) {
				t.Errorf("%s is %s", code, other)
			}
		}
		var details ValidationResult
		check(t, json.Unmarshal(failed.Details, &details))
		if failed.Code != code || failed.Status != 500 || !failed.Retryable || failed.RequestID != "req-7" ||
			!strings.Contains(err.Error(), code+" it is") {
			t.Errorf("%+v", failed)
		}
	}
	if len(byCode) != 16 {
		t.Errorf("%d codes", len(byCode))
	}
}

func TestTheKeyAndTheEndpoint(t *testing.T) {
	p := newPeer(t)
	p.standing = func(seen) answer { return healthy }
	t.Setenv("OPTIMIZER_API_KEY", " key-2\n")
	client := p.client(func(c *Config) { c.APIKey, c.Endpoint = "", c.Endpoint+"/" })
	must[*Health](t)(client.GetHealth(ctx))
	t.Setenv("OPTIMIZER_API_KEY", "")
	must[*Health](t)(p.client(func(c *Config) { c.APIKey = "" }).GetHealth(ctx))
	first, second := p.requests()[0], p.requests()[1]
	if first.header.Get("Authorization") != "Bearer key-2" || second.header.Get("Authorization") != "" ||
		first.path != "/api/v1/health" || !strings.HasPrefix(first.header.Get("User-Agent"), "llm-auto-optimizer-go/") {
		t.Errorf("%+v, %+v", first, second)
	}
	for _, endpoint := range []string{"", "optimizer:8080", "ftp://optimizer", "http://", "/api"} {
		wrong := p.client(func(c *Config) { c.Endpoint = endpoint })
		if _, err := wrong.GetConfig(ctx); err == nil || !strings.Contains(err.Error(), "Endpoint") {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	if _, err := p.client(func(c *Config) { c.APIKey = "kéy" }).GetHealth(ctx); err == nil || !strings.Contains(err.Error(), "APIKey") {
		t.Error(err)
	}
}

func TestAClientOfOnesOwnIsUsed(t *testing.T) {
	p := newPeer(t)
	p.standing = func(seen) answer { return healthy }
	used := 0
	own := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		used++
		return http.DefaultTransport.RoundTrip(r)
	})}
	must[*Health](t)(p.client(func(c *Config) { c.HTTPClient = own }).GetHealth(ctx))
	if used != 1 {
		t.Error(used)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
