/** @module Diffs that a volume has lost, until they are back or do not matter any more. */
import { eq } from "drizzle-orm";
import type { VolumeDatabase } from "../volume/database.ts";
import { lossTable } from "./schema.ts";

/** A diff that is lost. */
export type Loss = typeof lossTable.$inferSelect;

/** Their rows: `insert` and `delete` change these within a transaction, `put` and `forget` what is in memory behind it. */
export class Losses {
  readonly #database: VolumeDatabase;
  readonly #losses = new Map<string, Loss>();

  constructor(database: VolumeDatabase) {
    this.#database = database;
    for (const loss of database.orm.select().from(lossTable).all()) this.put(loss);
  }

  get all(): Loss[] {
    return [...this.#losses.values()];
  }

  has(fileName: string): boolean {
    return this.#losses.has(fileName);
  }

  insert(loss: Loss): void {
    this.#database.orm
      .insert(lossTable)
      .values(loss)
      .onConflictDoUpdate({ target: lossTable.fileName, set: loss })
      .run();
  }

  delete(fileNames: readonly string[]): void {
    for (const name of fileNames) this.#database.orm.delete(lossTable).where(eq(lossTable.fileName, name)).run();
  }

  put(loss: Loss): void {
    this.#losses.set(loss.fileName, loss);
  }

  forget(fileNames: readonly string[]): void {
    for (const name of fileNames) this.#losses.delete(name);
  }

  /** The rows of all are gone. */
  forgetAll(): void {
    this.#losses.clear();
  }
}
