/** Asks the server for a scope's configuration, whether it changed, and to be told when it does. */

import { ScopeAnswer, clockOffset } from './config.js';
import { UnexpectedAnswerError } from './errors.js';
import { eventsOf } from './sse.js';
import { decode, type Answer, type Request, type Transport } from './transport.js';
import type { Scope } from './types.js';

const NOT_MODIFIED = 304;
// Three of the server's comments that keep a stream alive.
const LONGEST_SILENCE = 45_000;

/**
 * Reads under this instance's own unit, which keeps the answer, and so its ETag, the same between changes; the
 * units of single calls are assigned from the rollout that the answer carries.
 */
export class ConfigSource {
  constructor(
    private readonly transport: Transport,
    readonly instanceId: string,
  ) {}

  /** The answer, tried as often as any call, or once. */
  async first(scope: Scope, { once }: { once: boolean }): Promise<ScopeAnswer> {
    const request = this.#read(scope);
    return once ? parse(await this.transport.send(request)) : this.transport.call(request, parse);
  }

  /** The answer now, tried once in the background; undefined where it is still the one known. */
  async again(scope: Scope, known: ScopeAnswer | undefined): Promise<ScopeAnswer | undefined> {
    const answer = await this.transport.send(this.#read(scope, known?.etag), { background: true });
    return answer.status === NOT_MODIFIED ? undefined : parse(answer);
  }

  /**
   * Gives each answer as the server sends it, until the stream ends, falls silent or `signal` ends it. The first
   * is to come at once: a proxy that holds events back shows by none having come in time.
   */
  async follow(scope: Scope, signal: AbortSignal, give: (answer: ScopeAnswer) => void): Promise<void> {
    const query = { ...scope, unit: this.instanceId };
    const request: Request = { method: 'GET', path: '/config/stream', query, headers: { accept: 'text/event-stream' } };
    const response = await this.transport.stream(request, signal);
    const clock = clockOffset({ headers: response.headers, receivedAt: performance.now() });
    const watchdog = setTimeout(() => response.destroy(new Error('the stream fell silent')), LONGEST_SILENCE).unref();
    response.on('data', () => watchdog.refresh());
    const opening = setTimeout(() => response.destroy(new Error('the stream brings nothing')), this.transport.timeout).unref();
    try {
      for await (const { event, data } of eventsOf(response)) {
        if (event !== 'config') continue;
        clearTimeout(opening);
        give(ScopeAnswer.parse(json(data), undefined, clock));
      }
    } finally {
      clearTimeout(watchdog);
      clearTimeout(opening);
      response.destroy();
    }
  }

  #read({ service, endpoint }: Scope, etag?: string): Request {
    const path = service === undefined ? '/config/current' : `/config/service/${encodeURIComponent(service)}`;
    const headers = etag === undefined ? undefined : { 'if-none-match': etag };
    return { method: 'GET', path, query: { endpoint, unit: this.instanceId }, headers };
  }
}

function parse(answer: Answer): ScopeAnswer {
  return ScopeAnswer.parse(decode(answer), answer.headers.etag, clockOffset(answer));
}

function json(data: string): Record<string, unknown> {
  try {
    const body: unknown = JSON.parse(data);
    if (typeof body === 'object' && body !== null) return body as Record<string, unknown>;
  } catch {
    // Told below, as any other thing that is no object.
  }
  throw new UnexpectedAnswerError('an event that is no JSON object', { body: data });
}
