/** @module The user-space device daemon: many volumes in one process, exported over NBD, steered by a control socket. */
import { asWalbError, WalbError } from "../../errors.ts";
import type { MemoryPool } from "../../native/memory.ts";
import type { DiskFile } from "../../platform/disk.ts";
import type { Address } from "../../platform/net.ts";
import type { Platform } from "../../platform/platform.ts";
import type { DeviceAdmin } from "./control/admin.ts";
import { controlSocketPath } from "./control/client.ts";
import { type ControlServer, openControlServer } from "./control/server.ts";
import { controlHandlers } from "./daemon-handlers.ts";
import { carveNbdMemory } from "./daemon-memory.ts";
import { VolumeSet } from "./daemon-volumes.ts";
import type { EngineOptions } from "./engine.ts";
import { type NbdServer, type NbdTls, openNbdServer } from "./nbd/server.ts";
import { within } from "./parallel.ts";

const startLimitMsDefault = 60_000;
const stopLimitMsDefault = 60_000;

/** How engines are tuned; names, paths and the overflow policy are the volumes' own. */
export type EngineTuning = Partial<Omit<EngineOptions, "name" | "dataPath" | "logPath" | "overflow">>;

/** What {@link openDeviceDaemon} needs. */
export interface DeviceDaemonOptions {
  /** Absolute. Holds volumes/NAME.json, the default stores NAME.data and NAME.log, control.sock and the lock. Made when
   * missing. */
  readonly dataDir: string;
  /** Where to serve NBD; port 0 takes a free one, see {@link DeviceDaemon.nbdAddresses}. */
  readonly nbdListeners: readonly Address[];
  /** Makes NBD over TCP require TLS. Unix sockets stay as they are. */
  readonly nbdTls?: NbdTls;
  readonly nodeId: string;
  /** Payload of NBD requests under way and of pending writes; at least 64 MiB. Default: half of the platform's memory,
   * carved out of it for good. */
  readonly nbdMemory?: MemoryPool;
  readonly engine?: EngineTuning;
  /** Volumes that take longer to open do not keep the others from being served. Default 60 s. */
  readonly startLimitMs?: number;
  /** {@link DeviceDaemon.close} gives up stores that hang for so long. Default 60 s. */
  readonly stopLimitMs?: number;
  /** Told what people should know: volumes that fail, clients that misbehave. Default: nobody is. */
  readonly onProblem?: (error: WalbError) => void;
}

/** A running device daemon. */
export interface DeviceDaemon extends DeviceAdmin {
  readonly nodeId: string;
  readonly dataDir: string;
  /** Unix socket for `deviceControlClient` and `connectUserDevice`. */
  readonly controlPath: string;
  /** Bound NBD addresses, in the order of the options, with real ports. */
  readonly nbdAddresses: readonly Address[];
  /** Stops listeners, lets requests in flight finish, checkpoints and closes every volume. Idempotent.
   * @throws WalbError `timed-out` when stores hang; what uses them goes on, so the process should end. */
  close(): Promise<void>;
}

/**
 * Locks the directory, opens every configured volume (with redo) and starts serving. A volume that cannot be opened is
 * listed as `failed` with its reason and does not stop the others.
 * @throws WalbError `locked` when another daemon owns the directory, `port-in-use` when a listener cannot be bound,
 * `bad-parameter` for too little memory.
 */
export async function openDeviceDaemon(platform: Platform, options: DeviceDaemonOptions): Promise<DeviceDaemon> {
  if (!options.dataDir.startsWith("/")) {
    const what = `the data directory ${JSON.stringify(options.dataDir)} is not an absolute path`;
    throw new WalbError("bad-parameter", { what, where: { field: "dataDir" } });
  }
  await platform.disk.makeDirectory(options.dataDir);
  const lock = await lockDirectory(platform, options.dataDir);
  const daemon = new Daemon(platform, options, lock);
  try {
    await daemon.open();
  } catch (error) {
    await daemon.close();
    throw error;
  }
  return daemon;
}

async function lockDirectory(platform: Platform, dataDir: string): Promise<DiskFile> {
  try {
    return await platform.disk.open(`${dataDir}/lock`, { mode: "createOrOpen", lock: true });
  } catch (error) {
    const known = asWalbError(error);
    if (known.code !== "locked") throw known;
    throw new WalbError("locked", {
      what: "another device daemon owns the directory",
      where: { file: dataDir },
      hint: "stop it, or use another --data directory",
      cause: known,
    });
  }
}

class Daemon implements DeviceDaemon {
  readonly controlPath: string;
  private readonly volumes: VolumeSet;
  private nbd: NbdServer | undefined;
  private clientMemoryBytes = 0;
  private control: ControlServer | undefined;
  private closing: Promise<void> | undefined;

  constructor(
    private readonly platform: Platform,
    private readonly options: DeviceDaemonOptions,
    private readonly lock: DiskFile,
  ) {
    this.controlPath = controlSocketPath(options.dataDir);
    const clientMemoryBytes = (): number => this.clientMemoryBytes;
    this.volumes = new VolumeSet(platform, options.dataDir, options.engine ?? {}, {
      get clientMemoryBytes() {
        return clientMemoryBytes();
      },
      changed: (name) => this.control?.changed(name),
      problem: (error) => options.onProblem?.(error),
      connectionsOf: (name) => this.nbd?.connectionsOf(name) ?? 0,
      watchersOf: (name) => this.control?.watchersOf(name) ?? 0,
      addresses: () => this.nbdAddresses,
      isTcpTls: options.nbdTls !== undefined,
      disconnect: async (name) => this.nbd?.disconnect(name),
    });
  }

  get nodeId(): string {
    return this.options.nodeId;
  }

  get dataDir(): string {
    return this.options.dataDir;
  }

  get nbdAddresses(): readonly Address[] {
    return this.nbd?.addresses ?? [];
  }

  async open(): Promise<void> {
    const { platform, options } = this;
    const memory = options.nbdMemory ?? carveNbdMemory(platform.memory);
    this.clientMemoryBytes = memory.budgetBytes;
    await this.volumes.load(options.startLimitMs ?? startLimitMsDefault);
    this.nbd = await openNbdServer({
      net: platform.net,
      clock: platform.clock,
      memory,
      exports: this.volumes,
      listeners: options.nbdListeners,
      ...(options.nbdTls === undefined ? {} : { tls: options.nbdTls }),
      onProblem: (error) => options.onProblem?.(error),
    });
    this.control = await openControlServer({
      net: platform.net,
      clock: platform.clock,
      address: { kind: "unix", path: this.controlPath },
      nodeId: options.nodeId,
      handlers: controlHandlers(this.volumes, options.nodeId),
    });
  }

  list: DeviceAdmin["list"] = async () => this.volumes.list();
  show: DeviceAdmin["show"] = async (name) => this.volumes.show(name);
  create: DeviceAdmin["create"] = (volume) => this.volumes.create(volume);
  delete: DeviceAdmin["delete"] = (name, options = {}) => this.volumes.delete(name, options);
  start: DeviceAdmin["start"] = (name) => this.volumes.startAgain(name);
  stop: DeviceAdmin["stop"] = (name, options = {}) => this.volumes.stop(name, options);
  resize: DeviceAdmin["resize"] = (name, sizeBytes) => this.volumes.resize(name, sizeBytes);
  checkpoint: DeviceAdmin["checkpoint"] = async (name) => this.volumes.engine(name).checkpoint();
  freeze: DeviceAdmin["freeze"] = async (name, options = {}) => this.volumes.engine(name).freeze(options);
  melt: DeviceAdmin["melt"] = async (name) => this.volumes.engine(name).melt();
  resetLog: DeviceAdmin["resetLog"] = (name) => this.volumes.resetLog(name);

  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  private async shutDown(): Promise<void> {
    const { clock } = this.platform;
    const { stopLimitMs = stopLimitMsDefault } = this.options;
    // A frozen volume holds its writes back: they would never finish.
    this.volumes.meltAll();
    const failures: unknown[] = [];
    const attempt = async (close: () => Promise<void> | undefined): Promise<void> => {
      try {
        await close();
      } catch (error) {
        failures.push(error);
      }
    };
    // What is asked of a store that hangs is never answered; the other volumes are closed all the same.
    const attemptFor = async (close: () => Promise<void> | undefined): Promise<void> => {
      await within(clock, attempt(close), stopLimitMs / 4);
    };
    await attemptFor(() => this.nbd?.close());
    await attemptFor(() => this.control?.close());
    await attempt(() => this.volumes.close(stopLimitMs / 2));
    await attempt(() => this.lock.close());
    if (failures.length > 0) throw asWalbError(failures[0], { host: this.platform.hostName, step: "stop" });
  }
}
