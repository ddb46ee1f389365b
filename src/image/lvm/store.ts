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
import type { LogicalVolume, Lvm, PoolUsage } from "./lvm.ts";
import { isReserved, lvName, parseLvName } from "./names.ts";
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

  /** The first backup writes over the base image: one that is there already must be somebody's. */
  async checkNew(volume: string): Promise<void> {
    const { group } = this.#lvm.place;
    const where = { volume, field: "volume" };
    if (isReserved(volume)) {
      throw new WalbError("bad-parameter", {
        what: `LVM keeps names like ${lvName(baseImage(volume))} for itself`,
        where,
        hint: "give the volume another name",
      });
    }
    const base = lvName(baseImage(volume));
    const names = [...(await this.#lvm.names())];
    const found = names.find((name) => name === base || parseLvName(name)?.volume === volume);
    if (found === undefined) return;
    throw new WalbError("already-exists", {
      what: `the volume group ${group} has a logical volume ${found} already, which may be of another archive`,
      where,
      hint: `if it is of a volume of walb-tools, take that over: walb adopt DIR; if nobody needs it: lvremove ${group}/${found}`,
    });
  }

  async checkRemovable(volume: string): Promise<void> {
    const isMeant = (name: string): boolean => parseLvName(name)?.volume === volume;
    const open = await this.#lvm.findOpen(isMeant);
    if (open !== undefined) {
      throw new WalbError("state", {
        what: `the logical volume ${open.name} is open, e.g. mounted`,
        where: { volume, file: this.#lvm.path(open.name) },
        hint: "unmount it, or end the program that has it open: lsof, fuser, dmsetup info",
      });
    }
    const all = await this.#lvm.list();
    for (const { name } of all) if (isMeant(name)) this.#requireOwnSnapshots(name, all);
  }

  async exists(image: ImageId): Promise<boolean> {
    return (await this.#lvm.find(lvName(image))) !== undefined;
  }

  async list(volume: string): Promise<ImageId[]> {
    const roles = (await this.#lvm.list()).map(({ name }) => parseLvName(name));
    return roles.filter((role) => role?.volume === volume) as ImageId[];
  }

  async sizeBytes(image: ImageId): Promise<number> {
    return (await this.#requireThere(image)).sizeBytes;
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
    await this.#activate(image);
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
    const name = lvName(image);
    this.#requireOwnSnapshots(name, await this.#lvm.list());
    await this.#lvm.remove(name);
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
    // Of an origin without a device a classic snapshot would have none, and an active pool is checked for space.
    await this.#activate(from);
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

  /** After a reboot a group may not be active. What cannot be is shown as trouble. */
  async cleanUp(volume: string): Promise<void> {
    for (const { name, isActive } of await this.#lvm.list()) {
      const role = parseLvName(name);
      if (isActive || role?.volume !== volume || (role.kind !== "base" && role.kind !== "restored")) continue;
      await this.#lvm.activate(name).catch(() => undefined);
    }
  }

  async settle(): Promise<void> {}

  async trouble(volume: string): Promise<WalbError | undefined> {
    const usage = await this.#lvm.poolUsage();
    const pool = usage === undefined ? undefined : this.#poolTrouble(volume, usage);
    if (pool !== undefined) return pool;
    for (const lv of await this.#lvm.list()) {
      const role = parseLvName(lv.name);
      if (role?.volume !== volume) continue;
      const trouble = this.#snapshotTrouble(volume, lv);
      if (trouble !== undefined) return trouble;
      if (lv.isActive || (role.kind !== "restored" && role.kind !== "base")) continue;
      return new WalbError("state", {
        what: `the ${role.kind} image ${lv.name} has no device: it is not active`,
        where: { volume, file: this.#lvm.path(lv.name) },
        hint: `lvchange -ay -K ${this.#lvm.place.group}/${lv.name}`,
      });
    }
    return undefined;
  }

  async checkContent(image: ImageId): Promise<void> {
    await this.#require(image);
  }

  async checkWritable(volume: string): Promise<void> {
    const usage = await this.#lvm.poolUsage();
    if (usage?.isFailed === true) throw this.#poolTrouble(volume, usage);
  }

  #poolTrouble(volume: string, { dataPercent, metadataPercent, isFailed }: PoolUsage): WalbError | undefined {
    const { group, pool } = this.#lvm.place;
    const full = `data ${dataPercent} %, metadata ${metadataPercent} %`;
    if (isFailed) {
      return new WalbError("state", {
        what: `the thin pool ${group}/${pool} is read-only, ${full}: nothing can be written to images`,
        where: { volume },
        hint: `deactivate the group, then: lvextend --poolmetadatasize +SIZE ${group}/${pool}; lvconvert --repair ${group}/${pool}`,
      });
    }
    if (Math.max(dataPercent, metadataPercent) < fullPercent) return undefined;
    return new WalbError("state", {
      what: `the thin pool ${group}/${pool} is nearly full: ${full}; full, it takes no backups any more`,
      where: { volume },
      hint: `grow it: lvextend --size +SIZE ${group}/${pool}, or --poolmetadatasize +SIZE; or remove restored images`,
    });
  }

  /** A classic snapshot loses its content when it is full. */
  #snapshotTrouble(volume: string, lv: LogicalVolume): WalbError | undefined {
    const { name, origin, isInvalid, usedPercent = 0 } = lv;
    if (origin === undefined || this.#isThin || (!isInvalid && usedPercent < fullPercent)) return undefined;
    return new WalbError("state", {
      what: isInvalid
        ? `the restored image ${name} was overwritten beyond its size and has lost its content`
        : `the restored image ${name} has ${usedPercent} % of what may be overwritten behind it; at 100 % it loses its content`,
      where: { volume, file: this.#lvm.path(name) },
      hint: isInvalid
        ? "restore the point again, with --overwrite, or remove it; a thin pool has no such limit"
        : `grow it: lvextend --size +SIZE ${this.#lvm.place.group}/${name}, or remove it when it is not needed; an apply writes to its origin, too`,
    });
  }

  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return this.#lvm.space();
  }

  async #activate(image: ImageId): Promise<void> {
    if ((await this.#disk.info(this.pathOf(image))) !== undefined) return;
    await this.#require(image);
    await this.#lvm.activate(lvName(image));
  }

  /** With a classic volume LVM removes its snapshots without a word. */
  #requireOwnSnapshots(name: string, all: readonly LogicalVolume[]): void {
    if (this.#isThin) return;
    const others = all.filter((lv) => lv.origin === name && parseLvName(lv.name) === undefined);
    if (others.length === 0) return;
    throw new WalbError("state", {
      what: `${name} has snapshots that are none of the archive's and would go with it: ${others.map((lv) => lv.name).join(", ")}`,
      where: { file: this.#lvm.path(name) },
      hint: `remove them first when nobody needs them: lvremove ${this.#lvm.place.group}/${others[0]?.name}`,
    });
  }

  async #requireThere(image: ImageId): Promise<LogicalVolume> {
    const found = await this.#lvm.find(lvName(image));
    if (found !== undefined) return found;
    throw new WalbError("not-found", {
      what: `the ${image.kind} image is missing: there is no such logical volume`,
      where: { volume: image.volume, file: this.pathOf(image) },
      hint: `see what is known of it: walb status ${image.volume}; lvs ${this.#lvm.place.group}`,
    });
  }

  async #require(image: ImageId): Promise<LogicalVolume> {
    const found = await this.#requireThere(image);
    if (found.isInvalid) {
      throw new WalbError("damaged", {
        what: "the snapshot was overwritten beyond its size and has lost its content",
        where: { volume: image.volume, file: this.pathOf(image) },
        hint: "restore the point again, with --overwrite; a thin pool has no such limit",
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
