package optimizer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAConfigurationIsFetchedOnceAndServedFromMemory(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	for range [100]int{} {
		config := must[*ServedConfig](t)(client.GetConfigForService(ctx, "chat", "/api/chat"))
		if config.Version != "chat@1" || config.Model != "gpt-4-1106-preview" || config.MaxTokens != 1024 {
			t.Fatalf("%+v", config)
		}
	}
	requests := p.requests()
	if len(requests) != 1 {
		t.Fatalf("%d requests", len(requests))
	}
	one := requests[0]
	if one.path != "/api/v1/config/service/chat" || one.query["endpoint"][0] != "/api/chat" ||
		one.header.Get("Authorization") != "Bearer key-1" {
		t.Errorf("%+v", one)
	}
	if _, named := one.query["service"]; named {
		t.Errorf("the service is in the path: %v", one.query)
	}
}

func TestAServiceNameIsOnePathSegment(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	must[*ServedConfig](t)(client.GetConfigForService(ctx, "../admin?x", ""))
	must[*ServedConfig](t)(client.GetConfig(ctx))
	if paths := []string{p.requests()[0].path, p.requests()[1].path}; paths[0] != "/api/v1/config/service/..%2Fadmin%3Fx" ||
		paths[1] != "/api/v1/config/current" {
		t.Error(paths)
	}
}

func TestConcurrentCallersShareTheFirstFetch(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	results := make(chan error, 20)
	for range [20]int{} {
		go func() {
			_, err := client.GetConfig(ctx)
			results <- err
		}()
	}
	for range [20]int{} {
		check(t, <-results)
	}
	if len(p.requests()) != 1 {
		t.Errorf("%d requests", len(p.requests()))
	}
}

func TestUnitsAreAssignedByTheirHashAndCallsDrawn(t *testing.T) {
	p := newPeer(t)
	p.standing = func(seen) answer { return answer{body: rolloutBody(25, time.Minute)} }
	client := p.client()
	drawn := 0
	for n := 0; n < 2000; n++ {
		unit := fmt.Sprintf("user-%d", n)
		config := must[*ServedConfig](t)(client.GetConfigForService(WithCall(ctx, unit), "chat", ""))
		if canary := bucket("dep-1", unit) < 2500; config.Canary != canary ||
			config.Version != map[bool]string{false: "chat@1", true: "chat@2"}[canary] {
			t.Fatalf("%s got %+v", unit, config)
		}
		if client.ConfigFor(unit, Scope{Service: "chat"}).Version != config.Version {
			t.Fatalf("ConfigFor differs for %s", unit)
		}
		if must[*ServedConfig](t)(client.GetConfigForService(ctx, "chat", "")).Canary {
			drawn++
		}
	}
	if drawn < 400 || drawn > 600 {
		t.Errorf("%d of 2000 calls drew a canary of 25 %%", drawn)
	}
	own := client.CurrentConfig(Scope{Service: "chat"}).Version
	for range [100]int{} {
		if client.CurrentConfig(Scope{Service: "chat"}).Version != own {
			t.Fatal("the instance flips")
		}
	}
	if len(p.requests()) != 1 {
		t.Errorf("%d requests", len(p.requests()))
	}
}

func TestACanaryThatNobodyWatchesIsNotServed(t *testing.T) {
	p := newPeer(t)
	skew := time.Hour // the server's clock goes wrong by as much as its lease, so the lease still has 2.5 s
	body := rolloutBody(100, skew+2500*time.Millisecond)
	date := time.Now().Add(skew).UTC().Format(http.TimeFormat)
	p.standing = func(seen) answer { return answer{body: body, header: map[string]string{"Date": date}} }
	client := p.client()
	updates, err := client.SubscribeConfigUpdates(ctx, Scope{Service: "chat"})
	check(t, err)
	if !must[*ServedConfig](t)(client.GetConfigForService(ctx, "chat", "")).Canary {
		t.Fatal("no canary at 100 % within the lease")
	}
	if update := <-updates; update.Version != "chat@2" {
		t.Error(update)
	}
	if update := <-updates; update.Version != "chat@1" {
		t.Error(update)
	}
	config := must[*ServedConfig](t)(client.GetConfigForService(ctx, "chat", ""))
	if config.Canary || config.Version != "chat@1" {
		t.Errorf("%+v", config)
	}
}

func TestAStreamKeepsConfigurationsFresh(t *testing.T) {
	p := newPeer(t)
	events := make(chan string, 10)
	p.streams = func(s seen) answer {
		if s.query["service"][0] != "chat" || s.query["unit"][0] == "" || s.header.Get("Authorization") != "Bearer key-1" {
			t.Errorf("%+v", s)
		}
		return answer{stream: events}
	}
	client := p.client(func(c *Config) { c.PollOnly, c.PollInterval = false, time.Hour })
	updates, err := client.SubscribeConfigUpdates(ctx, Scope{Service: "chat"})
	check(t, err)
	if update := <-updates; update.Version != "chat@1" || update.Config.Model != "gpt-4-1106-preview" ||
		update.Timestamp == 0 {
		t.Errorf("%+v", update)
	}
	events <- event(configBody("chat@1"))
	events <- strings.ReplaceAll(event(configBody("chat@2")), "\n", "\r\n")
	if update := <-updates; update.Version != "chat@2" {
		t.Errorf("%+v", update)
	}
	if got := client.ConfigFor("user-1", Scope{Service: "chat"}).Version; got != "chat@2" {
		t.Error(got)
	}
	close(events) // the server restarts: it is read again, and followed again
	again := make(chan string, 1)
	p.set(func() {
		p.standing = func(seen) answer { return configAnswer("chat@3") }
		p.streams = func(seen) answer { return answer{stream: again} }
	})
	if update := <-updates; update.Version != "chat@3" {
		t.Errorf("%+v", update)
	}
	again <- event(configBody("chat@4"))
	if update := <-updates; update.Version != "chat@4" {
		t.Errorf("%+v", update)
	}
}

func TestASilentStreamIsGivenUpForPolling(t *testing.T) {
	p := newPeer(t)
	p.streams = func(seen) answer { return answer{stream: make(chan string)} } // a proxy holds all events back
	client := p.client(func(c *Config) {
		c.PollOnly, c.Timeout, c.PollInterval = false, 100*time.Millisecond, 50*time.Millisecond
	})
	must[*ServedConfig](t)(client.GetConfig(ctx))
	p.set(func() { p.standing = func(seen) answer { return configAnswer("global@2") } })
	eventually(t, "the change is polled", func() bool { return client.CurrentConfig().Version == "global@2" })
}

func TestWithoutAStreamItIsPolledWithTheETag(t *testing.T) {
	p := newPeer(t)
	at := func(version string) func(seen) answer {
		return func(s seen) answer {
			if s.header.Get("If-None-Match") == `"`+version+`"` {
				return answer{status: http.StatusNotModified}
			}
			return answer{body: configBody(version), header: map[string]string{"ETag": `"` + version + `"`}}
		}
	}
	p.standing = at("global@1")
	client := p.client(func(c *Config) { c.PollOnly, c.PollInterval = false, 10*time.Millisecond })
	must[*ServedConfig](t)(client.GetConfig(ctx))
	eventually(t, "polled", func() bool { return len(p.requests()) > 3 })
	if got := p.requests()[2].header.Get("If-None-Match"); got != `"global@1"` {
		t.Error(got)
	}
	p.set(func() { p.standing = at("global@2") })
	eventually(t, "changed", func() bool { return client.CurrentConfig().Version == "global@2" })
}

func TestASubscriberGetsTheNewestAndItsChannelEnds(t *testing.T) {
	p := newPeer(t)
	events := make(chan string)
	p.streams = func(seen) answer { return answer{stream: events} }
	client := p.client(func(c *Config) { c.PollOnly = false })
	limited, cancel := context.WithCancel(ctx)
	updates, err := client.SubscribeConfigUpdates(limited)
	check(t, err)
	for n := 2; n <= 9; n++ {
		events <- event(configBody(fmt.Sprintf("global@%d", n)))
	}
	eventually(t, "the last came", func() bool { return client.CurrentConfig().Version == "global@9" })
	if update := <-updates; update.Version != "global@9" {
		t.Errorf("%+v", update)
	}
	cancel()
	if _, open := <-updates; open {
		t.Error("an update after the end")
	}
	if _, err := client.SubscribeConfigUpdates(limited); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	other, err := client.SubscribeConfigUpdates(ctx)
	check(t, err)
	<-other
	check(t, client.Close(ctx))
	if _, open := <-other; open {
		t.Error("an update after the end")
	}
	if _, err := client.SubscribeConfigUpdates(ctx); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestBeforeAFirstFetchThereIsTheDefaultOrNothing(t *testing.T) {
	p := newPeer(t)
	p.standing = func(seen) answer { return answer{hang: true} }
	if config := p.client().CurrentConfig(); config != nil {
		t.Errorf("%+v", config)
	}
	fallback := &LLMConfig{Provider: "openai", Model: "gpt-4o"}
	config := p.client(func(c *Config) { c.Default = fallback }).ConfigFor("user-1")
	if config == nil || config.Model != "gpt-4o" || config.Version != "" {
		t.Errorf("%+v", config)
	}
	if len(p.requests()) != 0 {
		t.Error("what has no call to it asked the server")
	}
}

func TestTheLastConfigurationSurvivesARestart(t *testing.T) {
	p := newPeer(t)
	folder := filepath.Join(t.TempDir(), "kept")
	kept := func(c *Config) { c.CacheDir, c.Retries, c.Default = folder, -1, &LLMConfig{Provider: "p", Model: "m"} }
	p.standing = func(s seen) answer {
		if strings.HasSuffix(s.path, "current") {
			return configAnswer("global@1")
		}
		return answer{body: rolloutBody(100, time.Minute)}
	}
	client := p.client(kept)
	must[*ServedConfig](t)(client.GetConfig(ctx))
	if config := must[*ServedConfig](t)(client.GetConfigForService(ctx, "chat", "")); config.Version != "chat@2" {
		t.Errorf("%+v", config)
	}
	check(t, client.Close(ctx))
	p.set(func() { p.standing = func(seen) answer { return answer{cut: true} } })
	again := p.client(kept)
	if config := again.CurrentConfig(); config.Version != "global@1" || config.MaxTokens != 1024 {
		t.Errorf("%+v", config)
	}
	config := must[*ServedConfig](t)(again.GetConfigForService(ctx, "chat", ""))
	if config.Version != "chat@1" || config.Canary {
		t.Errorf("a canary of before: %+v", config)
	}
	if files, _ := filepath.Glob(filepath.Join(folder, "*")); len(files) != 2 {
		t.Errorf("left behind: %v", files)
	}
	if other := NewClient(Config{Endpoint: "http://127.0.0.1:9", CacheDir: folder}); other.CurrentConfig() != nil {
		t.Error("another server's")
	}
}

func TestWhatAnySDKKeptIsReadAndKeptUnderTheSameName(t *testing.T) {
	folder := t.TempDir()
	content, err := os.ReadFile("../vectors/kept.json")
	check(t, err)
	files := map[string]json.RawMessage{}
	check(t, json.Unmarshal(content, &files))
	for name, file := range files {
		check(t, os.WriteFile(filepath.Join(folder, name), file, 0o600))
	}
	client := NewClient(Config{Endpoint: "http://127.0.0.1:9/", CacheDir: folder, Logger: quiet()})
	defer client.Close(ctx)
	for name, file := range files {
		kept := read[keptConfig](t, file)
		if got := keptName(kept.Server, kept.Scope); got != name {
			t.Errorf("%s, not %s", got, name)
		}
		if config := client.CurrentConfig(kept.Scope); config == nil || !reflect.DeepEqual(*config, kept.ServedConfig) {
			t.Errorf("%+v, not %+v", config, kept.ServedConfig)
		}
	}
}

func TestAFileThatCannotBeReadIsAsGoodAsNone(t *testing.T) {
	p := newPeer(t)
	folder := t.TempDir()
	file := filepath.Join(folder, keptName(p.URL, Scope{}))
	check(t, os.WriteFile(file, []byte(`{"server": "`+p.URL+`", "version": "global@`), 0o600))
	client := p.client(func(c *Config) { c.CacheDir = folder })
	if config := client.CurrentConfig(); config != nil {
		t.Errorf("%+v", config)
	}
	must[*ServedConfig](t)(client.GetConfig(ctx))
	eventually(t, "the file is made anew", func() bool {
		content, _ := os.ReadFile(file)
		return strings.Contains(string(content), `"chat@1"`)
	})
}

// Faults: with the server gone, slow or answering nonsense, what was known holds, and nobody waits.
func TestTheLastConfigurationHolds(t *testing.T) {
	faults := map[string]answer{
		"gone":      {cut: true},
		"slow":      {hang: true},
		"a page":    {body: "<html>welcome</html>"},
		"no config": {body: map[string]any{"hello": "world"}},
		"null":      {body: "null"},
		"an error":  errorAnswer("DATABASE_ERROR", 503, true),
	}
	for name, fault := range faults {
		fault := fault
		t.Run(name, func(t *testing.T) {
			p := newPeer(t)
			patient := func(c *Config) { c.PollInterval, c.Timeout = 5*time.Millisecond, 50*time.Millisecond }
			client := p.client(patient)
			must[*ServedConfig](t)(client.GetConfig(ctx))
			p.set(func() { p.standing = func(seen) answer { return fault } })
			asked := len(p.requests())
			eventually(t, "asked again", func() bool { return len(p.requests()) > asked+2 })
			started := time.Now()
			for range [100]int{} {
				if config := must[*ServedConfig](t)(client.GetConfig(ctx)); config.Version != "chat@1" {
					t.Fatalf("%+v", config)
				}
			}
			if took := time.Since(started); took > time.Second {
				t.Errorf("100 calls took %v", took)
			}

			defaulting := p.client(patient, func(c *Config) { c.Default = &LLMConfig{Provider: "p", Model: "m"} })
			if config := must[*ServedConfig](t)(defaulting.GetConfig(ctx)); config.Model != "m" {
				t.Fatalf("%+v", config)
			}
			p.set(func() { p.standing = serve })
			eventually(t, "the server's is served once it is back", func() bool {
				return must[*ServedConfig](t)(defaulting.GetConfig(ctx)).Version == "chat@1"
			})
		})
	}
}

func TestAFirstFetchThatFailsIsNotWaitedForAgain(t *testing.T) {
	p := newPeer(t)
	p.standing = func(seen) answer { return answer{hang: true} }
	client := p.client(func(c *Config) { c.Timeout, c.Retries = 100*time.Millisecond, -1 })
	started := time.Now()
	for range [50]int{} {
		if _, err := client.GetConfig(ctx); !errors.Is(err, ErrNoAnswer) {
			t.Fatal(err)
		}
	}
	if took := time.Since(started); took > 2*time.Second {
		t.Errorf("50 calls took %v", took)
	}
}

func TestWhatIsNotFoundIsAskedForAgain(t *testing.T) {
	p := newPeer(t)
	p.queued = []answer{errorAnswer("NOT_FOUND", 404, false)}
	client := p.client(func(c *Config) { c.PollInterval = time.Hour })
	if _, err := client.GetConfig(ctx); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	must[*ServedConfig](t)(client.GetConfig(ctx))
}

func TestTheContextEndsTheWait(t *testing.T) {
	p := newPeer(t)
	p.standing = func(seen) answer { return answer{hang: true} }
	client := p.client()
	limited, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := client.GetConfig(limited); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNoAnswer) {
		t.Error(err)
	}
	fallback := p.client(func(c *Config) { c.Default = &LLMConfig{Provider: "p", Model: "m"} })
	if config := must[*ServedConfig](t)(fallback.GetConfig(limited)); config.Model != "m" {
		t.Errorf("%+v", config)
	}
}

func TestScopesBeyondTheLimitGiveWay(t *testing.T) {
	p := newPeer(t)
	client := p.client()
	updates, err := client.SubscribeConfigUpdates(ctx, Scope{Service: "watched"})
	check(t, err)
	<-updates
	for n := 0; n < maxScopes+10; n++ {
		must[*ServedConfig](t)(client.GetConfigForService(ctx, fmt.Sprintf("s%d", n), ""))
	}
	client.configs.mu.RLock()
	defer client.configs.mu.RUnlock()
	if len(client.configs.scopes) != maxScopes || client.configs.scopes[Scope{Service: "watched"}] == nil {
		t.Errorf("%d scopes", len(client.configs.scopes))
	}
}

func TestNothingOutlivesAClosedClient(t *testing.T) {
	p := newPeer(t)
	events := make(chan string, 1)
	p.streams = func(seen) answer { return answer{stream: events} }
	noLeak(t, func() {
		client := p.client(func(c *Config) { c.PollOnly = false })
		updates, err := client.SubscribeConfigUpdates(ctx)
		check(t, err)
		events <- event(configBody("global@5"))
		eventually(t, "streamed", func() bool { return client.ConfigFor("u") != nil && client.ConfigFor("u").Version == "global@5" })
		for range updates {
			check(t, client.Track(ctx, "chat", "/", func(ctx context.Context, tracker *RequestTracker) error {
				tracker.SetModel("p", "m")
				tracker.SetTokens(1, 1)
				return nil
			}))
			check(t, client.Close(ctx))
		}
		if config := must[*ServedConfig](t)(client.GetConfig(ctx)); config.Version != "global@5" {
			t.Errorf("%+v", config)
		}
		if _, err := client.GetConfigForService(ctx, "chat", ""); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if _, err := client.GetHealth(ctx); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	noLeak(t, func() { // a server that hangs keeps nothing alive
		p.set(func() { p.standing = func(seen) answer { return answer{hang: true} } })
		client, asked := p.client(), len(p.requests())
		must[<-chan ConfigUpdate](t)(client.SubscribeConfigUpdates(ctx))
		eventually(t, "asked", func() bool { return len(p.requests()) > asked })
		started := time.Now()
		check(t, client.Close(ctx))
		if took := time.Since(started); took > time.Second {
			t.Errorf("closing took %v", took)
		}
	})
}
