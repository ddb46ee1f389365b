/**
 * @module The commands of the walb driver, as calls. They fail as the driver does: EFAULT for everything. What a call
 * needs is checked before it, see checks.ts.
 */
import { WalbError } from "../../errors.ts";
import { errnoError } from "../../native/errno.ts";
import type { DeviceNumber, Kernel } from "../../platform/kernel.ts";
import {
  anyMinor,
  type CtlInput,
  type CtlOutput,
  ctlBufferBytesMax,
  type DiskData,
  decodeCtl,
  decodeDiskData,
  decodeStartParam,
  decodeVersion,
  diskDataBytes,
  driverRequests,
  encodeCtl,
  encodeMinorRange,
  encodeStartParam,
  type StartParam,
  startParamBytes,
} from "./layout.ts";
import { controlNode, wrapperNode } from "./sysfs.ts";

/** Entries asked for at a time, as many as fit into what the driver can give. */
const listEntries = Math.min(32, Math.floor(ctlBufferBytesMax / diskDataBytes));
/** Minors are 20 bits. */
const minorEnd = 1 << 20;

/** A device the driver has started. */
export interface StartedDevice {
  readonly name: string;
  readonly major: number;
  readonly minor: number;
}

/** What a failed START_DEV or STOP_DEV says of the reason: `error` of the control structure. */
export class DriverFailure extends Error {
  override readonly name = "DriverFailure";

  constructor(
    readonly failure: WalbError,
    readonly error: number,
  ) {
    super(failure.message, { cause: failure });
  }
}

/** The driver of this host. */
export class WalbDriver {
  readonly kernel: Kernel;

  constructor(kernel: Kernel) {
    this.kernel = kernel;
  }

  /** `1.5.1` @throws WalbError `unsupported` when the driver is not loaded. */
  async version(): Promise<string> {
    const argument = new Uint8Array(4);
    const answer = await this.#node(controlNode, () =>
      this.kernel.ioctl(controlNode, driverRequests.version, argument),
    );
    if (answer.errno !== 0) throw errnoError("ioctl VERSION", answer.errno, { file: controlNode });
    return decodeVersion(answer.argument);
  }

  /** @throws DriverFailure */
  async start(log: DeviceNumber, data: DeviceNumber, param: StartParam): Promise<StartedDevice> {
    const { output, fromKernel } = await this.#control({
      command: "START_DEV",
      u2k: { wminor: anyMinor, lmajor: log.major, lminor: log.minor, dmajor: data.major, dminor: data.minor },
      toKernel: encodeStartParam(param),
      fromKernelBytes: startParamBytes,
    });
    return { name: decodeStartParam(fromKernel).name, major: output.wmajor, minor: output.wminor };
  }

  /** @throws DriverFailure */
  async stop(device: DeviceNumber, isForced: boolean): Promise<void> {
    const u2k = { wmajor: device.major, wminor: device.minor };
    await this.#control({ command: "STOP_DEV", u2k, valInt: isForced ? 1 : 0 });
  }

  async major(): Promise<number> {
    return (await this.#control({ command: "GET_MAJOR" })).output.wmajor;
  }

  async count(): Promise<number> {
    return (await this.#control({ command: "NUM_OF_DEV" })).output.valInt;
  }

  /** All devices in the order of their minors. The driver may give one beyond what was asked for. */
  async list(): Promise<DiskData[]> {
    const devices = new Map<number, DiskData>();
    for (let first = 0; first < minorEnd; ) {
      const { output, fromKernel } = await this.#control({
        command: "LIST_DEV",
        toKernel: encodeMinorRange(first, minorEnd),
        fromKernelBytes: listEntries * diskDataBytes,
      });
      const found = decodeDiskData(fromKernel, output.valInt);
      for (const device of found) devices.set(device.minor, device);
      const last = found.at(-1);
      if (last === undefined || last.minor < first) break;
      first = last.minor + 2;
    }
    return [...devices.values()].toSorted((a, b) => a.minor - b.minor);
  }

  /** A command on a device. @throws WalbError `io` with the errno, EFAULT for every refusal; `not-found`. */
  async wdev(name: string, input: CtlInput): Promise<CtlOutput> {
    const node = wrapperNode(name);
    const { argument, buffers } = encodeCtl(input);
    const answer = await this.kernel.ioctl(node, driverRequests.wdev, argument, buffers);
    if (answer.errno !== 0) throw errnoError(`ioctl ${input.command}`, answer.errno, { file: node, volume: name });
    return decodeCtl(answer.argument);
  }

  async #control(input: CtlInput): Promise<{ output: CtlOutput; fromKernel: Uint8Array }> {
    const { argument, buffers } = encodeCtl(input);
    const answer = await this.#node(controlNode, () =>
      this.kernel.ioctl(controlNode, driverRequests.control, argument, buffers),
    );
    const output = decodeCtl(answer.argument);
    if (answer.errno !== 0) {
      const failure = errnoError(`ioctl ${input.command}`, answer.errno, { file: controlNode });
      throw new DriverFailure(failure, output.error);
    }
    return { output, fromKernel: answer.buffers.at(-1) ?? new Uint8Array() };
  }

  async #node<T>(path: string, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof WalbError) || error.code !== "not-found") throw error;
      throw new WalbError("unsupported", {
        what: "the walb driver is not loaded",
        where: { file: path },
        hint: "load it: modprobe walb-mod; or make a device in user space, without --kernel",
        cause: error,
      });
    }
  }
}
