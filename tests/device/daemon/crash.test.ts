import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectUserDevice, controlSocketPath, deviceControlClient } from "../../../src/device/user/control/client.ts";
import type { Address } from "../../../src/platform/net.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { RawNbd, request } from "../nbd/raw.ts";

const mib = 1024 * 1024;
const platform = createPlatform({ memoryBudgetBytes: 64 * mib, threads: 2 });
const directory = mkdtempSync(join(tmpdir(), "walb-crash-"));
const dataDir = join(directory, "data");
const address: Address = { kind: "unix", path: join(directory, "nbd.sock") };
let child: ReturnType<typeof spawn> | undefined;

function spawn() {
  return Bun.spawn([process.execPath, join(import.meta.dir, "main.ts"), dataDir, join(directory, "nbd.sock")], {
    stdout: "pipe",
    stderr: "inherit",
  });
}

async function start(): Promise<void> {
  child = spawn();
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  expect(new TextDecoder().decode(value)).toContain("ready");
  reader.releaseLock();
}

async function end(signal: "SIGKILL" | "SIGTERM"): Promise<number> {
  child!.kill(signal);
  return await child!.exited;
}

afterAll(async () => {
  if (child !== undefined && child.exitCode === null) await end("SIGKILL");
  await closePlatform(platform);
  rmSync(directory, { recursive: true, force: true });
});

test("a daemon killed at any moment has every answered write when it is back, and its device reconnects", async () => {
  await start();
  const control = await deviceControlClient(platform, controlSocketPath(dataDir));
  await control.create({ name: "vol0", sizeBytes: 8 * mib, logSizeBytes: 8 * mib });
  await control.close();
  const device = connectUserDevice(platform, controlSocketPath(dataDir), "vol0");
  const { uuid } = await device.info();
  const slots = 256;
  const slotBytes = 16384;
  // Per slot: the generation answered last, and the one that may have arrived.
  const answered = new Uint32Array(slots);
  const asked = new Uint32Array(slots);
  for (let round = 0; round < 4; round++) {
    const client = await RawNbd.go(platform.net, address, "vol0");
    const killed = Bun.sleep(40 + Math.random() * 150).then(() => end("SIGKILL"));
    await writeUntilGone(client, slots, slotBytes, answered, asked);
    await killed;
    await start();
    const after = await RawNbd.go(platform.net, address, "vol0");
    for (let slot = 0; slot < slots; slot++) {
      after.send(request(0, slot, slot * slotBytes, slotBytes));
      const data = Buffer.from((await after.reply(slot, slotBytes)).payload);
      let oldest = asked[slot]!;
      for (let offset = 0; offset < slotBytes; offset += 512) {
        const generation = data.readUInt32LE(offset);
        expect(generation).toBeGreaterThanOrEqual(answered[slot]!);
        expect(generation).toBeLessThanOrEqual(asked[slot]!);
        oldest = Math.min(oldest, generation);
      }
      // What was read once must not go away either.
      answered[slot] = oldest;
    }
    after.connection.close();
    while (!(await isThere(device.status()))) await Bun.sleep(10);
  }
  expect(answered.reduce((sum, generation) => sum + generation, 0)).toBeGreaterThan(0);
  expect((await device.info()).uuid).toBe(uuid);
  expect((await device.status()).isOverflow).toBeBoolean();
  await device.close();
  expect(await end("SIGTERM")).toBe(0);
}, 300_000);

async function isThere(call: Promise<unknown>): Promise<boolean> {
  return await call.then(
    () => true,
    () => false,
  );
}

/** Writes growing generations to random slots, sixteen at a time, until the server is gone. */
async function writeUntilGone(
  client: RawNbd,
  slots: number,
  slotBytes: number,
  answered: Uint32Array,
  asked: Uint32Array,
): Promise<void> {
  const busy = new Set<number>();
  const sendOne = (): void => {
    let slot = Math.floor(Math.random() * slots);
    while (busy.has(slot)) slot = (slot + 1) % slots;
    busy.add(slot);
    const generation = ++asked[slot]!;
    const data = Buffer.alloc(slotBytes);
    for (let offset = 0; offset < slotBytes; offset += 512) data.writeUInt32LE(generation, offset);
    client.send(request(1, slot, slot * slotBytes, slotBytes, 0, data));
  };
  for (let i = 0; i < 16; i++) sendOne();
  for (;;) {
    const reply = await client.nextReply().catch(() => undefined);
    if (reply === undefined) return;
    expect(reply.error).toBe(0);
    answered[reply.handle] = asked[reply.handle]!;
    busy.delete(reply.handle);
    sendOne();
  }
}
