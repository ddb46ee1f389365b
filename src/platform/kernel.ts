/**
 * @module What the walb driver needs of the kernel: ioctl on its nodes, attributes of sysfs, numbers of block devices.
 *
 * Bytes go in and out as the driver sees them, so that everything above can be run against a driver of a test.
 */

/** A buffer that an ioctl's argument points to. */
export interface IoctlBuffer {
  /** Where in the argument its address belongs (8 bytes). */
  readonly pointerOffset: number;
  /** Content before; the kernel may change it. At most 4096 bytes. */
  readonly bytes: Uint8Array;
}

/** What an ioctl left behind. */
export interface IoctlAnswer {
  /** 0, or the positive errno. */
  readonly errno: number;
  /** Argument and buffers, as the kernel left them also when it failed. */
  readonly argument: Uint8Array;
  readonly buffers: readonly Uint8Array[];
}

/** Number of a block device. */
export interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}

/** The kernel of this host. */
export interface Kernel {
  /**
   * Opens a device node for reading and writing, does one ioctl on it, closes it.
   * @param argument at most 4096 bytes.
   * @throws WalbError `not-found`, `busy`, `io` when the node cannot be opened.
   */
  ioctl(path: string, request: number, argument: Uint8Array, buffers?: readonly IoctlBuffer[]): Promise<IoctlAnswer>;
  /** Text of an attribute, at most 4096 bytes; undefined when it is not there. @throws WalbError `io`. */
  readAttribute(path: string): Promise<string | undefined>;
  /** Names in a directory of sysfs or of nodes; none when it is not there. */
  listAttributes(path: string): Promise<string[]>;
  /**
   * Calls back when the driver notifies pollers of an attribute (EPOLLPRI), and once when it is gone. Says undefined when
   * there is no such attribute. The answer ends it.
   */
  watchAttribute(path: string, changed: () => void): (() => void) | undefined;
  /** Number of a block device; undefined for what is none or is not there. */
  deviceNumber(path: string): Promise<DeviceNumber | undefined>;
}
