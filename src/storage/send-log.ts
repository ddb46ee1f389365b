/** @module Ships one range of a log to the first proxy that takes it, and remembers that it is delivered. */
import type { DeviceInfo } from "../device/device.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { PackBatch, PackPart } from "../log/batch.ts";
import { nextPackLsid } from "../log/pack.ts";
import { LogDeviceReader } from "../log/reader.ts";
import { type Address, addressText } from "../platform/net.ts";
import { finishRange, type LogPoint, type RangePlan, rangeDiffMeta, undelivered } from "../snapshot/split.ts";
import { mib } from "../units.ts";
import { connectWire } from "../wire/handshake.ts";
import { runWlogTransfer } from "../wire/wlog-transfer.ts";
import { isNoRoom, ProtocolName, refusedError } from "../wire/words.ts";
import { dumpFileName, dumpLogHeader } from "./dump-header.ts";
import type { TransferMemory } from "./memory.ts";
import type { ProxyList } from "./proxies.ts";
import type { StorageVolume } from "./volume.ts";

/** A range that is being offered, with what is the same for every proxy. */
interface Shipment {
  readonly volume: StorageVolume;
  readonly range: RangePlan;
  /** Delivered before it. */
  readonly done: LogPoint;
  readonly info: DeviceInfo;
  readonly memory: TransferMemory;
  readonly signal: AbortSignal;
  /** Where ranges are cut, PB. */
  readonly cutPb: number;
  /** Packs of the range, in batches, from the start. */
  readonly packs: () => AsyncGenerator<PackBatch, void, undefined>;
  /** What is wrong with our own log: no reason to try another proxy. */
  logFailure: WalbError | undefined;
  /** A proxy has no room for so much log. */
  isTooLarge: boolean;
}

/**
 * Ships a range. Order: data → diff → the proxy's Ack → delivered (durable). Whoever calls erases the log then.
 * @throws WalbError about our own log or device; or of the proxies that were tried, when none took it.
 */
export async function sendLogRange(
  volume: StorageVolume,
  range: RangePlan,
  proxies: ProxyList,
  memory: TransferMemory,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const info = await volume.deviceInfo();
  // Beyond `permanent` a pack may still be on its way into the log.
  const readLimitLsid = Math.min(range.end.lsid, (await volume.deviceStatus()).lsids.permanent);
  const file = await volume.device.openLog();
  try {
    const reader = new LogDeviceReader({ file, ring: info, pool: memory.reading, compute: volume.platform.compute });
    const done = volume.requireDone();
    const packs = () => reader.packs(range.fromLsid, readLimitLsid, signal);
    const cutPb = volume.store.cutPb ?? volume.maxPb(info.pbsBytes);
    const shipment: Shipment = {
      volume,
      range,
      done,
      info,
      memory,
      signal,
      packs,
      cutPb,
      logFailure: undefined,
      isTooLarge: false,
    };
    const endLsid = await offer(shipment, proxies);
    volume.noteRoom();
    const { done: after } = finishRange(done, range, endLsid);
    volume.store.setDone(after, undelivered(after, volume.store.queue));
  } finally {
    volume.asking = undefined;
    await file.close();
  }
}

/** Tries the proxies in order. @returns the lsid behind the last pack that one of them has made durable. */
async function offer(shipment: Shipment, proxies: ProxyList): Promise<number> {
  const { volume, range, signal } = shipment;
  const failures: WalbError[] = [];
  for (const address of proxies.candidates()) {
    signal.throwIfAborted();
    try {
      const endLsid = await transferTo(shipment, address);
      proxies.reportSuccess(address);
      volume.log.debug("log shipped", { proxy: addressText(address), fromLsid: range.fromLsid, endLsid });
      return endLsid;
    } catch (error) {
      signal.throwIfAborted();
      if (shipment.logFailure !== undefined) throw shipment.logFailure;
      const failure = asWalbError(error, { volume: volume.name, peer: addressText(address), step: "log transfer" });
      if (failure.code === "unreachable" || failure.code === "timed-out") proxies.reportFailure(address, failure);
      failures.push(failure);
    }
  }
  const failure = failureOf(failures, volume.name);
  if (!shipment.isTooLarge) throw failure;
  const logBytes = (range.limitLsid - range.fromLsid) * shipment.info.pbsBytes;
  volume.noteNoRoom(logBytes);
  const canBeCut =
    // A cut that may have arrived is repeated as it was.
    volume.store.cutPb === undefined && (range.end.gid > shipment.done.gid + 1n || volume.forgetUncuttable(range.end));
  throw canBeCut ? failure : uncuttableError(shipment, logBytes, failure);
}

/** Nothing can be cut off any more, so the log goes to nobody as long as nobody has room for it. */
function uncuttableError({ volume, range }: Shipment, logBytes: number, failure: WalbError): WalbError {
  const at = `${volume.name} --server ${volume.settings.nodeId}`;
  return new WalbError(failure.code, {
    what: `log on the way to snapshot ${range.end.gid} goes in one piece of ${Math.ceil(logBytes / mib)} MiB, and no proxy has room for it: ${failure.what}`,
    where: failure.where,
    hint:
      "make room at a proxy, or add one that has it (--proxy); if that is not possible, compare the volume with what the " +
      `archive has: walb stop ${at}; walb reset ${at}; walb backup ${volume.name} (snapshots that were not sent are lost)`,
  });
}

/** One error of all proxies that were tried; a refusal counts more, since it tells that a proxy is there. */
function failureOf(failures: readonly WalbError[], volume: string): WalbError {
  const main = failures.find((failure) => failure.code === "state") ?? failures[0];
  if (main === undefined) return new WalbError("unreachable", { what: "there is no proxy to try", where: { volume } });
  if (failures.length === 1) return main;
  const told = failures.map(({ what, where }) => `${where.peer ?? "?"}, ${where.step ?? "?"}: ${what}`);
  return new WalbError(main.code, {
    what: `no proxy took the log: ${told.join("; ")}`,
    where: {
      volume,
      peer: failures.flatMap(({ where }) => where.peer ?? []).join(", "),
      step: main.where.step ?? "log transfer",
    },
    ...(main.hint === undefined ? {} : { hint: main.hint }),
  });
}

async function transferTo(shipment: Shipment, address: Address): Promise<number> {
  const { volume, range, done, info, memory, signal } = shipment;
  const { platform, settings } = volume;
  volume.asking = { host: addressText(address), sinceMs: platform.clock.nowMs() };
  const { stream } = await connectWire(platform.net, address, {
    clock: platform.clock,
    clientId: settings.nodeId,
    protocol: ProtocolName.wlogTransfer,
    deadlineMs: settings.socketTimeoutMs,
  });
  const abort = (): void => stream.close(new WalbError("cancelled", { what: "the transfer was given up" }));
  signal.addEventListener("abort", abort);
  try {
    signal.throwIfAborted();
    let endLsid = range.fromLsid;
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
      batches: () => {
        volume.asking = undefined;
        // From now on the cut may arrive. What was refused has not, so it binds nobody.
        if (!range.isWhole) volume.store.setCutPb(shipment.cutPb);
        volume.noteHeard(range.end.gid);
        return watched(shipment, (lsid) => {
          endLsid = lsid;
        });
      },
      diff: () => rangeDiffMeta(finishRange(done, range, endLsid).diff),
    });
    shipment.isTooLarge ||= isNoRoom(answer);
    if (answer.kind !== "accept") throw refusedError(stream.peerName, "the log transfer", answer);
    return endLsid;
  } finally {
    signal.removeEventListener("abort", abort);
    stream.close();
  }
}

/** The batches of a shipment; remembers when it is they that fail. */
async function* watched(shipment: Shipment, onEnd: (lsid: number) => void): AsyncGenerator<PackBatch, void, undefined> {
  const { volume, range } = shipment;
  let goodLsid = range.fromLsid;
  const batches = cutBatches(shipment.packs(), range, (lsid) => {
    goodLsid = lsid;
    onEnd(lsid);
  });
  try {
    for (;;) {
      const next = await batches.next().catch((error: unknown) => {
        shipment.logFailure = asWalbError(error, { volume: volume.name, step: "reading the log" });
        throw error;
      });
      if (next.done === true) return;
      yield next.value;
    }
  } catch (error) {
    // Nothing can have been cut with a limit that not even one pack fits into.
    if (shipment.logFailure?.code === "out-of-range") {
      volume.store.setCutPb(undefined);
      volume.noteRoom();
    }
    if (shipment.logFailure?.code === "damaged") await keepHeader(shipment, goodLsid);
    throw error;
  } finally {
    await batches.return();
  }
}

/** Keeps the header of a pack that cannot be read, once, for whoever looks for the reason. */
async function keepHeader({ volume, memory }: Shipment, lsid: number): Promise<void> {
  try {
    if ((await volume.platform.disk.info(`${volume.directory}/${dumpFileName(lsid)}`)) !== undefined) return;
    const { file, fault } = await dumpLogHeader(volume, lsid, memory.reading);
    volume.log.error("the header of a log pack that cannot be read was kept", { file, lsid, fault });
  } catch (error) {
    volume.log.warn("the header of a log pack that cannot be read could not be kept", { lsid, error });
  }
}

/**
 * Passes on whole packs that end at or below the limit of a range, and tells where they end.
 * @throws WalbError `out-of-range` when not even the first fits.
 */
export async function* cutBatches(
  batches: AsyncIterable<PackBatch>,
  range: Pick<RangePlan, "fromLsid" | "limitLsid">,
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
        what: `one log pack is larger than a transfer may be (${range.limitLsid - range.fromLsid} blocks)`,
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
