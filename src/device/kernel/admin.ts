/** @module The admin verbs on devices of the kernel driver: the same as those of a device daemon. */
import { asWalbError, WalbError } from "../../errors.ts";
import { readSuperblock } from "../../log/format.ts";
import { superblockOffsetBytes } from "../../log/geometry.ts";
import type { DiskFile } from "../../platform/disk.ts";
import type { DeviceNumber, Kernel } from "../../platform/kernel.ts";
import type { Platform } from "../../platform/platform.ts";
import { lbBytes } from "../../units.ts";
import type { DeviceInfo } from "../device.ts";
import type { DeviceAdmin } from "../user/control/admin.ts";
import { type CreateVolume, createVolumeSchema, type VolumeReport } from "../user/control/schema.ts";
import { badParameter } from "../user/control/server.ts";
import { prepareStores } from "../user/daemon-stores.ts";
import { errnoIn, refusedBy, restartHint, startFailure } from "./checks.ts";
import { type KernelDevice, kernelOf, openKernelDevice } from "./device.ts";
import { DriverFailure, type StartedDevice, WalbDriver } from "./driver.ts";
import { checkStartParam, defaultStartParam, type StartParam } from "./layout.ts";
import { isKernelDevice, kernelDeviceNames, noDeviceError, readBelow, wrapperNode } from "./sysfs.ts";

const loopCommand = "losetup --find --show FILE";

/** The two block devices of a volume. */
export interface BlockPair {
  readonly logPath: string;
  readonly dataPath: string;
}

/** See {@link DeviceAdmin}. Needs root, as the driver does. */
export class KernelAdmin implements DeviceAdmin {
  readonly #platform: Platform;
  readonly #kernel: Kernel;
  readonly driver: WalbDriver;

  constructor(platform: Platform) {
    this.#platform = platform;
    this.#kernel = kernelOf(platform);
    this.driver = new WalbDriver(this.#kernel);
  }

  async list(): Promise<VolumeReport[]> {
    const reports: VolumeReport[] = [];
    for (const name of await kernelDeviceNames(this.#kernel)) {
      try {
        reports.push(await this.show(name));
      } catch (error) {
        reports.push(failedReport(name, asWalbError(error)));
      }
    }
    return reports;
  }

  show(name: string): Promise<VolumeReport> {
    return this.#with(name, async (device) => {
      const info = await device.info();
      const status = await device.status();
      const { usagePb, capacityPb } = await device.logUsage();
      const { readOnlyReason: reason } = status;
      const isFrozen = await device.isFrozen();
      return {
        name,
        state: reason !== undefined ? "read-only" : isFrozen ? "frozen" : "running",
        ...(reason === undefined ? {} : { reason, hint: restartHint(name, info) }),
        sizeBytes: info.sizeLb * lbBytes,
        overflow: await this.#overflowPolicy(),
        dataPath: info.dataPath,
        logPath: info.logPath,
        path: wrapperNode(name),
        connections: 0,
        watchers: 0,
        uris: [],
        info,
        status,
        logUsagePb: usagePb,
        logCapacityPb: capacityPb,
      };
    });
  }

  async create(wanted: CreateVolume): Promise<VolumeReport> {
    const parsed = createVolumeSchema.safeParse(wanted);
    if (!parsed.success) throw badParameter(parsed.error);
    const { name, dataPath, logPath, sizeBytes, logSizeBytes, pbsBytes, overflow, reuseLog, tuning } = parsed.data;
    if (tuning !== undefined) {
      throw new WalbError("unsupported", {
        what: "a device of the kernel driver is not tuned so",
        where: { volume: name, field: "tuning" },
        hint: "wdevc create-wdev takes the tuning options of the driver",
      });
    }
    if (dataPath === undefined || logPath === undefined) {
      throw new WalbError("bad-parameter", {
        what: "the kernel driver makes a device over two block devices, one for the data and one for the log",
        where: { volume: name, field: dataPath === undefined ? "data" : "log" },
        hint: `walb device create ${name} --kernel --data /dev/vg/lv --log /dev/vg/lv-log`,
      });
    }
    if (logSizeBytes !== undefined || pbsBytes !== undefined) {
      throw new WalbError("bad-parameter", {
        what: "a block device has its size and its block size already",
        where: { volume: name },
        hint: "leave --log-size and --block-size out",
      });
    }
    if (overflow === "stop" && (await this.#overflowPolicy()) !== "stop") {
      throw new WalbError("unsupported", {
        what: "the walb driver lets writes go on when a log is full; it is told otherwise for all devices at once",
        where: { volume: name, field: "overflow" },
        hint: "load it with: modprobe walb-mod error_before_overflow=1",
      });
    }
    const pair = { logPath, dataPath };
    const param = { ...defaultStartParam, name };
    const isFormatted = await this.#prepare(pair, param, { sizeBytes, reuseLog });
    try {
      await this.startOver(pair, param);
    } catch (error) {
      // Otherwise the next try would find a log, which nobody has ever used.
      if (isFormatted) await this.#unformat(logPath);
      throw error;
    }
    return await this.show(name);
  }

  /**
   * Starts a device over a formatted log, without any change to it but the name.
   * @throws WalbError with the reason, which the driver does not tell.
   */
  async startOver(pair: BlockPair, param: StartParam): Promise<StartedDevice> {
    const { log, data } = await this.#checkStart(pair, param);
    try {
      return await this.driver.start(log, data, param);
    } catch (error) {
      if (!(error instanceof DriverFailure)) throw error;
      throw startFailure(param.name, error.error, error.failure);
    }
  }

  async delete(name: string, options: { readonly force?: boolean } = {}): Promise<void> {
    const number = await this.#kernel.deviceNumber(wrapperNode(name));
    if (number === undefined || !(await isKernelDevice(this.#kernel, name))) throw noDeviceError(name);
    try {
      await this.driver.stop(number, options.force ?? false);
    } catch (error) {
      throw refusedBy(error instanceof DriverFailure ? error.failure : error, name, "STOP_DEV");
    }
  }

  /** The driver keeps nothing of a device that is not there, and one that is cannot be opened anew. */
  async start(name: string): Promise<VolumeReport> {
    if (!(await isKernelDevice(this.#kernel, name))) {
      throw new WalbError("unsupported", {
        what: "the kernel driver keeps nothing of a device that is not there: it is made anew over its data and its log",
        where: { volume: name },
        hint: `walb device create ${name} --kernel --data DEV --log DEV --reuse-log`,
      });
    }
    const report = await this.show(name);
    if (report.state !== "read-only") return report;
    const what = "the kernel driver cannot open a device anew";
    throw new WalbError("unsupported", { what, where: { volume: name }, hint: restartHint(name, report) });
  }

  async stop(name: string): Promise<VolumeReport> {
    throw new WalbError("unsupported", {
      what: "the kernel driver forgets a device that it stops",
      where: { volume: name },
      hint: `walb device delete ${name} --kernel leaves both block devices with all that is in them`,
    });
  }

  resize(name: string, sizeBytes: number): Promise<DeviceInfo> {
    return this.#with(name, (device) => device.resize(Math.floor(sizeBytes / lbBytes)));
  }

  checkpoint(name: string): Promise<void> {
    return this.#with(name, (device) => device.checkpoint());
  }

  freeze(name: string, options: { readonly timeoutMs?: number } = {}): Promise<void> {
    const timeoutS = options.timeoutMs === undefined ? 0 : Math.max(1, Math.ceil(options.timeoutMs / 1000));
    return this.#with(name, (device) => device.freeze(timeoutS));
  }

  melt(name: string): Promise<void> {
    return this.#with(name, (device) => device.melt());
  }

  resetLog(name: string): Promise<DeviceInfo> {
    return this.#with(name, (device) => device.resetLog());
  }

  async #with<T>(name: string, work: (device: KernelDevice) => Promise<T>): Promise<T> {
    if (!(await isKernelDevice(this.#kernel, name))) throw noDeviceError(name);
    const device = openKernelDevice(this.#platform, name);
    try {
      return await work(device);
    } finally {
      await device.close();
    }
  }

  /** Checks the two devices and formats the log, or takes it as it is. True when it was formatted. */
  async #prepare(
    pair: BlockPair,
    param: StartParam,
    wishes: { readonly sizeBytes: number | undefined; readonly reuseLog: boolean },
  ): Promise<boolean> {
    await this.#checkFree(pair, param.name);
    return await this.#withStores(pair, async (log, data) => {
      const pbsBytes = log.physicalBlockBytes;
      const stores = { name: param.name, pbsBytes, ...wishes };
      await prepareStores(this.#platform, stores, data, log);
      return !wishes.reuseLog;
    });
  }

  /** Everything that START_DEV needs. */
  async #checkStart(pair: BlockPair, param: StartParam): Promise<{ log: DeviceNumber; data: DeviceNumber }> {
    checkStartParam(param);
    const numbers = await this.#checkFree(pair, param.name);
    await this.#withStores(pair, async (log, data) => {
      const { pbsBytes, deviceSizeLb } = await readSuperblock(log, this.#platform.memory);
      if (pbsBytes !== log.physicalBlockBytes) {
        throw new WalbError("bad-parameter", {
          what: `the log has blocks of ${pbsBytes} bytes, its device of ${log.physicalBlockBytes}`,
          where: { file: pair.logPath, field: "physical_bs" },
          hint: "the driver needs both to be the same; a device in user space does not: leave --kernel out",
        });
      }
      const storeLb = Math.floor((await data.size()) / lbBytes);
      if (deviceSizeLb > storeLb) {
        throw new WalbError("out-of-range", {
          what: `the log is for a volume of ${deviceSizeLb * lbBytes} bytes, the data device has ${storeLb * lbBytes}`,
          where: { file: pair.dataPath },
          hint: "is it the right one? Or enlarge it first",
        });
      }
    });
    return numbers;
  }

  /** Both are block devices that no device of the driver has, and the name is free. */
  async #checkFree(pair: BlockPair, name: string): Promise<{ log: DeviceNumber; data: DeviceNumber }> {
    // Says that the driver is not loaded, when it is not.
    await this.driver.version();
    const log = await this.#blockDevice(pair.logPath);
    const data = await this.#blockDevice(pair.dataPath);
    if (isSame(log, data)) {
      throw new WalbError("bad-parameter", {
        what: "data and log cannot share a device",
        where: { file: pair.logPath },
      });
    }
    for (const other of await kernelDeviceNames(this.#kernel)) {
      if (other === name) {
        throw new WalbError("already-exists", {
          what: "the walb driver has a device of this name",
          where: { volume: name },
          hint: `choose another name, or delete it first: walb device delete ${name} --kernel`,
        });
      }
      for (const below of ["ldev", "ddev"] as const) {
        const number = await readBelow(this.#kernel, other, below);
        const taken = isSame(number, log) ? pair.logPath : isSame(number, data) ? pair.dataPath : undefined;
        if (taken === undefined) continue;
        throw new WalbError("busy", {
          what: `it is the ${below === "ldev" ? "log" : "data"} of the walb device ${other}`,
          where: { volume: name, file: taken },
          hint: "use another block device",
        });
      }
    }
    return { log, data };
  }

  async #blockDevice(path: string): Promise<DeviceNumber> {
    const number = await this.#kernel.deviceNumber(path);
    if (number !== undefined) return number;
    const isThere = (await this.#platform.disk.info(path)) !== undefined;
    throw new WalbError(isThere ? "bad-parameter" : "not-found", {
      what: isThere ? "the kernel driver takes block devices only, and this is none" : "there is no such block device",
      where: { file: path },
      hint: isThere ? `make one of a file: ${loopCommand}; or leave --kernel out` : "check its name: lsblk",
    });
  }

  /** Opens both exclusively: what is mounted or held by another program is told here, with its name. */
  async #withStores<T>(pair: BlockPair, work: (log: DiskFile, data: DiskFile) => Promise<T>): Promise<T> {
    const { disk } = this.#platform;
    const log = await disk.open(pair.logPath, { mode: "write", lock: true });
    try {
      const data = await disk.open(pair.dataPath, { mode: "write", lock: true });
      try {
        if (log.physicalBlockBytes !== data.physicalBlockBytes) {
          throw new WalbError("bad-parameter", {
            what: `the log device has blocks of ${log.physicalBlockBytes} bytes, the data device of ${data.physicalBlockBytes}`,
            where: { file: pair.logPath },
            hint: "use devices of one physical block size, see: lsblk -o NAME,PHY-SEC",
          });
        }
        return await work(log, data);
      } finally {
        await data.close();
      }
    } finally {
      await log.close();
    }
  }

  async #unformat(logPath: string): Promise<void> {
    const log = await this.#platform.disk.open(logPath, { mode: "write", lock: true });
    try {
      await log.zero(superblockOffsetBytes, superblockOffsetBytes);
      await log.sync();
    } finally {
      await log.close();
    }
  }

  /** A parameter of the module, for all its devices. */
  async #overflowPolicy(): Promise<"keep-writing" | "stop"> {
    const value = await this.#kernel.readAttribute("/sys/module/walb_mod/parameters/error_before_overflow");
    return /^[1Yy]/.test(value ?? "") ? "stop" : "keep-writing";
  }
}

function isSame(a: DeviceNumber, b: DeviceNumber): boolean {
  return a.major === b.major && a.minor === b.minor;
}

function failedReport(name: string, error: WalbError): VolumeReport {
  const isForbidden = errnoIn(error) === 13;
  return {
    name,
    state: "failed",
    reason: isForbidden ? "only root may look into it" : error.message,
    sizeBytes: 0,
    overflow: "keep-writing",
    dataPath: "",
    logPath: "",
    path: wrapperNode(name),
    connections: 0,
    watchers: 0,
    uris: [],
  };
}
