/** @module Faults by seed: a choice of kinds for each run, at random moments, each taken back after a while. */

import { mib } from "../../units.ts";
import type { DiskOperationKind, SimRandom, SimWorld } from "../api.ts";
import { sleep } from "./node.ts";
import type { Site } from "./site.ts";

const kinds = [
  "kill",
  "power",
  "power-silent",
  "armed-kill",
  "armed-power",
  "power-after-snapshot",
  "storage-restart",
  "graceful-restart",
  "cut",
  "cut-after",
  "partition",
  "refuse",
  "slow-network",
  "tiny-pieces",
  "corrupt",
  "disk-error",
  "disk-full",
  "slow-disk",
  "wall-clock",
] as const;
export type FaultKind = (typeof kinds)[number];

/** Brings faults until told to stop. */
export class Fate {
  isStopped = false;
  readonly counts = new Map<FaultKind, number>();
  /** The kinds of this run. */
  readonly chosen: readonly FaultKind[];
  #isSnapshotAwaited = false;
  /** How to take back what lasts. */
  readonly #undo = new Set<() => void>();
  readonly #random: SimRandom;

  constructor(
    private readonly world: SimWorld,
    private readonly site: Site,
    private readonly meanPauseMs: number,
  ) {
    this.#random = world.random.fork("fate");
    const share = this.#random.pick([0.2, 0.4, 0.8]);
    const chosen = kinds.filter(() => this.#random.chance(share));
    this.chosen = chosen.length > 0 ? chosen : [this.#random.pick(kinds)];
  }

  async run(): Promise<void> {
    while (!this.isStopped) {
      await sleep(this.world, this.#random.fraction() * 2 * this.meanPauseMs);
      if (this.isStopped) return;
      const kind = this.#random.pick(this.chosen);
      this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
      this.world.note(`fault ${kind}`);
      this.#bring(kind);
    }
  }

  /** A snapshot was acknowledged: what it promises is put to the test at once. */
  snapshotTaken(): void {
    if (this.isStopped || !this.#isSnapshotAwaited) return;
    this.#isSnapshotAwaited = false;
    const { nodes, source } = this.site;
    const node = this.#random.chance(0.6) ? source : this.#random.pick(nodes);
    const delayMs = this.#random.pick([0, 0, 5, 50, 500]);
    this.world.after(
      delayMs,
      () => {
        if (!this.isStopped) node.crash({ keep: this.#random.pick(["none", "random"]) });
      },
      "fault",
    );
  }

  /** Takes everything back, for good. */
  end(): void {
    this.isStopped = true;
    for (const undo of [...this.#undo]) undo();
    for (const node of this.site.nodes) {
      node.disarm();
      node.hurry();
    }
  }

  #bring(kind: FaultKind): void {
    const random = this.#random;
    const { network } = this.world;
    const node = random.pick(this.site.nodes);
    const [a, b] = this.#pair();
    switch (kind) {
      case "kill":
        node.kill();
        return;
      case "power":
        node.crash({ keep: random.pick(["random", "random", "none", "all"]) });
        return;
      case "power-silent":
        node.crash({ silent: true });
        return;
      case "armed-kill":
        node.arm(random.between(1, 120), !node.mustLosePower);
        return;
      case "armed-power":
        node.arm(random.between(1, 120), false);
        return;
      case "power-after-snapshot":
        this.#isSnapshotAwaited = true;
        return;
      case "storage-restart":
        void this.#restartStorage();
        return;
      case "graceful-restart":
        void node
          .attempt((service) => service.close("graceful"))
          .then((outcome) => {
            if (outcome.kind !== "down") node.kill();
          });
        return;
      case "cut":
        network.cut(a, b);
        return;
      case "cut-after":
        network.cutAfterBytes(a, b, random.between(1, random.pick([300, 5_000, 200_000])));
        return;
      case "partition":
        network.partition(a, b, { oneWay: random.chance(0.3) });
        this.#later(random.between(100, 40_000), () => network.heal(a, b));
        return;
      case "refuse":
        network.refuse(a, b);
        this.#later(random.between(100, 40_000), () => network.accept(a, b));
        return;
      case "slow-network":
        network.setQuality(a, b, {
          latency: { minMs: 5, maxMs: random.between(10, 800) },
          bytesPerSecond: random.between(100_000, 5_000_000),
        });
        this.#later(random.between(500, 20_000), () => this.#usual(a, b));
        return;
      case "tiny-pieces":
        network.setQuality(
          a,
          b,
          random.chance(0.3) ? { maxChunkBytes: 1, windowBytes: 64 } : { maxChunkBytes: random.between(7, 700) },
        );
        this.#later(random.between(50, 400), () => this.#usual(a, b));
        return;
      case "corrupt":
        network.corruptByte(a, b, random.between(0, 50_000), { pieceBytesMin: 4_000 });
        return;
      case "disk-error": {
        const sorts: readonly DiskOperationKind[] = random.pick([
          ["read"],
          ["write"],
          ["sync"],
          ["rename", "remove"],
          ["open"],
        ]);
        const fault = { kinds: sorts, skip: random.between(0, 20), effect: "io" } as const;
        if (node === this.site.source && sorts.includes("sync")) {
          // From here on, as nobody knows when the fault comes.
          node.mustLosePower = true;
          node.disarm();
        }
        this.#keep(node.host.storage.inject(fault));
        return;
      }
      case "disk-full": {
        const { storage } = this.#otherThanSource().host;
        storage.setCapacity(random.between(1, 4) * mib);
        this.#later(random.between(1_000, 30_000), () => storage.setCapacity(2 ** 50));
        return;
      }
      case "slow-disk":
        this.#keep(
          node.host.storage.inject({
            times: random.between(10, 300),
            effect: { minMs: 1, maxMs: random.between(5, 400) },
          }),
        );
        return;
      case "wall-clock":
        node.host.jumpWallClock(random.between(-1, 1) * random.between(0, random.pick([2_000, 90_000, 86_400_000])));
    }
  }

  async #restartStorage(): Promise<void> {
    const { source } = this.site;
    await source.attempt(async (service) => {
      if (service.storage === undefined) return;
      await service.closeStorage(this.#random.pick(["graceful", "force"]));
      try {
        await service.openStorage();
      } catch (error) {
        this.world.note(`the storage cannot start: ${String(error)}`);
        source.kill();
      }
    });
  }

  /** Two hosts that talk to each other. */
  #pair(): [string, string] {
    const { random, relay } = { random: this.#random, relay: this.#random.pick(this.site.relays).name };
    const pairs: [string, string][] = [
      ["pc1", relay],
      [relay, "backup"],
      ["pc1", "backup"],
    ];
    const [a, b] = random.pick(pairs);
    return random.chance(0.5) ? [a, b] : [b, a];
  }

  #otherThanSource() {
    return this.#random.pick([...this.site.relays, this.site.backup]);
  }

  #usual(a: string, b: string): void {
    this.world.network.setQuality(a, b, {
      latency: { minMs: 0.1, maxMs: 1 },
      bytesPerSecond: 1_000_000_000,
      windowBytes: 256 * 1024,
      maxChunkBytes: 64 * 1024,
    });
  }

  #keep(undo: () => void): void {
    this.#undo.add(undo);
  }

  #later(delayMs: number, undo: () => void): void {
    this.#undo.add(undo);
    this.world.after(
      delayMs,
      () => {
        if (this.#undo.delete(undo)) undo();
      },
      "fate relents",
    );
  }
}
