/** @module The simulated site: a host with device and storage, relays with a proxy each, a backup host with an archive. */
import { openArchive } from "../../archive/server.ts";
import { errorFromReport } from "../../control/error.ts";
import { type Logger, silentLogger } from "../../control/logger.ts";
import type { RunningRole } from "../../control/role.ts";
import { type DeviceDaemon, openDeviceDaemon } from "../../device/user/daemon.ts";
import type { Platform } from "../../platform/platform.ts";
import { openProxy } from "../../proxy/server.ts";
import { openStorage } from "../../storage/server.ts";
import { mib } from "../../units.ts";
import type { SimRandom, SimWorld } from "../api.ts";
import { Node } from "./node.ts";

export const volume = "vol0";
export const deviceName = "dev0";
export const nbdSocket = { kind: "unix", path: "/device/nbd.sock" } as const;

const tcp = (host: string, port: number) => ({ kind: "tcp", host, port }) as const;
const security = "insecure" as const;

/** How a site is set up; drawn from the seed. */
export interface SiteOptions {
  readonly sizeLb: number;
  readonly logBytes: number;
  readonly pbsBytes: 512 | 4096;
  readonly overflow: "keep-writing" | "stop";
  readonly relayCount: number;
  readonly checkpointIntervalMs: number;
  readonly snapshotIntervalMs: number;
  readonly wlogSendBytesMax: number;
  readonly wdiffSendCountMax: number;
  readonly retryDelayMsMax: number;
  readonly openDiffsMax: number;
  readonly fsyncIntervalBytes: number;
  readonly reflink: boolean;
}

/** Draws a set-up. */
export function drawSite(random: SimRandom): SiteOptions {
  const logMib = random.chance(0.15) ? random.between(1, 2) : random.between(6, 24);
  return {
    sizeLb: random.pick([1000, 2048, 3001, 4096]),
    logBytes: logMib * mib,
    pbsBytes: random.pick([512, 4096]),
    overflow: random.pick(["keep-writing", "stop"]),
    relayCount: random.between(1, 2),
    checkpointIntervalMs: random.pick([300, 2_000, 10_000]),
    snapshotIntervalMs: random.pick([1_000, 3_000, 10_000]),
    wlogSendBytesMax: random.pick([mib, 4 * mib, 128 * mib]),
    wdiffSendCountMax: random.pick([2, 10, 1000]),
    retryDelayMsMax: random.pick([2_000, 20_000, 60_000]),
    openDiffsMax: random.pick([0, 0, 3]),
    fsyncIntervalBytes: random.pick([mib / 4, 1024 * mib]),
    reflink: random.chance(0.5),
  };
}

/** Device and storage in one process. The storage alone may be closed and opened again. */
export class Source {
  storage: RunningRole | undefined;

  private constructor(
    readonly device: DeviceDaemon,
    private readonly openRole: () => Promise<RunningRole>,
  ) {}

  static async open(platform: Platform, options: SiteOptions, log: Logger): Promise<Source> {
    const device = await openDeviceDaemon(platform, {
      dataDir: "/device",
      nbdListeners: [nbdSocket],
      nodeId: "pc1",
      nbdMemory: platform.memory.carve(128 * mib),
      engine: { checkpointIntervalMs: options.checkpointIntervalMs },
    });
    const relays = Array.from({ length: options.relayCount }, (_, i) => tcp(`relay${i + 1}`, 10100));
    const source = new Source(device, () =>
      openStorage(
        platform,
        {
          listen: tcp("", 10000),
          dataDir: "/storage",
          nodeId: "pc1",
          security,
          archive: tcp("backup", 10200),
          proxies: relays,
          deviceSocket: device.controlPath,
          wlogSendBytesMax: options.wlogSendBytesMax,
          snapshotIntervalMs: options.snapshotIntervalMs,
          retryDelayMsMax: options.retryDelayMsMax,
        },
        log,
      ),
    );
    await source.openStorage();
    return source;
  }

  async openStorage(): Promise<void> {
    this.storage = await this.openRole();
  }

  /** Closes the storage while the device goes on. */
  async closeStorage(mode: "graceful" | "force"): Promise<void> {
    const { storage } = this;
    this.storage = undefined;
    await storage?.close(mode);
  }

  async close(mode: "graceful" | "force"): Promise<void> {
    await this.closeStorage(mode);
    await this.device.close();
  }
}

/** All hosts. */
export class Site {
  readonly source: Node<Source>;
  readonly relays: readonly Node<RunningRole>[];
  readonly backup: Node<RunningRole>;

  constructor(
    readonly world: SimWorld,
    readonly options: SiteOptions,
    logOf: (platform: Platform) => Logger = () => silentLogger,
  ) {
    const host = (name: string) => world.host(name, { memoryBytes: 512 * mib, disk: { reflink: options.reflink } });
    this.source = new Node(world, host("pc1"), (platform) => Source.open(platform, options, logOf(platform)));
    this.relays = Array.from({ length: options.relayCount }, (_, i) => {
      const name = `relay${i + 1}`;
      return new Node(world, host(name), (platform) =>
        openProxy(
          platform,
          {
            listen: tcp("", 10100),
            dataDir: "/proxy",
            nodeId: name,
            security,
            wdiffSendCountMax: options.wdiffSendCountMax,
            retryDelayMsMax: options.retryDelayMsMax,
          },
          logOf(platform),
        ),
      );
    });
    this.backup = new Node(world, host("backup"), (platform) =>
      openArchive(
        platform,
        {
          listen: tcp("", 10200),
          dataDir: "/archive",
          nodeId: "backup",
          security,
          openDiffsMax: options.openDiffsMax,
          fsyncIntervalBytes: options.fsyncIntervalBytes,
        },
        logOf(platform),
      ),
    );
  }

  get nodes(): readonly Node<Source | RunningRole>[] {
    return [this.source, ...this.relays, this.backup] as readonly Node<Source | RunningRole>[];
  }
}

/** Runs a command of a role to its end. @throws what it fails with. */
export async function call<T = unknown>(role: RunningRole | undefined, command: string, params: object): Promise<T> {
  // A role that is being started again: nobody answers.
  if (role === undefined) return new Promise<T>(() => undefined);
  const outcome = await role.control.call(command, params);
  if (outcome.kind === "result") return outcome.result as T;
  return new Promise<T>((resolve, reject) => {
    role.control.watchJob(outcome.job.id, (job) => {
      if (job.state === "running") return;
      if (job.error !== undefined) reject(errorFromReport(job.error));
      else resolve(job.result as T);
    });
  });
}
