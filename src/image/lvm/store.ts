/**
 * @module Images as logical volumes, under the original's names: classic ones with classic snapshots, or thin ones, whose
 * snapshots share what they have in common.
 */
import { WalbError } from "../../errors.ts";
import type { MemoryPool } from "../../native/memory.ts";
import type { Disk, DiskFile, FileCopyOptions } from "../../platform/disk.ts";
import { gib, lbBytes } from "../../units.ts";
import type { CloneMethod, EmptyContent, ImageId, ImageStore } from "../image.ts";
import { baseImage } from "../image.ts";
import type { LogicalVolume, Lvm } from "./lvm.ts";
import { lvName, parseLvName } from "./names.ts";
import { copyToSparseFile } from "./sparse-copy.ts";

/** Longest range zeroed by one call. */
const zeroBytesMax = gib;

/** From here on snapshots and pools are told to be nearly full. */
const fullPercent = 90;

/** What the images need. */
export interface LvmImageParts {
  readonly disk: Disk;
  readonly memory: MemoryPool;
  readonly lvm: Lvm;
}

/** Images in a volume group. @throws WalbError `not-found` when the group or the pool is missing. */
export async function openLvmImageStore(parts: LvmImageParts): Promise<ImageStore> {
  await parts.lvm.check();
  return new LvmImageStore(parts);
}

class LvmImageStore implements ImageStore {
  readonly kind: string;
  readonly #disk: Disk;
  readonly #memory: MemoryPool;
  readonly #lvm: Lvm;

  constructor({ disk, memory, lvm }: LvmImageParts) {
    this.#disk = disk;
    this.#memory = memory;
    this.#lvm = lvm;
    const { group, pool } = lvm.place;
    this.kind = pool === undefined ? `lvm:${group}` : `lvm:${group}/${pool}`;
  }

  get #isThin(): boolean {
    return this.#lvm.place.pool !== undefined;
  }

  pathOf(image: ImageId): string {
    return this.#lvm.path(lvName(image));
  }

  async exists(image: ImageId): Promise<boolean> {
    return (await this.#lvm.find(lvName(image))) !== undefined;
  }

  async list(volume: string): Promise<ImageId[]> {
    const roles = (await this.#lvm.list()).map(({ name }) => parseLvName(name));
    return roles.filter((role) => role?.volume === volume) as ImageId[];
  }

  async sizeBytes(image: ImageId): Promise<number> {
    return (await this.#require(image)).sizeBytes;
  }

  async createEmpty(volume: string, sizeBytes: number): Promise<EmptyContent> {
    const image = baseImage(volume);
    const name = lvName(image);
    const found = await this.#lvm.find(name);
    if (this.#isThin) {
      // A new thin volume reads as zeroes, and gives back what the old one had.
      if (found !== undefined) await this.#lvm.remove(name);
      await this.#lvm.create(name, sizeBytes);
      return "zeroes";
    }
    if (found === undefined) await this.#lvm.create(name, sizeBytes);
    else if (found.sizeBytes < sizeBytes) await this.#resize(found, sizeBytes);
    // Zeroing terabytes would keep the sender waiting for longer than it does; but the volume may grow into its rest.
    await this.#zero(image, sizeBytes, (await this.#require(image)).sizeBytes);
    return "anything";
  }

  async grow(image: ImageId, sizeBytes: number): Promise<void> {
    const found = await this.#require(image);
    if (sizeBytes <= found.sizeBytes) return;
    await this.#resize(found, sizeBytes);
    if (this.#isThin) return;
    await this.#zero(image, found.sizeBytes, (await this.#require(image)).sizeBytes);
  }

  async open(image: ImageId, use: "read" | "write" | "overlay"): Promise<DiskFile> {
    const mode = use === "overlay" ? "write" : use;
    const path = this.pathOf(image);
    if ((await this.#disk.info(path)) === undefined) {
      await this.#require(image);
      // After a reboot a group may not be active yet.
      await this.#lvm.activate(lvName(image));
    }
    const direct = await this.#disk.open(path, { mode, direct: true });
    if (lbBytes % direct.alignmentBytes === 0) return direct;
    await direct.close();
    return this.#disk.open(path, { mode });
  }

  /** Classic volumes have all their space; that of thin ones is the pool's, which nobody can reserve. */
  async missingBytes(): Promise<number> {
    return 0;
  }

  async remove(image: ImageId): Promise<void> {
    await this.#lvm.remove(lvName(image));
  }

  async rename(from: ImageId, to: ImageId): Promise<void> {
    await this.#lvm.rename(lvName(from), lvName(to));
    if (to.kind !== "promoting" && to.kind !== "base") return;
    if ((await this.#require(to)).isReadOnly) await this.#lvm.setWritable(lvName(to));
  }

  async clone(
    from: ImageId,
    to: ImageId,
    options: { readonly sizeBytes: number; readonly isReadOnly?: boolean },
  ): Promise<CloneMethod> {
    const origin = await this.#require(from);
    const name = lvName(to);
    const isGrown = origin.sizeBytes < options.sizeBytes;
    if (isGrown && !this.#isThin) await this.grow(from, options.sizeBytes);
    const isReadOnly = options.isReadOnly ?? false;
    await this.#lvm.snapshot(lvName(from), name, isReadOnly && !(isGrown && this.#isThin) ? "read" : "write");
    if (isGrown && this.#isThin) {
      await this.#lvm.resize(name, options.sizeBytes);
      if (isReadOnly) await this.#lvm.setReadOnly(name);
    }
    return "snapshot";
  }

  async hasCheapClones(): Promise<boolean> {
    return this.#isThin;
  }

  async cloneToFile(image: ImageId, path: string, options: FileCopyOptions): Promise<"copy"> {
    const from = await this.open(image, "read");
    try {
      await copyToSparseFile({ disk: this.#disk, memory: this.#memory, from, path, ...options });
    } finally {
      await from.close();
    }
    return "copy";
  }

  async cleanUp(): Promise<void> {}

  async settle(): Promise<void> {}

  async trouble(volume: string): Promise<WalbError | undefined> {
    const { group, pool } = this.#lvm.place;
    const usage = await this.#lvm.poolUsage();
    if (usage !== undefined && Math.max(usage.dataPercent, usage.metadataPercent) >= fullPercent) {
      return new WalbError("state", {
        what: `the thin pool ${group}/${pool} is nearly full: data ${usage.dataPercent} %, metadata ${usage.metadataPercent} %; full, it takes no backups any more`,
        where: { volume },
        hint: `grow it: lvextend --size +SIZE ${group}/${pool}, or --poolmetadatasize +SIZE; or remove restored images`,
      });
    }
    for (const lv of await this.#lvm.list()) {
      if (lv.origin === undefined || this.#isThin || parseLvName(lv.name)?.volume !== volume) continue;
      const { usedPercent = 0 } = lv;
      if (!lv.isInvalid && usedPercent < fullPercent) continue;
      return new WalbError("state", {
        what: lv.isInvalid
          ? `the restored image ${lv.name} was overwritten beyond its size and has lost its content`
          : `the restored image ${lv.name} has ${usedPercent} % of what may be overwritten behind it; at 100 % it loses its content`,
        where: { volume, file: this.#lvm.path(lv.name) },
        hint: lv.isInvalid
          ? "remove it and restore the point again; a thin pool has no such limit"
          : `grow it: lvextend --size +SIZE ${group}/${lv.name}, or remove it when it is not needed; an apply writes to its origin, too`,
      });
    }
    return undefined;
  }

  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return this.#lvm.space();
  }

  async #require(image: ImageId): Promise<LogicalVolume> {
    const found = await this.#lvm.find(lvName(image));
    const where = { volume: image.volume, file: this.pathOf(image) };
    if (found === undefined) {
      throw new WalbError("not-found", {
        what: `the ${image.kind} image is missing: there is no such logical volume`,
        where,
        ...(image.kind === "base" ? { hint: `take a backup first: walb backup ${image.volume}` } : {}),
      });
    }
    if (found.isInvalid) {
      throw new WalbError("damaged", {
        what: "the snapshot was overwritten beyond its size and has lost its content",
        where,
        hint: `remove it and restore the point again; a thin pool has no such limit`,
      });
    }
    return found;
  }

  async #resize(found: LogicalVolume, sizeBytes: number): Promise<void> {
    const snapshots = (await this.#lvm.list()).filter(({ origin }) => origin === found.name);
    if (!this.#isThin && snapshots.length > 0) {
      throw new WalbError("state", {
        what: `a classic logical volume cannot grow while it has snapshots: ${snapshots.map(({ name }) => name).join(", ")}`,
        where: { file: this.#lvm.path(found.name) },
        hint: "remove the restored images first, or keep images in a thin pool",
      });
    }
    await this.#lvm.resize(found.name, sizeBytes);
  }

  async #zero(image: ImageId, fromBytes: number, toBytes: number): Promise<void> {
    if (fromBytes >= toBytes) return;
    const file = await this.open(image, "write");
    try {
      for (let at = fromBytes; at < toBytes; at += zeroBytesMax) {
        await file.zero(at, Math.min(zeroBytesMax, toBytes - at));
      }
      await file.sync();
    } finally {
      await file.close();
    }
  }
}
