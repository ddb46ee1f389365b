/** @module Days of virtual time of three archives that are kept identical, with cuts, restarts and housekeeping. */
import { deepStrictEqual } from "node:assert/strict";
import { type ArchiveName, archiveNames, ReplicaSite } from "./replica-site.ts";

const hourMs = 3_600_000;
const links = [
  ["pc", "relay"],
  ["relay", "a0"],
  ["relay", "a1"],
  ["a0", "a2"],
] as const;

/** A broken line, in one of the ways it breaks. */
function fault(site: ReplicaSite): void {
  const { random, network } = site.world;
  const [from, to] = random.pick(links);
  switch (random.pick(["cut", "after", "back", "partition"] as const)) {
    case "cut":
      network.cut(from, to);
      return;
    case "after":
      network.cutAfterBytes(from, to, random.between(1, 40_000));
      return;
    case "back":
      network.cutAfterBytes(to, from, random.between(1, 400));
      return;
    case "partition":
      network.partition(from, to);
      site.world.after(random.between(1_000, hourMs / 2), () => network.heal(from, to));
  }
}

/** What an archive's owner does now and then. */
async function housekeeping(site: ReplicaSite, name: ArchiveName): Promise<void> {
  const { random } = site.world;
  const gids = await site.gids(name);
  if (gids.length < 4) return;
  const gid = gids[random.between(0, gids.length >> 1)]!;
  const work = random.chance(0.5)
    ? site.command(name, "apply", { gid })
    : site.command(name, "merge", { fromGid: gid });
  // Another apply, a reception or nothing to merge may be in the way.
  await work.catch(() => undefined);
}

/** Every archive is at the newest point, and every point that somebody took is what the volume was. */
async function expectIdentical(site: ReplicaSite): Promise<number> {
  let compared = 0;
  for (const [from, to] of links) site.world.network.heal(from, to);
  for (const name of archiveNames) await site.arrived(name);
  for (const name of archiveNames) {
    const gids = await site.gids(name);
    const oldest = gids[0]!;
    const taken = [...site.snapshots.keys()].filter((gid) => gid >= oldest);
    deepStrictEqual(
      taken.filter((gid) => !gids.includes(gid)),
      [],
      `points that archive ${name} has not`,
    );
    const { random } = site.world;
    const chosen = new Set([taken.at(-1)!, taken[0]!, random.pick(taken), random.pick(taken)]);
    for (const gid of chosen) {
      const image = await site.image(name, gid);
      const isSame = image.equals(site.snapshots.get(gid)!);
      deepStrictEqual({ name, gid, isSame }, { name, gid, isSame: true });
      compared += 1;
    }
  }
  return compared;
}

/** What a run did. */
export interface ReplicaReport {
  /** Points compared with what the volume was. */
  readonly compared: number;
  readonly virtualMs: number;
  readonly events: number;
}

/** Runs one seed. @throws when an archive is not what it must be. */
export async function simulateReplicas(seed: number, days: number): Promise<ReplicaReport> {
  const site = new ReplicaSite(seed, 512);
  const { random } = site.world;
  let compared = 0;
  try {
    await site.open();
    await site.begin();
    for (let day = 0; day < days; day++) {
      for (let hour = 0; hour < 24; hour++) {
        for (let i = random.between(0, 2); i > 0; i--) fault(site);
        await site.write(random.between(0, 6));
        if (random.chance(0.5)) await site.snapshot();
        if (random.chance(0.1)) await housekeeping(site, random.pick(archiveNames));
        if (random.chance(0.05)) await site.restart(random.pick(archiveNames));
        await site.world.run(random.between(hourMs / 2, hourMs));
        deepStrictEqual(site.failures, []);
      }
      await site.snapshot();
      compared += await expectIdentical(site);
    }
    return { compared, virtualMs: site.world.nowMs(), events: site.world.eventCount };
  } finally {
    site.close();
  }
}
