/** @module What the worker knows: every volume of the primary archive, its points, diffs and replicas. */
import type { ArchiveVolume } from "../../control/archive-schemas.ts";
import { asWalbError, WalbError } from "../../errors.ts";
import type { CallOptions } from "../../http/client.ts";
import { parseSnapshot } from "../../snapshot/text.ts";
import { archiveClient, proxyClient } from "../clients.ts";
import { type Fleet, type FleetServer, primaryArchive, serversOf } from "../fleet.ts";
import { type KeepRule, parseKeep } from "./keep.ts";
import type { ReplicaView, VolumeView } from "./plan.ts";

/** Requests to one server at once. */
const inFlightMax = 8;
/** A server that let us wait for its answer in vain is asked again after this time: each task would wait as long. */
const silentMs = 60_000;

/** When the worker did what; it lives as long as the worker. */
export interface WorkerMemory {
  readonly applyMs: Map<string, number>;
  readonly mergeMs: Map<string, number>;
  /** By volume, then by archive. */
  readonly replicateMs: Map<string, Map<string, number>>;
  /** Servers that did not answer in time, by name. */
  readonly silent: Map<string, { readonly untilMs: number; readonly error: WalbError }>;
}

/** An empty memory. */
export function newWorkerMemory(): WorkerMemory {
  return { applyMs: new Map(), mergeMs: new Map(), replicateMs: new Map(), silent: new Map() };
}

/** What to look at. */
export interface CollectOptions {
  readonly fleet: Fleet;
  readonly memory: WorkerMemory;
  readonly readDuration: (text: string) => number;
  /** Only this one. */
  readonly volume?: string;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  readonly nowMs: () => number;
}

/** Something that could not be asked; the others are served all the same. */
export interface CollectFailure {
  readonly server: string;
  readonly volume?: string;
  readonly error: Error;
}

/** The views of the worker, and what could not be seen. @throws WalbError when the primary archive does not answer. */
export async function collectViews(
  options: CollectOptions,
): Promise<{ readonly views: VolumeView[]; readonly failures: CollectFailure[] }> {
  const { fleet, signal, timeoutMs } = options;
  const archive = primaryArchive(fleet);
  const only = options.volume === undefined ? {} : { volume: options.volume };
  const { volumes } = await archiveClient(archive).call("status", only, { signal, timeoutMs });
  const replicas = new ReplicaLookup(options);
  const failures: CollectFailure[] = [];
  const views: VolumeView[] = [];
  await inParallel(volumes, async (status) => {
    try {
      views.push(await viewOf(archive, status, replicas, options));
    } catch (error) {
      failures.push({ server: archive.name, volume: status.volume, error: asWalbError(error) });
    }
  });
  return { views: views.toSorted((a, b) => (a.volume < b.volume ? -1 : 1)), failures };
}

async function viewOf(
  archive: FleetServer,
  status: ArchiveVolume,
  replicas: ReplicaLookup,
  { fleet, memory, readDuration, signal, timeoutMs }: CollectOptions,
): Promise<VolumeView> {
  const { volume, state } = status;
  const entry = fleet.volumes[volume];
  const shared = {
    archive: archive.name,
    volume,
    state,
    running: status.running.filter(({ count }) => count > 0).map(({ action }) => action),
    keep: keepOf(entry?.keep, volume, readDuration),
    ...(status.archiveUuid === undefined ? {} : { archiveUuid: status.archiveUuid }),
    ...present("lastApplyMs", memory.applyMs.get(volume)),
    ...present("lastMergeMs", memory.mergeMs.get(volume)),
    lastReplicateMs: memory.replicateMs.get(volume) ?? new Map<string, number>(),
  };
  if (status.base === undefined) return { ...shared, baseGid: 0n, diffs: [], points: [], replicas: [] };
  const client = archiveClient(archive);
  const call = { signal, timeoutMs };
  const [{ base, diffs }, { snapshots }] = await Promise.all([
    client.call("diffs", { volume }, call),
    client.call("snapshots", { volume, all: true }, call),
  ]);
  return {
    ...shared,
    baseGid: base.gid,
    ...present("applyingGid", base.applyingGid),
    diffs: diffs.map((diff) => ({
      from: parseSnapshot(diff.from),
      to: parseSnapshot(diff.to),
      isMergeable: diff.isMergeable,
      isCompared: diff.isCompared,
      timestampS: Math.floor(diff.timeMs / 1000),
      dataSizeBytes: diff.sizeBytes,
    })),
    points: snapshots.map(({ gid, timeMs, isProtected }) => ({ gid, timeMs, isProtected })),
    replicas: await Promise.all((entry?.replicate ?? []).map((name) => replicas.find(volume, name))),
  };
}

/** The rules of a volume. @throws WalbError `usage`. */
function keepOf(
  rules: Readonly<Record<string, string | number>> | undefined,
  volume: string,
  readDuration: (text: string) => number,
): KeepRule[] | undefined {
  return rules === undefined ? undefined : parseKeep(rules, readDuration, `volumes.${volume}.keep`);
}

/** Asks each server once for all volumes. */
class ReplicaLookup {
  readonly #options: CollectOptions;
  readonly #archives = new Map<string, Promise<ReadonlyMap<string, ArchiveVolume> | WalbError>>();
  #synchronizing: Promise<ReadonlySet<string>> | undefined;

  constructor(options: CollectOptions) {
    this.#options = options;
  }

  async find(volume: string, name: string): Promise<ReplicaView> {
    const { fleet } = this.#options;
    const server = fleet.servers.find((known) => known.name === name)!;
    let asked = this.#archives.get(name);
    if (asked === undefined) {
      asked = this.#askArchive(server);
      this.#archives.set(name, asked);
    }
    this.#synchronizing ??= this.#askProxies();
    // Both at once: a rejection that nobody waits for yet would be told as one that nobody handles.
    const [answer, synchronizing] = await Promise.all([asked, this.#synchronizing]);
    const isSynchronizing = synchronizing.has(`${volume} ${server.address}`);
    if (answer instanceof WalbError) return { server: name, state: undefined, failure: answer.what, isSynchronizing };
    const status = answer.get(volume);
    const latest = status?.latest === undefined ? undefined : parseSnapshot(status.latest);
    return {
      server: name,
      state: status?.state ?? "Clear",
      isSynchronizing,
      ...present("latestGid", latest?.gidE),
      ...present("archiveUuid", status?.archiveUuid),
    };
  }

  /** All volumes of an archive by name, or why it does not tell them. */
  #askArchive(server: FleetServer): Promise<ReadonlyMap<string, ArchiveVolume> | WalbError> {
    return this.#ask(server, async (call) => {
      const { volumes } = await archiveClient(server).call("status", {}, call);
      return new Map(volumes.map((status) => [status.volume, status]));
    });
  }

  /** Asks a server, unless it let us wait in vain a short while ago. */
  async #ask<Answer>(server: FleetServer, ask: (call: CallOptions) => Promise<Answer>): Promise<Answer | WalbError> {
    const { memory, signal, timeoutMs, nowMs } = this.#options;
    const before = memory.silent.get(server.name);
    const waitMs = (before?.untilMs ?? 0) - nowMs();
    // More than that only because the clock went back.
    if (before !== undefined && waitMs > 0 && waitMs <= silentMs) return before.error;
    memory.silent.delete(server.name);
    try {
      return await ask({ signal, timeoutMs });
    } catch (thrown) {
      const error = asWalbError(thrown);
      if (error.code === "timed-out") memory.silent.set(server.name, { untilMs: nowMs() + silentMs, error });
      return error;
    }
  }

  /** `VOL ADDRESS` of every archive a proxy sends to; a proxy that does not answer tells nothing. */
  async #askProxies(): Promise<ReadonlySet<string>> {
    const { fleet } = this.#options;
    const known = new Set<string>();
    await Promise.all(
      serversOf(fleet, "proxy").map(async (proxy) => {
        const answer = await this.#ask(proxy, (call) => proxyClient(proxy).call("status", {}, call));
        // A dead proxy sends nothing.
        if (answer instanceof WalbError) return;
        for (const { volume, archives } of answer.volumes) {
          for (const { address } of archives) known.add(`${volume} ${address}`);
        }
      }),
    );
    return known;
  }
}

function present<Name extends string, Value>(name: Name, value: Value | undefined): { [key in Name]?: Value } {
  return value === undefined ? {} : ({ [name]: value } as { [key in Name]: Value });
}

/** Works on all items, several at once. */
async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const workers = Array.from({ length: Math.min(inFlightMax, queue.length) }, async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  });
  await Promise.all(workers);
}
