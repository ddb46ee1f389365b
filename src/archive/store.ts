/**
 * @module What an archive volume remembers: its state, the base image's state, the diffs, labels, losses. Every change
 * is one durable transaction; reads are served from memory.
 */
import { WalbError } from "../errors.ts";
import type { Databases } from "../platform/database.ts";
import type { DiffSet } from "../snapshot/diffset.ts";
import { diffText } from "../snapshot/text.ts";
import type { ArchiveState, DiffMeta } from "../snapshot/types.ts";
import { openVolumeDatabase, type VolumeDatabase, volumeDatabaseName } from "../volume/database.ts";
import { Colds } from "./colds.ts";
import { DiffBook, type DiffChange } from "./diff-book.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { FullCopyRow } from "./full-copy.ts";
import type { KnownLogs } from "./known-logs.ts";
import { type Label, LabelRows } from "./label-rows.ts";
import type { Loss } from "./losses.ts";
import type { Manifest } from "./manifest.ts";
import { insertManifest } from "./new-rows.ts";
import { Partials } from "./partials.ts";
import { damagedRow, isOfRows, requirePlausible } from "./plausible.ts";
import { RetiredLogs } from "./retired-logs.ts";
import { baseColumns, baseOf, setVolumeRow, type VolumeRow } from "./rows.ts";
import { backupTables, fullCopyTable, migrations, resyncTable, volumeTable } from "./schema.ts";
import { Verifications } from "./verifications.ts";

/** States that are kept across restarts. */
export type SteadyState = "SyncReady" | "Archived" | "Stopped";

/** What a full backup commits. */
export interface FullBackup {
  readonly sizeLb: number;
  readonly logUuid: string;
  readonly archiveUuid: string;
  readonly base: ArchiveState;
  readonly lastSyncMs: number;
}

/** What one transaction changes. */
interface Change extends DiffChange {
  /** A log that is not followed any more. */
  readonly retired?: string | undefined;
  readonly row?: Partial<VolumeRow>;
}

/** The metadata of one archive volume. */
export class ArchiveStore {
  /** Incomplete files of restores. */
  readonly partials: Partials;
  /** Points kept as images. */
  readonly colds: Colds;
  /** When diffs were last verified. */
  readonly verifications: Verifications;
  /** How far a full replication has come. */
  readonly fullCopy: FullCopyRow;
  /** Logs that are not followed any more. */
  readonly retiredLogs: RetiredLogs;
  readonly #volume: string;
  readonly #database: VolumeDatabase;
  #row: VolumeRow;
  #base: ArchiveState | undefined;
  readonly #book: DiffBook;
  readonly #labels: LabelRows;
  #resyncFile: string | undefined;

  private constructor(database: VolumeDatabase, volume: string) {
    this.#database = database;
    this.partials = new Partials(database);
    this.colds = new Colds(database);
    this.verifications = new Verifications(database);
    this.fullCopy = new FullCopyRow(database);
    this.retiredLogs = new RetiredLogs(database);
    this.#volume = volume;
    const row = database.orm.select().from(volumeTable).get();
    if (row === undefined) {
      throw new WalbError("damaged", { what: "the volume's database has no volume in it", where: { volume } });
    }
    this.#row = row;
    this.#base = baseOf(row);
    this.#book = new DiffBook(database);
    this.#labels = new LabelRows(database);
    this.#resyncFile = database.orm.select().from(resyncTable).get()?.fileName;
  }

  /** Opens the store of a volume directory. @throws WalbError `damaged` when it is no database, has no volume or rows that cannot be. */
  static open(databases: Databases, directory: string, volume: string): ArchiveStore {
    const database = openVolumeDatabase(databases, `${directory}/${volumeDatabaseName}`, migrations);
    try {
      const store = new ArchiveStore(database, volume);
      requirePlausible(store, volume);
      return store;
    } catch (error) {
      database.close();
      throw isOfRows(error) ? damagedRow(volume, error) : error;
    }
  }

  /** Makes the store of a new volume, or of one whose database is lost: without diffs. */
  static create(databases: Databases, directory: string, manifest: Manifest): ArchiveStore {
    const database = openVolumeDatabase(databases, `${directory}/${volumeDatabaseName}`, migrations);
    try {
      insertManifest(database, manifest);
      return new ArchiveStore(database, manifest.volume);
    } catch (error) {
      database.close();
      throw error;
    }
  }

  get state(): SteadyState {
    return this.#row.state;
  }
  get sizeLb(): number {
    return this.#row.sizeLb;
  }
  get logUuid(): string | undefined {
    return this.#row.logUuid ?? undefined;
  }
  get archiveUuid(): string | undefined {
    return this.#row.archiveUuid ?? undefined;
  }
  /** State of the base image; undefined before the first full backup. */
  get base(): ArchiveState | undefined {
    return this.#base;
  }
  get lastReceivedMs(): number | undefined {
    return this.#row.lastReceivedMs ?? undefined;
  }
  get lastSyncMs(): number | undefined {
    return this.#row.lastSyncMs ?? undefined;
  }
  get isResetting(): boolean {
    return this.#row.isResetting;
  }
  /** What must be written to the image before it is what the base says. */
  get resyncFile(): string | undefined {
    return this.#resyncFile;
  }
  /** The largest gid that base or diffs name. */
  get gidMax(): bigint {
    const base = this.#base?.from.gidE ?? 0n;
    return this.diffs.reduce((max, { meta }) => (meta.to.gidE > max ? meta.to.gidE : max), base);
  }
  /** The diffs, an immutable version: later changes make another one. */
  get set(): DiffSet {
    return this.#book.diffs.set;
  }
  get diffs(): StoredDiff[] {
    return this.#book.diffs.all;
  }
  /** By gid. */
  get labels(): ReadonlyMap<bigint, Label> {
    return this.#labels.all;
  }
  get losses(): Loss[] {
    return this.#book.losses.all;
  }
  /** Logs that anything ever came from. */
  get knownLogs(): KnownLogs {
    return this.#book.knownLogs;
  }

  /** Whether the manifest names this log as one of diffs that belong here. */
  namesLog(uuid: string): boolean {
    return uuid === this.logUuid || this.#book.diffs.hasFrom(uuid);
  }

  /** The file of a diff. @throws WalbError `internal` when there is none. */
  diff(meta: DiffMeta): StoredDiff {
    const diff = this.#book.diffs.find(meta);
    if (diff === undefined) throw new WalbError("internal", { what: `the diff ${diffText(meta)} has no row` });
    return diff;
  }

  /** What the manifest is to say now. */
  manifest(): Manifest {
    const uuids = new Set(this.#book.diffs.logUuids);
    if (this.logUuid !== undefined) uuids.add(this.logUuid);
    return {
      volume: this.#volume,
      state: this.state,
      sizeLb: this.sizeLb,
      logUuid: this.logUuid,
      archiveUuid: this.archiveUuid,
      base: this.base,
      diffUuids: [...uuids].sort(),
      labels: [...this.labels.values()].sort((a, b) => (a.gid < b.gid ? -1 : 1)),
      colds: this.colds.all,
      lastSyncMs: this.lastSyncMs,
      resyncFile: this.resyncFile,
      retiredUuids: this.retiredLogs.all,
      knownUuids: this.knownLogs.all,
    };
  }

  setState(state: SteadyState): void {
    this.#update({ state });
  }

  setLogUuid(logUuid: string): void {
    this.#update({ logUuid });
  }

  setSize(sizeLb: number): void {
    this.#update({ sizeLb });
  }

  /** The base image is complete: Archived. */
  commitFullBackup(backup: FullBackup): void {
    const { base, ...rest } = backup;
    this.#database.transaction(() => {
      this.fullCopy.clear();
      this.retiredLogs.clear();
      this.knownLogs.clear();
      this.#database.orm
        .update(volumeTable)
        .set({ state: "Archived", ...rest, ...baseColumns(base) })
        .run();
    });
    this.#reload();
    this.knownLogs.refresh();
  }

  /**
   * Everything is replaced by the backups of another archive, whose image the base is when the file was written over it.
   * Files of diffs are put in order behind it, until {@link endResync}.
   */
  commitResync(backup: FullBackup, diffs: readonly StoredDiff[], fileName: string): void {
    const { base, ...rest } = backup;
    this.#database.transaction(() => {
      for (const table of backupTables) this.#database.orm.delete(table).run();
      this.#database.orm
        .update(volumeTable)
        .set({ state: "Archived", ...rest, ...baseColumns(base) })
        .run();
      for (const diff of diffs) this.#book.insert(diff);
      this.#database.orm.insert(resyncTable).values({ id: 1, fileName }).run();
    });
    this.#reload();
    this.#forgetAll();
    for (const diff of diffs) this.#book.put(diff);
    this.#resyncFile = fileName;
  }

  endResync(): void {
    this.#database.orm.delete(resyncTable).run();
    this.#resyncFile = undefined;
  }

  /**
   * Registers a durable diff of another archive. `gone` are redundant with it; what was lost before its end is bridged.
   * @param nextLogUuid log that is followed from now on, when it is another one.
   */
  addReplicatedDiff(
    diff: StoredDiff,
    gone: readonly StoredDiff[],
    receivedMs: number,
    nextLogUuid: string | undefined,
  ): void {
    const before = this.logUuid;
    const isNext = nextLogUuid !== undefined && nextLogUuid !== before;
    // A log that nothing ever came from was only announced: its diffs may follow.
    const isRetired = isNext && before !== undefined && this.knownLogs.has(before);
    this.#change({
      gone,
      added: [diff],
      mended: this.losses.filter((loss) => loss.toB <= diff.meta.to.gidB).map(({ fileName }) => fileName),
      retired: isRetired ? before : undefined,
      row: { lastReceivedMs: receivedMs, ...(isNext ? { logUuid: nextLogUuid } : {}) },
    });
  }

  /** Registers a diff that is durable. One with the same ends is replaced. @returns the one that was replaced. */
  addDiff(diff: StoredDiff, receivedMs?: number): StoredDiff | undefined {
    return this.addDiffs([diff], receivedMs)[0];
  }

  /**
   * As {@link addDiff}, for a file that is durable under its name. When it comes from the log that is followed, and nothing
   * goes with it, a start that finds no row makes the same one of the file: it is not synced then.
   */
  addReceivedDiff(diff: StoredDiff, receivedMs: number): StoredDiff | undefined {
    const { diffs, losses } = this.#book;
    const isAlone = diffs.find(diff.meta) === undefined && !losses.has(diff.fileName);
    if (!isAlone || diff.uuid !== this.logUuid) return this.addDiff(diff, receivedMs);
    this.#change({ added: [diff], row: { lastReceivedMs: receivedMs } }, false);
    return undefined;
  }

  /** Registers several in one transaction. @returns those that were replaced. */
  addDiffs(diffs: readonly StoredDiff[], receivedMs?: number): StoredDiff[] {
    // Of several with the same ends the last one counts.
    const added = [...new Map(diffs.map((diff) => [diffText(diff.meta), diff])).values()];
    const replaced = added.flatMap(({ meta }) => this.#book.diffs.find(meta) ?? []);
    this.#change({
      gone: replaced,
      added,
      mended: added.map(({ fileName }) => fileName).filter((name) => this.#book.losses.has(name)),
      ...(receivedMs === undefined ? {} : { row: { lastReceivedMs: receivedMs } }),
    });
    return replaced;
  }

  /**
   * Registers the durable diff of a hash backup: from now on the log it comes from is followed. What was lost does not
   * matter any more: the way to the newest snapshot is whole.
   */
  commitHashBackup(diff: StoredDiff, lastSyncMs: number | undefined): void {
    const before = this.logUuid;
    this.#change({
      added: [diff],
      mended: this.losses.map(({ fileName }) => fileName),
      retired: before === diff.uuid ? undefined : before,
      row: { logUuid: diff.uuid, ...(lastSyncMs === undefined ? {} : { lastSyncMs }) },
    });
  }

  /** Puts a merged diff in the place of others. */
  replaceDiffs(merged: StoredDiff, gone: readonly StoredDiff[]): void {
    this.#change({ gone, added: [merged] });
  }

  /** Diffs got other flags, and so other file names. */
  renameDiffs(changes: readonly { readonly before: StoredDiff; readonly after: StoredDiff }[]): void {
    this.#change({ gone: changes.map(({ before }) => before), added: changes.map(({ after }) => after) });
  }

  /** Forgets diffs that no point needs. */
  dropDiffs(gone: readonly StoredDiff[]): void {
    this.#change({ gone });
  }

  /** Forgets diffs whose files are gone, and says what that cost. */
  loseDiff(diff: StoredDiff, loss: Loss): void {
    this.#change({ gone: [diff], lost: loss });
  }

  /** Remembers a file that could not be used. */
  addLoss(loss: Loss): void {
    this.#change({ lost: loss });
  }

  /** Of files that nobody misses. */
  forgetLosses(fileNames: readonly string[]): void {
    this.#change({ mended: fileNames });
  }

  /** The image is being brought, or was brought, to a new state; diffs it does not need any more go with that. */
  setBase(base: ArchiveState, gone: readonly StoredDiff[] = []): void {
    const isSteady = base.to === undefined;
    const mended = this.losses.flatMap(({ fileName, toB }) => (isSteady && toB <= base.from.gidB ? [fileName] : []));
    this.#change({ gone, mended, row: baseColumns(base) });
    this.#base = base;
  }

  /** Sets what is said about a snapshot; nothing is said any more without a label and protection. */
  setLabel(label: Label): void {
    this.#labels.set([label]);
  }

  /** Sets several, in one transaction. */
  setLabels(labels: readonly Label[]): void {
    this.#labels.set(labels);
  }

  /** Forgets all backups: SyncReady. Files are deleted behind it, until {@link endReset}. */
  beginReset(): void {
    this.#database.transaction(() => {
      for (const table of [...backupTables, fullCopyTable]) this.#database.orm.delete(table).run();
      this.#database.orm
        .update(volumeTable)
        .set({ state: "SyncReady", logUuid: null, archiveUuid: null, ...baseColumns(undefined), isResetting: true })
        .run();
    });
    this.#reload();
    this.#forgetAll();
  }

  endReset(): void {
    this.#update({ isResetting: false });
  }

  close(): void {
    this.#database.close();
  }

  #update(values: Partial<VolumeRow>): void {
    setVolumeRow(this.#database, values);
    this.#reload();
  }

  #change({ retired, row, ...diffs }: Change, isSynced = true): void {
    const also = (): void => {
      if (retired !== undefined) this.retiredLogs.add(retired);
      if (row !== undefined) setVolumeRow(this.#database, row);
    };
    this.#book.change(diffs, also, isSynced);
    if (row !== undefined) this.#row = { ...this.#row, ...row };
  }

  #reload(): void {
    this.#row = this.#database.orm.select().from(volumeTable).get() ?? this.#row;
    this.#base = baseOf(this.#row);
  }

  #forgetAll(): void {
    this.#book.forgetAll();
    this.#labels.forgetAll();
    this.colds.forget();
  }
}
