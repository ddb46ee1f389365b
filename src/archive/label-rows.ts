/** @module What somebody said about snapshots of a volume; also about ones that have not arrived yet. */
import { eq } from "drizzle-orm";
import type { VolumeDatabase } from "../volume/database.ts";
import { labelTable } from "./schema.ts";

/** What somebody said about a snapshot. */
export interface Label {
  readonly gid: bigint;
  readonly label: string | undefined;
  readonly isProtected: boolean;
}

/** Their rows. */
export class LabelRows {
  readonly #database: VolumeDatabase;
  readonly #labels = new Map<bigint, Label>();

  constructor(database: VolumeDatabase) {
    this.#database = database;
    for (const { gid, label, isProtected } of database.orm.select().from(labelTable).all()) {
      this.#labels.set(gid, { gid, label: label ?? undefined, isProtected });
    }
  }

  /** By gid. */
  get all(): ReadonlyMap<bigint, Label> {
    return this.#labels;
  }

  /** Sets several in one transaction; nothing is said any more without a label and protection. */
  set(labels: readonly Label[]): void {
    const isEmpty = ({ label, isProtected }: Label): boolean => label === undefined && !isProtected;
    this.#database.transaction(() => {
      for (const label of labels) {
        this.#database.orm.delete(labelTable).where(eq(labelTable.gid, label.gid)).run();
        if (!isEmpty(label)) this.#database.orm.insert(labelTable).values(label).run();
      }
    });
    for (const label of labels) {
      if (isEmpty(label)) this.#labels.delete(label.gid);
      else this.#labels.set(label.gid, label);
    }
  }

  /** The rows of all are gone. */
  forgetAll(): void {
    this.#labels.clear();
  }
}
