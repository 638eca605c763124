package optimizer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	batchSize         = 500
	linger            = 500 * time.Millisecond // how long a batch waits to fill
	pauseAfterFailure = 5 * time.Second
	dropLogInterval   = 10 * time.Second
)

// queue is a bounded queue of metrics and the goroutine that empties it, which starts with the first metric.
//
// Past capacity the oldest metrics give way, counted in dropped, as is what the server refuses for good. A
// batch that fails for now is kept, and sent again under the same Idempotency-Key, so that it cannot count
// twice.
type queue struct {
	transport *transport
	capacity  int
	logger    *slog.Logger
	life      context.Context // ends with the client
	dropped   atomic.Int64
	running   sync.WaitGroup
	wake      chan struct{} // something changed that the sender may wait for
	loggedAt  atomic.Int64  // ns since the epoch

	mu      sync.Mutex
	ring    []Metrics // grows by doubling up to capacity
	head    int
	waiting int
	sending int
	started bool
	closed  bool
	hurried int           // how many wait for the queue to be empty
	idle    chan struct{} // closed, and made anew, when nothing waits any more
}

// put takes a metric. It never waits for the network.
func (q *queue) put(metric Metrics) {
	if !finite(metric.LatencyMs) || !finite(metric.CostUsd) {
		q.drop(1, "it holds a number that JSON has not")
		return
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		q.drop(1, "the client is closed")
		return
	}
	full := q.waiting == q.capacity
	if full {
		q.head = (q.head + 1) % len(q.ring)
		q.waiting--
	} else if q.waiting == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.waiting)%len(q.ring)] = metric
	q.waiting++
	if !q.started {
		q.started = true
		q.running.Add(1)
		go q.run()
	}
	wake := q.waiting == 1 || q.waiting == batchSize
	q.mu.Unlock()
	if wake {
		q.signal()
	}
	if full {
		q.drop(1, "too many wait to be sent")
	}
}

func finite(value float64) bool { return !math.IsNaN(value) && !math.IsInf(value, 0) }

func (q *queue) grow() {
	larger := make([]Metrics, min(q.capacity, max(64, 2*len(q.ring))))
	for i := range q.ring {
		larger[i] = q.ring[(q.head+i)%len(q.ring)]
	}
	q.ring, q.head = larger, 0
}

// drop counts reports that will not be sent, and says so in the log, though not for each.
func (q *queue) drop(count int, reason string) {
	total := q.dropped.Add(int64(count))
	now, last := time.Now().UnixNano(), q.loggedAt.Load()
	if now-last >= int64(dropLogInterval) && q.loggedAt.CompareAndSwap(last, now) {
		q.logger.Warn("report dropped", "reason", reason, "dropped", total)
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// flush waits until nothing waits to be sent, or ctx ends.
func (q *queue) flush(ctx context.Context) error {
	q.mu.Lock()
	q.hurried++
	q.mu.Unlock()
	q.signal()
	defer func() {
		q.mu.Lock()
		q.hurried--
		q.mu.Unlock()
	}()
	for {
		q.mu.Lock()
		left, idle := q.waiting+q.sending, q.idle
		q.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("optimizer: %d reports not sent yet: %w", left, ctx.Err())
		}
	}
}

// close takes no more, and drops and counts what still waits. The sender ends with the client's context.
func (q *queue) close() {
	q.mu.Lock()
	left := q.waiting
	q.closed, q.waiting, q.ring = true, 0, nil
	q.rest()
	q.mu.Unlock()
	if left > 0 {
		q.drop(left, "the client was closed before they could be sent")
	}
}

// rest tells those who flush that nothing waits any more, if so. The caller holds the lock.
func (q *queue) rest() {
	if q.waiting+q.sending == 0 {
		close(q.idle)
		q.idle = make(chan struct{})
	}
}

func (q *queue) run() {
	defer q.running.Done()
	for {
		batch := q.next()
		if batch == nil {
			return
		}
		q.deliver(batch)
		q.mu.Lock()
		q.sending = 0
		q.rest()
		q.mu.Unlock()
	}
}

// next gives a batch, a moment after its first report; nil when the client ends.
func (q *queue) next() []Metrics {
	for q.size() == 0 {
		if q.wait(nil) != nil {
			return nil
		}
	}
	timer := time.NewTimer(linger)
	defer timer.Stop()
	for q.size() < batchSize && !q.hurry() {
		if err := q.wait(timer.C); errors.Is(err, errTime) {
			break
		} else if err != nil {
			return nil
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := make([]Metrics, min(batchSize, q.waiting))
	for i := range batch {
		place := (q.head + i) % len(q.ring)
		batch[i], q.ring[place] = q.ring[place], Metrics{}
	}
	if len(batch) == 0 { // closed meanwhile
		return nil
	}
	q.head = (q.head + len(batch)) % len(q.ring)
	q.waiting -= len(batch)
	q.sending = len(batch)
	return batch
}

func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

func (q *queue) hurry() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.hurried > 0
}

var errTime = errors.New("time is up")

// wait waits for a signal: errTime if the timer comes first, the context's error if the client ends.
func (q *queue) wait(timer <-chan time.Time) error {
	select {
	case <-q.wake:
		return nil
	case <-timer:
		return errTime
	case <-q.life.Done():
		return q.life.Err()
	}
}

// deliver sends a batch until the server has taken or refused it, or the client ends.
func (q *queue) deliver(batch []Metrics) {
	req, err := post("/metrics", map[string]any{"metrics": batch})
	for err == nil {
		var result taken
		err = q.transport.call(q.life, req, &result)
		if err == nil {
			if result.Rejected > 0 {
				q.drop(result.Rejected, result.RejectedError.Error())
			}
			return
		}
		var failed *APIError
		if q.life.Err() != nil || !errors.As(err, &failed) || refused(err) {
			break
		}
		q.logger.Warn("reports are kept and sent later", "error", err)
		if err = q.pause(max(backoff(0, pauseAfterFailure, pauseAfterFailure), failed.RetryAfter)); err != nil {
			break
		}
	}
	q.drop(len(batch), err.Error())
}

// taken is what became of a batch. Any other object is not the API's answer.
type taken struct{ RejectedError }

// UnmarshalJSON fails where it is not said how many were accepted.
func (t *taken) UnmarshalJSON(content []byte) error {
	var said struct{ Accepted *int }
	if err := json.Unmarshal(content, &said); err != nil {
		return err
	}
	if said.Accepted == nil {
		return errors.New("the answer does not say what became of the reports")
	}
	return json.Unmarshal(content, &t.RejectedError)
}

// pause waits before the next try; not at all where somebody waits for the queue to be empty, but a moment.
func (q *queue) pause(wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for !q.hurry() {
		if err := q.wait(timer.C); errors.Is(err, errTime) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return sleep(q.life, initialDelay)
}
