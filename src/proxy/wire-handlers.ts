/** @module What a proxy answers over the wire protocol: log transfers, and the commands of other daemons. */
import { type LegacyParts, legacyHandlers } from "../control/legacy/serve.ts";
import type { DiffIo } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { Platform } from "../platform/platform.ts";
import { kib } from "../units.ts";
import { Limiter } from "../volume/limiter.ts";
import type { WireHandler } from "../wire/server.ts";
import type { WireStream } from "../wire/stream.ts";
import { serveWlogTransfer, type WlogRequest } from "../wire/wlog-transfer.ts";
import { accept, ProtocolName, refuse } from "../wire/words.ts";
import { Reception } from "./receive.ts";
import type { ProxySettings } from "./settings.ts";
import { SpaceClaims } from "./space.ts";
import type { ProxyVolume } from "./volume.ts";
import type { ProxyVolumes } from "./volumes.ts";

/** What the handlers work on. */
export interface WireParts {
  /** For the commands of the original's controller. */
  readonly legacy: LegacyParts;
  readonly settings: ProxySettings;
  readonly volumes: ProxyVolumes;
  /** Batches of logs on their way in. */
  readonly receiving: MemoryPool;
  /** Conversion and writing of what was received. */
  readonly io: DiffIo;
}

/** How long a storage is kept waiting for its turn: well below the time after which it gives up. */
const turnWaitMs = 3_000;

/** A log that comes slower than this is given up: it would keep its volume, and a place, from others without end. */
const slowest = { bytes: 64 * kib, windowMs: 60_000 };
/** One that brings less is crawling, and gives its place to others; it may go on, since it takes next to nothing. */
const crawling = { bytes: 2560 * kib, windowMs: 10_000 };
/** So many may crawl at once, beyond the places; one more is given up. */
const crawlingMax = 8;
/** With another log of the volume waiting, one that brings less meanwhile does not move. */
const movingBytes = 16 * kib;

/** Handlers by protocol or command name. */
export function proxyWireHandlers(parts: WireParts): ReadonlyMap<string, WireHandler> {
  const admission: Admission = {
    turns: new Limiter(parts.settings.maxForegroundTasks),
    claims: new SpaceClaims(),
    crawlers: new Set(),
  };
  return new Map<string, WireHandler>([
    [ProtocolName.wlogTransfer, (stream) => receiveLog(parts, stream, admission)],
    ...legacyHandlers(parts.legacy),
  ]);
}

/** What receptions share. */
interface Admission {
  readonly turns: Limiter;
  readonly claims: SpaceClaims;
  /** Receptions that have given their place back. */
  readonly crawlers: Set<WireStream>;
}

/** A reception that was let in. */
interface Admitted {
  readonly volume: ProxyVolume;
  readonly reception: Reception;
}

async function receiveLog(parts: WireParts, stream: WireStream, admission: Admission): Promise<void> {
  const { volumes, io } = parts;
  /** Undone in reverse order, whatever happens. */
  const undo: (() => void)[] = [];
  const leave = (): void => {
    for (const step of undo.splice(0).reverse()) step();
  };
  let admitted: Admitted | undefined;
  try {
    await serveWlogTransfer(
      stream,
      { pool: parts.receiving, compute: io.compute },
      {
        async decide(request) {
          try {
            admitted = await admit(parts, stream, request, admission, undo);
            return accept;
          } catch (error) {
            return refuse(error);
          }
        },
        async begin() {
          return admitted!.reception;
        },
        async commit(received) {
          const { volume, reception } = admitted!;
          if (volume.receiving !== undefined) volume.receiving.isCommitting = true;
          await reception.commit(received);
          volume.setReceiveTrouble(undefined);
          // The volume is Started again before the storage hears of it, or its next log could come too early.
          leave();
          volumes.kick(volume.name);
        },
      },
    );
  } catch (error) {
    if (admitted !== undefined) tell(admitted.volume, error);
    throw error;
  } finally {
    leave();
  }
}

/** Lets a log in: a place, the state, and room on the disk. @throws WalbError why not. */
async function admit(
  parts: WireParts,
  stream: WireStream,
  request: WlogRequest,
  { turns, claims, crawlers }: Admission,
  undo: (() => void)[],
): Promise<Admitted> {
  const { settings, volumes, io } = parts;
  const volume = volumes.get(request.volume);
  const { machine } = volume;
  machine.requireNotStopping("receive a log");
  await endStalled(volume);
  machine.require(["Started"], "receive a log");
  const leaveTurn = await takeTurn(volume, turns, settings.maxForegroundTasks);
  undo.push(leaveTurn);
  machine.requireNotStopping("receive a log");
  const transition = machine.begin(["Started"], "WlogRecv", "receive a log");
  undo.push(() => transition.commit("Started"));
  volume.receiving = { stream, isCommitting: false };
  undo.push(() => {
    volume.receiving = undefined;
  });
  undo.push(watchPace(volume, stream, { leaveTurn, crawlers }));
  try {
    // Made before the answer, so that a lack of space is told in it.
    return { volume, reception: await Reception.begin(volume, request, io, claims) };
  } catch (error) {
    tell(volume, error);
    throw error;
  }
}

/** A reception's place, and those that have none. */
interface Place {
  readonly leaveTurn: () => void;
  readonly crawlers: Set<WireStream>;
}

/**
 * Takes the place of a reception whose peer crawls, and ends one whose peer sends next to nothing: whoever sends slowly
 * must not keep others out. @returns how to stop watching.
 */
function watchPace(volume: ProxyVolume, stream: WireStream, { leaveTurn, crawlers }: Place): () => void {
  const { clock } = volume.platform;
  const windowsMax = slowest.windowMs / crawling.windowMs;
  const windows: number[] = [];
  let seenBytes = stream.readBytes;
  const look = (): void => {
    windows.push(stream.readBytes - seenBytes);
    seenBytes = stream.readBytes;
    if (windows.length > windowsMax) windows.shift();
    // Not when it is we who are slow: then nothing is read.
    if (stream.isReading) {
      const came = windows.reduce((sum, bytes) => sum + bytes, 0);
      if (windows.length === windowsMax && came < slowest.bytes) {
        giveUp(`only ${came} bytes of the log came within ${slowest.windowMs / 1000} s`);
        return;
      }
      if (windows.at(-1)! < crawling.bytes && !crawlers.has(stream)) {
        if (crawlers.size >= crawlingMax) {
          giveUp(`the log comes slowly, and so do ${crawlers.size} others`);
          return;
        }
        crawlers.add(stream);
        leaveTurn();
      }
    }
    timer = clock.timer(crawling.windowMs, look);
  };
  const giveUp = (what: string): void =>
    stream.close(
      new WalbError("timed-out", {
        what,
        where: { volume: volume.name, peer: stream.peerName },
        hint: "look at the network and at the load of the storage; it sends the log again by itself",
      }),
    );
  let timer = clock.timer(crawling.windowMs, look);
  return () => {
    timer.cancel();
    crawlers.delete(stream);
  };
}

/** A place among the receptions, in the order of asking. */
async function takeTurn(volume: ProxyVolume, turns: Limiter, limit: number): Promise<() => void> {
  const late = new AbortController();
  const timer = volume.platform.clock.timer(turnWaitMs, () => {
    const what = `${limit} logs are being received, which is the limit, and ${turns.waitingCount} wait`;
    late.abort(
      new WalbError("busy", {
        what,
        where: { host: volume.settings.nodeId, volume: volume.name },
        hint: "it is tried again; or start the proxy with a larger --max-foreground-tasks",
      }),
    );
  });
  try {
    return await turns.enter(late.signal);
  } finally {
    timer.cancel();
  }
}

/**
 * A storage sends one log of a volume at a time: when it comes again while one is being received, it gave that one up,
 * and we may not have heard of it. Ends that one when it does not move.
 */
async function endStalled(volume: ProxyVolume): Promise<void> {
  const { machine, platform, receiving } = volume;
  if (receiving === undefined) return;
  const readBytes = receiving.stream.readBytes;
  const isOver = (): boolean => volume.receiving !== receiving;
  await untilOrLate(platform, turnWaitMs / 2, machine, isOver);
  if (isOver() || receiving.isCommitting || receiving.stream.readBytes - readBytes >= movingBytes) return;
  const what = "the storage began again before this log was complete";
  receiving.stream.close(new WalbError("cancelled", { what, where: { volume: volume.name } }));
  await untilOrLate(platform, turnWaitMs / 2, machine, isOver);
}

async function untilOrLate(
  platform: Platform,
  waitMs: number,
  machine: ProxyVolume["machine"],
  condition: () => boolean,
): Promise<void> {
  const late = new AbortController();
  const timer = platform.clock.timer(waitMs, () => late.abort());
  try {
    await machine.until(() => condition() || late.signal.aborted, late.signal);
  } finally {
    timer.cancel();
  }
}

function tell(volume: ProxyVolume, error: unknown): void {
  volume.setReceiveTrouble({
    error: asWalbError(error, { volume: volume.name, step: "receiving a log" }),
    atMs: volume.platform.clock.nowMs(),
  });
}
