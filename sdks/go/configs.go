package optimizer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// maxScopes is how many scopes are kept fresh at once; past it the longest unused gives way.
const maxScopes = 100

// configs keeps the answer of every scope that was asked for at hand and fresh.
type configs struct {
	transport *transport
	instance  string // the unit of what has no call to it
	fallback  *LLMConfig
	kept      *diskCache
	poll      time.Duration
	streaming bool
	logger    *slog.Logger
	life      context.Context // ends with the client
	running   sync.WaitGroup

	mu     sync.RWMutex
	scopes map[Scope]*entry
}

// entry is a scope, and the goroutine that keeps it fresh.
type entry struct {
	owner  *configs
	scope  Scope
	answer atomic.Pointer[scopeAnswer] // nil before the first one
	used   atomic.Int64                // when it was last asked for, ns since the epoch
	wanted chan struct{}               // asks for a try now
	end    context.CancelFunc

	mu          sync.Mutex
	attempt     *attempt // the present or next try at a first answer
	failed      error    // of the last try, nil after a success
	failedAt    time.Time
	announced   string // the version that subscribers were told last
	subscribers map[*subscription]struct{}
	lapse       *time.Timer
	ended       bool
}

// attempt is a try that callers may wait for.
type attempt struct {
	done chan struct{}
	err  error
}

// get gives a scope's configuration for a unit. It waits for the server only where nothing else can be served.
func (s *configs) get(ctx context.Context, scope Scope, unit string) (*ServedConfig, error) {
	asked := time.Now()
	e := s.follow(scope)
	err := ErrClosed
	if e != nil {
		if e.answer.Load() == nil {
			err = e.await(ctx, asked)
		}
		if answer := e.answer.Load(); answer != nil {
			return answer.draw(unit, time.Now()), nil
		}
	}
	if known := s.lastKnown(scope); known != nil {
		return known, nil
	}
	return nil, err
}

// current is get from memory alone: nil where there is nothing to serve yet.
func (s *configs) current(scope Scope, unit string) *ServedConfig {
	if e := s.known(scope); e != nil {
		if answer := e.answer.Load(); answer != nil {
			return answer.draw(unit, time.Now())
		}
	}
	return s.lastKnown(scope)
}

// lastKnown is what was kept on disk, else the caller's default, else nil.
func (s *configs) lastKnown(scope Scope) *ServedConfig {
	if kept := s.kept.get(scope); kept != nil {
		return kept
	}
	if s.fallback != nil {
		return &ServedConfig{LLMConfig: *s.fallback}
	}
	return nil
}

// follow gives the scope's entry, which is kept fresh from now on. After the client is closed it gives what
// there is, or nil.
func (s *configs) follow(scope Scope) *entry {
	if e := s.known(scope); e != nil {
		return e
	}
	return s.start(scope)
}

// known gives the scope's entry, which counts as used now, or nil.
func (s *configs) known(scope Scope) *entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.scopes[scope]
	if e != nil {
		e.used.Store(time.Now().UnixNano())
	}
	return e
}

func (s *configs) start(scope Scope) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.scopes[scope]; e != nil || s.life.Err() != nil {
		return e
	}
	if len(s.scopes) >= maxScopes {
		s.evict()
	}
	ctx, cancel := context.WithCancel(s.life)
	e := &entry{
		owner:       s,
		scope:       scope,
		wanted:      make(chan struct{}, 1),
		end:         cancel,
		attempt:     &attempt{done: make(chan struct{})},
		subscribers: map[*subscription]struct{}{},
	}
	e.used.Store(time.Now().UnixNano())
	s.scopes[scope] = e
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		e.keepFresh(ctx)
	}()
	return e
}

// evict ends the longest unused entry that nobody subscribes to. The caller holds the lock.
func (s *configs) evict() {
	var oldest *entry
	for _, e := range s.scopes {
		if !e.subscribed() && (oldest == nil || e.used.Load() < oldest.used.Load()) {
			oldest = e
		}
	}
	if oldest != nil {
		oldest.end()
		delete(s.scopes, oldest.scope)
	}
}

// close waits until every entry, whose context the client has ended, is at rest.
func (s *configs) close() {
	s.mu.Lock() // no entry starts after this: the client's context is done
	s.mu.Unlock()
	s.running.Wait()
}

// await waits for the first answer. Once a try has failed it waits no more where there is something else to
// serve, or unless it was the API that refused: the next tries go on without the caller.
func (e *entry) await(ctx context.Context, asked time.Time) error {
	e.mu.Lock()
	pending, failed, at := e.attempt, e.failed, e.failedAt
	e.mu.Unlock()
	if failed != nil {
		if at.After(asked) || !refused(failed) || e.owner.lastKnown(e.scope) != nil {
			return failed
		}
		e.want()
	}
	select {
	case <-pending.done:
		return pending.err
	case <-ctx.Done():
		return &APIError{
			Code:    ErrNoAnswer.Error(),
			Message: "no configuration yet: " + ctx.Err().Error(),
			cause:   context.Cause(ctx),
		}
	}
}

// want asks for a try now.
func (e *entry) want() {
	select {
	case e.wanted <- struct{}{}:
	default:
	}
}

// settle tells those who wait how a try went.
func (e *entry) settle(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failed, e.failedAt, e.attempt.err = err, time.Now(), err
	close(e.attempt.done)
	e.attempt = &attempt{done: make(chan struct{})}
}

// store takes an answer in: for callers at once, then for subscribers, then for the next start.
func (e *entry) store(answer *scopeAnswer) {
	e.mu.Lock()
	e.answer.Store(answer)
	if e.lapse != nil {
		e.lapse.Stop()
	}
	if answer.rollout != nil && !e.ended {
		e.lapse = time.AfterFunc(time.Until(answer.rollout.watchedUntil), e.announce)
	}
	e.mu.Unlock()
	e.announce()
	e.owner.kept.put(e.scope, answer.lasting())
}

// refused says whether the API itself has said no, for good. A proxy's page is no refusal.
func refused(err error) bool {
	var failed *APIError
	return errors.As(err, &failed) && !failed.Retryable &&
		!errors.Is(failed, ErrNoAnswer) && !errors.Is(failed, ErrUnexpectedAnswer)
}
