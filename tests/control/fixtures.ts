/** @module A role that is not one: a registry with a few commands, for tests of control, http and cli. */
import { z } from "zod";
import { defineCommand, defineJob, type Handlers } from "../../src/control/command.ts";
import { type Control, createControl } from "../../src/control/control.ts";
import { silentLogger } from "../../src/control/logger.ts";
import { gidSchema, volumeSchema } from "../../src/control/schemas.ts";
import { WalbError } from "../../src/errors.ts";
import type { Clock, Random } from "../../src/platform/clock.ts";

export const testCommands = {
  status: defineCommand({
    summary: "Status",
    params: z.strictObject({ volume: volumeSchema.optional() }),
    result: z.object({ images: z.string(), volumes: z.array(z.never()) }),
    isReadOnly: true,
  }),
  echo: defineCommand({
    summary: "Gives back the gid, one higher",
    params: z.strictObject({ volume: volumeSchema, gid: gidSchema }),
    result: z.object({ gid: gidSchema }),
  }),
  large: defineCommand({
    summary: "Answers a long text",
    params: z.strictObject({ sizeBytes: z.int() }),
    result: z.object({ text: z.string() }),
  }),
  wait: defineCommand({
    summary: "Answers late",
    params: z.strictObject({ delayMs: z.int() }),
    result: z.object({}),
  }),
  fail: defineCommand({
    summary: "Fails with a state error",
    params: z.strictObject({ volume: volumeSchema }),
    result: z.object({}),
  }),
  work: defineJob({
    summary: "Works in steps",
    params: z.strictObject({ volume: volumeSchema, steps: z.int().min(0), failAt: z.int().optional() }),
    result: z.object({ gid: gidSchema }),
  }),
} as const;

/** Real time, for tests over real sockets. */
export const testClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  timer(delayMs, callback) {
    const id = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(id) };
  },
  async sleep(delayMs, signal) {
    signal?.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const id = setTimeout(resolve, delayMs);
      signal?.addEventListener("abort", () => {
        clearTimeout(id);
        reject(signal.reason as Error);
      });
    });
  },
};

export const testRandom: Random = {
  bytes: (sizeBytes) => crypto.getRandomValues(new Uint8Array(sizeBytes)),
  u32: () => crypto.getRandomValues(new Uint32Array(1))[0]!,
  fraction: () => Math.random(),
};

const testHandlers: Handlers<typeof testCommands> = {
  status: async () => ({ images: "file", volumes: [] }),
  echo: async ({ gid }) => ({ gid: gid + 1n }),
  large: async ({ sizeBytes }) => ({ text: "walb".repeat(sizeBytes / 4) }),
  wait: async ({ delayMs }, { signal }) => {
    await testClock.sleep(delayMs, signal);
    return {};
  },
  fail: async ({ volume }) => {
    throw new WalbError("state", { what: "cannot fail in state Clear", where: { volume }, hint: "init it first" });
  },
  work: async ({ steps, failAt }, { signal, progress }) => {
    for (let step = 0; step < steps; step += 1) {
      if (step === failAt) throw new WalbError("damaged", { what: `step ${step} is damaged` });
      await testClock.sleep(20, signal);
      progress({ doneBytes: (step + 1) * 1000, totalBytes: steps * 1000, step: "working" });
    }
    return { gid: 9_007_199_254_740_991n };
  },
};

export function createTestControl(onShutdown?: (mode: "graceful" | "force") => void): Control {
  return createControl({
    role: "archive",
    commands: testCommands,
    handlers: testHandlers,
    nodeId: "a0",
    security: "loopback",
    clock: testClock,
    random: testRandom,
    log: silentLogger,
    ...(onShutdown === undefined ? {} : { onShutdown }),
  });
}
