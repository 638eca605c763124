/** Sends requests over HTTP, tries again where that may help, and turns failures into errors. */

import { randomUUID } from 'node:crypto';
import * as http from 'node:http';
import * as https from 'node:https';

import { errorFromAnswer, NoAnswerError, OptimizerError, UnexpectedAnswerError } from './errors.js';
import { parseRetryAfter, retryDelay } from './retry.js';
import { VERSION } from './version.js';

const PREFIX = '/api/v1';
// Below the five seconds after which common servers close an idle connection.
const IDLE_CONNECTION = 4_000;

type QueryValue = string | number | boolean | readonly string[] | undefined;

/** A call of the API. Every try of it carries the same headers, `Idempotency-Key` included. */
export interface Request {
  method: 'GET' | 'POST' | 'PUT';
  path: string;
  query?: Record<string, QueryValue>;
  headers?: Record<string, string>;
  body?: string;
}

/** A whole answer, and the local monotonic clock (ms) when it came. */
export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  text: string;
  receivedAt: number;
}

/** A write under an `Idempotency-Key` of its own. Undefined values in `body` are left out. */
export function post(path: string, body: object): Request {
  const headers = { 'content-type': 'application/json', 'idempotency-key': randomUUID() };
  return { method: 'POST', path, headers, body: JSON.stringify(body) };
}

/** The JSON object of a 2xx answer. Throws the error that any other answer means. */
export function decode(answer: Answer): Record<string, unknown> {
  const { status, headers, text } = answer;
  const requestId = headers['x-request-id']?.toString();
  let body: unknown = text;
  try {
    body = JSON.parse(text);
  } catch {
    // Not JSON: the text itself tells what it is.
  }
  if (status < 200 || status > 299) {
    throw errorFromAnswer(status, body, requestId, parseRetryAfter(headers['retry-after']));
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new UnexpectedAnswerError('the answer is no JSON object', { status, body, requestId });
  }
  return body as Record<string, unknown>;
}

export interface TransportOptions {
  endpoint: string;
  apiKey: string | undefined;
  /** Milliseconds that one try may take. */
  timeout: number;
  retries: number;
}

/** What a request does to the process: one in the background does not keep it from ending. */
export interface Manner {
  background?: boolean;
  /** Ends the request. */
  signal?: AbortSignal;
}

export class Transport {
  /** The server's address, without a slash at its end. */
  readonly base: string;
  readonly #base: URL;
  readonly #headers: Record<string, string>;
  /** Milliseconds that one try may take. */
  readonly timeout: number;
  readonly #retries: number;
  readonly #http: typeof http | typeof https;
  readonly #agent: http.Agent;
  #closed = false;

  constructor({ endpoint, apiKey, timeout, retries }: TransportOptions) {
    this.base = endpoint.replace(/\/+$/, '');
    this.#base = address(endpoint);
    this.#http = this.#base.protocol === 'https:' ? https : http;
    this.#agent = new this.#http.Agent({ keepAlive: true, timeout: IDLE_CONNECTION });
    this.#headers = { 'user-agent': `llm-auto-optimizer-node/${VERSION}`, accept: 'application/json' };
    if (apiKey !== undefined) this.#headers.authorization = `Bearer ${apiKey}`;
    this.timeout = timeout;
    this.#retries = retries;
  }

  /** The answer as `read` sees it, after as many tries as are allowed; throws the last try's error. */
  async call<T>(request: Request, read: (answer: Answer) => T, manner: Manner = {}): Promise<T> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return read(await this.send(request, manner));
      } catch (error) {
        const delay = error instanceof OptimizerError ? retryDelay(error, attempt, this.#retries) : undefined;
        if (delay === undefined) throw error;
        await sleep(delay, manner);
      }
    }
  }

  /** One try: the answer as it came, whatever its status. Rejects with `NoAnswerError` where none came. */
  send(request: Request, manner: Manner = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const sent = this.#open(request, this.#agent, manner);
      const fail = (error: Error): void => {
        clearTimeout(timer);
        sent.destroy();
        reject(this.#noAnswer(request, error));
      };
      const timer = setTimeout(() => fail(new Error(`none within ${this.timeout} ms`)), this.timeout);
      if (manner.background) timer.unref();
      sent.on('error', fail);
      sent.on('response', (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('error', fail);
        response.on('end', () => {
          clearTimeout(timer);
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text: Buffer.concat(parts).toString('utf8'),
            receivedAt: performance.now(),
          });
        });
      });
      sent.end(request.body);
    });
  }

  /**
   * Opens a stream in the background: gives the response once its headers are there. `signal` ends it.
   *
   * Rejects with `NoAnswerError` where none came, with `UnexpectedAnswerError` where it is no event stream.
   */
  stream(request: Request, signal: AbortSignal): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      const sent = this.#open(request, false, { background: true, signal });
      const fail = (error: Error): void => {
        clearTimeout(timer);
        sent.destroy();
        reject(error instanceof OptimizerError ? error : this.#noAnswer(request, error));
      };
      const timer = setTimeout(() => fail(new Error(`none within ${this.timeout} ms`)), this.timeout);
      timer.unref();
      sent.on('error', fail);
      sent.on('response', (response) => {
        clearTimeout(timer);
        const { statusCode: status, headers } = response;
        if (status === 200 && headers['content-type']?.startsWith('text/event-stream')) {
          resolve(response);
        } else {
          fail(new UnexpectedAnswerError('no stream of events', { status, retryable: true }));
        }
      });
      sent.end();
    });
  }

  /** Ends every connection; calls fail from now on. */
  close(): void {
    this.#closed = true;
    this.#agent.destroy();
  }

  #open(request: Request, agent: http.Agent | false, { background, signal }: Manner): http.ClientRequest {
    const url = new URL(this.#base);
    url.pathname = this.#base.pathname.replace(/\/+$/, '') + PREFIX + request.path;
    for (const [name, value] of Object.entries(request.query ?? {})) {
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== undefined) url.searchParams.append(name, String(one));
      }
    }
    const sent = this.#http.request(url, {
      method: request.method,
      headers: { ...this.#headers, ...request.headers },
      agent,
      signal,
    });
    if (background) sent.on('socket', (socket) => socket.unref());
    if (this.#closed) sent.destroy(new Error('the client is closed'));
    return sent;
  }

  #noAnswer(request: Request, cause: Error): NoAnswerError {
    const message = `${request.method} ${this.#base.origin}${PREFIX}${request.path}: ${cause.message || cause.name}`;
    return new NoAnswerError(message, { retryable: !this.#closed, cause });
  }
}

function sleep(milliseconds: number, { background }: Manner): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    if (background) timer.unref();
  });
}

function address(endpoint: string): URL {
  const url = URL.canParse?.(endpoint) === false ? undefined : new URL(endpoint);
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new TypeError(`endpoint must be an http or https address, not ${JSON.stringify(endpoint)}`);
  }
  return url;
}
