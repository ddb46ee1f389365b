import { expect, test } from "bun:test";
import type { DiskHooks } from "../../log/doubles.ts";
import { TestRandom } from "../../log/doubles.ts";
import { copyOf, type Life, live, type Picture, type Stores, sizeLb, sizeLbMax, type Work } from "./crash/life.ts";
import { type Recovered, recover } from "./crash/recover.ts";
import { type CrashState, crashStates } from "./crash/states.ts";
import { makeBench } from "./harness.ts";

/*
 * The engine runs on stores that record what happens to them. The power fails around each sync: what was synced stays,
 * of the rest any part may stay, down to single sectors. Then the engine is opened again. Since log order is the order of
 * arrival, the volume must be what it was after some prefix of the writes: at least all that was flushed, at most all
 * that was submitted; and as large as it was said to be, at least. One of the crashed states is where the next life goes on.
 */

const crashPoints = Number(process.env.WALB_CRASH_POINTS ?? 100_000);
const firstSeed = Number(process.env.WALB_CRASH_SEED ?? 1);
const livesPerSeed = 3;
const samples = 8;

/** Crashes a seed's engine at `pointsMax` points at most; returns their number. @throws at the first wrong outcome. */
async function crashSeed(
  seed: number,
  pointsMax: number,
  forgets?: DiskHooks["forgets"],
  grows = true,
): Promise<number> {
  const random = new TestRandom(seed);
  const pbsBytes = random.chance(0.7) ? 512 : 4096;
  const work: Work = {
    options: {
      overflow: "keep-writing",
      maxPackBytes: random.chance(0.5) ? 4 * pbsBytes : 1 << 20,
      // Some see checkpoints by time, too.
      checkpointIntervalMs: seed % 2 === 0 ? 60 : 10_000,
    },
    // Redo cannot tell zeroes that were written from a discard that a careless one leaves out.
    hasZeroes: forgets === undefined,
    grows,
    forgets,
  };
  const bench = await makeBench({ seed, pbsBytes, ringPb: random.between(60, pbsBytes === 512 ? 180 : 90), sizeLb });
  let stores: Stores = bench.disk.files;
  let start: Recovered = { picture: new Uint32Array(sizeLbMax), sizeLb };
  let points = 0;
  for (let generation = 0; generation < livesPerSeed && points < pointsMax; generation += 1) {
    const life = await live(stores, start, random.u32(), work);
    const prefixes = prefixesOf(life);
    let next: { stores: Stores; start: Recovered } | undefined;
    let sampleCount = 0;
    for (const state of crashStates(life, random, samples)) {
      const recovered = await check(state, work, prefixes, `seed ${seed}, life ${generation}`);
      points += 1;
      if (points === pointsMax) return points;
      // Torn states with much unsynced make the next life hard; any of them is as likely.
      if (state.what.startsWith("the first")) continue;
      sampleCount += 1;
      if (random.chance(1 / sampleCount)) next = { stores: copyOf(state.stores), start: recovered };
    }
    ({ stores, start } = next!);
  }
  return points;
}

/** By picture: after how many writes the volume looked so. */
function prefixesOf(life: Life): Map<string, number[]> {
  const prefixes = new Map<string, number[]>();
  for (const [count, picture] of life.pictures.entries()) {
    const key = keyOf(picture);
    const counts = prefixes.get(key);
    if (counts === undefined) prefixes.set(key, [count]);
    else counts.push(count);
  }
  return prefixes;
}

const keyOf = (picture: Picture): string => Buffer.from(picture.buffer).toString("latin1");

async function check(
  state: CrashState,
  work: Work,
  prefixes: Map<string, number[]>,
  where: string,
): Promise<Recovered> {
  const { at, what, durableCount, submittedCount, grownLb, growingLb } = state;
  let recovered: Recovered;
  try {
    recovered = await recover(state.stores, work);
  } catch (error) {
    throw new Error(`${where}, event ${at}, ${what}`, { cause: error });
  }
  const { picture, sizeLb: foundLb } = recovered;
  if (foundLb < grownLb || foundLb > growingLb) {
    const due = `of ${growingLb} blocks ${grownLb} were there`;
    throw new Error(`${where}, event ${at}, ${what}: ${due}, but there are ${foundLb}`);
  }
  const counts = prefixes.get(keyOf(picture)) ?? [];
  if (!counts.some((count) => count >= durableCount && count <= submittedCount)) {
    const found = counts.length === 0 ? "no state it ever had" : `as after ${counts.join(", ")} writes`;
    const due = `of ${submittedCount} writes ${durableCount} were durable`;
    throw new Error(`${where}, event ${at}, ${what}: ${due}, but the volume is ${found}`);
  }
  return recovered;
}

test(
  `after a power failure at any of ${crashPoints} points the volume is a prefix of its writes, with all that was flushed`,
  async () => {
    let points = 0;
    for (let seed = firstSeed; points < crashPoints; seed += 1) points += await crashSeed(seed, crashPoints - points);
    expect(points).toBe(crashPoints);
  },
  Math.max(300_000, crashPoints * 5),
);

interface Careless {
  readonly forgets: NonNullable<DiskHooks["forgets"]>;
  readonly grows?: boolean;
  /** In what is found. */
  readonly says?: string;
}

/** Engines that forget what ours takes care of: the crashes must find each of them out. */
const careless: Record<string, Careless> = {
  "redo leaves stale packs in the log, as the kernel driver's": {
    forgets: (operation, path, bytes) => operation === "write" && path === "log" && isZero(bytes),
  },
  "redo makes discards too short, as the kernel driver's": {
    forgets: (operation, path, bytes) => operation === "write" && path === "data" && isZero(bytes),
  },
  "a flush does not sync the log": { forgets: (operation, path) => operation === "sync" && path === "log" },
  "a checkpoint does not sync the data store": {
    forgets: (operation, path) => operation === "sync" && path === "data",
  },
  "the superblock has the new size before the data store does": {
    forgets: (operation, path) => operation === "sync" && path === "data",
    grows: true,
    says: "the data store has",
  },
};

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

for (const [name, { forgets, grows = false, says = "but the volume is" }] of Object.entries(careless)) {
  test(`the same crashes find out an engine that is careless: ${name}`, async () => {
    const found: string[] = [];
    for (let seed = 1; seed <= 40 && !found.some((text) => text.includes(says)); seed += 1) {
      try {
        await crashSeed(seed, 4000, forgets, grows);
      } catch (error) {
        found.push(error instanceof Error && error.cause !== undefined ? `${error}: ${error.cause}` : `${error}`);
      }
    }
    expect(found.join("\n")).toContain(says);
  }, 300_000);
}
