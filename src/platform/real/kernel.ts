/** @module The real kernel of this host, for the walb driver. */
import { readdirSync, statSync } from "node:fs";
import { WalbError } from "../../errors.ts";
import { errnoError, errnoOf } from "../../native/errno.ts";
import { nodeIoctl } from "../../native/ioctl.ts";
import type { JobRunner } from "../../native/pool.ts";
import { watchPriority } from "../../native/watch.ts";
import type { DeviceNumber, IoctlAnswer, IoctlBuffer, Kernel } from "../kernel.ts";
import { majorOf, minorOf } from "./numbers.ts";
import { readSmallFile } from "./small-files.ts";

/** An attribute of sysfs never has more. */
const attributeBytesMax = 4096;
/** Nothing there, or the device went away: ENOENT, ENXIO, ENODEV, ENOTDIR. */
const errnoGone = new Set([2, 6, 19, 20]);

/** The real {@link Kernel}. */
export class RealKernel implements Kernel {
  readonly #runner: JobRunner;

  constructor(runner: JobRunner) {
    this.#runner = runner;
  }

  ioctl(
    path: string,
    request: number,
    argument: Uint8Array,
    buffers: readonly IoctlBuffer[] = [],
  ): Promise<IoctlAnswer> {
    return nodeIoctl(this.#runner, path, request, argument, buffers);
  }

  async readAttribute(path: string): Promise<string | undefined> {
    return unlessGone("read", path, () => new TextDecoder().decode(readSmallFile(path, attributeBytesMax)));
  }

  async listAttributes(path: string): Promise<string[]> {
    return unlessGone("listing", path, () => readdirSync(path).sort()) ?? [];
  }

  watchAttribute(path: string, changed: () => void): (() => void) | undefined {
    try {
      return watchPriority(path, changed);
    } catch (error) {
      if (error instanceof WalbError && error.code === "not-found") return undefined;
      throw error;
    }
  }

  async deviceNumber(path: string): Promise<DeviceNumber | undefined> {
    const stats = unlessGone("stat", path, () => statSync(path));
    if (stats?.isBlockDevice() !== true) return undefined;
    return { major: majorOf(stats.rdev), minor: minorOf(stats.rdev) };
  }
}

function unlessGone<T>(what: string, path: string, call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    if (errnoGone.has(errno)) return undefined;
    throw errnoError(what, errno, { file: path });
  }
}
