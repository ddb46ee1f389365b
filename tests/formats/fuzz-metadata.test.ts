import { expect, test } from "bun:test";
import { readLegacyArchiveVolume, writeLegacyArchiveVolume } from "../../src/legacy/archive.ts";
import { readLegacyProxyVolume, writeLegacyProxyVolume } from "../../src/legacy/proxy.ts";
import { QueueFile } from "../../src/legacy/queue.ts";
import {
  decodeQueue,
  encodeQueue,
  type LegacyStorageVolume,
  readLegacyStorageVolume,
  writeLegacyStorageVolume,
} from "../../src/legacy/storage.ts";
import { sealBlock, walbChecksum } from "../../src/log/checksum.ts";
import { SeededRandom } from "../../src/log/generate-random.ts";
import { Codec } from "../../src/native/codec.ts";
import type { Random } from "../../src/platform/clock.ts";
import { diffFileName, parseDiffFileName } from "../../src/snapshot/filename.ts";
import {
  diffLineText,
  diffText,
  diffVerboseText,
  parseDiffText,
  parseGid,
  parseSnapshot,
  parseState,
  snapshotText,
  stateText,
  stateTimeText,
} from "../../src/snapshot/text.ts";
import { parseCompactTime, parseTime, timeText } from "../../src/snapshot/time.ts";
import {
  applyingState,
  diffMeta,
  isSameDiff,
  isSameSnapshot,
  isSameState,
  plainState,
  snapshot,
} from "../../src/snapshot/types.ts";
import { fuzz, mutate, mutateText } from "../helpers/fuzz.ts";
import { createMemoryIo } from "../helpers/memory-disk.ts";

const io = createMemoryIo();
const pools = [io.memory, io.readPool];
const seeded = new SeededRandom(1);
const chance: Random = {
  bytes: (sizeBytes) => seeded.bytes(sizeBytes),
  u32: () => seeded.u32(),
  fraction: () => seeded.u32() / 2 ** 32,
};

/** Throws what is no WalbError, so that a wrong answer is not taken for a refusal. */
function demand(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

const pointAt = (lsid: number, gid: bigint, i: number) => ({
  isMergeable: i % 2 === 0,
  timestampS: 1_400_000_000 + i,
  lsid,
  gid,
});

const storageVolume: LegacyStorageVolume = {
  devicePath: "/dev/walb/vol0",
  state: "Target",
  uuid: "0123456789abcdef0123456789abcdef",
  done: pointAt(100, 1n, 0),
  queue: Array.from({ length: 12 }, (_, i) => pointAt(90_000 - i * 700, 70_000n - BigInt(i) * 300n, i)),
};

test("mutated queue files give the records they hold, or a refusal that says where", async () => {
  const valid = encodeQueue(storageVolume.queue, 0x1234_5678);
  const { rounds, refused, taken } = await fuzz({
    share: 0.12,
    attempt: (random) => {
      const bytes = mutate(valid.subarray(0, 4096), random);
      if (random.chance(0.7)) repairQueue(bytes);
      const queue = decodeQueue(bytes, "/queue");
      const again = decodeQueue(encodeQueue(queue, 5), "/queue");
      demand(Bun.deepEquals(queue, again), "the records change when they are written again");
      const file = QueueFile.decode(bytes, "/queue");
      file.pushFront(new Uint8Array(9));
      file.popBack();
      file.compact();
      demand(QueueFile.decode(file.bytes(), "/queue").count === file.count, "the queue cannot be used");
    },
  });
  expect(refused).toBeGreaterThan(rounds / 20);
  expect(taken).toBeGreaterThan(rounds / 20);
}, 600_000);

/** Makes headers and checksums of records right again, as far as the links can be followed. */
function repairQueue(bytes: Uint8Array): void {
  if (bytes.length < 72) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint32(0, 0x119d_83a7, true);
  const end = Number(view.getBigUint64(20, true));
  for (let at = Number(view.getBigUint64(12, true)); at < end && 56 + at + 16 < bytes.length; ) {
    const size = view.getUint32(56 + at + 8, true);
    const data = bytes.subarray(56 + at + 16, 56 + at + 16 + size);
    view.setUint32(56 + at + 4, walbChecksum(data, view.getUint32(8, true)), true);
    at += 16 + size;
  }
  sealBlock(bytes.subarray(0, 28), 4, 0);
}

test("mutated volume directories are read as what they say, or refused naming the file", async () => {
  const base = {
    state: "Archived",
    uuid: storageVolume.uuid,
    archiveUuid: "fedcba9876543210fedcba9876543210",
    base: applyingState(snapshot(5n, 10n), snapshot(25n), 1_400_000_000),
    colds: [{ gid: 3n, timestampS: 1_400_000_000 }],
    fullRepl: { state: plainState(snapshot(3n), 1_400_000_000), progressLb: 2048, timestampS: 1_400_000_001 },
  } as const;
  const archives = [
    {
      name: "a1",
      target: {
        host: "192.168.0.1",
        port: 10000,
        compress: { codec: Codec.gzip, level: 6, cpuCount: 4 },
        sendDelayS: 300,
      },
    },
  ];
  await writeLegacyStorageVolume(io.disk, chance, "/storage", storageVolume);
  await writeLegacyProxyVolume(io.disk, "/proxy", { sizeLb: 123_456_789, archives });
  await writeLegacyArchiveVolume(io.disk, "/archive", base);
  const files = ["path", "state", "uuid", "done"].map((name) => `/storage/${name}`);
  files.push("/proxy/size", "/proxy/a1.archive");
  for (const name of ["state", "uuid", "archive_uuid", "base", "3.cold", "full_repl_state"])
    files.push(`/archive/${name}`);
  const originals = new Map(files.map((path) => [path, io.disk.get(path).slice()]));
  const { rounds, refused, taken } = await fuzz({
    share: 0.25,
    pools,
    attempt: async (random) => {
      const path = files[random.below(files.length)]!;
      io.disk.put(path, mutate(originals.get(path)!, random));
      try {
        if (path.startsWith("/storage")) {
          const volume = await readLegacyStorageVolume(io, "/storage");
          await writeLegacyStorageVolume(io.disk, chance, "/again", volume);
          demand(Bun.deepEquals(await readLegacyStorageVolume(io, "/again"), volume), `${path} is read wrongly`);
        } else if (path.startsWith("/proxy")) {
          const volume = await readLegacyProxyVolume(io.disk, "/proxy");
          await writeLegacyProxyVolume(io.disk, "/again2", volume);
          demand(Bun.deepEquals(await readLegacyProxyVolume(io.disk, "/again2"), volume), `${path} is read wrongly`);
        } else {
          const volume = await readLegacyArchiveVolume(io.disk, "/archive");
          await writeLegacyArchiveVolume(io.disk, "/again3", volume);
          demand(Bun.deepEquals(await readLegacyArchiveVolume(io.disk, "/again3"), volume), `${path} is read wrongly`);
        }
      } finally {
        io.disk.put(path, originals.get(path)!.slice());
      }
    },
  });
  expect(refused).toBeGreaterThan(rounds / 20);
  expect(taken).toBeGreaterThan(rounds / 100);
}, 600_000);

test("mutated names and texts are read as what they say, or refused naming the field", async () => {
  const clean = diffMeta({ from: snapshot(0n), to: snapshot(1n), isMergeable: true, timestampS: 1_400_000_000 });
  const dirty = diffMeta({
    from: snapshot(300n, 70_000n),
    to: snapshot(70_001n, 5_000_000_000n),
    isCompared: true,
    timestampS: 1_500_000_000,
    dataSizeBytes: 123_456,
  });
  const state = applyingState(snapshot(5n, 10n), snapshot(25n, 2n ** 64n - 1n), 1_400_000_000);
  const targets: readonly (readonly [string, (text: string) => void])[] = [
    ...[clean, dirty].map(
      (diff) =>
        [
          diffFileName(diff),
          (text: string) => {
            const read = parseDiffFileName(text);
            demand(Bun.deepEquals(parseDiffFileName(diffFileName(read)), read), `${text} is read wrongly`);
          },
        ] as const,
    ),
    ...[diffText(dirty), diffLineText(dirty), diffVerboseText(clean)].map(
      (text) =>
        [
          text,
          (mutated: string) => {
            const read = parseDiffText(mutated);
            demand(isSameDiff(parseDiffText(diffLineText(read)), read), `${mutated} is read wrongly`);
          },
        ] as const,
    ),
    [
      snapshotText(snapshot(5n, 10n)),
      (text) => {
        const read = parseSnapshot(text);
        demand(isSameSnapshot(parseSnapshot(snapshotText(read)), read), `${text} is read wrongly`);
      },
    ],
    ...[stateText(state), stateTimeText(state), stateText(plainState(snapshot(7n), 0))].map(
      (text) =>
        [
          text,
          (mutated: string) => {
            const read = parseState(mutated, 1_400_000_000);
            const again = parseState(stateTimeText(read), 0);
            demand(isSameState(again, read) && again.timestampS === read.timestampS, `${mutated} is read wrongly`);
          },
        ] as const,
    ),
    ["18446744073709551615", (text) => demand(parseGid(text) < 2n ** 64n, `${text} is read wrongly`)],
    ["20140513165320", (text) => demand(Number.isSafeInteger(parseCompactTime(text)), `${text} is read wrongly`)],
    [
      "2014-05-13T16:53:20",
      (text) => {
        const read = parseTime(text);
        demand(parseTime(timeText(read)) === read, `${text} is read wrongly`);
      },
    ],
  ];
  const { rounds, refused, taken } = await fuzz({
    share: 0.33,
    hasFile: false,
    attempt: (random) => {
      const [text, check] = targets[random.below(targets.length)]!;
      check(mutateText(text, random));
    },
  });
  expect(refused).toBeGreaterThan(rounds / 20);
  expect(taken).toBeGreaterThan(rounds / 20);
}, 600_000);
