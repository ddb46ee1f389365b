/**
 * @module What must hold: every point of the archive is the volume at one moment of its history, in order, with all that
 * was written before its snapshot; no snapshot that was acknowledged is lost.
 */
import type { ArchiveStatus, RestorablePoint } from "../../control/archive-schemas.ts";
import type { RunningRole } from "../../control/role.ts";
import type { SimRandom, SimWorld } from "../api.ts";
import type { Match, VolumeModel } from "./model.ts";
import type { Node } from "./node.ts";
import { call, volume } from "./site.ts";

/** What a snapshot may hold: at least the writes answered before it was asked for, at most those sent before its answer. */
export interface SnapshotRange {
  least: number;
  readonly most: number;
}

/** One log of the device, from a reset to the next, and what the archive has of it. */
interface Chain {
  readonly uuid: string;
  /** Acknowledged snapshots. */
  readonly snapshots: Map<bigint, SnapshotRange>;
  /** Points as they were found. */
  readonly points: Map<bigint, Match>;
  /** Older points may be gone: an apply up to here was asked for. */
  appliedGid: bigint;
}

/** Checks the archive against the model. */
export class Oracle {
  restoreCount = 0;
  snapshotCount = 0;
  readonly #chains = new Map<string, Chain>();
  readonly #random: SimRandom;
  #fileCount = 0;

  constructor(
    private readonly world: SimWorld,
    private readonly node: Node<RunningRole>,
    private readonly model: VolumeModel,
  ) {
    this.#random = world.random.fork("oracle");
  }

  /** A snapshot was acknowledged. @throws when its gid was given out before. */
  acknowledged(uuid: string, gid: bigint, range: SnapshotRange): void {
    const chain = this.#chain(uuid);
    if (chain.snapshots.has(gid)) throw new Error(`gid ${gid} of log ${uuid} was given out twice`);
    for (const [other, known] of chain.snapshots) {
      if (other > gid && known.most < range.least) throw new Error(`gid ${gid} is newer than ${other}, but smaller`);
    }
    chain.snapshots.set(gid, range);
    this.snapshotCount += 1;
  }

  /** An apply was begun: points before it may be gone from now on. */
  applying(uuid: string, gid: bigint): void {
    const chain = this.#chain(uuid);
    if (gid > chain.appliedGid) chain.appliedGid = gid;
  }

  /**
   * Restores points and compares them. A restore that a fault breaks off counts for nothing unless `isCalm`.
   * @param countMax points to look at, chosen at random; the newest is always one of them.
   * @throws when a point is wrong.
   */
  async check(countMax: number, isCalm = false): Promise<number> {
    const listed = await this.node.attempt(async (role) => {
      const { volumes } = await call<ArchiveStatus>(role, "status", { volume });
      const { snapshots } = await call<{ snapshots: RestorablePoint[] }>(role, "snapshots", { volume, all: true });
      return { uuid: volumes[0]?.uuid, state: volumes[0]?.state, points: snapshots };
    });
    if (listed.kind !== "done") {
      if (isCalm) throw new Error(`the points cannot be listed: ${JSON.stringify(listed)}`);
      return 0;
    }
    const { uuid, points } = listed.value;
    if (uuid === undefined || points.length === 0) return 0;
    if (isCalm) this.#requireSnapshots(uuid, points);
    const chosen = new Set([points.length - 1]);
    while (chosen.size < Math.min(countMax, points.length)) chosen.add(this.#random.between(0, points.length - 1));
    let checked = 0;
    for (const index of [...chosen].toSorted((a, b) => a - b)) {
      if (await this.#restore(uuid, points[index]!, isCalm)) checked += 1;
    }
    return checked;
  }

  /** Restores one point, at the end, and compares it with the volume now. */
  async expectNow(gid: bigint): Promise<void> {
    const image = await this.#image(gid);
    if (typeof image === "string") throw new Error(`gid ${gid} cannot be restored: ${image}`);
    const { count } = this.model;
    if (this.model.match(image, count, count) === undefined) {
      throw new Error(`gid ${gid} is not the volume as it is: ${this.model.difference(image, count)}`);
    }
  }

  #chain(uuid: string): Chain {
    const known = this.#chains.get(uuid);
    if (known !== undefined) return known;
    const chain: Chain = { uuid, snapshots: new Map(), points: new Map(), appliedGid: 0n };
    this.#chains.set(uuid, chain);
    return chain;
  }

  #requireSnapshots(uuid: string, points: readonly RestorablePoint[]): void {
    const chain = this.#chain(uuid);
    const there = new Set(points.map((point) => point.gid));
    for (const gid of chain.snapshots.keys()) {
      if (there.has(gid) || gid < chain.appliedGid) continue;
      const list = points.map((point) => point.gid).join(" ");
      throw new Error(`the acknowledged snapshot ${gid} of log ${uuid} is lost; the archive has: ${list}`);
    }
  }

  async #restore(uuid: string, point: RestorablePoint, isCalm: boolean): Promise<boolean> {
    const { gid } = point;
    const image = await this.#image(gid);
    if (typeof image === "string") {
      if (isCalm) throw new Error(`gid ${gid} cannot be restored: ${image}`);
      this.world.note(`restore of gid ${gid} broke off: ${image}`);
      return false;
    }
    this.restoreCount += 1;
    const chain = this.#chain(uuid);
    const range = chain.snapshots.get(gid);
    const from = Math.max(range?.least ?? 0, ...older(chain, gid).map((match) => match.first));
    const to = Math.min(range?.most ?? this.model.count, ...newer(chain, gid).map((match) => match.last));
    const match = this.#match(image, gid, from, to);
    if (match === undefined) {
      const any = this.model.match(image);
      const how =
        any === undefined
          ? this.model.difference(image, to)
          : `it is the state after ${any.first} to ${any.last} writes`;
      throw new Error(
        `gid ${gid} of log ${uuid} is wrong: it must be the volume after ${from} to ${to} writes, but ${how}`,
      );
    }
    const before = chain.points.get(gid);
    if (before !== undefined && (match.last < before.first || before.last < match.first)) {
      throw new Error(`gid ${gid} was the volume after ${before.first} writes and is now that after ${match.first}`);
    }
    chain.points.set(gid, match);
    return true;
  }

  #match(image: Uint8Array, gid: bigint, from: number, to: number): Match | undefined {
    try {
      return this.model.match(image, from, to);
    } catch (error) {
      throw new Error(`gid ${gid}: ${String(error)}`);
    }
  }

  /** The volume at a gid, or why not. */
  async #image(gid: bigint): Promise<Uint8Array | string> {
    this.#fileCount += 1;
    const to = `/restored/${this.#fileCount}.img`;
    const outcome = await this.node.attempt(async (role) => {
      await this.node.host.platform.disk.makeDirectory("/restored");
      await call(role, "restore", { volume, gid, to, overwrite: true });
      const image = this.node.host.storage.peek(to, 0, this.model.sizeLb * 512);
      await this.node.host.platform.disk.remove(to);
      return image;
    });
    if (outcome.kind === "done") return outcome.value;
    return outcome.kind === "failed" ? `${outcome.error.code}: ${outcome.error.message}` : outcome.kind;
  }
}

function older(chain: Chain, gid: bigint): Match[] {
  return [...chain.points].filter(([other]) => other < gid).map(([, match]) => match);
}

function newer(chain: Chain, gid: bigint): Match[] {
  return [...chain.points].filter(([other]) => other > gid).map(([, match]) => match);
}
