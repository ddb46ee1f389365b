/**
 * @module What an archive with many diffs on a volume costs: start, list of points, plan of a restore (all indexes),
 * restore.
 */
import { copyFileSync, readdirSync, rmSync } from "node:fs";
import { openArchive } from "../../../src/archive/server.ts";
import type { Control } from "../../../src/control/control.ts";
import { silentLogger } from "../../../src/control/logger.ts";
import type { RunningRole } from "../../../src/control/role.ts";
import { RecordKind } from "../../../src/diff/types.ts";
import { createPlatform } from "../../../src/platform/real/index.ts";
import { diffFileName } from "../../../src/snapshot/filename.ts";
import { diffMeta, snapshot } from "../../../src/snapshot/types.ts";
import { run } from "../../archive/harness.ts";
import { sendDiff, sendImage, startS } from "../../archive/peers.ts";
import { mib } from "../lib/bench.ts";
import { fillData } from "../lib/data.ts";
import { finished, measured } from "../lib/inside.ts";

/** A daemon is started once in a process: its memory is carved for good. */
const { directory, diffCount, step } = JSON.parse(process.argv[2]!) as {
  directory: string;
  diffCount: number;
  step: "make" | "use";
};
/** As many kinds of diffs, each with as many records of 4 KiB. */
const kinds = Math.min(64, diffCount);
const records = 64;
const sizeLb = 65_536;
const volume = "vol0";
const platform = createPlatform({ memoryBudgetBytes: 320 * mib });
const peerPlatform = createPlatform({ memoryBudgetBytes: 32 * mib, threads: 2 });

const open = (): Promise<RunningRole> =>
  openArchive(
    { ...platform, memory: platform.memory },
    {
      listen: { kind: "tcp", host: "127.0.0.1", port: 0 },
      dataDir: directory,
      nodeId: "a0",
      security: "loopback",
    },
    silentLogger,
  );
const peerOf = (role: RunningRole) => ({ platform: peerPlatform, address: role.address });

function deliver(role: RunningRole, gid: number): Promise<unknown> {
  const block = 8;
  const places = Array.from({ length: records }, (_, i) => i * (sizeLb / records) + ((gid * 37) % 100) * block);
  const list = places.map((addressLb) => {
    const data = new Uint8Array(block * 512);
    fillData(data, gid + addressLb);
    return { addressLb, blocksLb: block, kind: RecordKind.normal, data };
  });
  return sendDiff(peerOf(role), gid, gid + 1, list, { sizeLb, recordsPerPack: 127 });
}

const answer: Record<string, unknown> = {};
if (step === "make") {
  const role = await open();
  await run(role.control, "init", { volume });
  await sendImage(peerOf(role), new Uint8Array(sizeLb * 512), { gidE: 0n });
  for (let gid = 0; gid < kinds; gid++) await deliver(role, gid);
  await role.close("graceful");
  const files = readdirSync(`${directory}/${volume}`).filter((name) => name.endsWith(".wdiff"));
  for (let gid = kinds; gid < diffCount; gid++) {
    const meta = diffMeta({
      from: snapshot(BigInt(gid)),
      to: snapshot(BigInt(gid + 1)),
      isMergeable: true,
      timestampS: startS + gid + 1,
    });
    copyFileSync(`${directory}/${volume}/${files[gid % kinds]}`, `${directory}/${volume}/${diffFileName(meta)}`);
  }
  for (const suffix of ["", "-wal", "-shm"]) rmSync(`${directory}/${volume}/volume.db${suffix}`, { force: true });
} else {
  let role: RunningRole | undefined;
  answer.start = await measured(async () => {
    role = await open();
  });
  const control: Control = role!.control;
  const timed = (command: string, params: object) => measured(() => run(control, command, { volume, ...params }));
  answer.list = await timed("snapshots", { all: true });
  answer.status = await timed("status", {});
  answer.plan = await timed("restore", { to: `${directory}.img`, dryRun: true, overwrite: true });
  answer.restore = await timed("restore", { to: `${directory}.img`, overwrite: true });
  await role!.close("graceful");
}
finished(answer);
process.exit(0);
