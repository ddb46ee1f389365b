/** @module Opens archives for tests, runs their commands, compares restores with the model. */
import { expect } from "bun:test";
import { openArchive } from "../../src/archive/server.ts";
import type { RestorablePoint } from "../../src/control/archive-schemas.ts";
import type { Control } from "../../src/control/control.ts";
import { errorFromReport } from "../../src/control/error.ts";
import { createLogger, silentLogger } from "../../src/control/logger.ts";
import type { ArchiveOptions, RunningRole } from "../../src/control/role.ts";
import type { Platform } from "../../src/platform/platform.ts";

/** Opens an archive on a free port of loopback. */
export function openTestArchive(
  platform: Platform,
  dataDir: string,
  options: Partial<ArchiveOptions> = {},
): Promise<RunningRole> {
  const listen = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
  return openArchive(
    platform,
    { listen, dataDir, nodeId: "a0", security: "loopback", socketTimeoutMs: 5_000, ...options },
    process.env.WALB_TEST_LOG === undefined
      ? silentLogger
      : createLogger({ format: "human", level: "debug", clock: platform.clock, write: console.error }),
  );
}

/** Runs a command to its end, jobs too. @throws what it failed with. */
export async function run(control: Control, command: string, params: object = {}): Promise<Record<string, unknown>> {
  const outcome = await control.call(command, params);
  if (outcome.kind === "result") return outcome.result as Record<string, unknown>;
  const { id } = outcome.job;
  const end = await new Promise<ReturnType<Control["job"]>>((resolve) => {
    control.watchJob(id, (job) => {
      if (job.state !== "running") resolve(job);
    });
  });
  if (end.error !== undefined) throw errorFromReport(end.error);
  return end.result as Record<string, unknown>;
}

/** All points of a volume. */
export async function pointsOf(control: Control, volume = "vol0"): Promise<RestorablePoint[]> {
  const { snapshots } = await run(control, "snapshots", { volume, all: true });
  return snapshots as RestorablePoint[];
}

/** Gids of all points of a volume. */
export async function gidsOf(control: Control, volume = "vol0"): Promise<number[]> {
  return (await pointsOf(control, volume)).map((point) => Number(point.gid));
}

/** The status of one volume. */
export async function statusOf(control: Control, volume = "vol0"): Promise<Record<string, unknown>> {
  const { volumes } = await run(control, "status", { volume });
  return (volumes as Record<string, unknown>[])[0]!;
}

/** Says where images differ instead of printing megabytes. */
export function expectSame(found: Uint8Array, wanted: Uint8Array, what: string): void {
  expect(`${what}: ${found.length} bytes`).toBe(`${what}: ${wanted.length} bytes`);
  if (Buffer.compare(found, wanted) === 0) return;
  const at = found.findIndex((byte, i) => byte !== wanted[i]);
  throw new Error(`${what}: differs at LB ${Math.floor(at / 512)}`);
}
