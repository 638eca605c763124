package optimizer

import (
	"context"
	"sync"
)

// call is one LLM call of the application: its unit, and what it was handed.
type call struct {
	unit   string
	handed handedOut
}

type callKey struct{}

// WithCall makes a context that stands for one call, or for all calls of one request. The unit (a user's or a
// session's id) decides who gets the canary of a rollout and keeps getting it; where it is empty each
// configuration is drawn by the canary's share.
//
// A report under this context without a version carries the version that was last handed out under it.
func WithCall(ctx context.Context, unit string) context.Context {
	return context.WithValue(ctx, callKey{}, &call{unit: unit})
}

// callOf gives the context's call, or nil.
func callOf(ctx context.Context) *call {
	found, _ := ctx.Value(callKey{}).(*call)
	return found
}

// handedUnder gives what was handed out in the same call context: under [WithCall] that call's, and under a
// context that never ends, such as [context.Background], the program's. It is nil under any other: what a
// request was handed without a WithCall is not known.
func (c *Client) handedUnder(ctx context.Context) *handedOut {
	if call := callOf(ctx); call != nil {
		return &call.handed
	}
	if ctx.Done() == nil {
		return &c.handed
	}
	return nil
}

// handedOut remembers the last configuration given per service, "" being the global scope. Safe for
// concurrent use; nil remembers nothing.
type handedOut struct {
	shared bool // by calls that may run at the same time

	mu   sync.Mutex
	last map[string]*ServedConfig
}

// remember notes what was given. Where calls share it and both versions of a rollout were given, only what the
// two have in common is known of the one that serves a call.
func (h *handedOut) remember(service string, config *ServedConfig) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = map[string]*ServedConfig{}
	}
	before := h.last[service]
	if h.shared && before != nil && config.DeploymentID != "" &&
		before.DeploymentID == config.DeploymentID && before.Version != config.Version {
		config = config.copy()
		config.Version = ""
		if before.Provider != config.Provider || before.Model != config.Model {
			config.Provider, config.Model = "", ""
		}
	}
	h.last[service] = config
}

// of gives what was handed out for the service, else for the global scope, which a service may inherit, or nil.
// Version and model are empty where they are not known.
func (h *handedOut) of(service string) *ServedConfig {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if found, there := h.last[service]; there {
		return found
	}
	return h.last[""]
}
