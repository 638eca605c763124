package optimizer

import (
	"context"
	"time"
)

// ConfigUpdate is a configuration that has taken effect.
type ConfigUpdate struct {
	Version   string    `json:"version"`
	Config    LLMConfig `json:"config"`
	Timestamp int64     `json:"timestamp"` // when the client learned of it, ms since the epoch
}

// subscription holds the newest update that its reader has not taken yet, so that a slow reader holds nobody
// up and never reads what no longer holds.
type subscription struct {
	updates chan ConfigUpdate // room for one
	stop    func() bool       // ends the watch of the subscriber's context
}

// subscribe gives a channel of updates, which is closed when ctx or the client ends.
func (e *entry) subscribe(ctx context.Context) (<-chan ConfigUpdate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return nil, ErrClosed
	}
	sub := &subscription{updates: make(chan ConfigUpdate, 1)}
	e.subscribers[sub] = struct{}{}
	sub.stop = context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.drop(sub)
	})
	if answer := e.answer.Load(); answer != nil {
		sub.offer(answer.draw(e.owner.instance, time.Now()))
	}
	return sub.updates, nil
}

// announce tells the subscribers what this instance is served, if that has changed.
func (e *entry) announce() {
	e.mu.Lock()
	defer e.mu.Unlock()
	served := e.answer.Load().draw(e.owner.instance, time.Now())
	if served.Version == e.announced {
		return
	}
	e.announced = served.Version
	for sub := range e.subscribers {
		sub.offer(served)
	}
}

func (e *entry) subscribed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.subscribers) > 0
}

// drop ends a subscription once. The caller holds the lock.
func (e *entry) drop(sub *subscription) {
	if _, there := e.subscribers[sub]; there {
		delete(e.subscribers, sub)
		close(sub.updates)
	}
}

// finish ends what hangs on the entry: those who wait, the subscribers, the timer.
func (e *entry) finish() {
	e.settle(ErrClosed)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	if e.lapse != nil {
		e.lapse.Stop()
	}
	for sub := range e.subscribers {
		sub.stop()
		e.drop(sub)
	}
}

// offer puts an update in place of one that was not taken. Only one goroutine at a time, under the entry's lock.
func (s *subscription) offer(served *ServedConfig) {
	update := ConfigUpdate{
		Version:   served.Version,
		Config:    served.LLMConfig,
		Timestamp: time.Now().UnixMilli(),
	}
	select {
	case <-s.updates:
	default:
	}
	s.updates <- update
}
