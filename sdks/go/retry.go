package optimizer

import (
	"context"
	"errors"
	"math/rand"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	initialDelay  = 200 * time.Millisecond
	maxDelay      = 8 * time.Second
	maxRetryAfter = time.Minute
)

// retrying calls try until it succeeds, fails for good, or failed retries times more.
//
// Between tries it waits 200 ms, doubled each time up to 8 s, of which a random half is taken away so that
// clients that failed together do not come back together. The server's Retry-After is a lower bound; where it
// asks for more than a minute, the error is given instead of waited out.
func retrying(ctx context.Context, retries int, try func() error) error {
	for attempt := 0; ; attempt++ {
		err := try()
		var failed *APIError
		if !errors.As(err, &failed) || !failed.Retryable || attempt >= retries ||
			failed.RetryAfter > maxRetryAfter {
			return err
		}
		if sleep(ctx, max(failed.RetryAfter, backoff(attempt, initialDelay, maxDelay))) != nil {
			return err
		}
	}
}

// backoff is initial doubled attempt times, at most limit, less a random part of up to a half.
func backoff(attempt int, initial, limit time.Duration) time.Duration {
	full := limit
	if attempt < 32 && initial<<attempt < limit {
		full = initial << attempt
	}
	return full - time.Duration(rand.Int63n(int64(full)/2+1))
}

// sleep waits, or gives the context's error where that ends first.
func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// parseRetryAfter reads a Retry-After header, which is a number of seconds or an HTTP date (RFC 9110, 10.2.3).
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil && date.After(now) {
		return date.Sub(now)
	}
	return 0
}
