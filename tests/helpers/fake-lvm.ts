/**
 * @module LVM in miniature, for tests without a device mapper: the commands walb uses, with their output and failures,
 * over ordinary files in place of devices. Its table survives what happens to the archive and changes in one step, as
 * real metadata does; the files have names that never change.
 */
import { WalbError } from "../../src/errors.ts";
import type { CommandResult, Commands } from "../../src/platform/commands.ts";
import type { Disk } from "../../src/platform/disk.ts";

interface FakeVolume {
  readonly file: string;
  /** What LVM says: of a classic snapshot the room for what is overwritten. */
  sizeBytes: number;
  origin: string;
  isReadOnly: boolean;
  /** What LVM says of a classic snapshot. */
  usedPercent?: number;
  /** A classic snapshot that was full. */
  isInvalid?: boolean;
  /** Without a device, as after a reboot. */
  isInactive?: boolean;
  /** Mounted, say. */
  isOpen?: boolean;
}

const extentBytes = 4 * 1024 * 1024;

/** A volume group with, maybe, a thin pool in it. */
export class FakeLvm {
  readonly group: string;
  readonly pool: string | undefined;
  /** Directory of the files in the place of devices. */
  readonly root: string;
  readonly totalBytes: number;
  readonly volumes = new Map<string, FakeVolume>();
  /** All that was run, e.g. "lvrename vg a b". */
  readonly history: string[] = [];
  /** Data and metadata of the pool, as LVM says. */
  poolPercents: readonly [string, string] = ["0.00", "10.00"];
  /** Files that a command keeps locked, though the daemon that began it is gone. */
  readonly locked = new Set<string>();
  /** The pool takes no changes of its metadata any more. */
  isPoolFailed = false;
  #count = 0;
  /** Answers a command in the place of LVM; undefined lets it run. */
  intercept: ((argv: readonly string[]) => CommandResult | Promise<CommandResult> | undefined) | undefined;

  readonly #scribble: ((disk: Disk, file: string, sizeBytes: number) => Promise<void>) | undefined;

  /** @param options.scribble writes what a classic volume has had before. */
  constructor(options: {
    group?: string;
    pool?: string;
    root: string;
    totalBytes?: number;
    scribble?: (disk: Disk, file: string, sizeBytes: number) => Promise<void>;
  }) {
    this.group = options.group ?? "vg";
    this.pool = options.pool;
    this.root = options.root;
    this.totalBytes = options.totalBytes ?? 1024 * extentBytes;
    this.#scribble = options.scribble;
  }

  /** The commands as a host with this disk has them. */
  commands(disk: Disk): Commands {
    return {
      run: async (argv, options) => {
        this.history.push(argv.join(" "));
        if (options?.keepsLocked !== undefined) {
          await (await disk.open(options.keepsLocked, { mode: "createOrOpen" })).close();
        }
        const answer = await this.intercept?.(argv);
        if (answer !== undefined) return answer;
        try {
          return { exitCode: 0, stdout: await this.#run(disk, argv), stderr: "" };
        } catch (error) {
          if (!(error instanceof Refusal)) throw error;
          return { exitCode: 5, stdout: "", stderr: `  ${error.message}\n` };
        }
      },
    };
  }

  /** A disk that has the volumes as devices: `/dev/VG/NAME`. */
  disk(disk: Disk): Disk {
    const mapped = (path: string): string => {
      const name = path.startsWith(`/dev/${this.group}/`) ? path.slice(`/dev/${this.group}/`.length) : undefined;
      const volume = name === undefined ? undefined : this.volumes.get(name);
      return volume === undefined || volume.isInactive === true ? path : volume.file;
    };
    const overrides: Partial<Disk> = {
      open: async (path, options) => {
        if (options.lock === true && this.locked.has(path))
          throw new WalbError("locked", { what: `${path} is locked` });
        return disk.open(mapped(path), options);
      },
      info: (path) => disk.info(mapped(path)),
    };
    return new Proxy(disk, {
      get(target, key) {
        const override = overrides[key as keyof Disk];
        if (override !== undefined) return override;
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }

  /** File with the content of a volume. */
  fileOf(name: string): string {
    return this.volumes.get(name)!.file;
  }

  get names(): string[] {
    return [...this.volumes.keys()].toSorted();
  }

  async #run(disk: Disk, argv: readonly string[]): Promise<string> {
    const [program = "", ...rest] = argv;
    const options = new Map<string, string>();
    const words: string[] = [];
    for (let i = 0; i < rest.length; i++) {
      const word = rest[i]!;
      if (word === "-k") options.set("-k", rest[++i]!);
      else if (word.startsWith("--")) options.set(word.split("=")[0]!, word.slice(word.indexOf("=") + 1));
      else if (word.startsWith("-")) options.set(word, "");
      else words.push(word);
    }
    const nameOf = (word: string | undefined): string => {
      const [group, name] = (word ?? "").split("/");
      if (group !== this.group) throw new Refusal(`Volume group "${group}" not found`);
      return name ?? "";
    };
    switch (program) {
      case "vgs":
        nameOf(words[0]);
        return `  ${this.#freeBytes()},${this.totalBytes},${extentBytes}\n`;
      case "lvs":
        return this.#lvs(nameOf(words[0]), options.get("--options") ?? "");
      case "lvcreate":
        return this.#create(disk, options, words, nameOf);
      case "lvrename": {
        const [, from = "", to = ""] = words;
        const volume = this.#volume(from);
        if (this.volumes.has(to)) throw new Refusal(`Logical Volume "${to}" already exists in volume group`);
        this.volumes.delete(from);
        this.volumes.set(to, volume);
        for (const other of this.volumes.values()) if (other.origin === from) other.origin = to;
        return "";
      }
      case "lvremove": {
        const name = nameOf(words[0]);
        this.#volume(name);
        // Snapshots of a classic origin go with it.
        const snapshots = [...this.volumes].filter(([, volume]) => volume.origin === name);
        const gone = [name, ...(this.pool === undefined ? snapshots.map(([other]) => other) : [])];
        const open = gone.find((each) => this.#volume(each).isOpen === true);
        if (open !== undefined) throw new Refusal(`Logical volume ${this.group}/${open} in use.`);
        const files = gone.map((each) => this.fileOf(each));
        for (const each of gone) this.volumes.delete(each);
        for (const [, other] of snapshots) other.origin = "";
        for (const file of files) await disk.remove(file);
        return "";
      }
      case "lvresize": {
        const name = nameOf(words[0]);
        const volume = this.#volume(name);
        if (this.pool === undefined && [...this.volumes.values()].some(({ origin }) => origin === name)) {
          throw new Refusal("Snapshot origin volumes can be resized only while inactive: try lvchange -an.");
        }
        const sizeBytes = roundUp(Number.parseInt(options.get("--size")!, 10));
        if (this.pool === undefined) this.#require(sizeBytes - volume.sizeBytes);
        await this.#resizeFile(disk, volume.file, sizeBytes);
        volume.sizeBytes = sizeBytes;
        return "";
      }
      case "lvchange":
        if (options.has("-ay")) this.#activate(nameOf(words[0]), options.has("--yes"));
        else this.#volume(nameOf(words[0])).isReadOnly = options.get("--permission") === "r";
        return "";
      default:
        throw new Refusal(`${program}: no such command`);
    }
  }

  #lvs(name: string, columns: string): string {
    if (columns === "lv_size,data_percent") {
      if (name !== this.pool) throw new Refusal(`Failed to find logical volume "${this.group}/${name}"`);
      return `  ${this.totalBytes},0.00\n`;
    }
    const row = (each: string, volume: FakeVolume): string => {
      const isThin = this.pool !== undefined;
      const kind = isThin ? "V" : volume.origin !== "" ? "s" : "-";
      const state = volume.isInvalid === true ? "I" : volume.isInactive === true ? "-" : "a";
      const attributes = `${kind}${volume.isReadOnly ? "r" : "w"}i-${state}${volume.isOpen === true ? "o" : "-"}----`;
      return `  ${[each, volume.origin, volume.sizeBytes, this.group, this.pool ?? "", attributes, volume.usedPercent ?? "", ""].join(",")}\n`;
    };
    const pool =
      this.pool === undefined
        ? ""
        : `  ${this.pool},,${this.totalBytes},${this.group},,twi-aotz${this.isPoolFailed ? "M" : "-"}-,${this.poolPercents.join(",")}\n`;
    if (name === "") return pool + [...this.volumes].map(([each, volume]) => row(each, volume)).join("");
    if (name === this.pool) return pool;
    return row(name, this.#volume(name));
  }

  async #create(
    disk: Disk,
    options: ReadonlyMap<string, string>,
    words: readonly string[],
    nameOf: (word: string | undefined) => string,
  ): Promise<string> {
    const name = options.get("--name")!;
    if (this.volumes.has(name)) throw new Refusal(`Logical Volume "${name}" already exists in volume group "vg"`);
    await disk.makeDirectory(this.root);
    const file = `${this.root}/lv-${this.#count++}`;
    if (options.has("-s")) {
      const from = nameOf(words[0]);
      const origin = this.#volume(from);
      const sizeBytes =
        this.pool === undefined ? roundUp(Number.parseInt(options.get("--size")!, 10)) : origin.sizeBytes;
      if (this.pool === undefined) this.#require(sizeBytes);
      await disk.cloneFile(origin.file, file);
      const isReadOnly = options.get("--permission") === "r";
      const { isInactive = false } = origin;
      // A classic snapshot is active with its origin only.
      this.volumes.set(name, {
        ...{ file, sizeBytes, origin: from, isReadOnly },
        isInactive: isInactive && this.pool === undefined,
      });
      return "";
    }
    if (this.pool === undefined) nameOf(words[0]);
    const sizeBytes = roundUp(Number.parseInt(options.get("--virtualsize") ?? options.get("--size")!, 10));
    if (this.pool === undefined) this.#require(sizeBytes);
    await this.#resizeFile(disk, file, sizeBytes);
    // A classic volume has what was on its extents before.
    if (this.pool === undefined) await this.#scribble?.(disk, file, sizeBytes);
    this.volumes.set(name, { file, sizeBytes, origin: "", isReadOnly: false });
    return "";
  }

  /** Classic snapshots and their origin are active together, which LVM asks about first. */
  #activate(name: string, isAnswered: boolean): void {
    const { origin } = this.#volume(name);
    const isWith = (other: string, volume: FakeVolume): boolean =>
      other === name || (this.pool === undefined && origin !== "" && (other === origin || volume.origin === origin));
    const together = [...this.volumes].filter(([other, volume]) => isWith(other, volume));
    if (together.length > 1 && !isAnswered) {
      throw new Refusal(`Change of snapshot ${this.group}/${name} will also change its origin. Proceed? [y/n]: [n]`);
    }
    for (const [, volume] of together) volume.isInactive = false;
  }

  async #resizeFile(disk: Disk, path: string, sizeBytes: number): Promise<void> {
    const file = await disk.open(path, { mode: "createOrOpen" });
    try {
      await file.truncate(sizeBytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await disk.syncDirectory(this.root);
  }

  #volume(name: string): FakeVolume {
    const volume = this.volumes.get(name);
    if (volume === undefined) throw new Refusal(`Failed to find logical volume "${this.group}/${name}"`);
    return volume;
  }

  #freeBytes(): number {
    if (this.pool !== undefined) return 0;
    return this.totalBytes - [...this.volumes.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  #require(bytes: number): void {
    if (bytes <= this.#freeBytes()) return;
    throw new Refusal(`Volume group "${this.group}" has insufficient free space`);
  }
}

class Refusal extends Error {}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / extentBytes) * extentBytes;
}
