import { expect, test } from "bun:test";
import type { EngineOptions, WriteAheadEngine } from "../../../src/device/user/engine.ts";
import { LogDeviceReader } from "../../../src/log/reader.ts";
import {
  Fate,
  Journal,
  type JournalEvent,
  TestClock,
  TestDisk,
  TestPool,
  TestRandom,
  testCompute,
} from "../../log/doubles.ts";
import { settle } from "../../log/helpers.ts";
import { type Bench, makeBench, openOn } from "./harness.ts";

/*
 * The engine runs on stores that record what happens to them. At an event of the record the power fails: what was synced
 * stays, of the rest any part may stay, down to single sectors. Then the engine is opened again. Since log order is the
 * order of arrival, the volume must be what it was after some prefix of the writes: at least all that was flushed, at
 * most all that was submitted.
 */

const sizeLb = 96;
/** Each block holds the number of the write that wrote it; 0 for zeroes. */
type Picture = Uint32Array;

interface Operation {
  readonly offsetLb: number;
  readonly sizeLb: number;
  readonly value: number;
}

interface Life {
  readonly files: Map<string, Uint8Array>;
  readonly events: readonly JournalEvent[];
  readonly operations: readonly Operation[];
  readonly start: Picture;
}

function pictureOf(data: Uint8Array): Picture {
  const picture = new Uint32Array(sizeLb);
  const words = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
  for (let block = 0; block < sizeLb; block += 1) {
    const value = words[block * 128]!;
    for (let i = 1; i < 128; i += 1) if (words[block * 128 + i] !== value) throw new Error(`block ${block} is torn`);
    picture[block] = value;
  }
  return picture;
}

function copyOf(files: Map<string, Uint8Array>): Map<string, Uint8Array> {
  return new Map([...files].map(([path, bytes]) => [path, bytes.slice()]));
}

function benchOn(files: Map<string, Uint8Array>, seed: number): Bench {
  const disk = new TestDisk({});
  for (const [path, bytes] of files) disk.files.set(path, bytes);
  return {
    disk,
    clock: new TestClock(),
    random: new TestRandom(seed),
    memory: new TestPool(64 << 20),
    compute: testCompute,
  };
}

let nextValue = 1;

/** One life of a device under random work, recorded. It is never closed: it ends by a crash. */
async function live(
  files: Map<string, Uint8Array>,
  start: Picture,
  seed: number,
  options: Partial<EngineOptions>,
  isCached: boolean,
): Promise<Life> {
  const initial = copyOf(files);
  const bench = benchOn(files, seed);
  const { random } = bench;
  const journal = new Journal();
  bench.disk.hooks.journal = journal;
  const fate = new Fate(random);
  const engine = await openOn(bench, options);
  bench.disk.hooks.fate = fate;
  if (isCached) bench.disk.hooks.cached = () => random.chance(0.8);
  const operations: Operation[] = [];
  const { pbsBytes, ringSizePb } = engine.deviceInfo();
  const packPb = Math.floor((options.maxPackBytes ?? 1 << 20) / pbsBytes);
  const pieceLbMax = (Math.min(packPb, Math.floor(ringSizePb / 4)) * pbsBytes) / 512;
  let ackedCount = 0;
  const submit = (): void => {
    const wanted = random.between(1, random.chance(0.1) ? 20 : 5);
    const offsetLb = random.between(0, sizeLb - wanted);
    const isFua = random.chance(0.1);
    const kind = random.fraction();
    // A write larger than a pack is several records, and a crash may come between them.
    const pieceLb = kind >= 0.8 && kind < 0.95 ? wanted : pieceLbMax;
    const pieceCount = Math.ceil(wanted / pieceLb);
    const number = operations.length + pieceCount;
    const done = (error: unknown): void => {
      if (error !== undefined) throw new Error(`a write failed: ${error}`);
      ackedCount += pieceCount;
      if (isFua) journal.note("durable", number);
    };
    const value = kind < 0.8 ? nextValue++ : 0;
    for (let atLb = 0; atLb < wanted; atLb += pieceLb) {
      operations.push({ offsetLb: offsetLb + atLb, sizeLb: Math.min(pieceLb, wanted - atLb), value });
    }
    journal.note("submitted", number);
    if (kind < 0.8) {
      const lease = bench.memory.tryLease(
        Math.ceil((wanted * 512) / engine.preferredBlockBytes) * engine.preferredBlockBytes,
      )!;
      new Uint32Array(lease.bytes.buffer, lease.bytes.byteOffset, wanted * 128).fill(value);
      engine.write(offsetLb * 512, wanted * 512, lease, isFua, done);
    } else if (kind < 0.95) {
      engine.discard(offsetLb * 512, wanted * 512, isFua, done);
    } else {
      engine.writeZeroes(offsetLb * 512, wanted * 512, isFua, done);
    }
  };
  const flush = (): void => {
    const covered = ackedCount;
    engine.flush((error) => {
      if (error !== undefined) throw new Error(`a flush failed: ${error}`);
      journal.note("durable", covered);
    });
  };
  const ignore = (): void => {};
  for (let step = 0; step < 110; step += 1) {
    const choice = random.fraction();
    if (choice < 0.3) for (let n = random.between(1, 4); n > 0; n -= 1) submit();
    else if (choice < 0.38) flush();
    else if (choice < 0.41) engine.checkpoint().catch(ignore);
    else if (choice < 0.45) engine.setOldest(engine.deviceStatus().lsids.prevWritten).catch(ignore);
    else if (choice < 0.5) bench.clock.advance(random.between(1, 120));
    else for (let n = random.between(1, 4); n > 0; n -= 1) fate.step();
    await settle(2);
  }
  if (engine.readOnlyReason !== undefined) throw new Error(`read-only: ${engine.readOnlyReason}`);
  return { files: initial, events: [...journal.events], operations, start };
}

/** What is on the stores when the power fails right before event `at`. */
function crash(life: Life, at: number, random: TestRandom): Map<string, Uint8Array> {
  const files = copyOf(life.files);
  const keep = random.between(0, 3);
  const writtenAt = new Map<number, number>();
  const syncedFrom = new Map<string, number>();
  const syncBegan = new Map<number, number>();
  life.events.slice(0, at).forEach((event, i) => {
    if (event.kind === "written") writtenAt.set(event.id, i);
    if (event.kind === "sync") syncBegan.set(event.id, i);
    if (event.kind === "synced") {
      syncedFrom.set(event.path, Math.max(syncedFrom.get(event.path) ?? -1, syncBegan.get(event.id)!));
    }
  });
  for (const event of life.events.slice(0, at)) {
    if (event.kind !== "write") continue;
    const file = files.get(event.path)!;
    const isDurable = (writtenAt.get(event.id) ?? Number.POSITIVE_INFINITY) < (syncedFrom.get(event.path) ?? -1);
    if (isDurable || keep === 1) {
      file.set(event.bytes, event.offsetBytes);
    } else if (keep >= 2) {
      const fate = keep === 3 ? 0.9 : random.fraction();
      if (fate < 0.3) continue;
      for (let sector = 0; sector < event.bytes.length; sector += 512) {
        if (fate > 0.7 && random.chance(0.5)) continue;
        file.set(event.bytes.subarray(sector, sector + 512), event.offsetBytes + sector);
      }
    }
  }
  return files;
}

/** Opens the stores and checks them; returns the picture of the volume. */
async function recover(files: Map<string, Uint8Array>, options: Partial<EngineOptions>): Promise<Picture> {
  const bench = benchOn(files, 1);
  const engine: WriteAheadEngine = await openOn(bench, options);
  const { lsids, isOverflow } = engine.deviceStatus();
  expect(lsids.latest).toBe(lsids.prevWritten);
  expect(lsids.oldest).toBeLessThanOrEqual(lsids.latest);
  if (!isOverflow) {
    const { ringSizePb, ringOffsetPb, pbsBytes, salt } = engine.deviceInfo();
    const ring = { ringSizePb, ringOffsetPb, pbsBytes, salt };
    const reader = new LogDeviceReader({
      file: await engine.openLog(),
      ring,
      pool: bench.memory,
      compute: testCompute,
    });
    for await (const batch of reader.packs(lsids.oldest, lsids.latest)) batch.release();
  }
  return pictureOf(bench.disk.files.get("data")!);
}

/** The prefix of operations that gives the picture, or undefined. */
function prefixOf(life: Life, picture: Picture, min: number, max: number): number | undefined {
  const state = life.start.slice();
  for (let count = 0; ; count += 1) {
    if (count >= min && state.every((value, i) => value === picture[i])) return count;
    if (count === max) return undefined;
    const { offsetLb, sizeLb: size, value } = life.operations[count]!;
    state.fill(value, offsetLb, offsetLb + size);
  }
}

const crashPoints = Number(process.env.WALB_CRASH_POINTS ?? 8000);
const firstSeed = Number(process.env.WALB_CRASH_SEED ?? 1);
const lifeCount = 4;
const pointsPerLife = 30;

test(
  `after a power failure at any of ${crashPoints} points the volume is a prefix of its writes, with all that was flushed`,
  async () => {
    let checked = 0;
    for (let seed = firstSeed; checked < crashPoints; seed += 1) {
      const random = new TestRandom(seed);
      const pbsBytes = random.chance(0.7) ? 512 : 4096;
      const options = { overflow: "keep-writing", maxPackBytes: random.chance(0.5) ? 4 * pbsBytes : 1 << 20 } as const;
      const bench = await makeBench({ seed, pbsBytes, ringPb: random.between(90, 240), sizeLb });
      let { files } = bench.disk;
      let start: Picture = new Uint32Array(sizeLb);
      for (let generation = 0; generation < lifeCount; generation += 1) {
        const life = await live(files, start, random.u32(), options, random.chance(0.5));
        const syncs = life.events.flatMap((event, i) =>
          event.kind === "synced" || event.kind === "sync" ? [i, i + 1] : [],
        );
        let next: { files: Map<string, Uint8Array>; picture: Picture } | undefined;
        for (let point = 0; point < pointsPerLife; point += 1) {
          const atSync = random.chance(0.5) && syncs.length > 0;
          const at = atSync ? syncs[random.between(0, syncs.length - 1)]! : random.between(0, life.events.length);
          let min = 0;
          let max = 0;
          for (const event of life.events.slice(0, at)) {
            if (event.kind !== "note") continue;
            if (event.note === "durable") min = Math.max(min, event.value);
            else max = event.value;
          }
          const crashed = crash(life, at, random);
          const where = `seed ${seed}, generation ${generation}, point ${point}, event ${at} of ${life.events.length}`;
          let picture: Picture;
          try {
            picture = await recover(copyOf(crashed), options);
          } catch (error) {
            throw new Error(where, { cause: error });
          }
          if (prefixOf(life, picture, min, max) === undefined) {
            throw new Error(
              `${where}: ${[...picture]} is no prefix of ${min} to ${max} writes after ${[...life.start]}`,
            );
          }
          checked += 1;
          if (point === pointsPerLife - 1 || random.chance(0.2)) next = { files: crashed, picture };
        }
        files = next!.files;
        start = next!.picture;
      }
    }
    expect(checked).toBeGreaterThanOrEqual(crashPoints);
  },
  Math.max(120_000, crashPoints * 5),
);
