/** @module An NBD server over real sockets with volumes in memory, for one test file. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type NbdServer, openNbdServer } from "../../../src/device/user/nbd/server.ts";
import type { WalbError } from "../../../src/errors.ts";
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

export async function setup(names: readonly string[] = ["vol0"], poolBytes = 128 * 1024 * 1024): Promise<Setup> {
  const directory = mkdtempSync(join(tmpdir(), "walb-nbd-"));
  const socketPath = join(directory, "nbd.sock");
  const address: Address = { kind: "unix", path: socketPath };
  const pool = new PlainPool(poolBytes);
  const volumes = names.map((name) => new MemoryVolume(name, 64 * 1024 * 1024));
  const problems: WalbError[] = [];
  const server = await openNbdServer({
    net: platform.net,
    clock: platform.clock,
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
