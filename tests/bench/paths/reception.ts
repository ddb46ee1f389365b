/** @module Reception of diffs: a real archive, and a peer that sends packs it has ready. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { archiveClient } from "../../../src/cli/servers.ts";
import { RecordKind } from "../../../src/diff/types.ts";
import type { Memory } from "../../../src/native/memory.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { diffMeta, snapshot } from "../../../src/snapshot/types.ts";
import { connectWire } from "../../../src/wire/handshake.ts";
import type { OutgoingPack } from "../../../src/wire/pack-stream.ts";
import { runWdiffTransfer } from "../../../src/wire/wdiff-transfer.ts";
import { logUuid, packOf, sendImage, startS } from "../../archive/peers.ts";
import { freePort, spawnDaemon, untilReady } from "../../helpers/fleet.ts";
import { type Bench, gib, median, mib, type Path, type Row, timed } from "../lib/bench.ts";
import { fillData } from "../lib/data.ts";
import { lowest, shareOfWriting } from "../lib/limits.ts";
import { largest, watch } from "../lib/processes.ts";

const volumes = ["recv0", "recv1", "recv2", "recv3"] as const;
const sizeLb = (256 * mib) / 512;
const recordBytes = 64 * 1024;
const recordsPerPack = 64;
/** Packs of a diff: of one as they come, and of as much as a proxy with a backlog merges into one by default. */
const packCounts = { usual: 16, merged: 58 } as const;

async function run(bench: Bench): Promise<Row[]> {
  const data = join(bench.directory, "reception");
  const port = await freePort();
  const words = ["archive", "--port", `${port}`, "--data", data];
  const child = spawnDaemon(words, `${data}.log`);
  const platform = createPlatform({ memoryBudgetBytes: gib, threads: 2 });
  try {
    await untilReady(child, "archive", `${data}.log`);
    const archive = archiveClient({ name: "a0", address: `127.0.0.1:${port}` });
    const peer = { platform, address: { kind: "tcp", host: "127.0.0.1", port } } as const;
    for (const volume of volumes) {
      await archive.call("init", { volume });
      await sendImage(peer, new Uint8Array(sizeLb * 512), { volume, gidE: 0n });
    }
    const packs: Memory[] = [];
    for (let i = 0; i < packCounts.merged; i++) {
      const records = Array.from({ length: recordsPerPack }, (_, j) => {
        const bytes = new Uint8Array(recordBytes);
        fillData(bytes, i * recordsPerPack + j);
        const addressLb = (i * recordsPerPack + j) * (recordBytes / 512);
        return { addressLb, blocksLb: recordBytes / 512, kind: RecordKind.normal, data: bytes };
      });
      const { memory } = await packOf(platform, records, () => undefined);
      if (memory !== undefined) packs.push(memory);
    }
    const gids = new Map<string, bigint>(volumes.map((volume) => [volume, 0n]));
    const send = async (volume: string, own: readonly Memory[], dataSizeBytes: number): Promise<void> => {
      const gid = gids.get(volume)!;
      const diff = diffMeta({
        from: snapshot(gid),
        to: snapshot(gid + 1n),
        isMergeable: true,
        timestampS: startS + Number(gid),
        dataSizeBytes,
      });
      const { stream } = await connectWire(platform.net, peer.address, {
        clock: platform.clock,
        clientId: "p0",
        protocol: "wdiff-transfer",
      });
      async function* all(): AsyncGenerator<OutgoingPack> {
        for (const memory of own) yield { memory, release: () => undefined };
      }
      const request = { volume, hostType: "proxy", uuid: logUuid, maxIoLb: 0, sizeLb, diff };
      const answer = await runWdiffTransfer(stream, request, all);
      stream.close();
      if (answer.kind !== "accept") throw new Error(`a diff was refused: ${JSON.stringify(answer)}`);
      gids.set(volume, gid + 1n);
    };
    const receive = async (senders: readonly string[], packCount: number): Promise<Row> => {
      const own = packs.slice(0, packCount);
      const diffBytes = own.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      const count = Math.ceil(((bench.isQuick ? 256 : 1024) * mib) / diffBytes / senders.length);
      const totalBytes = count * senders.length * diffBytes;
      const results = [];
      for (let i = 0; i < bench.runs; i++) {
        const watched = watch({ archive: child.pid });
        const sendAll = async (volume: string): Promise<void> => {
          for (let j = 0; j < count; j++) await send(volume, own, diffBytes);
        };
        const { seconds } = await timed(() => Promise.all(senders.map(sendAll)));
        results.push({ seconds, usage: watched.end() });
      }
      const rates = results.map(({ seconds }) => totalBytes / mib / seconds);
      const from = senders.length === 1 ? "" : `, ${senders.length} volumes at once`;
      return {
        path: `reception of diffs of ${Math.round(diffBytes / mib)} MiB${from}`,
        rate: median(rates),
        unit: "MiB/s",
        beside: lowest(bench.limits, "diskWrite", "tcp", "checksum"),
        cpuSPerGib: median(results.map(({ usage }) => usage.cpuS / (totalBytes / gib))),
        peakMib: largest(results.map(({ usage }) => usage.peakMib)),
        runs: rates.length,
        rates,
        note: `each diff durable before it is acknowledged; ${count} a volume and run, one after the other; the sender has the same cores; ${shareOfWriting(median(rates), bench.limits)}`,
      };
    };
    return [
      await receive(volumes.slice(0, 1), packCounts.usual),
      await receive(volumes.slice(0, 1), packCounts.merged),
      await receive(volumes, packCounts.usual),
    ];
  } finally {
    child.kill("SIGTERM");
    await child.exited;
    await closePlatform(platform);
    rmSync(data, { recursive: true, force: true });
  }
}

export const reception: Path = { name: "reception", summary: "diffs into an archive", run };
