import { expect, test } from "bun:test";
import { RateLimits } from "../../src/archive/rates.ts";
import { ManualClock, settle } from "../helpers/connection-pair.ts";

const never = new AbortController().signal;

test("a rate is kept by all who share it, whatever they take at once", async () => {
  const clock = new ManualClock();
  const { apply } = new RateLimits(clock);
  apply.bytesPerS = 1_000_000;
  let takenBytes = 0;
  let isOver = false;
  const workers = [7, 64 << 10, 3 << 20].map(async (bytes) => {
    while (!isOver) {
      await apply.take(bytes, never);
      takenBytes += bytes;
    }
  });
  for (let ms = 0; ms < 30_000; ms += 50) await clock.advance(50);
  // Within one piece of the largest, which is counted when it has been taken as a whole.
  expect(Math.abs(takenBytes - 30_000_000)).toBeLessThan(4 << 20);
  isOver = true;
  apply.bytesPerS = 0;
  await clock.advance(1_000);
  await Promise.all(workers);
});

test("a new rate counts at once for all who wait, however many they are and however small the old one was", async () => {
  const clock = new ManualClock();
  const { restore } = new RateLimits(clock);
  restore.bytesPerS = 1;
  let ended = 0;
  for (let i = 0; i < 50; i++) void restore.take(1 << 20, never).then(() => ended++);
  for (let second = 0; second < 20; second++) await clock.advance(1_000);
  expect(ended).toBe(0);
  restore.bytesPerS = 0;
  await clock.advance(200);
  await settle(20);
  expect(ended).toBe(50);
  // What was owed at the old rate is not owed at the new one.
  restore.bytesPerS = 1;
  void restore.take(100, never).then(() => ended++);
  await clock.advance(1_000);
  restore.bytesPerS = 1_000_000;
  await clock.advance(200);
  await settle(20);
  expect(ended).toBe(51);
});
