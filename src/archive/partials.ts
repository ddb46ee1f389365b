/**
 * @module Incomplete files of restores: a row before the file is made, gone when the file has its name or is removed, so
 * that none stays for ever when the daemon is killed.
 */
import { dirname } from "node:path";
import { eq } from "drizzle-orm";
import { isUnwritable } from "../errors.ts";
import type { VolumeDatabase } from "../volume/database.ts";
import { partialTable } from "./schema.ts";
import type { ArchiveVolume } from "./volume.ts";

/** Their rows. */
export class Partials {
  readonly #database: VolumeDatabase;

  constructor(database: VolumeDatabase) {
    this.#database = database;
  }

  get paths(): string[] {
    const rows = this.#database.orm.select().from(partialTable).all();
    return rows.map(({ path }) => path);
  }

  /** Remembers a path, where the disk takes that: a restore from an archive whose disk is full must be possible. */
  tryAdd(path: string): void {
    try {
      this.#add(path);
    } catch (error) {
      if (!isUnwritable(error)) throw error;
    }
  }

  /** Forgets a path; what cannot be forgotten now is at the next start. */
  tryDelete(path: string): void {
    try {
      this.delete(path);
    } catch (error) {
      if (!isUnwritable(error)) throw error;
    }
  }

  #add(path: string): void {
    this.#database.orm.insert(partialTable).values({ path }).onConflictDoNothing().run();
  }

  delete(path: string): void {
    this.#database.orm.delete(partialTable).where(eq(partialTable.path, path)).run();
  }
}

/** Removes what restores left that were running when the daemon was killed. */
export async function removePartials(volume: ArchiveVolume): Promise<void> {
  for (const path of volume.store.partials.paths) {
    volume.log.warn("a restore was lost when the daemon ended; it must be repeated", { file: path });
    await removePartial(volume, path);
  }
}

/** Removes an incomplete file. A failure costs only space until the next start, which tries again. */
export async function removePartial(volume: ArchiveVolume, path: string): Promise<void> {
  const { disk } = volume.platform;
  try {
    if ((await disk.info(path))?.kind === "file") {
      await disk.remove(path);
      await disk.syncDirectory(dirname(path));
    }
    volume.store.partials.delete(path);
  } catch (error) {
    volume.log.warn("an incomplete restore could not be removed", { file: path, error });
  }
}
