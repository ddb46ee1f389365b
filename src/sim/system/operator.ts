/**
 * @module Whoever looks after the site: keeps a backup in place by the documented procedures, takes snapshots, and gives
 * commands at random.
 */
import type { ArchiveStatus, RestorablePoint } from "../../control/archive-schemas.ts";
import type { ProxyStatus } from "../../control/proxy.ts";
import type { StorageStatus } from "../../control/storage.ts";
import { WalbError } from "../../errors.ts";
import type { SimRandom, SimWorld } from "../api.ts";
import { type Node, type Outcome, type Service, sleep } from "./node.ts";
import type { Oracle } from "./oracle.ts";
import { call, deviceName, type Site, volume } from "./site.ts";
import type { Writer } from "./writer.ts";

/** Looks after a site. */
export class Operator {
  isStopped = false;
  /** Told of each snapshot as it is acknowledged: a good moment for a fault. */
  onSnapshot: (() => void) | undefined;
  backupCount = 0;
  hashBackupCount = 0;
  commandCount = 0;
  overflowCount = 0;
  rebootCount = 0;
  readonly #random: SimRandom;

  constructor(
    private readonly world: SimWorld,
    private readonly site: Site,
    private readonly writer: Writer,
    private readonly oracle: Oracle,
  ) {
    this.#random = world.random.fork("operator");
  }

  /** Makes the volume known everywhere. Without faults. */
  async setUp(): Promise<void> {
    const { source, relays, backup, options } = this.site;
    await this.#untilUp();
    const done = (outcome: Outcome<unknown>): void => {
      if (outcome.kind === "failed") throw outcome.error;
      if (outcome.kind !== "done") throw new WalbError("internal", { what: `a set-up step was ${outcome.kind}` });
    };
    done(
      await source.attempt(async ({ device, storage }) => {
        const sizeBytes = options.sizeLb * 512;
        const { logBytes: logSizeBytes, pbsBytes, overflow } = options;
        await device.create({ name: deviceName, sizeBytes, logSizeBytes, pbsBytes, overflow });
        await call(storage, "init", { volume, device: { kind: "user", name: deviceName } });
      }),
    );
    done(await backup.attempt((role) => call(role, "init", { volume })));
    for (const relay of relays) {
      const archive = { volume, archiveName: "a0", address: "backup:10200" };
      done(await relay.attempt((role) => call(role, "add-archive", archive)));
      done(await relay.attempt((role) => call(role, "start", { volume })));
    }
  }

  /** Until stopped: repairs, snapshots, other commands. */
  async run(isCalm: () => boolean): Promise<void> {
    const random = this.#random;
    while (!this.isStopped) {
      await this.repair();
      if (!isCalm()) {
        for (let i = random.between(0, 3); i > 0 && !this.isStopped; i--) {
          if (random.chance(0.5)) await this.snapshot();
          else await this.#command();
          await sleep(this.world, random.between(1, 500));
        }
      }
      await sleep(this.world, random.between(100, 2_000));
    }
  }

  /** Asks for a snapshot. @returns its gid when it was acknowledged. */
  async snapshot(): Promise<bigint | undefined> {
    const { writer, site } = this;
    if (!writer.isReady) return undefined;
    const least = writer.ackedCount;
    const outcome = await site.source.attempt(async ({ storage }) => {
      const { gid } = await call<{ gid: bigint }>(storage, "snapshot", { volume });
      const most = writer.model.count;
      const { volumes } = await call<StorageStatus>(storage, "status", { volume });
      return { gid, most, uuid: volumes[0]!.uuid! };
    }, 60_000);
    if (outcome.kind !== "done") return undefined;
    const { gid, most, uuid } = outcome.value;
    this.world.note(`snapshot ${gid} of ${least} to ${most} writes`);
    this.oracle.acknowledged(uuid, gid, { least, most });
    // The device has made its log durable before it was acknowledged.
    writer.durableCount = Math.max(writer.durableCount, least);
    this.onSnapshot?.();
    return gid;
  }

  /** One round of putting right what is not as it should be. @returns what was found; empty when all is well. */
  async repair(): Promise<string[]> {
    const found: string[] = [];
    const shown = await this.site.source.attempt(({ device }) => device.show(deviceName), 20_000);
    const device = shown.kind === "done" ? shown.value : undefined;
    const isDeviceBroken = device?.state === "failed" || device?.status?.readOnlyReason !== undefined;
    if (this.writer.isDeviceBroken || isDeviceBroken) {
      found.push("the device is broken");
      await this.#requireTold();
      this.rebootCount += 1;
      this.site.source.crash();
      await this.#untilUp();
    }
    for (const relay of this.site.relays) {
      const [status] = (await this.#ask<ProxyStatus>(relay, (role) => call(role, "status", { volume })))?.volumes ?? [];
      if (status?.state === "Broken") relay.kill();
      if (status?.state !== "Stopped") continue;
      found.push(`${relay.name} is stopped`);
      await this.#try(relay, (role) => call(role, "start", { volume }));
    }
    const archive = await this.archiveVolume();
    const storage = await this.storageVolume();
    if (archive === undefined || storage === undefined) return [...found, "no status"];
    if (archive.state === "Broken" || storage.state === "Broken") {
      // What could not be opened is tried again at the next start.
      found.push("a volume could not be opened");
      (archive.state === "Broken" ? this.site.backup : this.site.source).kill();
      return found;
    }
    if (archive.state === "Stopped" && storage.state === "Target") {
      found.push("the archive is stopped");
      await this.#try(this.site.backup, (role) => call(role, "start", { volume }));
    }
    if (storage.state === "Stopped") {
      found.push("the storage is stopped");
      const isOverflow = storage.isOverflow === true || storage.trouble?.code === "different-uuid";
      if (isOverflow) this.overflowCount += 1;
      if (isOverflow) await this.#try(this.site.source, (source) => call(source.storage, "reset", { volume }));
      else await this.#try(this.site.source, (source) => call(source.storage, "start", { volume, mode: "target" }));
    }
    if (storage.state === "SyncReady") {
      found.push("there is no backup");
      await this.#backup(archive.state);
    }
    return found;
  }

  async storageVolume() {
    const status = await this.#ask<StorageStatus>(this.site.source, ({ storage }) =>
      call(storage, "status", { volume }),
    );
    return status?.volumes[0];
  }

  async archiveVolume() {
    return (await this.#ask<ArchiveStatus>(this.site.backup, (role) => call(role, "status", { volume })))?.volumes[0];
  }

  async proxyVolumes() {
    const all = this.site.relays.map((relay) =>
      this.#ask<ProxyStatus>(relay, (role) => call(role, "status", { volume })),
    );
    return (await Promise.all(all)).map((status) => status?.volumes[0]);
  }

  /** A hash backup where the archive has something to compare with; or a full one, after it was made ready for it. */
  async #backup(archiveState: string): Promise<void> {
    const { backup, source } = this.site;
    if (archiveState === "Archived" && this.#random.chance(0.7)) {
      this.world.note("a full backup is avoided by comparing");
      const done = await this.#try(source, ({ storage }) => call(storage, "backup", { volume, mode: "hash" }));
      if (done) this.hashBackupCount += 1;
      return;
    }
    if (archiveState === "Archived") {
      await this.#try(backup, (role) => call(role, "stop", { volume, mode: "graceful" }));
    }
    if (archiveState !== "SyncReady") await this.#try(backup, (role) => call(role, "reset", { volume }));
    this.world.note("a full backup begins");
    const done = await this.#try(source, ({ storage }) => call(storage, "backup", { volume, mode: "full" }));
    if (done) this.backupCount += 1;
  }

  async #command(): Promise<void> {
    const random = this.#random;
    const { source, backup, relays } = this.site;
    const relay = random.pick(relays);
    const mode = random.pick(["graceful", "force"]);
    this.commandCount += 1;
    switch (
      random.pick([
        "apply",
        "apply",
        "merge",
        "merge",
        "label",
        "source",
        "relay",
        "backup",
        "kick",
        "reset",
        "checkpoint",
      ])
    ) {
      case "apply":
        return this.#apply();
      case "merge": {
        const points = await this.#points();
        if (points.length > 1) {
          const fromGid = random.pick(points).gid;
          await this.#try(backup, (role) => call(role, "merge", { volume, fromGid }));
        }
        return;
      }
      case "label": {
        const points = await this.#points();
        if (points.length === 0) return;
        const { gid } = random.pick(points);
        await this.#try(backup, (role) => call(role, "label-snapshot", { volume, gid, label: `label ${gid}` }));
        return;
      }
      case "source":
        await this.#try(source, ({ storage }) => call(storage, "stop", { volume, mode }));
        await sleep(this.world, random.between(0, 3_000));
        await this.#try(source, ({ storage }) => call(storage, "start", { volume, mode: "target" }));
        return;
      case "relay": {
        // Empty may take for ever while the archive is away.
        const how = random.pick(["graceful", "force", "empty"]);
        await this.#try(
          relay,
          (role) => call(role, "stop", { volume, mode: how }),
          how === "empty" ? 20_000 : undefined,
        );
        await sleep(this.world, random.between(0, 3_000));
        if (how === "empty") await this.#try(relay, (role) => call(role, "stop", { volume, mode: "force" }));
        await this.#try(relay, (role) => call(role, "start", { volume }));
        return;
      }
      case "backup":
        await this.#try(backup, (role) => call(role, "stop", { volume, mode }));
        await sleep(this.world, random.between(0, 3_000));
        await this.#try(backup, (role) => call(role, "start", { volume }));
        return;
      case "reset":
        // Gives the log up; the next round of repairs backs the volume up again.
        await this.#try(source, ({ storage }) => call(storage, "stop", { volume, mode }));
        await this.#try(source, ({ storage }) => call(storage, "reset", { volume }));
        return;
      case "kick":
        await this.#try(source, ({ storage }) => call(storage, "kick", {}));
        await this.#try(relay, (role) => call(role, "kick", {}));
        return;
      default:
        await this.#try(source, ({ device }) => device.checkpoint(deviceName));
    }
  }

  async #apply(): Promise<void> {
    const points = await this.#points();
    const uuid = (await this.archiveVolume())?.uuid;
    if (points.length === 0 || uuid === undefined) return;
    const { gid } = this.#random.pick(points);
    this.oracle.applying(uuid, gid);
    await this.#try(this.site.backup, (role) => call(role, "apply", { volume, gid }));
  }

  async #points(): Promise<RestorablePoint[]> {
    const listed = await this.#ask<{ snapshots: RestorablePoint[] }>(this.site.backup, (role) =>
      call(role, "snapshots", { volume, all: true }),
    );
    return listed?.snapshots ?? [];
  }

  async #ask<T>(node: Node<never> | Site["source"] | Site["backup"], work: (service: never) => Promise<unknown>) {
    const outcome = await (node as Node<Service>).attempt(work as (service: Service) => Promise<unknown>, 60_000);
    return outcome.kind === "done" ? (outcome.value as T) : undefined;
  }

  /** @returns whether it went well. @throws when it hangs. */
  async #try<S extends Service>(node: Node<S>, work: (service: S) => Promise<unknown>, limitMs?: number) {
    const outcome = await node.attempt(work, limitMs ?? 1_800_000);
    if (outcome.kind === "failed") {
      const { code, message } = outcome.error;
      this.world.note(`a command failed: ${code}: ${message}`);
      if (code === "internal") throw new Error(`a command failed unexpectedly: ${message}`, { cause: outcome.error });
    }
    if (outcome.kind === "late" && limitMs === undefined) throw new Error(`a command on ${node.name} hangs`);
    return outcome.kind === "done";
  }

  /** A device that takes no more writes must show in the status of the storage. */
  async #requireTold(): Promise<void> {
    const shown = await this.site.source.attempt(async ({ device, storage }) => {
      const { volumes } = await call<StorageStatus>(storage, "status", { volume });
      return { device: await device.show(deviceName), trouble: volumes[0]?.trouble };
    }, 20_000);
    if (shown.kind !== "done" || shown.value.device.status?.readOnlyReason === undefined) return;
    if (shown.value.trouble !== undefined) return;
    throw new Error("the device takes no more writes, and the status of the storage does not tell");
  }

  async #untilUp(): Promise<void> {
    while (this.site.nodes.some((node) => node.service === undefined)) await sleep(this.world, 50);
  }
}
