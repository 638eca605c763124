/** Which units of a rollout get the canary: the same answer in the server and in every SDK. */

const BUCKETS = 10_000;

/** The unit's place, 0..9999: MurmurHash3_x86_32 of `salt:unit` in UTF-8, seed 0, modulo 10,000. */
export function bucket(salt: string, unit: string): number {
  return murmur3(Buffer.from(`${salt}:${unit}`, 'utf8')) % BUCKETS;
}

/** Whether this unit gets the canary at this share (0..100). Without a unit, drawn anew each time. */
export function takesCanary(deploymentId: string, unit: string | undefined, trafficPercent: number): boolean {
  const place = unit === undefined ? Math.floor(Math.random() * BUCKETS) : bucket(deploymentId, unit);
  return place < trafficPercent * 100;
}

/** MurmurHash3_x86_32 with seed 0, unsigned, after Austin Appleby's MurmurHash3.cpp. */
export function murmur3(bytes: Buffer): number {
  const whole = bytes.length & ~3;
  let hash = 0;
  for (let at = 0; at < whole; at += 4) {
    hash ^= scrambled(bytes.readUInt32LE(at));
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  let rest = 0;
  for (let at = bytes.length - 1; at >= whole; at -= 1) rest = (rest << 8) | bytes[at]!;
  hash ^= scrambled(rest) ^ bytes.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function scrambled(block: number): number {
  const mixed = Math.imul(block, 0xcc9e2d51);
  return Math.imul((mixed << 15) | (mixed >>> 17), 0x1b873593);
}
