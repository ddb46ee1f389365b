import { expect, test } from "bun:test";
import { WalbError } from "../../src/errors.ts";
import { explainDelivery, explainProxy } from "../../src/proxy/explain.ts";

const delivery = {
  volume: "vol0",
  nodeId: "p0",
  archiveName: "a0",
  address: "backup1:10200",
  state: "Started",
  sinceMs: 1000,
  isSending: false,
  askingSinceMs: undefined,
  pendingCount: 2,
  oldestReceivedMs: 5000,
  lastSentMs: 4000,
  trouble: undefined,
  placeSinceMs: undefined,
  delayS: 0,
} as const;
const refusal = new WalbError("state", {
  what: "the diff was refused: stopped",
  where: { peer: "a0 (backup1:10200)" },
  hint: "start the volume at the archive: walb start vol0",
});

test("what an archive waits for is told with host, step, since when, and what comes next", () => {
  expect(explainDelivery({ ...delivery, isSending: true })).toBeUndefined();
  // One that hangs is asked again and again, and takes nothing.
  const asked = { ...delivery, isSending: true, askingSinceMs: 11_000 };
  expect(explainDelivery(asked)).toMatchObject({ sinceMs: 11_000, why: "a0 has not answered yet" });
  expect(explainDelivery({ ...asked, trouble: { error: refusal, atMs: 9000, sinceMs: 6000 } })).toMatchObject({
    sinceMs: 6000,
    why: refusal.message,
    next: expect.stringMatching(/tried again now.*walb start vol0/),
  });
  expect(
    explainDelivery({ ...delivery, trouble: { error: refusal, atMs: 9000, sinceMs: 6000, retryAtMs: 12_000 } }),
  ).toEqual({
    step: "sending to a0",
    host: "a0 (backup1:10200)",
    sinceMs: 6000,
    why: refusal.message,
    next: expect.stringMatching(/tried again.*walb kick vol0.*walb start vol0/),
    nextMs: 12_000,
  });
  expect(explainDelivery({ ...delivery, delayS: 60 })).toMatchObject({ sinceMs: 5000, nextMs: 65_000 });
  expect(explainDelivery({ ...delivery, placeSinceMs: 7000 })).toMatchObject({
    sinceMs: 7000,
    next: expect.stringContaining("--max-background-tasks"),
  });
  expect(explainDelivery({ ...delivery, pendingCount: 0, oldestReceivedMs: undefined })).toMatchObject({
    why: "it has everything",
    sinceMs: 4000,
  });
  expect(explainDelivery({ ...delivery, state: "Stopped" })).toMatchObject({
    next: expect.stringContaining("walb start vol0 --server p0"),
  });
});

test("what a volume of a proxy waits for has a way out in every state", () => {
  const volume = {
    volume: "vol0",
    nodeId: "p0",
    state: "Started",
    sinceMs: 1000,
    isStopping: false,
    trouble: undefined,
    lastReceivedMs: 3000,
    waitsFor: ["a0"],
  } as const;
  expect(explainProxy({ ...volume, state: "WlogRecv" })).toBeUndefined();
  expect(explainProxy(volume)).toMatchObject({ step: "receiving a log", sinceMs: 3000 });
  expect(explainProxy({ ...volume, state: "Stopped" })!.next).toContain("walb start vol0 --server p0");
  expect(explainProxy({ ...volume, state: "WaitForEmpty" })).toMatchObject({
    why: expect.stringContaining("a0"),
    next: expect.stringContaining("walb start vol0 --server p0"),
  });
  const full = new WalbError("no-space", { what: "the proxy has 1 MiB free", hint: "make room" });
  expect(explainProxy({ ...volume, trouble: { error: full, atMs: 5000 } })).toMatchObject({
    sinceMs: 5000,
    why: "the proxy has 1 MiB free",
    next: expect.stringContaining("make room"),
  });
});
