import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { bucket, murmur3, takesCanary } from '../src/assignment.js';
import { REPOSITORY } from './paths.js';

const { vectors } = JSON.parse(readFileSync(`${REPOSITORY}/tests/vectors/assignment.json`, 'utf8')) as {
  vectors: Array<{ salt: string; unit: string; hash: number; bucket: number }>;
};

test('every shared vector has its hash and bucket', () => {
  assert.ok(vectors.length >= 30);
  for (const vector of vectors) {
    assert.equal(murmur3(Buffer.from(`${vector.salt}:${vector.unit}`)), vector.hash, vector.unit);
    assert.equal(bucket(vector.salt, vector.unit), vector.bucket, vector.unit);
  }
});

test('a unit takes the canary from its own share on, and keeps it', () => {
  for (const { salt, unit, bucket: place } of vectors) {
    assert.equal(takesCanary(salt, unit, place / 100 - 0.001), false);
    assert.equal(takesCanary(salt, unit, place / 100 + 0.001), true);
  }
});

test('without a unit the canary gets its share', () => {
  const taken = Array.from({ length: 20_000 }, () => takesCanary('dep', undefined, 25)).filter(Boolean).length;
  assert.ok(Math.abs(taken / 20_000 - 0.25) < 0.02, `${taken} of 20,000`);
});
