/**
 * @module Replication between two archives: a full copy, 1,000 diffs one by one, 1,000 diffs merged on their way, a hash
 * comparison and a resync of a volume of which a twentieth differs.
 */
import { archiveClient } from "../../../src/cli/servers.ts";
import { RecordKind } from "../../../src/diff/types.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { sendDiff, sendImage } from "../../archive/peers.ts";
import { type DaemonProcess, freePort, spawnDaemon, untilReady } from "../../helpers/fleet.ts";
import { type Bench, gib, mib, type Path, type Row, timed } from "../lib/bench.ts";
import { fillData } from "../lib/data.ts";
import { type LimitName, lowest } from "../lib/limits.ts";
import { watch } from "../lib/processes.ts";

const volume = "repl0";
const recordsPerDiff = 64;
const recordLb = 8;
const bulkLb = 512;

/** A running archive. */
interface Archive {
  readonly name: string;
  readonly port: number;
  readonly child: DaemonProcess;
}

async function startArchive(directory: string, name: string): Promise<Archive> {
  const port = await freePort();
  const log = `${directory}/${name}.log`;
  const child = spawnDaemon(["archive", "--port", `${port}`, "--node", name, "--data", `${directory}/${name}`], log);
  await untilReady(child, "archive", log);
  return { name, port, child };
}

const clientOf = ({ name, port }: Archive) => archiveClient({ name, address: `127.0.0.1:${port}` });

function content(sizeBytes: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  fillData(bytes, seed);
  return bytes;
}

async function run(bench: Bench): Promise<Row[]> {
  const sizeLb = (bench.isQuick ? 64 * mib : 512 * mib) / 512;
  const diffCount = bench.isQuick ? 100 : 1000;
  const platform = createPlatform({ memoryBudgetBytes: 64 * mib });
  const archives: Archive[] = [];
  try {
    for (const name of ["r0", "r1", "r2"]) archives.push(await startArchive(bench.directory, name));
    for (const archive of archives) await clientOf(archive).call("init", { volume });
    const [source, all, merged] = archives as [Archive, Archive, Archive];
    const peer = { platform, address: { kind: "tcp", host: "127.0.0.1", port: source.port } as const };
    await sendImage(peer, content(sizeLb * 512, 1), { volume, gidE: 0n, bulkLb });
    const copied: readonly LimitName[] = ["diskCopy", "encode", "tcp", "decode"];
    const full = await replicate(bench, "full copy", source, all, sizeLb * 512, {}, copied);
    await clientOf(source).run("replicate", { volume, to: `127.0.0.1:${merged.port}` });
    for (let gid = 0; gid < diffCount; gid++) {
      const data = content(recordLb * 512, gid + 2);
      const slotLb = Math.floor(sizeLb / recordsPerDiff);
      const records = Array.from({ length: recordsPerDiff }, (_, i) => ({
        addressLb: i * slotLb + ((gid * 7919 + i * 31) % (slotLb / recordLb)) * recordLb,
        blocksLb: recordLb,
        kind: RecordKind.normal,
        data,
      }));
      await sendDiff(peer, gid, gid + 1, records, { volume, sizeLb });
    }
    const bytes = diffCount * recordsPerDiff * recordLb * 512;
    const rows = [
      full,
      await replicate(bench, `${diffCount} diffs, one by one`, source, all, bytes, { keepAllPoints: true }),
      await replicate(bench, `${diffCount} diffs, merged`, source, merged, bytes),
    ];
    // All have the same image, of which a twentieth changes at the source alone.
    for (const archive of archives) await clientOf(archive).run("apply", { volume, gid: diffCount });
    const changed = Array.from({ length: Math.floor(sizeLb / bulkLb / 20) }, (_, i) => ({
      addressLb: i * 20 * bulkLb,
      blocksLb: bulkLb,
      kind: RecordKind.normal,
      data: content(bulkLb * 512, diffCount + i + 2),
    }));
    await sendDiff(peer, diffCount, diffCount + 1, changed, { volume, sizeLb, recordsPerPack: 16 });
    await clientOf(source).run("apply", { volume, gid: diffCount + 1 });
    const both = "a twentieth differs, both sides on this machine";
    const reads: readonly LimitName[] = ["diskRead"];
    rows.push(
      await replicate(bench, `hash comparison, ${both}`, source, all, sizeLb * 512, {}, reads),
      await replicate(bench, `resync, ${both}`, source, merged, sizeLb * 512, { resync: true }, reads),
    );
    return rows;
  } finally {
    for (const { child } of archives) child.kill("SIGKILL");
    for (const { child } of archives) await child.exited;
    await closePlatform(platform);
  }
}

async function replicate(
  bench: Bench,
  what: string,
  from: Archive,
  to: Archive,
  bytes: number,
  how: { readonly keepAllPoints?: boolean; readonly resync?: boolean } = {},
  limits: readonly LimitName[] = ["diskRead", "diskWrite"],
): Promise<Row> {
  const watched = watch({ sender: from.child.pid, receiver: to.child.pid });
  const request = { volume, to: `127.0.0.1:${to.port}`, ...how };
  const { seconds, value } = await timed(() => clientOf(from).run("replicate", request));
  const usage = watched.end();
  const rate = bytes / mib / seconds;
  return {
    path: `replication: ${what}`,
    rate,
    unit: "MiB/s",
    beside: lowest(bench.limits, ...limits),
    cpuSPerGib: usage.cpuS / (bytes / gib),
    peakMib: usage.peakMib,
    runs: 1,
    rates: [rate],
    note: `${seconds.toFixed(2)} s for ${(bytes / mib).toFixed(0)} MiB; ${value.diffCount} diffs and ${(value.sentBytes / mib).toFixed(0)} MiB sent; CPU ${usage.cpuS.toFixed(1)} s`,
  };
}

export const replication: Path = { name: "replication", summary: "from archive to archive", run };
