/** @module Replication between two archives: a full copy, 1,000 diffs one by one, 1,000 diffs merged on their way. */
import { archiveClient } from "../../../src/cli/servers.ts";
import { RecordKind } from "../../../src/diff/types.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { sendDiff, sendImage } from "../../archive/peers.ts";
import { type DaemonProcess, freePort, spawnDaemon, untilReady } from "../../helpers/fleet.ts";
import { type Bench, gib, mib, type Path, type Row, timed } from "../lib/bench.ts";
import { lowest } from "../lib/limits.ts";
import { watch } from "../lib/processes.ts";

const volume = "repl0";
const recordsPerDiff = 64;
const recordLb = 8;

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

/** Compressible by about a half, different everywhere. */
function content(sizeBytes: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  const words = new Uint32Array(bytes.buffer);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < words.length; i += 2) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
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
    await sendImage(peer, content(sizeLb * 512, 1), { volume, gidE: 0n, bulkLb: 512 });
    const full = await replicate(bench, "full copy", source, all, sizeLb * 512);
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
    return [
      full,
      await replicate(bench, `${diffCount} diffs, one by one`, source, all, bytes, true),
      await replicate(bench, `${diffCount} diffs, merged`, source, merged, bytes),
    ];
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
  keepAllPoints = false,
): Promise<Row> {
  const watched = watch({ sender: from.child.pid, receiver: to.child.pid });
  const request = { volume, to: `127.0.0.1:${to.port}`, keepAllPoints };
  const { seconds, value } = await timed(() => clientOf(from).run("replicate", request));
  const usage = watched.end();
  const rate = bytes / mib / seconds;
  return {
    path: `replication: ${what}`,
    rate,
    unit: "MiB/s",
    beside: lowest(bench.limits, "diskRead", "diskWrite"),
    cpuSPerGib: usage.cpuS / (bytes / gib),
    peakMib: usage.peakMib,
    runs: 1,
    rates: [rate],
    note: `${seconds.toFixed(2)} s for ${(bytes / mib).toFixed(0)} MiB; ${value.diffCount} diffs and ${(value.sentBytes / mib).toFixed(0)} MiB sent; CPU ${usage.cpuS.toFixed(1)} s`,
  };
}

export const replication: Path = { name: "replication", summary: "from archive to archive", run };
