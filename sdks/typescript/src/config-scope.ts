/** Keeps one scope's configuration at hand, so that a configuration for every call costs no request. */

import type { Config, ScopeAnswer } from './config.js';
import type { ConfigSource } from './config-source.js';
import { OptimizerError, refused } from './errors.js';
import { jittered } from './retry.js';
import type { Scope } from './types.js';

const RECONNECT = 1_000;
const FIRST_BACKOFF = 500;
const MAX_BACKOFF = 30_000;
// The longest that a timer can be set for.
const MAX_TIMER = 2 ** 31 - 1;

export interface ScopeOptions {
  scope: Scope;
  source: ConfigSource;
  /** Milliseconds between polls while there is no stream. */
  interval: number;
  stream: boolean;
  /** What was kept from an earlier run. */
  kept: ScopeAnswer | undefined;
  /** What the caller serves where there is nothing else. */
  fallback: Config | undefined;
  /** A new answer of the server. */
  onAnswer: (scope: Scope, answer: ScopeAnswer) => void;
  /** What this instance serves has changed. */
  onChange: (scope: Scope, config: Config) => void;
  onWarning: (error: Error) => void;
}

/**
 * The life of a scope: fetched by the first call that needs it, then served from memory and followed by stream;
 * while there is no stream, by polling. When the server does not answer, the last answer holds, and the next
 * tries come at growing intervals.
 */
export class ConfigScope {
  /** How many want it to be followed, come what may. */
  holders = 0;
  /** When it was asked for, as a number that grows. */
  used = 0;
  readonly #options: ScopeOptions;
  readonly #end = new AbortController();
  #interval: number;
  #answer: ScopeAnswer | undefined;
  #told: string | undefined;
  #first: Promise<void> | undefined;
  #failure: OptimizerError | undefined;
  #following = false;
  #lapse: NodeJS.Timeout | undefined;
  #wake: () => void = () => undefined;

  constructor(options: ScopeOptions) {
    this.#options = options;
    this.#interval = options.interval;
    this.#answer = options.kept;
  }

  /** What is served to `unit` now, without I/O; undefined where there is nothing to serve yet. */
  draw(unit: string | undefined): Config | undefined {
    return this.#answer?.draw(unit) ?? this.#options.fallback;
  }

  /** Whether `ready` has been through: there is something to serve, and nobody waits for the server any more. */
  get isReady(): boolean {
    return this.#following && (this.#answer ?? this.#options.fallback) !== undefined;
  }

  /**
   * Resolves once there is something to serve. Only the first caller waits for the server, with something kept
   * or a default for one try alone. Rejects where that fails and there is nothing to serve: at once, unless it
   * was the API that refused, while the next tries go on in the background.
   */
  ready(): Promise<void> {
    if (this.isReady) return Promise.resolve();
    if (this.#following && this.#failure && !refused(this.#failure)) return Promise.reject(this.#failure);
    this.#first ??= this.#ask().finally(() => (this.#first = undefined));
    return this.#first;
  }

  /** Sets the time between polls while there is no stream, ms. */
  pollEvery(interval: number): void {
    if (interval === this.#interval) return;
    this.#interval = interval;
    this.#wake();
  }

  /** Keeps the scope fresh from now on. */
  follow(): void {
    if (this.#following || this.#end.signal.aborted) return;
    this.#following = true;
    void this.#run();
  }

  stop(): void {
    this.#end.abort();
    clearTimeout(this.#lapse);
    this.#wake();
  }

  async #ask(): Promise<void> {
    const { scope, source, onWarning } = this.#options;
    const once = this.draw(undefined) !== undefined;
    try {
      this.#take(await source.first(scope, { once }));
      this.#failure = undefined;
      this.follow();
    } catch (error) {
      if (!(error instanceof OptimizerError)) throw error;
      this.#failure = error;
      if (once || !refused(error)) this.follow();
      if (!once) throw error;
      onWarning(error);
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    let fresh = this.#failure === undefined;
    let failures = 0;
    while (!signal.aborted) {
      const streamed = this.#options.stream && (await this.#stream());
      if (signal.aborted) return;
      const polled = (fresh && !streamed) || (await this.#poll());
      fresh = false;
      failures = streamed || polled ? 0 : failures + 1;
      const backoff = Math.min(this.#interval, MAX_BACKOFF, FIRST_BACKOFF * 2 ** failures);
      const rest = failures > 0 ? jittered(backoff) : streamed ? jittered(RECONNECT) : this.#interval;
      const asked = failures > 0 ? (this.#failure?.retryAfter ?? 0) : 0;
      if (!signal.aborted) await this.#pause(Math.min(MAX_TIMER, Math.max(rest, asked)));
    }
  }

  /** Takes what the stream brings until it ends; whether it brought anything. */
  async #stream(): Promise<boolean> {
    const { scope, source, onWarning } = this.#options;
    let brought = false;
    try {
      await source.follow(scope, this.#end.signal, (answer) => {
        brought = true;
        this.#take(answer);
      });
    } catch (error) {
      if (!this.#end.signal.aborted) onWarning(error as Error);
    }
    return brought;
  }

  /** Asks once whether anything changed; whether that was answered. */
  async #poll(): Promise<boolean> {
    const { scope, source, onWarning } = this.#options;
    try {
      const changed = await source.again(scope, this.#answer);
      if (changed !== undefined) this.#take(changed);
      return true;
    } catch (error) {
      if (error instanceof OptimizerError) this.#failure = error;
      if (!this.#end.signal.aborted) onWarning(error as Error);
      return false;
    }
  }

  /** Waits without keeping the process from ending, until time is up or `#wake`. */
  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds).unref();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #take(answer: ScopeAnswer): void {
    if (this.#end.signal.aborted) return;
    this.#answer = answer;
    this.#options.onAnswer(this.#options.scope, answer);
    this.#tell();
    clearTimeout(this.#lapse);
    if (answer.rollout === undefined) return;
    // Control is served to all once nobody watches the canary any more.
    const left = Math.min(MAX_TIMER, Math.max(0, answer.rollout.watchedUntil - performance.now()) + 1);
    this.#lapse = setTimeout(() => this.#tell(), left).unref();
  }

  #tell(): void {
    const { scope, source, onChange } = this.#options;
    const config = this.#answer?.draw(source.instanceId);
    if (config === undefined || config.version === this.#told) return;
    this.#told = config.version;
    onChange(scope, config);
  }
}
