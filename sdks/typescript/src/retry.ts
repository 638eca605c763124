/** When to try again, and how long to wait before. */

import type { OptimizerError } from './errors.js';

const INITIAL_DELAY = 200;
const MAX_DELAY = 8_000;
const MAX_RETRY_AFTER = 60_000;

/**
 * Milliseconds to wait after failed `attempt` (the first is 0); undefined: do not try again.
 *
 * Exponential backoff of which a random half is taken away, so that clients that failed together do not come
 * back together. The server's `Retry-After` is a lower bound; past a minute it is not waited out.
 */
export function retryDelay(error: OptimizerError, attempt: number, maxRetries: number): number | undefined {
  const asked = error.retryAfter ?? 0;
  if (!error.retryable || attempt >= maxRetries || asked > MAX_RETRY_AFTER) return undefined;
  return Math.max(asked, jittered(Math.min(MAX_DELAY, INITIAL_DELAY * 2 ** attempt)));
}

/** Half of `delay` to all of it, at random. */
export function jittered(delay: number): number {
  return delay * (0.5 + Math.random() / 2);
}

/** Milliseconds from a `Retry-After` header, which is seconds or an HTTP date (RFC 9110, 10.2.3). */
export function parseRetryAfter(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^\s*\d+\s*$/.test(value)) return Number(value) * 1_000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}
