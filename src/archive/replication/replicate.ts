/** @module Replicates a volume to another archive: once, or following each new diff until it is cancelled. */
import type { z } from "zod";
import type { replicateParams, replicateResult } from "../../control/archive-schemas.ts";
import { asWalbError, WalbError } from "../../errors.ts";
import { parseCompressOption } from "../../native/compress-option.ts";
import { gib, lbBytes } from "../../units.ts";
import { defaultBulkLb, parseHostPort } from "../../wire/grammar.ts";
import { connectWire } from "../../wire/handshake.ts";
import type { CompressConfig } from "../../wire/meta.ts";
import { runReplSync } from "../../wire/repl-sync.ts";
import { ProtocolName, refusedError } from "../../wire/words.ts";
import { withAction } from "../action.ts";
import type { JobContext } from "../apply.ts";
import type { ForegroundLimit } from "../foreground.ts";
import type { ArchiveMemory } from "../memory.ts";
import type { ArchiveVolume } from "../volume.ts";
import { sendLabels } from "./labels.ts";
import { requireOneWay } from "./lineage.ts";
import { isBrokenOff, isFinal, retryDelayMs } from "./plan.ts";
import { ReplicaSender, type SendOptions, type SentCounts } from "./send.ts";

/** See `replicateParams` of the commands. */
export type ReplicateRequest = Omit<z.output<typeof replicateParams>, "volume">;
/** See `replicateResult` of the commands. */
export type ReplicateResult = z.input<typeof replicateResult>;

/** What replicating needs from the role. */
export interface ReplicateParts {
  readonly memory: ArchiveMemory;
  /** Conversations of replication at once. */
  readonly limit: ForegroundLimit;
}

/** The other archive: its address, and who hears its node id. */
interface ReplicaPeer {
  readonly to: string;
  readonly met: (node: string) => void;
}

/** Conversations in a row that may be told that a proxy was faster. */
const overtakenMax = 20;

/** Runs to the end, or for ever with `follow`. */
export async function replicateVolume(
  volume: ArchiveVolume,
  parts: ReplicateParts,
  request: ReplicateRequest,
  context: JobContext,
): Promise<ReplicateResult> {
  const { clock, random } = volume.platform;
  const options = sendOptions(volume, request);
  const replica = volume.replicas.claim(volume.name, request.to);
  const startMs = clock.monotonicMs();
  const total = { isFull: false, isResync: false, hashCount: 0, diffCount: 0, sentBytes: 0 };
  const labels = new LabelCourier(volume);
  let allowResync = options.allowResync;
  try {
    for (let failures = 0; ; ) {
      try {
        const peer = { to: request.to, met: replica.met };
        if (!allowResync) await checkWay(volume, request.to, context.signal);
        const gid = await untilReached(volume, parts, peer, { ...options, allowResync }, total, context);
        // Who got everything anew has heard of no log of before: a third archive may still be at one of them.
        if (total.isFull || total.isResync) await checkWay(volume, request.to, context.signal);
        await labels.send(request.to, context.signal);
        replica.reached(gid, clock.nowMs());
        if (request.follow !== true) return { gid, ...total, elapsedMs: Math.round(clock.monotonicMs() - startMs) };
        // Once is enough: what comes later is only followed.
        allowResync = false;
        failures = 0;
        context.progress({ doneBytes: 0, step: `up to date at gid ${gid}, waiting for more` });
        await volume.machine.until(() => isBehind(volume, gid), context.signal);
      } catch (thrown) {
        context.signal.throwIfAborted();
        const error = explainedFailure(volume, request, thrown);
        replica.failed(error, clock.nowMs());
        if (request.follow !== true || isFinal(error)) throw error;
        const delayMs = retryDelayMs(failures, random.fraction());
        failures += 1;
        volume.log.warn("a replication failed and is tried again", { to: request.to, error, retryInMs: delayMs });
        await clock.sleep(delayMs, context.signal);
      }
    }
  } finally {
    replica.end();
  }
}

/** @throws WalbError `different-uuid` when the other archive has gone another way. */
function checkWay(volume: ArchiveVolume, to: string, signal: AbortSignal): Promise<void> {
  const { platform, settings } = volume;
  const options = { clock: platform.clock, clientId: settings.nodeId, deadlineMs: settings.socketTimeoutMs };
  return requireOneWay(volume, to, options, signal);
}

/** Sends labels when they have changed since they were sent last. */
class LabelCourier {
  readonly #volume: ArchiveVolume;
  #sent = "[]";
  #isUnderstood = true;

  constructor(volume: ArchiveVolume) {
    this.#volume = volume;
  }

  async send(to: string, signal: AbortSignal): Promise<void> {
    const { store, platform, settings } = this.#volume;
    const all = [...store.labels.values()];
    const text = JSON.stringify(all.map(({ gid, label, isProtected }) => [`${gid}`, label, isProtected]));
    if (!this.#isUnderstood || text === this.#sent) return;
    const { clock } = platform;
    const options = { clock, clientId: settings.nodeId, deadlineMs: settings.socketTimeoutMs };
    const answer = await sendLabels(this.#volume, to, options, signal);
    this.#isUnderstood = answer !== "unknown";
    // What was refused is sent again the next time.
    if (answer === "taken") this.#sent = text;
  }
}

/** Conversations until the peer has everything; more than one only where a proxy was faster. @returns the gid it has. */
async function untilReached(
  volume: ArchiveVolume,
  parts: ReplicateParts,
  peer: ReplicaPeer,
  options: SendOptions,
  total: SentCounts & { sentBytes: number },
  context: JobContext,
): Promise<bigint> {
  for (let attempt = 0; attempt <= overtakenMax; attempt++) {
    const gid = await converse(volume, parts, peer, options, total, context);
    if (gid !== undefined) return gid;
  }
  throw new WalbError("busy", {
    what: "the other archive always had what was to be sent already",
    hint: "its proxies keep it up to date: look at its newest point with walb status",
  });
}

/** One conversation. @returns the gid the peer has; undefined when a proxy was faster with a diff. */

async function converse(
  volume: ArchiveVolume,
  parts: ReplicateParts,
  { to, met }: ReplicaPeer,
  options: SendOptions,
  total: SentCounts & { sentBytes: number },
  context: JobContext,
): Promise<bigint | undefined> {
  const leave = parts.limit.enter(volume.name, "replicate");
  try {
    return await withAction(volume, "ReplSyncAsClient", ["Apply", "Resize"], context, async (_volume, job) => {
      const { platform, settings } = volume;
      const accepted = (): void => context.accepted?.();
      const sender = new ReplicaSender(volume, parts.memory, options, { ...job, accepted });
      job.progress({ doneBytes: 0, step: "asking the other archive" });
      const { stream, serverId } = await connectWire(
        platform.net,
        { kind: "tcp", ...parseHostPort(to) },
        {
          clock: platform.clock,
          clientId: settings.nodeId,
          protocol: ProtocolName.replSync,
          deadlineMs: settings.socketTimeoutMs,
        },
      );
      const abort = (): void => stream.close(new WalbError("cancelled", { what: "the replication was cancelled" }));
      job.signal.addEventListener("abort", abort);
      try {
        job.signal.throwIfAborted();
        requireOther(serverId, settings.nodeId, to);
        met(serverId);
        const { answer, step } = await runReplSync(stream, sender);
        if (answer.kind === "accept") return sender.peer!.from.gidB;
        if (step === "diff") return undefined;
        const refusal = refusedError(stream.peerName, "the replication", answer);
        // The only refusal of a kind there is: other backups, and no leave to replace them.
        throw step === "kind" ? new WalbError("different-uuid", { what: refusal.what, where: refusal.where }) : refusal;
      } catch (error) {
        job.signal.throwIfAborted();
        throw error;
      } finally {
        job.signal.removeEventListener("abort", abort);
        stream.close();
        await sender.close();
        addCounts(total, sender.counts, stream.writtenBytes);
      }
    });
  } finally {
    leave();
  }
}

function requireOther(serverId: string, nodeId: string, to: string): void {
  if (serverId !== nodeId) return;
  throw new WalbError("bad-parameter", {
    what: `${to} is this archive itself, ${nodeId}`,
    where: { field: "to" },
    hint: "name another archive; one on another host with the same name needs one of its own: walb archive --node NAME",
  });
}

function addCounts(total: SentCounts & { sentBytes: number }, counts: SentCounts, sentBytes: number): void {
  total.isFull ||= counts.isFull;
  total.isResync ||= counts.isResync;
  total.hashCount += counts.hashCount;
  total.diffCount += counts.diffCount;
  total.sentBytes += sentBytes;
}

function isBehind(volume: ArchiveVolume, gid: bigint): boolean {
  return volume.store.base !== undefined && volume.latest().from.gidB > gid;
}

function explainedFailure(volume: ArchiveVolume, { to, resync }: ReplicateRequest, thrown: unknown): WalbError {
  const error = asWalbError(thrown, { volume: volume.name, peer: to, step: "replication" });
  if (!isBrokenOff(error)) return error;
  const isAgain = "until a resync is complete the old backups stay, and the same command begins it anew";
  const goesOn = resync === true ? isAgain : "what arrived is kept, and the same command goes on from there";
  return new WalbError(error.code, {
    what: error.what,
    where: error.where,
    hint: `${goesOn}; ${error.hint ?? `look at the other archive: walb status ${volume.name} --server ${to}`}`,
    ...(error.cause === undefined ? {} : { cause: error.cause }),
  });
}

/** @throws WalbError `bad-parameter`. */
function sendOptions(volume: ArchiveVolume, request: ReplicateRequest): SendOptions {
  const { untilGid: gid, remainingMib: sizeMib = 0 } = request;
  return {
    allowResync: request.resync === true,
    compress: compressConfig(request.compression ?? volume.settings.syncCompression),
    bulkLb: request.bulkBytes === undefined ? defaultBulkLb : Math.floor(request.bulkBytes / lbBytes),
    limits: {
      threshold: gid === undefined ? { unit: "size", sizeMib } : { unit: "gid", gid },
      keepsAllPoints: request.keepAllPoints === true,
      mergeBytesMax: request.mergeBytesMax ?? gib,
      mergeCountMax: volume.settings.wdiffSendCountMax,
    },
  };
}

/** `codec[:level[:threads]]`; the threads are what an unmodified peer uses to expand. */
function compressConfig(text: string): CompressConfig {
  const threads = Number(/^[a-z0-9]+:[0-9]+:([0-9]+)$/.exec(text)?.[1] ?? 1);
  return { ...parseCompressOption(text), cpuCount: Math.min(Math.max(threads, 1), 255) };
}
