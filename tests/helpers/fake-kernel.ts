/**
 * @module A walb driver of the tests: ioctl and sysfs as the driver's description says, quirks included, over files that
 * play the block devices. It reads the structures by offsets of its own. Behind it a write-ahead engine keeps the log.
 */
import { openEngine, type WriteAheadEngine } from "../../src/device/user/engine.ts";
import { WalbError } from "../../src/errors.ts";
import { readSuperblock, writeSuperblock } from "../../src/log/format.ts";
import type { Disk, DiskFile, OpenOptions } from "../../src/platform/disk.ts";
import type { DeviceNumber, IoctlAnswer, IoctlBuffer, Kernel } from "../../src/platform/kernel.ts";
import type { Platform } from "../../src/platform/platform.ts";

const EBUSY = 16;
const EFAULT = 14;
const ENOTTY = 25;

/** A file that plays a block device. */
interface FakeBlock extends DeviceNumber {
  readonly node: string;
  readonly file: string;
  readonly pbsBytes: number;
}

interface FakeDevice {
  name: string;
  readonly minor: number;
  readonly log: FakeBlock;
  readonly data: FakeBlock;
  readonly engine: WriteAheadEngine;
  readonly param: Uint8Array;
  checkpointIntervalMs: number;
  /** Somebody has it open. */
  isOpen: boolean;
  isReadOnly: boolean;
  isOverflow: boolean;
  /** Its data device hangs: nothing more is written to it, as far as it tells. */
  isHanging: boolean;
  readonly pollers: Set<() => void>;
  unwatch: () => void;
}

/** See the module. `platform` is the given one with this driver in it. */
export class FakeKernel implements Kernel {
  readonly platform: Platform;
  readonly major = 250;
  version = [1, 5, 1] as const;
  isLoaded = true;
  /** Every ioctl: command or "VERSION". */
  readonly calls: string[] = [];
  /** How the driver's own nodes were opened. */
  readonly opened: { readonly path: string; readonly direct: boolean | undefined }[] = [];
  private readonly blocks: FakeBlock[] = [];
  private readonly devices = new Map<number, FakeDevice>();

  constructor(private readonly real: Platform) {
    this.platform = { ...real, kernel: this, disk: this.mappedDisk(real.disk) };
  }

  /** Makes a file a block device. */
  addBlock(node: string, file: string, options: { pbsBytes?: number } = {}): void {
    const number = { major: 8, minor: this.blocks.length };
    this.blocks.push({ node, file, ...number, pbsBytes: options.pbsBytes ?? 512 });
  }

  device(name: string): FakeDevice {
    const device = [...this.devices.values()].find((candidate) => candidate.name === name);
    if (device === undefined) throw new Error(`the fake driver has no ${name}`);
    return device;
  }

  /** Writes blocks of one value through the wrapper device. */
  async write(name: string, offsetLb: number, sizeLb: number, value: number): Promise<void> {
    await this.writeBytes(name, offsetLb, new Uint8Array(sizeLb * 512).fill(value));
  }

  /** Writes through the wrapper device, durably. */
  async writeBytes(name: string, offsetLb: number, bytes: Uint8Array): Promise<void> {
    const { engine, isReadOnly } = this.device(name);
    if (isReadOnly) throw new Error("EIO");
    const lease = await this.real.memory.lease(Math.ceil(bytes.length / 4096) * 4096);
    lease.bytes.set(bytes);
    await new Promise<void>((resolve, reject) => {
      engine.write(offsetLb * 512, bytes.length, lease, true, (error) =>
        error === undefined ? resolve() : reject(error),
      );
    });
  }

  async close(): Promise<void> {
    for (const device of [...this.devices.values()]) await this.stop(device);
  }

  async ioctl(
    path: string,
    request: number,
    argument: Uint8Array,
    buffers: readonly IoctlBuffer[] = [],
  ): Promise<IoctlAnswer> {
    const control = path === "/dev/walb/control";
    const device = control ? undefined : this.deviceOf(path);
    const isLogView = !control && device === undefined && this.isLogView(path);
    if (!this.isLoaded || (!control && device === undefined && !isLogView)) {
      throw new WalbError("not-found", { what: "open failed", where: { file: path } });
    }
    const answer = {
      errno: 0,
      argument: argument.slice(),
      buffers: buffers.map(({ bytes }) => bytes.slice()),
    };
    if (isLogView) return { ...answer, errno: ENOTTY };
    const view = new DataView(answer.argument.buffer);
    if (request === 0x8004fe00) {
      this.calls.push("VERSION");
      const [major, minor, patch] = this.version;
      view.setUint32(0, (major << 16) | (minor << 8) | patch, true);
      return answer;
    }
    if (request !== (control ? 0xc078fe01 : 0xc078fe02)) return { ...answer, errno: ENOTTY };
    if (argument.length !== 120) throw new Error(`the control structure has ${argument.length} bytes`);
    const given: { in?: Uint8Array; out?: Uint8Array } = {};
    for (const [side, at] of [
      ["in", 24],
      ["out", 72],
    ] as const) {
      const size = Number(view.getBigUint64(at + 24, true));
      if (size > 4096) throw new Error("the driver would free a buffer wrongly");
      const index = buffers.findIndex(({ pointerOffset }) => pointerOffset === at + 32);
      if (size === 0) continue;
      if (index < 0 || buffers[index]!.bytes.length !== size) return { ...answer, errno: EFAULT };
      given[side] = answer.buffers[index]!;
    }
    const command = view.getInt32(0, true);
    this.calls.push(String(command));
    const errno = control
      ? await this.control(command, view, given)
      : await this.wdev(command, view, device!).catch(() => EFAULT);
    return { ...answer, errno };
  }

  async readAttribute(path: string): Promise<string | undefined> {
    const block = /^\/sys\/dev\/block\/(\d+):(\d+)\/(\S+)$/.exec(path);
    if (block !== null) return await this.blockAttribute(Number(block[1]), Number(block[2]), block[3]!);
    const match = /^\/sys\/block\/walb!([^/]+)\/(?:walb\/)?(\w+)$/.exec(path);
    if (match === null || !this.isLoaded) return undefined;
    const device = [...this.devices.values()].find(({ name }) => name === match[1]);
    return device === undefined ? undefined : this.attribute(device, match[2]!);
  }

  async listAttributes(path: string): Promise<string[]> {
    if (path !== "/sys/block") return [];
    return [...this.devices.values()]
      .flatMap(({ name }) => [`walb!${name}`, `walb!L${name}`])
      .concat(["sda"])
      .sort();
  }

  watchAttribute(path: string, changed: () => void): (() => void) | undefined {
    const name = /^\/sys\/block\/walb!([^/]+)\/walb\/lsids$/.exec(path)?.[1];
    const device = [...this.devices.values()].find((candidate) => candidate.name === name);
    if (device === undefined) return undefined;
    device.pollers.add(changed);
    return () => device.pollers.delete(changed);
  }

  async deviceNumber(path: string): Promise<DeviceNumber | undefined> {
    const device = this.deviceOf(path);
    if (device !== undefined) return { major: this.major, minor: device.minor };
    const found = this.blocks.find(({ node }) => node === path);
    return found === undefined ? undefined : { major: found.major, minor: found.minor };
  }

  private deviceOf(path: string): FakeDevice | undefined {
    return [...this.devices.values()].find(({ name }) => path === `/dev/walb/${name}`);
  }

  private isLogView(path: string): boolean {
    return [...this.devices.values()].some(({ name }) => path === `/dev/walb/L${name}`);
  }

  private async control(
    command: number,
    view: DataView,
    given: { in?: Uint8Array; out?: Uint8Array },
  ): Promise<number> {
    switch (command) {
      case 1:
        return await this.start(view, given);
      case 2: {
        const device = this.devices.get(view.getUint32(24 + 4, true));
        const isForced = view.getInt32(4, true) !== 0;
        if (device === undefined || view.getUint32(24, true) !== this.major) {
          view.setInt32(20, -1, true);
          return EFAULT;
        }
        if (device.isOpen && !isForced) {
          view.setInt32(20, -2, true);
          return EBUSY;
        }
        await this.stop(device);
        return 0;
      }
      case 3:
        view.setUint32(72, this.major, true);
        return 0;
      case 4: {
        if (given.in?.length !== 8 || given.out === undefined) return EFAULT;
        const range = new DataView(given.in.buffer, given.in.byteOffset, 8);
        const [first, end] = [range.getUint32(0, true), range.getUint32(4, true)];
        if (first >= end) return EFAULT;
        const found = [...this.devices.values()]
          .filter(({ minor }) => minor >= first)
          .sort((a, b) => a.minor - b.minor);
        const out = new DataView(given.out.buffer, given.out.byteOffset, given.out.length);
        let count = 0;
        for (const { name, minor } of found) {
          if ((count + 1) * 40 > given.out.length) break;
          given.out.set(new TextEncoder().encode(`walb/${name}`), count * 40);
          out.setUint32(count * 40 + 32, this.major, true);
          out.setUint32(count * 40 + 36, minor, true);
          count += 1;
          // The last one returned may lie past the end.
          if (minor >= end) break;
        }
        view.setInt32(4, count, true);
        return 0;
      }
      case 5:
        view.setInt32(4, this.devices.size, true);
        return 0;
      default:
        return ENOTTY;
    }
  }

  private async start(view: DataView, given: { in?: Uint8Array; out?: Uint8Array }): Promise<number> {
    const fail = (error: number): number => {
      view.setInt32(20, error, true);
      return EFAULT;
    };
    if (given.in?.length !== 64) return fail(-1);
    if (given.out?.length !== 64) return fail(-2);
    const param = new DataView(given.in.buffer, given.in.byteOffset, 64);
    const field = (index: number): number => param.getUint32(32 + 4 * index, true);
    const nameEnd = given.in.subarray(0, 32).indexOf(0);
    const isValid =
      nameEnd >= 0 &&
      field(0) >= 2 &&
      field(0) <= 16384 &&
      field(1) >= 1 &&
      field(1) < field(0) &&
      field(2) >= 1 &&
      2 * field(5) <= field(0) &&
      field(6) >= 1 &&
      field(7) >= 1;
    if (!isValid) return fail(-3);
    const at = (place: number): FakeBlock | undefined =>
      this.blocks.find(
        ({ major, minor }) => major === view.getUint32(place, true) && minor === view.getUint32(place + 4, true),
      );
    const [log, data] = [at(24 + 8), at(24 + 16)];
    const taken = [...this.devices.values()];
    if (taken.some((device) => device.log === log)) return fail(-4);
    if (taken.some((device) => device.data === data)) return fail(-5);
    if (log === undefined || data === undefined) return fail(-6);
    const wanted = view.getUint32(24 + 4, true);
    let minor = wanted === 0xffffffff ? 0 : wanted;
    while (wanted === 0xffffffff && this.devices.has(minor)) minor += 2;
    if (minor % 2 !== 0 || this.devices.has(minor)) return EFAULT;
    const asked = new TextDecoder().decode(given.in.slice(0, nameEnd));
    try {
      const name = await this.nameInto(log, data, asked, minor);
      if (name === undefined) return fail(-6);
      if (taken.some((device) => device.name === name)) return fail(-7);
      const options = { name, logPath: log.file, dataPath: data.file, overflow: "keep-writing" } as const;
      const engine = await openEngine(this.real, { ...options, checkpointIntervalMs: 500 });
      const device: FakeDevice = {
        name,
        minor,
        log,
        data,
        engine,
        param: given.in.slice(),
        checkpointIntervalMs: 10_000,
        isOpen: false,
        isReadOnly: false,
        isOverflow: false,
        isHanging: false,
        pollers: new Set(),
        unwatch: () => undefined,
      };
      device.unwatch = this.notify(device);
      this.devices.set(minor, device);
      given.out.set(given.in);
      given.out.fill(0, 0, 32);
      given.out.set(new TextEncoder().encode(name));
      view.setUint32(72, this.major, true);
      view.setUint32(76, minor, true);
      return 0;
    } catch {
      return fail(-6);
    }
  }

  /** The name goes into the superblock, even when the start fails later. undefined: not to be started. */
  private async nameInto(log: FakeBlock, data: FakeBlock, asked: string, minor: number): Promise<string | undefined> {
    const file = await this.real.disk.open(log.file, { mode: "write", lock: true });
    const lease = await this.real.memory.lease(4096);
    try {
      const superblock = await readSuperblock(file, this.real.memory);
      const isSameSize = superblock.pbsBytes === log.pbsBytes && log.pbsBytes === data.pbsBytes;
      if (!isSameSize || superblock.deviceSizeLb > (await this.sizeLb(data))) return undefined;
      const name = asked !== "" ? asked : superblock.name !== "" ? superblock.name : String(minor / 2);
      await writeSuperblock(file, lease, { ...superblock, name });
      return name;
    } finally {
      lease.release();
      await file.close();
    }
  }

  private async stop(device: FakeDevice): Promise<void> {
    device.unwatch();
    device.engine.melt();
    this.devices.delete(device.minor);
    await device.engine.close();
    for (const poller of device.pollers) poller();
  }

  /** Tells pollers only when permanent advances while it was equal to oldest. */
  private notify(device: FakeDevice): () => void {
    let before = device.engine.deviceStatus().lsids;
    before = { ...before };
    return device.engine.watch(() => {
      const now = { ...device.engine.deviceStatus().lsids };
      const isFirst = now.permanent > before.permanent && before.permanent === before.oldest;
      before = now;
      if (isFirst) for (const poller of device.pollers) poller();
    });
  }

  private async wdev(command: number, view: DataView, device: FakeDevice): Promise<number> {
    const { engine } = device;
    const { lsids } = engine.deviceStatus();
    const isOverflow = device.isOverflow || engine.deviceStatus().isOverflow;
    const putU64 = (value: number): number => {
      view.setBigUint64(8, BigInt(value), true);
      return 0;
    };
    const putInt = (value: number): number => {
      view.setInt32(4, value, true);
      return 0;
    };
    const refuseWhen = (condition: boolean): void => {
      if (condition) throw new Error("refused");
    };
    const valU64 = Number(view.getBigUint64(8, true));
    const valU32 = view.getUint32(16, true);
    switch (command) {
      case 6:
        return putU64(lsids.oldest);
      case 7:
        refuseWhen(isOverflow || device.isReadOnly);
        await engine.setOldest(valU64);
        return 0;
      case 16:
        view.setUint32(16, device.checkpointIntervalMs, true);
        return 0;
      case 17:
        refuseWhen(device.isReadOnly);
        await engine.checkpoint();
        return 0;
      case 18:
        refuseWhen(valU32 > 86_400_000);
        device.checkpointIntervalMs = valU32;
        return 0;
      case 19:
        return putU64(lsids.written);
      case 20:
        return putU64(lsids.permanent);
      case 21:
        return putU64(lsids.completed);
      case 22:
        return putU64(lsids.latest - lsids.oldest);
      case 23:
        return putU64(engine.deviceInfo().ringSizePb);
      case 24:
        return putInt(1);
      case 25: {
        const storeLb = await this.sizeLb(device.data);
        const sizeLb = valU64 === 0 ? storeLb : valU64;
        refuseWhen(device.isReadOnly || sizeLb > storeLb || sizeLb < engine.deviceInfo().sizeLb);
        await engine.resize(sizeLb);
        return 0;
      }
      case 26:
        refuseWhen(device.isReadOnly || engine.isFrozen);
        await engine.resetLog();
        device.isOverflow = false;
        return 0;
      case 27:
        return putInt(isOverflow ? 1 : 0);
      case 28: {
        const seconds = Math.min(valU32, 86_400);
        await engine.freeze(seconds === 0 ? {} : { timeoutMs: seconds * 1000 });
        return 0;
      }
      case 29:
        engine.melt();
        return 0;
      case 30:
        return putInt(engine.isFrozen ? 1 : 0);
      default:
        return EFAULT;
    }
  }

  private attribute(device: FakeDevice, attribute: string): string | undefined {
    const { lsids, uuid, isOverflow } = device.engine.deviceStatus();
    const info = device.engine.deviceInfo();
    switch (attribute) {
      case "dev":
        return `${this.major}:${device.minor}\n`;
      case "size":
        return `${info.sizeLb}\n`;
      case "ldev":
        return `${device.log.major}:${device.log.minor}\n`;
      case "ddev":
        return `${device.data.major}:${device.data.minor}\n`;
      case "name":
        return `${device.name}\n`;
      case "uuid":
        return `${uuid.toUpperCase().replace(/../g, "$& ")}\n`;
      case "log_capacity":
        return `${info.ringSizePb}\n`;
      case "log_usage":
        return `${lsids.latest - lsids.oldest}\n`;
      case "status":
        return (
          `read_only ${device.isReadOnly ? 1 : 0}\nlog_overflow ${device.isOverflow || isOverflow ? 1 : 0}\nfinalize 0\n` +
          "submit_log_task_working 0\nwait_log_task_working 0\nsubmit_data_task_working 0\nwait_data_task_working 0\n"
        );
      case "lsids":
        return (
          `latest       ${lsids.latest}\nsubmitted    ${lsids.latest}\ncompleted    ${lsids.completed}\n` +
          `flush        ${lsids.flush}\npermanent    ${lsids.permanent}\nwritten      ${device.isHanging ? lsids.oldest : lsids.written}\n` +
          `prev_written ${lsids.prevWritten}\noldest       ${lsids.oldest}\n`
        );
      default:
        return undefined;
    }
  }

  private async blockAttribute(major: number, minor: number, attribute: string): Promise<string | undefined> {
    const block = this.blocks.find((candidate) => candidate.major === major && candidate.minor === minor);
    if (block === undefined) return undefined;
    if (attribute === "size") return `${await this.sizeLb(block)}\n`;
    if (attribute !== "uevent") return undefined;
    return `MAJOR=${major}\nMINOR=${minor}\nDEVNAME=${block.node.slice("/dev/".length)}\nDEVTYPE=disk\n`;
  }

  private async sizeLb(block: FakeBlock): Promise<number> {
    return Math.floor(((await this.real.disk.info(block.file))?.sizeBytes ?? 0) / 512);
  }

  /** The nodes are files: that of the wrapper the data, that of the log view the log. */
  private mappedDisk(disk: Disk): Disk {
    const fileOf = (path: string): FakeBlock | undefined => {
      const view = [...this.devices.values()].find(({ name }) => path === `/dev/walb/L${name}`);
      return view?.log ?? this.deviceOf(path)?.data ?? this.blocks.find(({ node }) => node === path);
    };
    const open = async (path: string, options: OpenOptions): Promise<DiskFile> => {
      const block = fileOf(path);
      if (block === undefined) return await disk.open(path, options);
      if (path.startsWith("/dev/walb/")) this.opened.push({ path, direct: options.direct });
      const file = await disk.open(block.file, options);
      return shown(file, { path, isBlockDevice: true, physicalBlockBytes: block.pbsBytes });
    };
    const info = async (path: string) => {
      const block = fileOf(path);
      const found = await disk.info(block?.file ?? path);
      return block === undefined || found === undefined ? found : { ...found, kind: "block" as const };
    };
    return shown(disk, { open, info });
  }
}

/** An object with some of its members replaced; methods still see the object itself. */
function shown<T extends object>(target: T, members: Partial<T>): T {
  return new Proxy(target, {
    get(object, key) {
      if (key in members) return members[key as keyof T];
      const value = Reflect.get(object, key, object);
      return typeof value === "function" ? value.bind(object) : value;
    },
  });
}
