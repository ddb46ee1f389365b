/**
 * @module What a proxy volume remembers: its state, its archives, the diffs it holds and who still needs each of them.
 * Every change is one durable transaction; reads are served from memory.
 */
import { and, eq, inArray } from "drizzle-orm";
import { WalbError } from "../errors.ts";
import type { Databases } from "../platform/database.ts";
import { openVolumeDatabase, type VolumeDatabase, volumeDatabaseName } from "../volume/database.ts";
import { archiveTable, deliveryTable, diffTable, migrations, volumeTable } from "./schema.ts";

/** States that are kept across restarts. */
export type SteadyState = "Stopped" | "Started";
/** Where diffs go. */
export type ArchiveRow = typeof archiveTable.$inferSelect;
/** A diff that is held, with its id. */
export type DiffRow = typeof diffTable.$inferSelect;
/** A diff that was just received. */
export type NewDiff = Omit<DiffRow, "id">;

/** SQLite takes so many variables in one statement, with room to spare. */
const idsPerStatement = 500;

/** The metadata of one proxy volume. */
export class ProxyStore {
  readonly #database: VolumeDatabase;
  #state: SteadyState;
  #sizeLb: number;
  #lastReceivedMs: number | undefined;
  readonly #archives = new Map<string, ArchiveRow>();
  readonly #diffs = new Map<number, DiffRow>();
  /** Ids by log and range. */
  readonly #ids = new Map<string, number>();
  /** Per archive the ids of the diffs that wait, ascending (order of reception). */
  readonly #pending = new Map<string, number[]>();

  private constructor(database: VolumeDatabase, volume: string) {
    this.#database = database;
    const row = database.orm.select().from(volumeTable).get();
    if (row === undefined) {
      throw new WalbError("damaged", {
        what: "the volume's database has no volume in it",
        where: { volume },
        hint: damageHint(volume),
      });
    }
    this.#state = row.state;
    this.#sizeLb = row.sizeLb;
    this.#lastReceivedMs = row.lastReceivedMs ?? undefined;
    for (const archive of database.orm.select().from(archiveTable).all()) {
      this.#archives.set(archive.name, archive);
      this.#pending.set(archive.name, []);
    }
    for (const diff of database.orm.select().from(diffTable).all()) this.#remember(diff);
    for (const { archiveName, diffId } of database.orm.select().from(deliveryTable).all()) {
      this.#pending.get(archiveName)?.push(diffId);
    }
    for (const ids of this.#pending.values()) ids.sort((a, b) => a - b);
  }

  /** Opens the store of a volume directory; a new one is made in state Stopped. */
  static open(databases: Databases, directory: string, volume: string, isNew: boolean): ProxyStore {
    const database = openVolumeDatabase(
      databases,
      `${directory}/${volumeDatabaseName}`,
      migrations,
      damageHint(volume),
    );
    try {
      if (isNew) {
        database.orm.insert(volumeTable).values({ id: 1, state: "Stopped", sizeLb: 0 }).onConflictDoNothing().run();
      }
      return new ProxyStore(database, volume);
    } catch (error) {
      database.close();
      throw error;
    }
  }

  get state(): SteadyState {
    return this.#state;
  }

  get sizeLb(): number {
    return this.#sizeLb;
  }

  get lastReceivedMs(): number | undefined {
    return this.#lastReceivedMs;
  }

  get archives(): ArchiveRow[] {
    return [...this.#archives.values()];
  }

  archive(name: string): ArchiveRow | undefined {
    return this.#archives.get(name);
  }

  /** All diffs that are held. */
  get diffs(): DiffRow[] {
    return [...this.#diffs.values()];
  }

  /** The diff of the same log and range, when it is held. */
  find(diff: Pick<DiffRow, "uuid" | "fromGid" | "toGid">): DiffRow | undefined {
    const id = this.#ids.get(keyOf(diff));
    return id === undefined ? undefined : this.#diffs.get(id);
  }

  /** Diffs that an archive has not acknowledged, in order of reception. */
  pending(archiveName: string): DiffRow[] {
    return (this.#pending.get(archiveName) ?? []).flatMap((id) => this.#diffs.get(id) ?? []);
  }

  /** True when no archive waits for anything. */
  get isEmpty(): boolean {
    return this.#diffs.size === 0;
  }

  setState(state: SteadyState): void {
    this.#database.orm.update(volumeTable).set({ state }).run();
    this.#state = state;
  }

  setSize(sizeLb: number): void {
    this.#database.orm.update(volumeTable).set({ sizeLb }).run();
    this.#sizeLb = sizeLb;
  }

  /** Adds an archive or changes a known one. */
  putArchive(archive: ArchiveRow): void {
    this.#database.orm
      .insert(archiveTable)
      .values(archive)
      .onConflictDoUpdate({ target: archiveTable.name, set: archive })
      .run();
    this.#archives.set(archive.name, archive);
    if (!this.#pending.has(archive.name)) this.#pending.set(archive.name, []);
  }

  /** Removes an archive with its deliveries. @returns diffs that nobody needs any more; their rows are gone. */
  removeArchive(name: string): DiffRow[] {
    const ids = this.#pending.get(name) ?? [];
    const orphans = this.#orphansWithout(name, ids);
    this.#database.transaction(() => {
      this.#database.orm.delete(archiveTable).where(eq(archiveTable.name, name)).run();
      this.#deleteDiffRows(orphans);
    });
    this.#archives.delete(name);
    this.#pending.delete(name);
    for (const orphan of orphans) this.#forgetRow(orphan.id);
    return orphans;
  }

  /**
   * Registers a diff for every archive. One of the same log and range is replaced (its file, when the name differs, is
   * returned for removal): the storage had no Ack for it and sent it again.
   */
  addDiff(diff: NewDiff, sizeLb: number): { readonly replaced: DiffRow | undefined } {
    const replaced = this.find(diff);
    const sizeLbMax = Math.max(sizeLb, this.#sizeLb);
    const row = this.#database.transaction(() => {
      if (replaced !== undefined) this.#deleteDiffRows([replaced]);
      this.#database.orm.update(volumeTable).set({ sizeLb: sizeLbMax, lastReceivedMs: diff.receivedMs }).run();
      if (this.#archives.size === 0) return undefined;
      const inserted = this.#database.orm
        .insert(diffTable)
        .values(diff as DiffRow)
        .returning()
        .get();
      for (const archiveName of this.#archives.keys()) {
        this.#database.orm.insert(deliveryTable).values({ diffId: inserted.id, archiveName }).run();
      }
      return inserted;
    });
    if (replaced !== undefined) this.#forget(replaced.id);
    if (row !== undefined) {
      this.#remember(row);
      for (const ids of this.#pending.values()) ids.push(row.id);
    }
    this.#sizeLb = sizeLbMax;
    this.#lastReceivedMs = diff.receivedMs;
    return { replaced: replaced?.fileName === diff.fileName ? undefined : replaced };
  }

  /** A log that was held already came again. */
  noteReceived(receivedMs: number, sizeLb: number): void {
    const sizeLbMax = Math.max(sizeLb, this.#sizeLb);
    this.#database.orm.update(volumeTable).set({ sizeLb: sizeLbMax, lastReceivedMs: receivedMs }).run();
    this.#sizeLb = sizeLbMax;
    this.#lastReceivedMs = receivedMs;
  }

  /** An archive has (or will never take) these diffs. @returns diffs that nobody needs any more; their rows are gone. */
  removeDeliveries(archiveName: string, ids: readonly number[]): DiffRow[] {
    const orphans = this.#orphansWithout(archiveName, ids);
    this.#database.transaction(() => {
      for (let at = 0; at < ids.length; at += idsPerStatement) {
        const some = ids.slice(at, at + idsPerStatement);
        this.#database.orm
          .delete(deliveryTable)
          .where(and(eq(deliveryTable.archiveName, archiveName), inArray(deliveryTable.diffId, some)))
          .run();
      }
      this.#deleteDiffRows(orphans);
    });
    const gone = new Set(ids);
    const kept = (this.#pending.get(archiveName) ?? []).filter((id) => !gone.has(id));
    if (this.#pending.has(archiveName)) this.#pending.set(archiveName, kept);
    for (const orphan of orphans) this.#forgetRow(orphan.id);
    return orphans;
  }

  /** Forgets a diff whose file is gone. */
  dropDiff(diff: DiffRow): void {
    this.#database.transaction(() => this.#deleteDiffRows([diff]));
    this.#forget(diff.id);
  }

  close(): void {
    this.#database.close();
  }

  #remember(diff: DiffRow): void {
    this.#diffs.set(diff.id, diff);
    this.#ids.set(keyOf(diff), diff.id);
  }

  #forgetRow(id: number): void {
    const diff = this.#diffs.get(id);
    if (diff !== undefined && this.#ids.get(keyOf(diff)) === id) this.#ids.delete(keyOf(diff));
    this.#diffs.delete(id);
  }

  #forget(id: number): void {
    this.#forgetRow(id);
    for (const [name, ids] of this.#pending) {
      this.#pending.set(
        name,
        ids.filter((known) => known !== id),
      );
    }
  }

  /** Of these diffs, those that only this archive waits for. */
  #orphansWithout(archiveName: string, ids: readonly number[]): DiffRow[] {
    const needed = new Set<number>();
    for (const [name, pending] of this.#pending) if (name !== archiveName) for (const id of pending) needed.add(id);
    return ids.flatMap((id) => (needed.has(id) ? [] : (this.#diffs.get(id) ?? [])));
  }

  #deleteDiffRows(diffs: readonly DiffRow[]): void {
    for (let at = 0; at < diffs.length; at += idsPerStatement) {
      const some = diffs.slice(at, at + idsPerStatement).map((diff) => diff.id);
      this.#database.orm.delete(diffTable).where(inArray(diffTable.id, some)).run();
    }
  }
}

/** The diffs beside the database say all that matters of themselves. */
function damageHint(volume: string): string {
  return (
    `move the file ${volumeDatabaseName} aside, start the proxy again, then: walb init ${volume} --device NAME; ` +
    "the diffs beside it are taken over and sent"
  );
}

function keyOf(diff: Pick<DiffRow, "uuid" | "fromGid" | "toGid">): string {
  return `${diff.uuid} ${diff.fromGid} ${diff.toGid}`;
}
