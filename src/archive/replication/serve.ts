/** @module The receiving end of a replication: another archive brings this one up to date. */
import { asWalbError, WalbError } from "../../errors.ts";
import type { Platform } from "../../platform/platform.ts";
import { relation } from "../../snapshot/algebra.ts";
import type { DiffMeta } from "../../snapshot/types.ts";
import { lbBytes } from "../../units.ts";
import type { Transition } from "../../volume/machine.ts";
import type { HashSyncParts } from "../../wire/hash-sync.ts";
import {
  type ReplDiffRequest,
  type ReplFullRequest,
  type ReplHashRequest,
  ReplKind,
  type ReplRefusal,
  type ReplResyncRequest,
  type ReplServer,
  serveReplSync,
} from "../../wire/repl-sync.ts";
import type { WireStream } from "../../wire/stream.ts";
import { accept, type Decision, refuse, refuseWith } from "../../wire/words.ts";
import type { ForegroundLimit } from "../foreground.ts";
import type { ArchiveMemory } from "../memory.ts";
import { untilNoDiff } from "../reception.ts";
import { refuseTransfer, transferGuards } from "../refusals.ts";
import { resizeVolume } from "../resize.ts";
import { SnapshotImage } from "../scan.ts";
import type { ArchiveSettings } from "../settings.ts";
import type { ArchiveAction, ArchiveVolume, ArchiveVolumeState } from "../volume.ts";
import { requireDirectory } from "../volume-directory.ts";
import type { ArchiveVolumes } from "../volumes.ts";
import { finishInBackground } from "./finish-resync.ts";
import { Held } from "./held.ts";
import { DiffTurn, keptDiff } from "./receive-diff.ts";
import { FullReception } from "./receive-full.ts";
import { ResyncReception } from "./receive-resync.ts";

/** What serving works on. */
export interface ReplicaParts {
  readonly platform: Platform;
  readonly settings: ArchiveSettings;
  readonly volumes: ArchiveVolumes;
  readonly memory: ArchiveMemory;
  readonly foreground: ForegroundLimit;
}

const allActions: readonly ArchiveAction[] = ["Apply", "Merge", "Restore", "Resize", "Scan", "ReplSyncAsClient"];

/** Serves one replication. */
export async function serveReplication(parts: ReplicaParts, stream: WireStream): Promise<void> {
  const replica = new Replica(parts, stream);
  const { packs: pool, receiving } = parts.memory;
  try {
    await serveReplSync(stream, { pool, compute: receiving.compute }, replica);
    replica.done();
  } catch (error) {
    throw replica.failed(error);
  } finally {
    await replica.end();
  }
}

/** What a resync holds through all steps. */
interface ResyncUnderWay {
  readonly reception: ResyncReception;
  /** The transition into ReplSyncAsServer. */
  readonly receiving: Transition<ArchiveVolumeState>;
  readonly endScan: () => void;
  readonly held: Held;
}

/** Its sender begins with its oldest state, behind which there are only diffs. */
function notInResync(): WalbError {
  return new WalbError("state", {
    what: "images cannot be compared again within a resync",
    hint: "replicate without a resync first, or reset the volume here and replicate it anew",
  });
}

class Replica implements ReplServer {
  readonly #parts: ReplicaParts;
  readonly #stream: WireStream;
  readonly #abort = new AbortController();
  /** Until the end of the conversation. */
  readonly #conversation = new Held();
  /** Until the end of the step under way. Between steps diffs of proxies may come in. */
  #step = new Held();
  #found: ArchiveVolume | undefined;
  /** A resync under way, until it is decided. */
  #resync: ResyncUnderWay | undefined;
  #isRefused = false;
  /** The sender told the log it follows; diffs of older ones may come before. */
  #isLogAnnounced = false;

  constructor(parts: ReplicaParts, stream: WireStream) {
    this.#parts = parts;
    this.#stream = stream;
  }

  get #volume(): ArchiveVolume {
    return this.#found!;
  }

  async decide(name: string): Promise<Decision> {
    try {
      const volume = this.#parts.volumes.get(name);
      this.#conversation.push(this.#parts.foreground.enter(name, "receive a replication"));
      volume.machine.requireNotStopping("receive a replication");
      volume.machine.require(["SyncReady", "Archived", "WdiffRecv"], "receive a replication");
      this.#found = volume;
      const interrupt = (error: WalbError): void => {
        this.#abort.abort(error);
        this.#stream.close(error);
      };
      this.#conversation.push(volume.onInterrupt(interrupt));
      return accept;
    } catch (error) {
      this.#isRefused = true;
      return refuseTransfer(this.#parts.volumes, transferGuards.replication, name, error);
    }
  }

  async choose(
    archiveUuid: string,
    allowResync: boolean,
  ): Promise<{ readonly kind: ReplKind } | { readonly refusal: ReplRefusal }> {
    const { store, machine, name, settings } = this.#volume;
    if (machine.state === "SyncReady") return { kind: ReplKind.full };
    if (store.archiveUuid === archiveUuid && !allowResync) return { kind: ReplKind.hashOrDiff };
    if (allowResync) return { kind: ReplKind.resync };
    this.#isRefused = true;
    const refusal = new WalbError("different-uuid", {
      what:
        `archive ${settings.nodeId} has other backups of ${name} (archive uuid ${store.archiveUuid}) than the one that ` +
        `sends (${archiveUuid}): nothing was changed`,
      hint: `to replace them, say so: walb replicate ${name} --to ${settings.nodeId} --resync; they stay until the new ones are complete`,
    });
    return { refusal: refuse(refusal) as ReplRefusal };
  }

  async full(request: ReplFullRequest, archiveUuid: string) {
    const volume = this.#volume;
    const { machine, store } = volume;
    return this.#begin(async (held) => {
      machine.requireNotStopping("receive a full replication");
      machine.requireIdle(allActions, "receive a full replication");
      const transition = machine.begin(["SyncReady"], "FullSync", "receive a full replication");
      held.push(() => (store.state === "Archived" ? transition.commit("Archived") : transition.rollback()));
      this.#isLogAnnounced = true;
      const sink = await FullReception.begin(volume, request, archiveUuid, () => held.release());
      return { startLb: sink.startLb, sink };
    });
  }

  /** Receives until the sender is through; until then this volume keeps what it has, and takes no diffs of proxies. */
  async resync(request: ReplResyncRequest): Promise<HashSyncParts | { readonly refusal: ReplRefusal }> {
    const volume = this.#volume;
    return this.#begin(async (held) => {
      const receiving = await this.#enter(held, "receive a resync");
      await this.#requireSize(request.sizeLb);
      const endScan = volume.machine.beginAction("Scan");
      held.push(endScan);
      const reception = await ResyncReception.begin(volume, this.#parts.memory, request, this.#abort.signal);
      held.push(() => reception.discard());
      this.#resync = { reception, receiving, endScan, held };
      return { hashes: reception.hashes(), sink: reception };
    });
  }

  async stop(): Promise<void> {
    const resync = this.#resync;
    if (resync === undefined) return;
    const volume = this.#volume;
    const { machine } = volume;
    const { reception, receiving, endScan, held } = resync;
    // Nobody may use the image from here on.
    endScan();
    receiving.commit("Archived");
    const transition = machine.begin(["Archived"], "Resync", "resync");
    try {
      await machine.until(() => machine.running() === 0, this.#abort.signal);
      await reception.decide();
    } catch (error) {
      transition.commit("Archived");
      throw error;
    }
    this.#resync = undefined;
    await held.release();
    finishInBackground(volume, this.#parts.memory.working, transition, () => Promise.resolve());
  }

  async hash(request: ReplHashRequest): Promise<HashSyncParts | { readonly refusal: ReplRefusal }> {
    const volume = this.#volume;
    const { memory } = this.#parts;
    const { sizeLb, bulkLb, hashSeed } = request;
    return this.#begin(async (held) => {
      if (this.#resync !== undefined) throw notInResync();
      await this.#enter(held, "receive a hash replication");
      await this.#requireSize(sizeLb);
      this.#requireFollowed(request.uuid);
      const diff = keptDiff(request.diff, volume.latest().from);
      held.push(volume.machine.beginAction("Scan"));
      const image = await SnapshotImage.open(volume, memory, { sizeLb, bulkLb }, this.#abort.signal);
      held.push(() => image.close());
      const ended = (): Promise<void> => held.release();
      const sink = await DiffTurn.begin(volume, diff, request.uuid, request.uuid, memory.receiving, ended);
      this.#isLogAnnounced = true;
      return { hashes: image.hashes(hashSeed, this.#abort.signal), sink };
    });
  }

  async diff(request: ReplDiffRequest) {
    const volume = this.#volume;
    const { receiving } = this.#parts.memory;
    const resync = this.#resync?.reception;
    if (resync !== undefined) {
      return this.#begin(async () => {
        const diff = keptDiff(request.diff, resync.latest.from);
        return { sink: await resync.stage(diff, request.uuid, receiving) };
      });
    }
    return this.#begin(async (held) => {
      await this.#enter(held, "receive a replicated diff");
      await this.#requireSize(request.sizeLb);
      const { from: latest } = volume.latest();
      // A proxy was faster: the sender asks again.
      if (relation(latest, request.diff) === "too-old") return { refusal: refuseWith("too-old-diff") };
      this.#requireFollowed(request.uuid);
      const diff: DiffMeta = keptDiff(request.diff, latest);
      // A log that was never heard of is the next one, unless the sender said in this conversation which one it follows.
      const { store } = volume;
      const nextLogUuid = store.namesLog(request.uuid) || this.#isLogAnnounced ? undefined : request.uuid;
      const ended = (): Promise<void> => held.release();
      return { sink: await DiffTurn.begin(volume, diff, request.uuid, nextLogUuid, receiving, ended) };
    });
  }

  async latest() {
    return this.#resync?.reception.latest ?? this.#volume.latest();
  }

  /** The conversation came to its end: when nothing was refused, all is well. */
  done(): void {
    if (!this.#isRefused) this.#found?.clearTrouble();
  }

  /** What a failure looks like to people. */
  failed(thrown: unknown): WalbError {
    const error = asWalbError(thrown, { step: "receiving a replication" });
    this.#found?.setTrouble(error);
    this.#found?.log.warn("a replication was not received completely; it can be repeated", { error });
    return error;
  }

  async end(): Promise<void> {
    this.#abort.abort(new WalbError("cancelled", { what: "the replication is over" }));
    await this.#step.release();
    await this.#resync?.held.release();
    await this.#conversation.release();
  }

  /** Begins a step; what it holds is given back when it fails or refuses. */
  async #begin<T extends object>(work: (held: Held) => Promise<T>): Promise<T | { readonly refusal: ReplRefusal }> {
    const held = new Held();
    this.#step = held;
    try {
      await requireDirectory(this.#volume);
      const ready = await work(held);
      if ("refusal" in ready) {
        this.#isRefused = true;
        await held.release();
      }
      return ready;
    } catch (error) {
      this.#isRefused = true;
      await held.release();
      const failure = asWalbError(error);
      if (failure.code === "no-space" || failure.code === "io") this.#volume.setTrouble(failure);
      return { refusal: refuse(failure) as ReplRefusal };
    }
  }

  /** Enters ReplSyncAsServer, behind the diff that is being received. */
  async #enter(held: Held, what: string) {
    const { machine } = this.#volume;
    await untilNoDiff(this.#parts.platform.clock, machine);
    machine.requireNotStopping(what);
    machine.requireIdle(["Apply", "Resize"], what);
    const transition = machine.begin(["Archived"], "ReplSyncAsServer", what);
    held.push(() => transition.commit("Archived"));
    return transition;
  }

  /** @throws WalbError `different-uuid` when the sender went on with a log that was left here. */
  #requireFollowed(uuid: string): void {
    const { store, name, settings } = this.#volume;
    if (uuid === store.logUuid || !store.retiredLogs.all.includes(uuid)) return;
    throw new WalbError("different-uuid", {
      what:
        `archive ${settings.nodeId} has backups of ${name} from a newer log (${store.logUuid}) than the diffs that come ` +
        `(${uuid}): the two archives have gone different ways, and nothing was changed`,
      hint: `replicate the other way round: walb replicate ${name} --server ${settings.nodeId} --to OTHER --resync; or with --resync this way, which gives up what is newer here`,
    });
  }

  async #requireSize(sizeLb: number): Promise<void> {
    const volume = this.#volume;
    const { store, name, settings } = volume;
    if (store.sizeLb >= sizeLb) return;
    if (settings.isAutoResize) return resizeVolume(volume, sizeLb);
    throw new WalbError("out-of-range", {
      what: `the image has ${store.sizeLb} LB, but the volume ${sizeLb} at the archive that sends`,
      hint: `grow it: walb resize ${name} ${sizeLb * lbBytes} --server ${settings.nodeId}, or start the archive with --auto-resize`,
    });
  }
}
