/** @module The diffs of a volume: a row each, all of them in memory too. Changes are parts of a transaction of the store. */
import { inArray, sql } from "drizzle-orm";
import { DiffSet } from "../snapshot/diffset.ts";
import { diffText } from "../snapshot/text.ts";
import type { DiffMeta } from "../snapshot/types.ts";
import type { VolumeDatabase } from "../volume/database.ts";
import { storedDiff } from "./rows.ts";
import { diffTable } from "./schema.ts";

/** A diff with its file. */
export interface StoredDiff {
  readonly fileName: string;
  /** `dataSizeBytes` is the size of the file. */
  readonly meta: DiffMeta;
  /** uuid of the log it came from, 32 hex digits. */
  readonly uuid: string;
  /** LB that applying it writes. */
  readonly contentLb: number;
}

/** SQLite takes so many variables in one statement, with room to spare. */
const namesPerStatement = 500;

/** Prepared once: making the statement anew takes longer than all else that a received diff does with the database. */
function prepareInsertion(orm: VolumeDatabase["orm"]) {
  const values = {
    fileName: sql.placeholder("fileName"),
    fromB: sql.placeholder("fromB"),
    fromE: sql.placeholder("fromE"),
    toB: sql.placeholder("toB"),
    toE: sql.placeholder("toE"),
    isMergeable: sql.placeholder("isMergeable"),
    isCompared: sql.placeholder("isCompared"),
    timestampS: sql.placeholder("timestampS"),
    sizeBytes: sql.placeholder("sizeBytes"),
    uuid: sql.placeholder("uuid"),
    contentLb: sql.placeholder("contentLb"),
  };
  return orm.insert(diffTable).values(values).prepare();
}

/** Their rows: `insert` and `delete` change these within a transaction, `put` and `forget` what is in memory behind it. */
export class DiffRows {
  readonly #database: VolumeDatabase;
  readonly #diffs = new Map<string, StoredDiff>();
  /** How many come from each log. */
  readonly #logs = new Map<string, number>();
  #set: DiffSet;

  constructor(database: VolumeDatabase) {
    this.#database = database;
    for (const row of database.orm.select().from(diffTable).orderBy(diffTable.fileName).all()) {
      this.#remember(storedDiff(row));
    }
    this.#set = DiffSet.from([...this.#diffs.values()].map((diff) => diff.meta));
  }

  get all(): StoredDiff[] {
    return [...this.#diffs.values()];
  }

  /** An immutable version: later changes make another one. */
  get set(): DiffSet {
    return this.#set;
  }

  /** uuids of the logs they come from. */
  get logUuids(): readonly string[] {
    return [...this.#logs.keys()];
  }

  /** Whether one of them comes from this log. */
  hasFrom(logUuid: string): boolean {
    return this.#logs.has(logUuid);
  }

  /** The one with the same ends. */
  find(meta: DiffMeta): StoredDiff | undefined {
    return this.#diffs.get(diffText(meta));
  }

  insert({ fileName, meta, uuid, contentLb }: StoredDiff): void {
    const { from, to, isMergeable, isCompared, timestampS, dataSizeBytes: sizeBytes } = meta;
    const gids = { fromB: from.gidB, fromE: from.gidE, toB: to.gidB, toE: to.gidE };
    this.#database
      .kept(prepareInsertion)
      .run({ fileName, ...gids, isMergeable, isCompared, timestampS, sizeBytes, uuid, contentLb });
  }

  delete(diffs: readonly StoredDiff[]): void {
    for (let at = 0; at < diffs.length; at += namesPerStatement) {
      const names = diffs.slice(at, at + namesPerStatement).map((diff) => diff.fileName);
      this.#database.orm.delete(diffTable).where(inArray(diffTable.fileName, names)).run();
    }
  }

  put(diff: StoredDiff): void {
    this.#set = this.#set.erase(diff.meta).add(diff.meta);
    this.#remember(diff);
  }

  forget(gone: readonly StoredDiff[]): void {
    for (const { meta } of gone) this.#drop(diffText(meta));
    this.#set = this.#set.eraseAll(gone.map((diff) => diff.meta));
  }

  /** The rows of all are gone. */
  forgetAll(): void {
    this.#set = DiffSet.empty;
    this.#diffs.clear();
    this.#logs.clear();
  }

  #remember(diff: StoredDiff): void {
    const ends = diffText(diff.meta);
    this.#drop(ends);
    this.#diffs.set(ends, diff);
    this.#logs.set(diff.uuid, (this.#logs.get(diff.uuid) ?? 0) + 1);
  }

  #drop(ends: string): void {
    const known = this.#diffs.get(ends);
    if (known === undefined) return;
    this.#diffs.delete(ends);
    const left = (this.#logs.get(known.uuid) ?? 1) - 1;
    if (left > 0) this.#logs.set(known.uuid, left);
    else this.#logs.delete(known.uuid);
  }
}
