package optimizer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"testing"
	"time"
)

// flushed gives the metrics that arrived once all are sent.
func flushed(t *testing.T, p *peer, client *Client) []map[string]any {
	t.Helper()
	check(t, client.Flush(ctx))
	return p.posted()
}

func TestACallIsReportedWhole(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	before := float64(time.Now().UnixMilli())
	tracker := client.NewRequestTracker("chat", "/api/chat")
	if config := must[*ServedConfig](t)(tracker.Config(ctx)); config.Version != "chat@1" {
		t.Errorf("%+v", config)
	}
	tracker.SetTokens(150, 500)
	tracker.SetCost(0.0325)
	tracker.SetRequestID("req-1")
	tracker.SetTag("team", "a")
	tracker.SetRetries(1)
	tracker.Done()
	tracker.Done()
	check(t, tracker.Report(ctx))
	tracker.SetTokens(1, 1)
	metrics := flushed(t, p, client)
	if len(metrics) != 1 {
		t.Fatalf("%d reports", len(metrics))
	}
	metric := metrics[0]
	if latency := metric["latencyMs"].(float64); latency <= 0 || latency > 20_000 {
		t.Error(latency)
	}
	if at := metric["timestamp"].(float64); at < before || at > float64(time.Now().UnixMilli()) {
		t.Error(at)
	}
	delete(metric, "latencyMs")
	delete(metric, "timestamp")
	want := map[string]any{
		"service": "chat", "endpoint": "/api/chat", "provider": "openai", "model": "gpt-4-1106-preview",
		"tokensInput": 150.0, "tokensOutput": 500.0, "tokensTotal": 650.0, "costUsd": 0.0325, "statusCode": 200.0,
		"retryCount": 1.0, "tags": map[string]any{"configVersion": "chat@1", "requestId": "req-1", "team": "a"},
	}
	if !reflect.DeepEqual(metric, want) {
		t.Errorf("%v", metric)
	}
}

func TestTheVersionIsTheOneHandedOutInTheSameCall(t *testing.T) {
	p := newPeer(t)
	p.standing = func(s seen) answer {
		if s.method == http.MethodGet {
			return answer{body: rolloutBody(50, time.Minute)}
		}
		return serve(s)
	}
	client := p.client()
	arms := map[string]string{}
	for n := 0; len(arms) < 2; n++ {
		unit := fmt.Sprintf("user-%d", n)
		arms[client.versionAt(t, unit)] = unit
	}
	calls := map[string]context.Context{}
	for version, unit := range arms { // all are handed theirs before any reports
		calls[version] = WithCall(ctx, unit)
		must[*ServedConfig](t)(client.GetConfigForService(calls[version], "chat", ""))
	}
	for version, call := range calls {
		check(t, client.ReportMetrics(call, Metrics{Service: "chat", Tags: map[string]string{"arm": version}}))
		tracker := client.NewRequestTracker("chat", "/")
		tracker.SetTokens(1, 1)
		tracker.SetTag("arm", version)
		check(t, tracker.Report(call))
		check(t, client.Track(call, "chat", "", func(ctx context.Context, tracker *RequestTracker) error {
			tracker.SetTokens(1, 1)
			tracker.SetTag("arm", version)
			_, err := tracker.Config(ctx)
			return err
		}))
	}
	metrics := flushed(t, p, client)
	if len(metrics) != 6 {
		t.Fatalf("%d reports", len(metrics))
	}
	for _, metric := range metrics {
		if tags := metric["tags"].(map[string]any); tags["configVersion"] != tags["arm"] {
			t.Error(tags)
		}
	}
}

func TestWhereCallsShareAContextOnlyWhatIsSureIsSaid(t *testing.T) {
	p := newPeer(t)
	p.standing = func(s seen) answer {
		if s.method == http.MethodGet {
			return answer{body: rolloutBody(50, time.Minute)}
		}
		return serve(s)
	}
	client := p.client()
	request, cancel := context.WithCancel(ctx)
	defer cancel()
	report := func(under context.Context) any {
		check(t, client.ReportMetrics(under, Metrics{Service: "chat"}))
		metrics := p.posted()
		tags, _ := metrics[len(metrics)-1]["tags"].(map[string]any)
		return tags["configVersion"]
	}
	tracked := func(under context.Context) error {
		tracker := client.NewRequestTracker("chat", "/")
		tracker.SetTokens(1, 1)
		return tracker.Report(under)
	}
	one := must[*ServedConfig](t)(client.GetConfigForService(ctx, "chat", ""))
	if version := report(ctx); version != one.Version {
		t.Error(version)
	}
	check(t, tracked(ctx))
	client.ConfigFor("user-1", Scope{Service: "chat"}) // belongs to no call
	must[*ServedConfig](t)(client.GetConfigForService(request, "chat", ""))
	if version := report(request); version != nil {
		t.Errorf("a request's context is no call's: %v", version)
	}
	if tracked(request) == nil {
		t.Error("the model of a request's call is not known")
	}
	for other := one; other.Version == one.Version; {
		other = must[*ServedConfig](t)(client.GetConfigForService(ctx, "chat", ""))
	}
	if version := report(ctx); version != nil {
		t.Errorf("either may have served it: %v", version)
	}
	if tracked(ctx) == nil {
		t.Error("either model may have served it")
	}
}

// versionAt gives the version of a unit.
func (c *Client) versionAt(t *testing.T, unit string) string {
	return must[*ServedConfig](t)(c.GetConfigForService(WithCall(ctx, unit), "chat", "")).Version
}

func TestOneCallAtATimeNeedsNoContext(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	must[*ServedConfig](t)(client.GetConfig(ctx)) // the global one, which the service inherits
	tracker := client.NewRequestTracker("chat", "/")
	tracker.SetTokens(1, 2)
	check(t, tracker.Report(ctx))
	mine := map[string]string{"configVersion": "chat@9"}
	check(t, client.ReportMetricsBatch(ctx, []Metrics{{Service: "chat"}, {Service: "chat", Tags: mine}}))
	check(t, client.ReportQuality(ctx, Quality{Service: "chat", OverallScore: 92}))
	check(t, client.ReportQuality(ctx, Quality{Service: "chat", OverallScore: 92, RequestID: "req-1"}))
	var versions []any
	for _, metric := range p.posted() {
		versions = append(versions, metric["tags"].(map[string]any)["configVersion"])
	}
	for _, s := range p.requests()[3:] {
		versions = append(versions, s.body["evaluations"].([]any)[0].(map[string]any)["configVersion"])
	}
	if want := []any{"chat@1", "chat@1", "chat@9", "chat@1", nil}; !reflect.DeepEqual(versions, want) {
		t.Error(versions)
	}
}

type rateLimited struct{ error }

func (rateLimited) StatusCode() int { return 429 }

func TestWhatBecomesOfErrors(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	outcomes := []struct {
		fails  error
		panics bool
		status float64 // 0: not reported
		kind   any
	}{
		{status: 200, kind: nil},
		{fails: fmt.Errorf("calling: %w", rateLimited{}), status: 429, kind: "optimizer.rateLimited"},
		{fails: errors.New("no"), status: 500, kind: "errors.errorString"},
		{fails: fmt.Errorf("calling: %w", context.Canceled)},
		{fails: context.DeadlineExceeded, status: 500, kind: "context.deadlineExceededError"},
		{panics: true, status: 500, kind: "panic"},
	}
	for _, outcome := range outcomes {
		before := len(p.posted())
		err := func() (err error) {
			defer func() {
				if recovered := recover(); (recovered != nil) != outcome.panics {
					t.Errorf("recovered %v", recovered)
				}
			}()
			return client.Track(ctx, "chat", "/", func(ctx context.Context, tracker *RequestTracker) error {
				must[*ServedConfig](t)(tracker.Config(ctx))
				if outcome.panics {
					panic("no")
				}
				if outcome.fails == nil {
					tracker.SetTokens(1, 1)
				}
				return outcome.fails
			})
		}()
		if !errors.Is(err, outcome.fails) {
			t.Errorf("%v became %v", outcome.fails, err)
		}
		metrics := flushed(t, p, client)[before:]
		switch {
		case outcome.status == 0 && len(metrics) != 0, outcome.status != 0 && len(metrics) != 1:
			t.Errorf("%+v: %d reports", outcome, len(metrics))
		case outcome.status != 0 && (metrics[0]["statusCode"] != outcome.status || metrics[0]["errorType"] != outcome.kind):
			t.Errorf("%+v: %v", outcome, metrics[0])
		}
	}
	if client.DroppedReports() != 0 {
		t.Error(client.DroppedReports())
	}
}

func TestWhatIsNotKnownIsNotMadeUp(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	noModel := func() *RequestTracker {
		tracker := client.NewRequestTracker("chat", "/")
		tracker.SetTokens(1, 1)
		return tracker
	}
	noTokens := func() *RequestTracker {
		tracker := client.NewRequestTracker("chat", "/")
		tracker.SetModel("google", "gemini")
		return tracker
	}
	notANumber := func() *RequestTracker {
		tracker := noModel()
		tracker.SetModel("google", "gemini")
		tracker.SetCost(math.NaN())
		return tracker
	}
	for n, make := range []func() *RequestTracker{noModel, noTokens, notANumber} {
		make().Done()
		if got := client.DroppedReports(); got != int64(n)+1 {
			t.Errorf("%d dropped", got)
		}
		if make().Report(ctx) == nil {
			t.Error("reported")
		}
	}
	free := noModel()
	free.SetModel("google", "gemini")
	free.SetCost(0)
	free.Done()
	metrics := flushed(t, p, client)
	if len(metrics) != 1 || metrics[0]["costUsd"] != 0.0 || metrics[0]["model"] != "gemini" {
		t.Error(metrics)
	}
}

// queued puts n metrics in, numbered by their input tokens from start.
func queued(client *Client, start, n int) {
	for i := start; i < start+n; i++ {
		tracker := client.NewRequestTracker("chat", "/")
		tracker.SetModel("p", "m")
		tracker.SetTokens(i, 0)
		tracker.Done()
	}
}

func numbers(metrics []map[string]any) []int {
	var all []int
	for _, metric := range metrics {
		all = append(all, int(metric["tokensInput"].(float64)))
	}
	return all
}

func TestPastTheBoundTheOldestGiveWay(t *testing.T) {
	p := newPeer(t)
	client := p.client(func(c *Config) { c.QueueSize = 100 })
	p.queued = []answer{{hang: true}}
	queued(client, 0, 1)
	eventually(t, "the first is being sent", func() bool { return len(p.requests()) == 1 })
	queued(client, 1, 250)
	if got := client.DroppedReports(); got != 150 {
		t.Errorf("%d dropped", got)
	}
	p.release()
	metrics := numbers(flushed(t, p, client))
	if len(metrics) != 102 || metrics[0] != 0 || metrics[1] != 0 || metrics[2] != 151 || metrics[101] != 250 {
		t.Error(metrics) // the first one twice, under one key
	}
}

func TestManyAreSentInBatchesAndInOrder(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	queued(client, 0, 1700)
	metrics := numbers(flushed(t, p, client))
	if len(metrics) != 1700 {
		t.Fatalf("%d reports", len(metrics))
	}
	for i, n := range metrics {
		if i != n {
			t.Fatalf("%d at %d", n, i)
		}
	}
	if posts := len(p.requests()); posts > 5 {
		t.Errorf("%d posts", posts)
	}
}

func TestABatchThatFailedIsSentAgainUnderItsKey(t *testing.T) {
	p := newPeer(t)
	client := p.client(func(c *Config) { c.Retries = -1 })
	p.queued = []answer{errorAnswer("DATABASE_ERROR", 503, true), {cut: true}, {body: "<html>"}, {body: map[string]any{}}}
	queued(client, 7, 1)
	if got := numbers(flushed(t, p, client)); !reflect.DeepEqual(got, []int{7, 7, 7, 7, 7}) {
		t.Error(got)
	}
	keys := map[string]bool{}
	for _, s := range p.requests() {
		keys[s.header.Get("Idempotency-Key")] = true
	}
	if len(keys) != 1 || keys[""] || client.DroppedReports() != 0 {
		t.Error(keys, client.DroppedReports())
	}
}

func TestWhatTheServerRefusesIsCounted(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	refused := map[string]any{"accepted": 1, "rejected": 2, "errors": []any{map[string]any{"index": 0, "reason": "no"}}}
	p.queued = []answer{{body: refused}, errorAnswer("FORBIDDEN", 403, false)}
	queued(client, 0, 3)
	check(t, client.Flush(ctx))
	queued(client, 0, 1)
	check(t, client.Flush(ctx))
	if client.DroppedReports() != 3 {
		t.Error(client.DroppedReports())
	}
	p.queued = []answer{{body: refused}}
	var rejected *RejectedError
	if err := client.ReportMetricsBatch(ctx, make([]Metrics, 3)); !errors.As(err, &rejected) ||
		rejected.Accepted != 1 || rejected.Rejected != 2 || rejected.Errors[0] != (ItemError{0, "no"}) {
		t.Error(err)
	}
}

func TestAServerThatHangsHoldsNoCallerUp(t *testing.T) {
	p := newPeer(t)
	p.standing = func(seen) answer { return answer{hang: true} }
	client := p.client(func(c *Config) { c.QueueSize = 10 })
	started := time.Now()
	queued(client, 0, 1000)
	if took := time.Since(started); took > time.Second {
		t.Errorf("1000 reports took %v", took)
	}
	limited, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := client.Flush(limited); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := client.Close(limited); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	queued(client, 0, 1)
	if got := client.DroppedReports(); got != 1001 {
		t.Errorf("%d of 1001 dropped", got)
	}
}

func TestClosingReportsWhatWaits(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	queued(client, 0, 3)
	check(t, client.Close(ctx))
	if got := numbers(p.posted()); len(got) != 3 {
		t.Error(got)
	}
	check(t, client.Close(ctx))
}

func TestTenThousandQueuedMetricsAreSmall(t *testing.T) {
	client := rollingOut(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range [10_000]int{} {
		tracker := client.NewRequestTracker("chat-service", "/api/chat")
		tracker.SetConfig(&ServedConfig{Version: "chat-service@1", LLMConfig: LLMConfig{Provider: "p", Model: "m"}})
		tracker.SetTokens(150, 500)
		tracker.SetRequestID("550e8400-e29b-41d4-a716-446655440000")
		tracker.Done()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / 1e6
	t.Logf("%.1f MB", used)
	if used > 20 {
		t.Errorf("%.1f MB", used)
	}
}

// queuedCall is all that a tracked call asks of its caller: its configuration by unit while a rollout runs, the
// tracker, the report.
func queuedCall(t testing.TB, client *Client) {
	call := WithCall(ctx, "user-1")
	tracker := client.NewRequestTracker("chat-service", "/api/chat")
	if _, err := tracker.Config(call); err != nil {
		t.Fatal(err)
	}
	tracker.SetTokens(150, 500)
	tracker.SetCost(0.0325)
	tracker.Done()
}

// rollingOut is a server with a rollout that takes no reports, so that only the caller's part is measured.
func rollingOut(t testing.TB) *Client {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_ = json.NewEncoder(w).Encode(rolloutBody(50, time.Hour))
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	client := NewClient(Config{Endpoint: server.URL, PollOnly: true, Logger: quiet()})
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_ = client.Close(ended)
		server.Close()
	})
	return client
}

func TestAQueuedCallTakesItsCallerLessThanTenMicroseconds(t *testing.T) {
	client := rollingOut(t)
	best := time.Hour
	for range [20]int{} { // other work of the machine only makes rounds longer
		started := time.Now()
		for range [500]int{} {
			queuedCall(t, client)
		}
		best = min(best, time.Since(started)/500)
	}
	t.Logf("%v", best)
	if best > 10*time.Microsecond*slowdown {
		t.Error(best)
	}
}

func BenchmarkQueuedCall(b *testing.B) {
	client := rollingOut(b)
	queuedCall(b, client)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		queuedCall(b, client)
	}
}
