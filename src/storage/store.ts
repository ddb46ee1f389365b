/** @module What a storage volume remembers: state, device, delivered point, pending snapshots. Every write is durable. */
import { asc, lte } from "drizzle-orm";
import { type DeviceReference, deviceReferenceSchema } from "../control/storage.ts";
import { WalbError } from "../errors.ts";
import type { Databases } from "../platform/database.ts";
import type { LogPoint } from "../snapshot/split.ts";
import { openVolumeDatabase, type VolumeDatabase, volumeDatabaseName } from "../volume/database.ts";
import { migrations, queueTable, volumeTable } from "./schema.ts";

/** States that are kept across restarts. */
export type SteadyState = "SyncReady" | "Stopped" | "Target" | "Standby";

/** The metadata of one storage volume. Reads are served from memory. */
export class StorageStore {
  readonly #database: VolumeDatabase;
  #state: SteadyState;
  #logUuid: string | undefined;
  #done: LogPoint | undefined;
  #queue: LogPoint[];
  #gidMax: bigint;
  #cutPb: number | undefined;
  #positionMax: number;
  #device: DeviceReference;

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
    this.#logUuid = row.logUuid ?? undefined;
    this.#gidMax = row.gidMax;
    this.#cutPb = row.cutPb ?? undefined;
    this.#device = deviceReferenceSchema.parse(JSON.parse(row.device));
    this.#done =
      row.doneLsid === null || row.doneGid === null
        ? undefined
        : {
            lsid: row.doneLsid,
            gid: row.doneGid,
            isMergeable: row.doneIsMergeable ?? false,
            timestampS: row.doneTimestampS ?? 0,
          };
    const rows = database.orm.select().from(queueTable).orderBy(asc(queueTable.position)).all();
    this.#positionMax = rows.at(-1)?.position ?? 0;
    this.#queue = rows.map(({ lsid, gid, isMergeable, timestampS }) => ({
      lsid,
      gid,
      isMergeable,
      timestampS,
    }));
  }

  /** Opens the store of a volume directory. */
  static open(databases: Databases, directory: string, volume: string): StorageStore {
    const path = `${directory}/${volumeDatabaseName}`;
    const database = openVolumeDatabase(databases, path, migrations, damageHint(volume));
    try {
      return new StorageStore(database, volume);
    } catch (error) {
      database.close();
      throw error;
    }
  }

  /** Makes the store of a new volume in state SyncReady. */
  static create(databases: Databases, directory: string, volume: string, device: DeviceReference): StorageStore {
    const database = openVolumeDatabase(databases, `${directory}/${volumeDatabaseName}`, migrations);
    database.transaction(() => {
      database.orm.delete(queueTable).run();
      database.orm.delete(volumeTable).run();
      database.orm
        .insert(volumeTable)
        .values({ id: 1, state: "SyncReady", device: JSON.stringify(device), gidMax: 0n })
        .run();
    });
    return new StorageStore(database, volume);
  }

  /** Makes the store of a volume that comes from elsewhere, in one transaction. @param points oldest first. */
  static adopt(
    databases: Databases,
    directory: string,
    volume: string,
    known: {
      readonly device: DeviceReference;
      readonly state: SteadyState;
      readonly logUuid: string | undefined;
      readonly done: LogPoint | undefined;
      readonly queue: readonly LogPoint[];
    },
  ): StorageStore {
    const database = openVolumeDatabase(databases, `${directory}/${volumeDatabaseName}`, migrations);
    try {
      const { device, state, logUuid, done, queue } = known;
      const gidMax = [done?.gid ?? 0n, ...queue.map(({ gid }) => gid)].reduce((a, b) => (a > b ? a : b));
      database.transaction(() => {
        database.orm
          .insert(volumeTable)
          .values({
            id: 1,
            state,
            device: JSON.stringify(device),
            logUuid: logUuid ?? null,
            gidMax,
            ...(done === undefined ? {} : doneColumns(done)),
          })
          .run();
        for (const [i, point] of queue.entries()) {
          database.orm
            .insert(queueTable)
            .values({ position: i + 1, ...point })
            .run();
        }
      });
      return new StorageStore(database, volume);
    } catch (error) {
      database.close();
      throw error;
    }
  }

  get device(): DeviceReference {
    return this.#device;
  }

  setDevice(device: DeviceReference): void {
    this.#database.orm
      .update(volumeTable)
      .set({ device: JSON.stringify(device) })
      .run();
    this.#device = device;
  }

  get state(): SteadyState {
    return this.#state;
  }

  /** uuid of the log since the last reset, 32 hex digits; undefined before the first. */
  get logUuid(): string | undefined {
    return this.#logUuid;
  }

  /** Log below is delivered; undefined before the first reset. */
  get done(): LogPoint | undefined {
    return this.#done;
  }

  /** Snapshots not delivered yet, oldest first. */
  get queue(): readonly LogPoint[] {
    return this.#queue;
  }

  /** Largest gid ever given out. */
  get gidMax(): bigint {
    return this.#gidMax;
  }

  /** The smallest gid that was never given out, over all resets. */
  get unusedGid(): bigint {
    return this.#gidMax === 0n ? 0n : this.#gidMax + 1n;
  }

  /**
   * Limit in PB of a cut that may have arrived though its Ack did not. The next transfer from `done` must use the same
   * one: a cut takes the gid behind `done`, and one gid may not stand for two positions of the log.
   */
  get cutPb(): number | undefined {
    return this.#cutPb;
  }

  /** Remembers the limit of a cut before it is tried; undefined when no cut can have been made with it. */
  setCutPb(cutPb: number | undefined): void {
    if (cutPb === this.#cutPb) return;
    this.#database.orm
      .update(volumeTable)
      .set({ cutPb: cutPb ?? null })
      .run();
    this.#cutPb = cutPb;
  }

  setState(state: SteadyState): void {
    this.#database.orm.update(volumeTable).set({ state }).run();
    this.#state = state;
  }

  /** A fresh log: nothing pending, delivered up to lsid 0 with the gid given. */
  reset(logUuid: string, gid: bigint, timestampS: number): void {
    const done: LogPoint = { lsid: 0, gid, isMergeable: false, timestampS };
    const gidMax = gid > this.#gidMax ? gid : this.#gidMax;
    this.#database.transaction(() => {
      this.#database.orm.delete(queueTable).run();
      this.#database.orm
        .update(volumeTable)
        .set({ state: "SyncReady", logUuid, gidMax, cutPb: null, ...doneColumns(done) })
        .run();
    });
    this.#state = "SyncReady";
    this.#logUuid = logUuid;
    this.#gidMax = gidMax;
    this.#done = done;
    this.#cutPb = undefined;
    this.#queue = [];
  }

  /** Adds the newest snapshot. */
  push(point: LogPoint): void {
    const position = this.#positionMax + 1;
    const gidMax = point.gid > this.#gidMax ? point.gid : this.#gidMax;
    this.#database.transaction(() => {
      this.#database.orm
        .insert(queueTable)
        .values({ position, ...point })
        .run();
      this.#database.orm.update(volumeTable).set({ gidMax }).run();
    });
    this.#positionMax = position;
    this.#queue = [...this.#queue, point];
    this.#gidMax = gidMax;
  }

  /** The log up to `done` is delivered: drops the snapshots it covers in the same transaction. */
  setDone(done: LogPoint, remaining: readonly LogPoint[]): void {
    this.#database.transaction(() => {
      this.#database.orm
        .update(volumeTable)
        .set({ cutPb: null, ...doneColumns(done) })
        .run();
      this.#dropExcept(remaining);
    });
    this.#done = done;
    this.#cutPb = undefined;
    this.#queue = [...remaining];
  }

  /** Drops delivered snapshots. */
  setQueue(remaining: readonly LogPoint[]): void {
    this.#database.transaction(() => this.#dropExcept(remaining));
    this.#queue = [...remaining];
  }

  close(): void {
    this.#database.close();
  }

  /** The queue only shrinks from its oldest end, so what remains is a suffix. */
  #dropExcept(remaining: readonly LogPoint[]): void {
    const rows = this.#database.orm.select().from(queueTable).orderBy(asc(queueTable.position)).all();
    const dropCount = rows.length - remaining.length;
    if (dropCount <= 0) return;
    this.#database.orm
      .delete(queueTable)
      .where(lte(queueTable.position, rows[dropCount - 1]!.position))
      .run();
  }
}

/** Where the log was delivered up to is nowhere else: only a comparison with the archive can tell what is missing. */
function damageHint(volume: string): string {
  return (
    `move the file ${volumeDatabaseName} aside, start the storage again, then: walb init ${volume} --device NAME; ` +
    `walb backup ${volume}. It compares with what the archive has; nothing at the archive is lost`
  );
}

function doneColumns(done: LogPoint) {
  return {
    doneLsid: done.lsid,
    doneGid: done.gid,
    doneIsMergeable: done.isMergeable,
    doneTimestampS: done.timestampS,
  };
}
