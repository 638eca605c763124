import type { TestContext } from 'node:test';

import { OptimizerClient, type ClientOptions } from '../src/index.js';
import { Peer, type Handler } from './peer.js';

/** A server and a client of it, both closed at the test's end; what the client warned of is in `warnings`. */
export async function setUp(
  t: TestContext,
  handler?: Handler,
  options: Partial<ClientOptions> = {},
): Promise<{ peer: Peer; client: OptimizerClient; warnings: Error[] }> {
  const peer = await Peer.start(handler);
  const { client, warnings } = clientOf(t, { endpoint: peer.url, ...options });
  t.after(() => peer.close());
  return { peer, client, warnings };
}

export function clientOf(t: TestContext, options: ClientOptions): { client: OptimizerClient; warnings: Error[] } {
  const client = new OptimizerClient({ apiKey: 'key-1', ...options });
  const warnings: Error[] = [];
  client.on('warning', (error) => warnings.push(error));
  t.after(() => client.close(0));
  return { client, warnings };
}
