/** @module An NBD server over real sockets with volumes in memory, for one test file. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type NbdServer, openNbdServer } from "../../../src/device/user/nbd/server.ts";
import type { WalbError } from "../../../src/errors.ts";
import type { Clock, Timer } from "../../../src/platform/clock.ts";
import type { Address } from "../../../src/platform/net.ts";
import { createPlatform } from "../../../src/platform/real/index.ts";
import { MemoryVolume, PlainPool } from "./doubles.ts";

export const platform = createPlatform({ memoryBudgetBytes: 128 * 1024 * 1024, threads: 2 });

/** A running server and everything a test looks at. */
export interface Setup {
  readonly server: NbdServer;
  readonly address: Address;
  readonly socketPath: string;
  readonly pool: PlainPool;
  readonly volumes: MemoryVolume[];
  readonly volume: MemoryVolume;
  readonly problems: WalbError[];
  /** libnbd's address of a volume. */
  uri(name: string): string;
  close(): Promise<void>;
}

/** A clock whose timers fire when a test says so. */
export class ManualClock implements Clock {
  private readonly timers = new Map<number, { delayMs: number; callback: () => void }>();
  private next = 0;

  nowMs = (): number => 0;
  monotonicMs = (): number => 0;
  sleep = (): Promise<void> => Promise.reject(new Error("nobody sleeps here"));

  timer(delayMs: number, callback: () => void): Timer {
    const id = this.next++;
    this.timers.set(id, { delayMs, callback });
    return { cancel: () => this.timers.delete(id) };
  }

  /** Fires the timers of a delay; returns how many there were. */
  fire(delayMs: number): number {
    const due = [...this.timers].filter(([, timer]) => timer.delayMs === delayMs);
    for (const [id, { callback }] of due) {
      this.timers.delete(id);
      callback();
    }
    return due.length;
  }
}

export async function setup(
  names: readonly string[] = ["vol0"],
  poolBytes = 128 * 1024 * 1024,
  clock: Clock = platform.clock,
): Promise<Setup> {
  const directory = mkdtempSync(join(tmpdir(), "walb-nbd-"));
  const socketPath = join(directory, "nbd.sock");
  const address: Address = { kind: "unix", path: socketPath };
  const pool = new PlainPool(poolBytes);
  const volumes = names.map((name) => new MemoryVolume(name, 64 * 1024 * 1024));
  const problems: WalbError[] = [];
  const server = await openNbdServer({
    net: platform.net,
    clock,
    memory: pool,
    listeners: [address],
    exports: { names: () => names, find: (name) => volumes.find((volume) => volume.name === name) },
    onProblem: (error) => problems.push(error),
  });
  return {
    server,
    address,
    socketPath,
    pool,
    volumes,
    volume: volumes[0]!,
    problems,
    uri: (name) => `nbd+unix:///${name}?socket=${socketPath}`,
    close: async () => {
      for (const volume of volumes) volume.release();
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Waits until something holds. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if (holds()) return;
    await Bun.sleep(5);
  }
  throw new Error(`never happened: ${what}`);
}
