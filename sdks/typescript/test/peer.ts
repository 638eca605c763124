/** A server in this process, for faults that no sound server has. */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

export interface Seen {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  body: any;
}

export type Handler = (seen: Seen, response: ServerResponse) => void;

export const CONFIG = {
  provider: 'openai',
  model: 'gpt-4-1106-preview',
  temperature: 0.7,
  topP: 1,
  maxTokens: 1024,
  streaming: false,
  functionCalling: false,
  visionEnabled: false,
};
export const CANARY = { ...CONFIG, provider: 'mistral', model: 'mixtral-8x7b-instruct-v0.1' };

/** Answers each request by `handler`, and notes it in `seen`. */
export class Peer {
  readonly seen: Seen[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(public handler: Handler) {
    this.#server = createServer(async (request, response) => {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part);
      const url = new URL(request.url!, 'http://peer');
      const text = Buffer.concat(parts).toString();
      const seen: Seen = {
        method: request.method!,
        path: url.pathname.replace('/api/v1', ''),
        query: url.searchParams,
        headers: request.headers,
        body: text === '' ? null : JSON.parse(text),
      };
      this.seen.push(seen);
      this.handler(seen, response);
    });
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(handler: Handler = wellBehaved, port = 0): Promise<Peer> {
    const peer = new Peer(handler);
    peer.#server.listen(port, '127.0.0.1');
    await once(peer.#server, 'listening');
    return peer;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The requests of a path. */
  of(path: string): Seen[] {
    return this.seen.filter((seen) => seen.path === path);
  }

  /** Every metric that came, tries of the same batch counted once. */
  get metrics(): any[] {
    const batches = new Map(this.of('/metrics').map((seen) => [seen.headers['idempotency-key'], seen.body.metrics]));
    return [...batches.values()].flat();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

export function json(response: ServerResponse, body: unknown, status = 200, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

export function failure(code: string, status: number, retryable = false, details?: unknown): [unknown, number] {
  return [{ error: { code, message: `${code} it is`, details, retryable }, requestId: 'req-7', timestamp: 0 }, status];
}

export function answer(version = 'chat@1', more: object = {}): object {
  return { service: 'chat', version, config: CONFIG, ...more };
}

/** A rollout of chat@2 against chat@1, watched for `watchedFor` ms. */
export function rollout(trafficPercent: number, watchedFor = 60_000): object {
  return {
    rollout: {
      deploymentId: 'dep_1',
      trafficPercent,
      watchedUntil: Date.now() + watchedFor,
      control: { version: 'chat@1', config: CONFIG },
      canary: { version: 'chat@2', config: CANARY },
    },
  };
}

/** Takes every report, has chat@1 for every scope, and no stream. */
export const wellBehaved: Handler = (seen, response) => {
  if (seen.path === '/config/stream') json(response, ...failure('NOT_FOUND', 404));
  else if (seen.method === 'GET') json(response, answer());
  else json(response, { accepted: seen.body.metrics?.length ?? 1, rejected: 0 });
};

/** A stream whose events the test sends by the function that this gives. */
export function streamOf(response: ServerResponse): (body: unknown) => void {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(': ping\n\n');
  return (body) => response.write(`event: config\r\ndata: ${JSON.stringify(body)}\r\n\r\n`);
}

/** Waits until `condition` holds; fails after `timeout` ms. */
export async function until(condition: () => boolean, timeout = 5_000): Promise<void> {
  const end = Date.now() + timeout;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${timeout} ms: ${condition}`);
    await pause(5);
  }
}

export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
