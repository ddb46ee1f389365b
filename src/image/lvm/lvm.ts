/**
 * @module The commands of LVM that an archive needs: those of the original, one call each, their output checked.
 *
 * The volume group is the truth, and an administrator may work on it too: what was listed is believed for a second only,
 * so that a start asks once for all volumes.
 */
import { asWalbError, type ErrorCode, WalbError } from "../../errors.ts";
import type { Clock } from "../../platform/clock.ts";
import type { CommandResult, Commands } from "../../platform/commands.ts";
import { alignUp, lbBytes } from "../../units.ts";

/** Where the logical volumes are. */
export interface LvmPlace {
  readonly group: string;
  /** Thin pool; undefined for classic volumes. */
  readonly pool: string | undefined;
}

/** A logical volume. */
export interface LogicalVolume {
  readonly name: string;
  readonly sizeBytes: number;
  /** Name of the volume it is a snapshot of. */
  readonly origin: string | undefined;
  /** Thin pool it is in. */
  readonly pool: string | undefined;
  readonly isReadOnly: boolean;
  /** A classic snapshot that was overwritten beyond its size: its content is lost. */
  readonly isInvalid: boolean;
  /** It has a device. */
  readonly isActive: boolean;
  /** Somebody has its device open: a file system that is mounted, a program. */
  readonly isOpen: boolean;
  /** How full it is: a classic snapshot of what was overwritten since; undefined where LVM does not say. */
  readonly usedPercent: number | undefined;
}

/** State of a thin pool. */
export interface PoolUsage {
  readonly dataPercent: number;
  readonly metadataPercent: number;
  /** Nothing can be allocated until it is repaired. */
  readonly isFailed: boolean;
}

interface LvRow extends LogicalVolume {
  readonly attributes: string;
  readonly metadataPercent: number | undefined;
}

/** What LVM says of all volumes; `atMs` is missing until it has answered. */
interface Listed {
  atMs: number | undefined;
  readonly rows: Promise<LvRow[]>;
}

/** Space of a volume group and, for thin volumes, of their pool. */
export interface LvmSpace {
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** Size of an extent, to which every size is rounded up. */
  readonly extentBytes: number;
}

/** A classic snapshot gets this share of its origin for what is written over it, as in the original. */
const classicSnapshotPercent = 120;
/**
 * How long a command is tried again that fails because somebody (udev) has the device open for a moment. LVM itself waits
 * up to 5 s each time.
 */
const busyMs = 5_000;
const busyDelayMs = 200;
/** How long a list is believed. */
const listMs = 1_000;

/** Parses a place: `VG` or `VG/POOL`. @throws WalbError `bad-parameter`. */
export function parseLvmPlace(text: string): LvmPlace {
  const match = /^([0-9A-Za-z+_.][0-9A-Za-z+_.-]*)(?:\/([0-9A-Za-z+_.][0-9A-Za-z+_.-]*))?$/.exec(text);
  if (match?.[1] === undefined || text.length > 256) {
    throw new WalbError("bad-parameter", {
      what: `"${text.slice(0, 80)}" names no volume group`,
      where: { field: "images" },
      hint: "say --images lvm:VG for classic volumes, or --images lvm:VG/POOL for thin ones",
    });
  }
  return { group: match[1], pool: match[2] };
}

/** LVM on one volume group. */
export class Lvm {
  readonly place: LvmPlace;
  readonly #commands: Commands;
  readonly #clock: Clock;
  readonly #lockPath: string | undefined;
  #listed: Listed | undefined;
  #asked: Promise<LvmSpace> | undefined;

  /** @param lockPath file that is locked while a command changes the group; see `predecessor.ts`. */
  constructor(place: LvmPlace, commands: Commands, clock: Clock, lockPath?: string) {
    this.place = place;
    this.#commands = commands;
    this.#clock = clock;
    this.#lockPath = lockPath;
  }

  /** Path of a volume's device. */
  path(name: string): string {
    return `/dev/${this.place.group}/${name}`;
  }

  /** Checks that the group, and the pool, are there. @throws WalbError `not-found`. */
  async check(): Promise<void> {
    const { group, pool } = this.place;
    await this.space();
    if (pool === undefined) return;
    const found = (await this.#lvs(`${group}/${pool}`, true))[0];
    if (found === undefined || !found.attributes.startsWith("t")) {
      throw new WalbError("not-found", {
        what: `${group}/${pool} is not a thin pool`,
        where: { field: "images" },
        hint: `make it: lvcreate --type thin-pool --size SIZE --name ${pool} ${group}; or use classic volumes: --images lvm:${group}`,
      });
    }
    if (found.attributes[7] !== "z") {
      throw new WalbError("state", {
        what: `the thin pool ${group}/${pool} does not zero its new blocks: images would have in them what others deleted`,
        where: { field: "images" },
        hint: `let it zero them: lvchange --zero y ${group}/${pool}`,
      });
    }
  }

  /** All volumes of the group; with a pool only those in it, without one only those that are not thin. */
  async list(): Promise<LogicalVolume[]> {
    const { pool } = this.place;
    const rows = await this.#all();
    const sizes = new Map(rows.map(({ name, sizeBytes }) => [name, sizeBytes]));
    // LVM tells how much room a classic snapshot has for what is overwritten; its device is as large as its origin.
    const asSeen = (row: LvRow): LvRow => ({ ...row, sizeBytes: sizes.get(row.origin ?? row.name) ?? row.sizeBytes });
    // Classic ones may be in the pool of a cache.
    if (pool === undefined) return rows.filter(({ attributes }) => !/^[tV]/.test(attributes)).map(asSeen);
    return rows.filter((row) => row.attributes.startsWith("V") && row.pool === pool);
  }

  /** The first of some volumes that is open for longer than udev would have it. */
  async findOpen(isMeant: (name: string) => boolean): Promise<LogicalVolume | undefined> {
    const endMs = this.#clock.monotonicMs() + busyMs;
    for (;;) {
      // What was listed before may have been open to us.
      this.#listed = undefined;
      const found = (await this.list()).find((volume) => volume.isOpen && isMeant(volume.name));
      if (found === undefined || this.#clock.monotonicMs() >= endMs) return found;
      await this.#clock.sleep(busyDelayMs);
    }
  }

  /** Names of all volumes of the group, whatever their kind. */
  async names(): Promise<ReadonlySet<string>> {
    return new Set((await this.#all()).map(({ name }) => name));
  }

  /** How full the thin pool is; undefined without one, or where LVM does not say. */
  async poolUsage(): Promise<PoolUsage | undefined> {
    const { pool } = this.place;
    const row = pool === undefined ? undefined : (await this.#all()).find(({ name }) => name === pool);
    if (row === undefined || (row.usedPercent === undefined && row.attributes[8] !== "F")) return undefined;
    const isFailed = row.attributes[8] === "M" || row.attributes[8] === "F";
    return { dataPercent: row.usedPercent ?? 0, metadataPercent: row.metadataPercent ?? 0, isFailed };
  }

  /** Whoever asks while LVM has not answered gets the same answer: when it hangs, questions do not pile up. */
  #all(): Promise<LvRow[]> {
    const known = this.#listed;
    const isFresh = known?.atMs === undefined || this.#clock.monotonicMs() - known.atMs < listMs;
    if (known !== undefined && isFresh) return known.rows;
    const listed: Listed = { atMs: undefined, rows: this.#lvs(this.place.group, false) };
    this.#listed = listed;
    listed.rows.then(
      () => {
        listed.atMs = this.#clock.monotonicMs();
      },
      () => {
        if (this.#listed === listed) this.#listed = undefined;
      },
    );
    return listed.rows;
  }

  /** One volume; undefined when it is not there. */
  async find(name: string): Promise<LogicalVolume | undefined> {
    return (await this.list()).find((volume) => volume.name === name);
  }

  /** Free space of the group, or of the thin pool. */
  space(): Promise<LvmSpace> {
    this.#asked ??= this.#space().finally(() => {
      this.#asked = undefined;
    });
    return this.#asked;
  }

  async #space(): Promise<LvmSpace> {
    const { group, pool } = this.place;
    const args = ["--options=vg_free,vg_size,vg_extent_size", "--separator=,", "--noheadings"];
    const [row] = rowsOf(await this.#run(["vgs", "--units=b", "--nosuffix", ...args, group]), 3);
    if (row === undefined) throw badOutput("vgs", "no line");
    const vg = { freeBytes: bytesOf(row[0]), totalBytes: bytesOf(row[1]), extentBytes: bytesOf(row[2]) };
    if (pool === undefined) return vg;
    const options = ["--options=lv_size,data_percent", "--separator=,", "--noheadings"];
    const [usage] = rowsOf(await this.#run(["lvs", "--units=b", "--nosuffix", ...options, `${group}/${pool}`]), 2);
    if (usage === undefined) throw badOutput("lvs", "no line");
    const totalBytes = bytesOf(usage[0]);
    const usedPercent = Number(usage[1] === "" ? "0" : usage[1]);
    if (!(usedPercent >= 0 && usedPercent <= 100)) throw badOutput("lvs", `data_percent ${usage[1]}`);
    return { freeBytes: Math.floor(totalBytes * (1 - usedPercent / 100)), totalBytes, extentBytes: vg.extentBytes };
  }

  /** Makes a volume; a classic one has whatever was on its extents before. */
  async create(name: string, sizeBytes: number): Promise<void> {
    const { group, pool } = this.place;
    const where =
      pool === undefined
        ? [`--size=${sizeBytes}b`, "--wipesignatures=n", "--zero=n", group]
        : [`--thinpool=${group}/${pool}`, `--virtualsize=${sizeBytes}b`];
    await this.#change(["lvcreate", `--name=${name}`, ...where]);
  }

  /** Makes a snapshot that can be used at once; a thin one takes no space at first. */
  async snapshot(origin: string, name: string, access: "read" | "write"): Promise<void> {
    const { group, pool } = this.place;
    const common = [`--name=${name}`, `--permission=${access === "read" ? "r" : "rw"}`, `${group}/${origin}`];
    if (pool !== undefined) {
      await this.#change(["lvcreate", "-s", "-k", "n", ...common]);
      return;
    }
    const found = await this.find(origin);
    if (found === undefined) throw this.#missing(origin);
    const sizeBytes = alignUp(Math.ceil((found.sizeBytes / 100) * classicSnapshotPercent), lbBytes);
    await this.#change(["lvcreate", "-s", `--size=${sizeBytes}b`, ...common]);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#retried(["lvrename", this.place.group, from, to]);
  }

  /** Removes a volume, a classic one with its snapshots; fine when it is not there. */
  async remove(name: string): Promise<void> {
    if ((await this.find(name)) === undefined) return;
    try {
      await this.#retried(["lvremove", "-f", `${this.place.group}/${name}`]);
    } catch (error) {
      // Somebody else was faster.
      if (asWalbError(error).code !== "not-found" || (await this.find(name)) !== undefined) throw error;
    }
  }

  async resize(name: string, sizeBytes: number): Promise<void> {
    await this.#change(["lvresize", "-f", `--size=${sizeBytes}b`, `${this.place.group}/${name}`]);
  }

  async setWritable(name: string): Promise<void> {
    await this.#change(["lvchange", "--permission=rw", `${this.place.group}/${name}`]);
  }

  async setReadOnly(name: string): Promise<void> {
    await this.#change(["lvchange", "--permission=r", `${this.place.group}/${name}`]);
  }

  /** Makes the device of a volume appear; of a classic snapshot that of its origin, too. */
  async activate(name: string): Promise<void> {
    await this.#change(["lvchange", "-ay", "-K", "--yes", `${this.place.group}/${name}`]);
  }

  async #lvs(what: string, isMissingFine: boolean): Promise<LvRow[]> {
    const options = "--options=lv_name,origin,lv_size,vg_name,pool_lv,lv_attr,data_percent,metadata_percent";
    const argv = ["lvs", "--units=b", "--nosuffix", options, "--separator=,", "--noheadings", "--unbuffered", what];
    const result = await this.#commands.run(argv);
    if (result.exitCode !== 0 && isMissingFine) return [];
    return rowsOf(succeeded(argv, result), 8).map(([name, origin, size, , poolName, attributes, data, metadata]) => ({
      name: name ?? "",
      sizeBytes: bytesOf(size),
      origin: origin === "" ? undefined : origin,
      pool: poolName === "" ? undefined : poolName,
      isReadOnly: attributes?.[1] === "r" || attributes?.[1] === "R",
      isInvalid: attributes?.[4] === "I" || attributes?.[4] === "S",
      isActive: attributes?.[4] !== "-",
      isOpen: attributes?.[5] === "o",
      usedPercent: percentOf(data),
      metadataPercent: percentOf(metadata),
      attributes: attributes ?? "",
    }));
  }

  async #run(argv: readonly string[]): Promise<string> {
    return succeeded(argv, await this.#commands.run(argv));
  }

  /** Runs a command that changes the group. */
  async #change(argv: readonly string[]): Promise<void> {
    succeeded(argv, await this.#changing(argv));
  }

  /** Killed in the middle it would leave devices suspended: who uses them would wait for ever. */
  async #changing(argv: readonly string[]): Promise<CommandResult> {
    try {
      const lock = this.#lockPath === undefined ? {} : { keepsLocked: this.#lockPath };
      return await this.#commands.run(argv, { ending: "ask", ...lock });
    } finally {
      this.#listed = undefined;
    }
  }

  /** Runs a command again while the device is open elsewhere, for as long as udev may take. */
  async #retried(argv: readonly string[]): Promise<void> {
    const endMs = this.#clock.monotonicMs() + busyMs;
    for (;;) {
      const result = await this.#changing(argv);
      if (result.exitCode === 0 || !isBusy(result.stderr) || this.#clock.monotonicMs() >= endMs) {
        succeeded(argv, result);
        return;
      }
      await this.#clock.sleep(busyDelayMs);
    }
  }

  #missing(name: string): WalbError {
    return new WalbError("not-found", {
      what: `the logical volume ${name} is missing`,
      where: { file: this.path(name) },
      hint: `look at the volume group: lvs ${this.place.group}`,
    });
  }
}

function isBusy(stderr: string): boolean {
  return /in use|is used|busy|contains a filesystem/i.test(stderr);
}

function succeeded(argv: readonly string[], result: CommandResult): string {
  if (result.exitCode === 0) return result.stdout;
  const said = result.stderr.trim().split("\n").slice(-3).join("; ") || `it exited with ${result.exitCode}`;
  const { code, hint } = kindOf(said);
  throw new WalbError(code, {
    what: `${argv[0]} failed: ${said.slice(0, 1000)}`,
    where: { step: argv.join(" ").slice(0, 300) },
    hint,
  });
}

function kindOf(said: string): { readonly code: ErrorCode; readonly hint: string } {
  if (/read.only metadata/i.test(said)) {
    return {
      code: "read-only",
      hint: "the metadata of the thin pool is full or damaged: deactivate the group, then lvextend --poolmetadatasize, lvconvert --repair",
    };
  }
  if (/insufficient (free|suitable)|not enough|no space|reached threshold/i.test(said)) {
    return {
      code: "no-space",
      hint: "add a physical volume (vgextend), grow the thin pool (lvextend, with --poolmetadatasize when its metadata is full), or remove restored images",
    };
  }
  if (isBusy(said)) {
    return { code: "state", hint: "unmount it, or end the program that has it open: lsof, fuser, dmsetup info" };
  }
  const code = /not found|failed to find/i.test(said) ? "not-found" : "io";
  return { code, hint: "run the command by hand on the archive's host to see more" };
}

/** Rows of a table with commas. Names of LVM have none. */
function rowsOf(text: string, columns: number): string[][] {
  const rows = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .map((line) => line.split(","));
  const wrong = rows.find((row) => row.length !== columns);
  if (wrong !== undefined) throw badOutput("LVM", `${wrong.join(",").slice(0, 100)} has not ${columns} columns`);
  return rows;
}

function bytesOf(text: string | undefined): number {
  if (text === undefined || !/^\d{1,16}$/.test(text)) throw badOutput("LVM", `"${text}" is not a size in bytes`);
  return Number(text);
}

/** Undefined for nothing, and for what LVM says of volumes that it cannot look into. */
function percentOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,3}(\.\d+)?$/.test(text) ? Number(text) : undefined;
}

function badOutput(program: string, what: string): WalbError {
  return new WalbError("bad-format", { what: `${program} answered what cannot be understood: ${what}` });
}
