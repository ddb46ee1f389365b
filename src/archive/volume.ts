/** @module One volume of an archive: what it remembers, its state, its files, and the points it can be restored at. */
import type { Logger } from "../control/logger.ts";
import { WalbError } from "../errors.ts";
import type { ImageStore } from "../image/image.ts";
import type { Platform } from "../platform/platform.ts";
import type { DiffSet } from "../snapshot/diffset.ts";
import { diffFileSuffix } from "../snapshot/filename.ts";
import { pointsInTime, type RestorePoint } from "../snapshot/restore.ts";
import { applicableList, latestBehind, latestState } from "../snapshot/select.ts";
import type { ArchiveState, DiffMeta } from "../snapshot/types.ts";
import { lbBytes, mib } from "../units.ts";
import { VolumeMachine } from "../volume/machine.ts";
import type { Trouble } from "../volume/trouble.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { type Manifest, manifestName, manifestText } from "./manifest.ts";
import { Pins } from "./pins.ts";
import type { RateLimits } from "./rates.ts";
import { Replicas } from "./replication/replicas.ts";
import type { ArchiveSettings } from "./settings.ts";
import type { ArchiveStore } from "./store.ts";
import type { UnfinishedApply } from "./unfinished.ts";
import { archiveWayOut } from "./way-out.ts";

/** All states of an archive volume, temporary ones included. */
export type ArchiveVolumeState =
  | "SyncReady"
  | "Archived"
  | "Stopped"
  | "FullSync"
  | "HashSync"
  | "WdiffRecv"
  | "ReplSyncAsServer"
  | "Resync"
  | "Start"
  | "Stop"
  | "ResetVol"
  | "ClearVol";
/** Actions that run beside a state. */
export type ArchiveAction = "Apply" | "Merge" | "Restore" | "Resize" | "Scan" | "ReplSyncAsClient";

/** States in which a volume has an image that can be used. */
export const activeStates: readonly ArchiveVolumeState[] = ["Archived", "HashSync", "WdiffRecv", "ReplSyncAsServer"];

/** With less to spare, whoever frees space waits until it is free. */
const scarceBytes = 64 * mib;

/** A restorable point with what it takes to restore it. */
export interface PointCost {
  readonly point: RestorePoint;
  /** Data the diffs write over the base image, expanded, before what overlaps is taken off. */
  readonly bytesToRestore: number;
}

/** A volume of a running archive. */
export class ArchiveVolume {
  readonly machine: VolumeMachine<ArchiveVolumeState, ArchiveAction>;
  readonly log: Logger;
  /** Archives it is replicated to. */
  readonly replicas = new Replicas();
  /** Files of diffs that are being read. */
  readonly pins: Pins;
  /** Of what comes in; over when the next diff or backup has come in well. */
  trouble: Trouble | undefined;
  /** Of an apply that was begun, is not finished, and goes on by itself. */
  unfinishedApply: UnfinishedApply | undefined;
  /** Which file the database is; undefined where that cannot be told. */
  databaseId: string | undefined;
  /** Of a file that may be the next diff and could not be read at start. */
  strayTrouble: Trouble | undefined;
  /** Gid of the cold image that is taking the place of the base, or was when something failed. */
  promoting: bigint | undefined;
  /** Files found to be damaged, by name; a new diff says nothing about them. */
  readonly #damage = new Map<string, Trouble>();
  /** Those of them that were not there or could not be opened. */
  readonly #unopened = new Set<string>();
  /** How far a full backup that is being received has come. */
  syncProgress: { readonly doneBytes: number; readonly totalBytes: number } | undefined;
  /** Conversations and jobs to be ended by a forced stop. */
  readonly #interrupts = new Set<(error: WalbError) => void>();
  #manifestWrite: Promise<void> = Promise.resolve();
  readonly #closing = new AbortController();
  #background: Promise<void> = Promise.resolve();
  #removals: Promise<void> = Promise.resolve();
  #latest: { set: unknown; base: unknown; state: ArchiveState } | undefined;
  #points: { set: unknown; base: unknown; list: readonly PointCost[] } | undefined;

  constructor(
    readonly name: string,
    readonly directory: string,
    readonly store: ArchiveStore,
    readonly images: ImageStore,
    readonly platform: Platform,
    readonly settings: ArchiveSettings,
    readonly rates: RateLimits,
    log: Logger,
  ) {
    this.log = log.with({ volume: name });
    this.machine = new VolumeMachine<ArchiveVolumeState, ArchiveAction>(
      name,
      store.state,
      () => platform.clock.nowMs(),
      (state, needed) => archiveWayOut(name, settings.nodeId, state, needed),
    );
    this.pins = new Pins((fileName) => this.removeFile(fileName));
  }

  /** Volume and server, as commands in hints name them: without the server a command would go to the primary archive. */
  get at(): string {
    return `${this.name} --server ${this.settings.nodeId}`;
  }

  get sizeBytes(): number {
    return this.store.sizeLb * lbBytes;
  }

  pathOf(fileName: string): string {
    return `${this.directory}/${fileName}`;
  }

  /** A name for a temporary file, never used before. */
  temporaryPath(prefix: string): string {
    const hex = Array.from(this.platform.random.bytes(6), (byte) => byte.toString(16).padStart(2, "0")).join("");
    return this.pathOf(`${prefix}${hex}.tmp`);
  }

  /** @throws WalbError `state` before the first backup. */
  requireBase(): ArchiveState {
    const base = this.store.base;
    if (base !== undefined) return base;
    throw new WalbError("state", {
      what: "the volume has no backup yet",
      where: { volume: this.name },
      hint: `take one: walb backup ${this.name}`,
    });
  }

  /** State of the newest image that base and diffs make. Asked for all the time; with many diffs it takes milliseconds. */
  latest(): ArchiveState {
    const base = this.requireBase();
    const { set } = this.store;
    if (this.#latest?.set !== set || this.#latest.base !== base) {
      this.#latest = { set, base, state: latestState(set, base) };
    }
    return this.#latest.state;
  }

  /** A diff was added to the set `before`: {@link latest} goes on from what it was. */
  added(before: DiffSet, diff: DiffMeta): void {
    const { base, set } = this.store;
    if (this.#latest === undefined || this.#latest.set !== before || this.#latest.base !== base) return;
    const state = latestBehind(set, this.#latest.state, diff);
    if (state !== undefined) this.#latest = { set, base, state };
  }

  /** All points the volume can be restored at, oldest first. */
  points(): readonly PointCost[] {
    const { base, set } = this.store;
    if (base === undefined) return [];
    if (this.#points?.set === set && this.#points.base === base) return this.#points.list;
    const sums = [0];
    for (const meta of applicableList(set, base.from)) {
      sums.push(sums.at(-1)! + this.store.diff(meta).contentLb * lbBytes);
    }
    const list = pointsInTime(set, base).map((point) => ({ point, bytesToRestore: sums[point.diffCount] ?? 0 }));
    this.#points = { set, base, list };
    return list;
  }

  /**
   * Writes the manifest durably; calls are served in order. @param manifest default: what the store says when its turn
   * comes.
   */
  saveManifest(manifest?: Manifest): Promise<void> {
    const write = this.#manifestWrite.then(() =>
      this.platform.disk.writeSmall(
        this.pathOf(manifestName),
        new TextEncoder().encode(manifestText(manifest ?? this.store.manifest())),
      ),
    );
    this.#manifestWrite = write.catch(() => undefined);
    return write;
  }

  /** Removes the files of diffs whose rows are gone; those being read later. */
  async removeDiffFiles(diffs: readonly StoredDiff[]): Promise<void> {
    await this.pins.remove(diffs.map((diff) => diff.fileName));
  }

  /**
   * As {@link removeDiffFiles}, but beside what comes next where there is room for that: a file system takes a tenth of a
   * second and more to let go of a GiB. A restart in between removes what is left.
   */
  async removeDiffFilesLater(diffs: readonly StoredDiff[]): Promise<void> {
    const bytes = diffs.reduce((sum, { meta }) => sum + meta.dataSizeBytes, 0);
    const { freeBytes } = await this.platform.disk.freeSpace(this.directory).catch(() => ({ freeBytes: 0 }));
    const removal = this.removeDiffFiles(diffs);
    this.#removals = Promise.all([this.#removals, removal]).then(() => undefined);
    this.inBackground(() => removal);
    if (freeBytes < bytes + scarceBytes) await removal;
  }

  /** Waits until all files are gone that were to be removed. */
  removals(): Promise<void> {
    return this.#removals;
  }

  /** Registers something that a forced stop ends. @returns takes it back. */
  onInterrupt(interrupt: (error: WalbError) => void): () => void {
    this.#interrupts.add(interrupt);
    return () => this.#interrupts.delete(interrupt);
  }

  /** A signal that also aborts on a forced stop. */
  interruptible(signal: AbortSignal): { readonly signal: AbortSignal; done(): void } {
    const controller = new AbortController();
    const done = this.onInterrupt((error) => controller.abort(error));
    return { signal: AbortSignal.any([signal, controller.signal]), done };
  }

  /** Ends all that runs. */
  interrupt(): void {
    const error = new WalbError("cancelled", { what: "the volume is being stopped", where: { volume: this.name } });
    for (const interrupt of [...this.#interrupts]) interrupt(error);
  }

  setTrouble(error: WalbError): void {
    this.trouble = { error: error.at({ volume: this.name }), atMs: this.platform.clock.nowMs() };
  }

  clearTrouble(): void {
    this.trouble = undefined;
  }

  /** The first damage that still matters. */
  get damage(): Trouble | undefined {
    const names = new Set(this.store.diffs.map((diff) => diff.fileName));
    for (const [fileName, trouble] of this.#damage) {
      if (names.has(fileName) || !fileName.endsWith(diffFileSuffix)) return trouble;
    }
    return undefined;
  }

  /** Files that could not be opened, which may have been mended since. */
  get unopened(): readonly string[] {
    return [...this.#unopened];
  }

  setDamage(fileName: string, error: WalbError, isOpening = false): void {
    if (isOpening) this.#unopened.add(fileName);
    else this.#unopened.delete(fileName);
    this.#damage.set(fileName, { error: error.at({ volume: this.name }), atMs: this.platform.clock.nowMs() });
  }

  /** Files were read to their end and are good. */
  clearDamage(fileNames: readonly string[]): void {
    for (const fileName of fileNames) {
      this.#damage.delete(fileName);
      this.#unopened.delete(fileName);
    }
  }

  /** Runs work that no request waits for; closing ends it. @param work must not throw. */
  inBackground(work: (signal: AbortSignal) => Promise<void>): void {
    this.#background = Promise.all([this.#background, work(this.#closing.signal)]).then(() => undefined);
  }

  /** Waits for work and writes of the manifest, then lets go of the database. */
  async close(): Promise<void> {
    this.#closing.abort(new WalbError("cancelled", { what: "the archive is closing" }));
    await this.#background;
    await this.#manifestWrite;
    this.store.close();
  }

  /** Removes the file of a diff at once. A failure costs only space until the next start, which tries again. */
  async removeFile(fileName: string): Promise<void> {
    try {
      await this.platform.disk.remove(this.pathOf(fileName));
    } catch (error) {
      this.log.warn("a diff that is not needed any more could not be removed", { file: this.pathOf(fileName), error });
    }
  }
}
