/** Sends reports in the background, so that a call never waits for its own bookkeeping. */

import { OptimizerError, refused, UnexpectedAnswerError } from './errors.js';
import { jittered } from './retry.js';
import { decode, post, type Answer, type Request, type Transport } from './transport.js';
import type { IngestResult, Metric } from './types.js';

const BATCH = 500;
const LINGER = 500;
const PAUSE_AFTER_FAILURE = 5_000;
const WARNING_INTERVAL = 10_000;
export const FLUSH_AT_EXIT = 5_000;

interface Batch {
  request: Request;
  size: number;
}

const busy = new Set<ReportQueue>();
let atExit = false;

/**
 * A bounded queue of metrics and the timer that empties it.
 *
 * Past `capacity` the oldest reports give way, counted in `dropped`, as is what the server refuses for good. A
 * batch that fails for now is kept, and sent again under the same `Idempotency-Key`, so that it cannot count
 * twice. What waits when the process has nothing else to do is sent before it ends.
 */
export class ReportQueue {
  dropped = 0;
  readonly #transport: Transport;
  readonly #capacity: number;
  readonly #onWarning: (error: Error) => void;
  readonly #idle: Array<() => void> = [];
  #waiting: Metric[] = [];
  /** Where the oldest that waits stands in `#waiting`; what is before it has gone. */
  #head = 0;
  #batch: Batch | undefined;
  #sending = false;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  #warnedAt = Number.NEGATIVE_INFINITY;

  constructor(transport: Transport, capacity: number, onWarning: (error: Error) => void) {
    this.#transport = transport;
    this.#capacity = capacity;
    this.#onWarning = onWarning;
  }

  /** Takes a metric; never throws, never waits for the network. */
  put(metric: Metric): void {
    if (this.#closed) {
      this.drop(1, 'the client is closed');
      return;
    }
    this.#waiting.push(metric);
    if (this.#length > this.#capacity) {
      this.#take(1);
      this.drop(1, 'too many wait to be sent');
    }
    if (this.#length === 1) this.#becomeBusy();
    this.#sendIn(LINGER);
  }

  /** Counts reports that will not be sent, and warns of it, though not for each. */
  drop(count: number, reason: string): void {
    this.dropped += count;
    if (performance.now() - this.#warnedAt < WARNING_INTERVAL) return;
    this.#warnedAt = performance.now();
    const message = `report dropped (${this.dropped} so far): ${reason}`;
    queueMicrotask(() => this.#onWarning(new Error(message)));
  }

  /** Resolves once all that was put is sent or given up; with false if that took longer than `timeout` ms. */
  flush(timeout: number): Promise<boolean> {
    if (this.#isIdle) return Promise.resolve(true);
    this.#hurry();
    return new Promise((resolve) => {
      // Not unref'd: it keeps the process while its requests, which do not, are under way.
      const timer = setTimeout(() => resolve(false), timeout);
      this.#idle.push(() => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }

  /** Flushes, then takes no more. What could not be sent in time is dropped, and counted. */
  async close(timeout: number): Promise<void> {
    await this.flush(timeout);
    this.#closed = true;
    this.giveUp('the client was closed before they could be sent');
  }

  /** Drops all that waits or is under way. */
  giveUp(reason: string): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const left = this.#length + (this.#batch?.size ?? 0);
    this.#take(this.#length);
    this.#batch = undefined;
    if (left > 0) this.drop(left, reason);
    this.#becomeIdle();
  }

  get #length(): number {
    return this.#waiting.length - this.#head;
  }

  get #isIdle(): boolean {
    return this.#length === 0 && this.#batch === undefined;
  }

  #take(count: number): Metric[] {
    const taken = this.#waiting.slice(this.#head, this.#head + count);
    this.#head += taken.length;
    if (this.#head > this.#capacity || this.#head === this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#head);
      this.#head = 0;
    }
    return taken;
  }

  #becomeBusy(): void {
    busy.add(this);
    if (atExit) return;
    atExit = true;
    process.on('beforeExit', () => {
      for (const queue of busy) void queue.#finish();
    });
  }

  #becomeIdle(): void {
    busy.delete(this);
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  async #finish(): Promise<void> {
    if (!(await this.flush(FLUSH_AT_EXIT))) this.giveUp('the process ended before they could be sent');
  }

  #hurry(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#sendIn(0);
  }

  #sendIn(delay: number): void {
    if (this.#timer !== undefined || this.#sending) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#send();
    }, delay).unref();
  }

  async #send(): Promise<void> {
    this.#sending = true;
    let delay = LINGER;
    while (!this.#isIdle) {
      this.#batch ??= this.#nextBatch();
      const pause = this.#batch && (await this.#deliver(this.#batch));
      if (pause !== undefined) {
        delay = pause;
        break;
      }
    }
    this.#sending = false;
    if (this.#isIdle) this.#becomeIdle();
    else this.#sendIn(delay);
  }

  #nextBatch(): Batch | undefined {
    const metrics = this.#take(BATCH).filter((metric) => {
      try {
        JSON.stringify(metric);
        return true;
      } catch (error) {
        this.drop(1, `not JSON: ${String(error)}`);
        return false;
      }
    });
    return metrics.length > 0 ? { request: post('/metrics', { metrics }), size: metrics.length } : undefined;
  }

  /** Sends `batch`; gives the milliseconds to wait before it is tried again, if it is to be. */
  async #deliver(batch: Batch): Promise<number | undefined> {
    try {
      const result = await this.#transport.call(batch.request, taken, { background: true });
      if (result.rejected > 0) this.drop(result.rejected, `refused by the server: ${JSON.stringify(result.errors)}`);
    } catch (error) {
      if (this.#batch !== batch) return undefined;
      if (error instanceof OptimizerError && !refused(error)) {
        this.#onWarning(error);
        return Math.max(jittered(PAUSE_AFTER_FAILURE), error.retryAfter ?? 0);
      }
      this.drop(batch.size, String(error));
    }
    if (this.#batch === batch) this.#batch = undefined;
    return undefined;
  }
}

/** What became of a batch; any other object is not the API's answer. */
function taken(answer: Answer): IngestResult {
  const body = decode(answer);
  if (typeof body.accepted === 'number') return body as unknown as IngestResult;
  throw new UnexpectedAnswerError('the answer does not say what became of the reports', { status: answer.status, body });
}
