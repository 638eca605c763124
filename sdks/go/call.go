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

// handedOut remembers the last configuration given per service, "" being the global scope. Safe for
// concurrent use.
type handedOut struct {
	mu   sync.Mutex
	last map[string]handed
}

// handed is the last configuration given. It is mixed where both versions of its rollout were given out.
type handed struct {
	config *ServedConfig
	mixed  bool
}

func (h *handedOut) remember(service string, config *ServedConfig) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = map[string]handed{}
	}
	before := h.last[service]
	mixed := before.config != nil && config.DeploymentID != "" &&
		before.config.DeploymentID == config.DeploymentID &&
		(before.mixed || before.config.Version != config.Version)
	h.last[service] = handed{config, mixed}
}

// of gives what was handed out for the service, else for the global scope, which a service may inherit.
func (h *handedOut) of(service string) handed {
	h.mu.Lock()
	defer h.mu.Unlock()
	if found, there := h.last[service]; there {
		return found
	}
	return h.last[""]
}
