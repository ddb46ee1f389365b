/** @module Ships one range of a log to the first proxy that takes it, and remembers that it is delivered. */
import { asWalbError, WalbError } from "../errors.ts";
import type { PackBatch, PackPart } from "../log/batch.ts";
import { nextPackLsid } from "../log/pack.ts";
import { LogDeviceReader } from "../log/reader.ts";
import { addressText } from "../platform/net.ts";
import { finishRange, type RangePlan, undelivered } from "../snapshot/split.ts";
import { diffMeta, snapshot } from "../snapshot/types.ts";
import { connectWire } from "../wire/handshake.ts";
import { runWlogTransfer } from "../wire/wlog-transfer.ts";
import { refusedError } from "../wire/words.ts";
import type { TransferMemory } from "./memory.ts";
import { planErase } from "./plan.ts";
import type { ProxyList } from "./proxies.ts";
import type { StorageVolume } from "./volume.ts";

/**
 * Ships a range. Order: data → diff → the proxy's Ack → delivered (durable) → log erased.
 * @throws WalbError of the last proxy tried, when none took it.
 */
export async function sendLogRange(
  volume: StorageVolume,
  range: RangePlan,
  proxies: ProxyList,
  memory: TransferMemory,
  signal: AbortSignal,
): Promise<void> {
  let failure: WalbError | undefined;
  for (const address of proxies.candidates()) {
    signal.throwIfAborted();
    try {
      const endLsid = await transferTo(volume, range, address, memory, signal);
      await delivered(volume, range, endLsid);
      volume.log.debug("log shipped", { proxy: addressText(address), fromLsid: range.fromLsid, endLsid });
      return;
    } catch (error) {
      signal.throwIfAborted();
      const problem = asWalbError(error, { volume: volume.name, step: "log transfer" });
      // What is wrong with our own log is no reason to try another proxy.
      if (problem.code === "damaged" || problem.code === "log-overflow" || problem.code === "io") throw problem;
      if (problem.code === "unreachable" || problem.code === "timed-out") proxies.reportFailure(address, problem);
      failure = problem;
    }
  }
  throw failure ?? new WalbError("unreachable", { what: "there is no proxy to try", where: { volume: volume.name } });
}

/** @returns the lsid behind the last pack that the proxy has made durable. */
async function transferTo(
  volume: StorageVolume,
  range: RangePlan,
  address: Parameters<typeof connectWire>[1],
  memory: TransferMemory,
  signal: AbortSignal,
): Promise<number> {
  const { platform, settings } = volume;
  const info = await volume.device.info();
  const done = volume.requireDone();
  // Beyond `permanent` a pack may still be on its way into the log.
  const readLimitLsid = Math.min(range.end.lsid, (await volume.deviceStatus()).lsids.permanent);
  const file = await volume.device.openLog();
  let endLsid = range.fromLsid;
  try {
    const { stream } = await connectWire(platform.net, address, {
      clock: platform.clock,
      clientId: settings.nodeId,
      protocol: "wlog-transfer",
      deadlineMs: settings.socketTimeoutMs,
    });
    const abort = (): void => stream.close(new WalbError("cancelled", { what: "the transfer was given up" }));
    signal.addEventListener("abort", abort);
    try {
      const reader = new LogDeviceReader({ file, ring: info, pool: memory.reading, compute: platform.compute });
      const request = {
        volume: volume.name,
        uuid: info.uuid,
        pbsBytes: info.pbsBytes,
        salt: info.salt,
        sizeLb: info.sizeLb,
        logSizePb: range.limitLsid - range.fromLsid,
      };
      const parts = { pool: memory.sending, compute: platform.compute };
      const answer = await runWlogTransfer(stream, request, parts, {
        batches: () =>
          cutBatches(
            reader.packs(range.fromLsid, readLimitLsid, signal),
            range,
            volume.maxPb(info.pbsBytes),
            (lsid) => {
              endLsid = lsid;
            },
          ),
        diff: () => {
          const { diff } = finishRange(done, range, endLsid);
          return diffMeta({
            from: snapshot(diff.fromGid),
            to: snapshot(diff.toGid),
            isMergeable: diff.isMergeable,
            timestampS: diff.timestampS,
          });
        },
      });
      if (answer.kind !== "accept") throw refusedError(stream.peerName, "the log transfer", answer);
      return endLsid;
    } finally {
      signal.removeEventListener("abort", abort);
      stream.close();
    }
  } finally {
    await file.close();
  }
}

async function delivered(volume: StorageVolume, range: RangePlan, endLsid: number): Promise<void> {
  const { done } = finishRange(volume.requireDone(), range, endLsid);
  volume.store.setDone(done, undelivered(done, volume.store.queue));
  const { lsids } = await volume.deviceStatus();
  const erase = planErase(done.lsid, lsids);
  if (erase !== undefined) await volume.device.setOldest(erase);
}

/** Passes on whole packs that end at or below the limit, and tells where they end. */
async function* cutBatches(
  batches: AsyncIterable<PackBatch>,
  range: RangePlan,
  maxPb: number,
  onEnd: (lsid: number) => void,
): AsyncGenerator<PackBatch, void, undefined> {
  let endLsid = range.fromLsid;
  for await (const batch of batches) {
    const parts: PackPart[] = [];
    let isCut = false;
    for (const part of batch.parts) {
      const packEnd = nextPackLsid(part.header);
      if (packEnd > range.limitLsid) {
        isCut = true;
        break;
      }
      parts.push(part);
      if (part.isLast) endLsid = packEnd;
    }
    if (isCut && endLsid === range.fromLsid) {
      batch.release();
      throw new WalbError("out-of-range", {
        what: `one log pack is larger than a transfer may be (${maxPb} blocks)`,
        where: { field: "wlog-send-max" },
        hint: "start the storage with a larger --wlog-send-max",
      });
    }
    onEnd(endLsid);
    if (parts.length > 0) yield { parts, endLsid, release: () => batch.release() };
    else batch.release();
    if (isCut) return;
  }
}
