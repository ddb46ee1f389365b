import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type LegacyArchiveVolume,
  readLegacyArchiveVolume,
  writeLegacyArchiveVolume,
} from "../../src/legacy/archive.ts";
import { readLegacyProxyVolume, writeLegacyProxyVolume } from "../../src/legacy/proxy.ts";
import {
  type LegacyStorageVolume,
  readLegacyStorageVolume,
  writeLegacyStorageVolume,
} from "../../src/legacy/storage.ts";
import { Codec } from "../../src/native/codec.ts";
import { createPlatform } from "../../src/platform/real/index.ts";
import { plainState, snapshot, unsetSnapshot } from "../../src/snapshot/types.ts";
import { u64Max } from "../../src/units.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const platform = createPlatform({ memoryBudgetBytes: 64 * 1024 * 1024, threads: 2 });
const { disk, random } = platform;
const uuid = "0123456789abcdef0123456789abcdef";
const zeroUuid = "0".repeat(32);

const storageVolume: LegacyStorageVolume = {
  devicePath: "/dev/walb/vol0",
  state: "Target",
  uuid,
  done: { isMergeable: true, timestampS: 1_400_000_000, lsid: 100, gid: 1n },
  queue: [
    { isMergeable: true, timestampS: 1_400_000_300, lsid: 5_000_000_000, gid: 2n ** 63n },
    { isMergeable: false, timestampS: 1_400_000_100, lsid: 2000, gid: 6n },
  ],
};

const archiveVolume: LegacyArchiveVolume = {
  state: "Archived",
  uuid,
  archiveUuid: "fedcba9876543210fedcba9876543210",
  base: plainState(snapshot(5n, 10n), 1_400_000_000),
  colds: [
    { gid: 3n, timestampS: 1_400_000_000 },
    { gid: 20n, timestampS: 1_400_000_500 },
  ],
  fullRepl: { state: plainState(snapshot(3n), 1_400_000_000), progressLb: 2048, timestampS: 1_400_000_001 },
  diffs: [],
  leftovers: [],
};

describe("a volume directory of the original's storage daemon", () => {
  test("is read as it was written, with the published bytes", async () => {
    await withTemporaryDirectory(async (directory) => {
      await writeLegacyStorageVolume(disk, random, directory, storageVolume);
      expect(await readLegacyStorageVolume(platform, directory)).toEqual(storageVolume);
      const hex = (name: string): string => readFileSync(join(directory, name)).toString("hex");
      expect(hex("state")).toBe(`06${Buffer.from("Target").toString("hex")}`);
      expect(hex("path")).toBe(`0e${Buffer.from("/dev/walb/vol0").toString("hex")}`);
      expect(hex("uuid")).toBe(uuid);
      expect(hex("done")).toBe("14030182004e72536401");
      expect(readFileSync(join(directory, "queue")).length).toBe(4096);
    });
  });

  test("just initialised has no delivered point", async () => {
    await withTemporaryDirectory(async (directory) => {
      const fresh: LegacyStorageVolume = {
        devicePath: "/dev/walb/v",
        state: "SyncReady",
        uuid: zeroUuid,
        done: { isMergeable: false, timestampS: 1_400_000_000, lsid: undefined, gid: u64Max },
        queue: [],
      };
      await writeLegacyStorageVolume(disk, random, directory, fresh);
      expect(readFileSync(join(directory, "done")).toString("hex")).toBe("14030082004e7253ffff");
      expect(await readLegacyStorageVolume(platform, directory)).toEqual(fresh);
      await expect(
        writeLegacyStorageVolume(disk, random, directory, { ...fresh, state: "Target" }),
      ).rejects.toMatchObject({ code: "bad-format", where: { file: `${directory}/done` } });
    });
  });

  test("that the original still runs on is refused", async () => {
    await withTemporaryDirectory(async (directory) => {
      await writeLegacyStorageVolume(disk, random, directory, storageVolume);
      const held = await disk.open(`${directory}/queue`, { mode: "write", lock: true });
      await expect(readLegacyStorageVolume(platform, directory)).rejects.toMatchObject({ code: "locked" });
      await held.close();
      expect((await readLegacyStorageVolume(platform, directory)).queue).toHaveLength(2);
      expect(platform.memory.leasedBytes).toBe(0);
    });
  });

  const damages: readonly (readonly [string, string, Uint8Array | string, string])[] = [
    ["an unknown state", "state", "\x05Clear", "state"],
    ["a state in a longer form that the original never stores", "state", "\x06FullSync", "state"],
    ["a state with bytes behind it", "state", "\x06Targetx", "state"],
    ["a cut state", "state", "\x06Targ", "state"],
    ["an empty file", "uuid", "", "uuid"],
    ["a uuid of 15 bytes", "uuid", "0123456789abcde", "uuid"],
    ["a path that is not absolute", "path", "\x03vol", "path"],
    ["a length beyond all bounds", "path", Uint8Array.fromHex("83ffffffffffffff00"), "path"],
    ["a wrong preamble", "done", Uint8Array.fromHex("13030082004e72536401"), "done"],
    ["a flag of 2", "done", Uint8Array.fromHex("14030282004e72536401"), "done.isMergeable"],
    ["an lsid beyond 2^53", "done", Uint8Array.fromHex("14030082004e725383000000000000800001"), "done.lsid"],
    ["an lsid without a gid", "done", Uint8Array.fromHex("14030082004e725364ff"), "done"],
    ["a queue of the wrong size", "queue", "x", "file size"],
    ["a queue of zeroes", "queue", new Uint8Array(4096), "header"],
    ["a huge file", "state", new Uint8Array(70_000), "state"],
  ];
  for (const [what, name, content, field] of damages) {
    test(`with ${what} is refused, naming the file and the field`, async () => {
      await withTemporaryDirectory(async (directory) => {
        await writeLegacyStorageVolume(disk, random, directory, storageVolume);
        writeFileSync(join(directory, name), content);
        const failure = await readLegacyStorageVolume(platform, directory).catch((error: unknown) => error);
        expect(failure).toMatchObject({
          name: "WalbError",
          code: "bad-format",
          where: { file: `${directory}/${name}` },
        });
        if (what !== "a huge file")
          expect(String((failure as { where: { field: string } }).where.field)).toStartWith(field);
      });
    });
  }

  test("with a file missing is an error that names it", async () => {
    await withTemporaryDirectory(async (directory) => {
      await writeLegacyStorageVolume(disk, random, directory, storageVolume);
      await disk.remove(`${directory}/done`);
      await expect(readLegacyStorageVolume(platform, directory)).rejects.toMatchObject({
        code: "not-found",
        where: { file: `${directory}/done` },
      });
    });
  });
});

describe("a volume directory of the original's proxy daemon", () => {
  const target = {
    host: "192.168.0.1",
    port: 10000,
    compress: { codec: Codec.gzip, level: 6, cpuCount: 4 },
    sendDelayS: 300,
  };

  test("is read as it was written, with the published bytes, its diffs and what does not belong", async () => {
    await withTemporaryDirectory(async (directory) => {
      const archives = [
        { name: "a1", target },
        { name: "b.c", target: { ...target, sendDelayS: 0 } },
      ];
      await writeLegacyProxyVolume(disk, directory, { sizeLb: 2 ** 40, archives });
      expect(readFileSync(join(directory, "a1.archive")).toString("hex")).toBe(
        "0b3139322e3136382e302e31102701060 4812c01".replace(" ", ""),
      );
      const name = "20140513165320-M--0-1.wdiff";
      writeFileSync(join(directory, "received", name), "12345");
      writeFileSync(join(directory, "received", "tmpAbCdEf"), "");
      writeFileSync(join(directory, "sendto", "a1", name), "12345");
      mkdirSync(join(directory, "sendto", "gone"));
      writeFileSync(join(directory, "notes.txt"), "");
      const volume = await readLegacyProxyVolume(disk, directory);
      expect(volume.sizeLb).toBe(2 ** 40);
      expect(volume.archives.map(({ name: archive, target: to }) => ({ name: archive, target: to }))).toEqual(archives);
      expect(volume.archives.map(({ pending }) => pending.map((diff) => diff.name))).toEqual([[name], []]);
      expect(volume.received.map(({ meta }) => [meta.timestampS, meta.dataSizeBytes])).toEqual([[1_400_000_000, 5]]);
      expect(volume.leftovers.toSorted()).toEqual(["notes.txt", "received/tmpAbCdEf", "sendto/gone"]);
    });
  });

  test("is refused with a bad archive, a bad name of a diff, or the same diff twice", async () => {
    const outcome = (change: (directory: string) => void) =>
      withTemporaryDirectory(async (directory) => {
        await writeLegacyProxyVolume(disk, directory, { sizeLb: 1, archives: [{ name: "a", target }] });
        change(directory);
        await expect(readLegacyProxyVolume(disk, directory)).rejects.toMatchObject({ code: "bad-format" });
        const failure: unknown = await readLegacyProxyVolume(disk, directory).catch((error: unknown) => error);
        return (failure as { where: { file: string; field: string } }).where;
      });
    const bad = (hex: string) => (directory: string) =>
      writeFileSync(join(directory, "a.archive"), Uint8Array.fromHex(hex));
    expect((await outcome(bad("003227010604812c01"))).field).toContain("host");
    expect((await outcome(bad("0161000001060400"))).field).toContain("port");
    expect((await outcome(bad("0161010006060400"))).field).toContain("compress.type");
    expect((await outcome(bad("01610100010a0400"))).field).toContain("compress.level");
    expect((await outcome(bad("0161010001060000"))).field).toContain("compress.numCpu");
    const named = (name: string) => (directory: string) => writeFileSync(join(directory, "received", name), "");
    expect((await outcome(named("x.wdiff"))).file).toEndWith("/received/x.wdiff");
    await outcome((directory) => {
      named("20140513165320-M--0-1.wdiff")(directory);
      named("20140513165321----0-1.wdiff")(directory);
    });
    await outcome((directory) => writeFileSync(join(directory, "size"), Uint8Array.fromHex("ff")));
  });
});

describe("a volume directory of the original's archive daemon", () => {
  test("is read as it was written, with the published bytes, its diffs and what does not belong", async () => {
    await withTemporaryDirectory(async (directory) => {
      await writeLegacyArchiveVolume(disk, directory, archiveVolume);
      const hex = (name: string): string => readFileSync(join(directory, name)).toString("hex");
      expect(hex("full_repl_state")).toBe("13030082004e7253110303031103030381000882014e7253");
      expect(hex("base")).toBe("13030082004e72531103050a1103050a");
      expect(hex("3.cold")).toBe("82004e7253");
      const names = ["20140513165320-M--0-1.wdiff", "20170714024000--C-300-70000-70001-5000000000.wdiff"];
      for (const name of [...names, "tmpAbCdEf"]) writeFileSync(join(directory, name), "abc");
      const volume = await readLegacyArchiveVolume(disk, directory);
      expect(volume.diffs.map(({ name }) => name)).toEqual(names);
      expect<LegacyArchiveVolume>({ ...volume, diffs: [] }).toEqual({ ...archiveVolume, leftovers: ["tmpAbCdEf"] });
      await writeLegacyArchiveVolume(disk, directory, { ...archiveVolume, fullRepl: undefined });
      expect(existsSync(join(directory, "full_repl_state"))).toBe(false);
    });
  });

  test("just initialised has no state of its image", async () => {
    await withTemporaryDirectory(async (directory) => {
      const fresh: LegacyArchiveVolume = {
        ...archiveVolume,
        state: "SyncReady",
        uuid: zeroUuid,
        archiveUuid: zeroUuid,
        base: plainState(unsetSnapshot, 0),
        colds: [],
        fullRepl: undefined,
      };
      await writeLegacyArchiveVolume(disk, directory, fresh);
      expect(readFileSync(join(directory, "base")).toString("hex")).toBe("130300001103ffff1103ffff");
      expect(await readLegacyArchiveVolume(disk, directory)).toEqual(fresh);
      writeFileSync(join(directory, "state"), "\x08Archived");
      await expect(readLegacyArchiveVolume(disk, directory)).rejects.toMatchObject({ code: "bad-format" });
    });
  });

  test("is refused with a state that goes backwards, or names that cannot be", async () => {
    for (const [name, content] of [
      ["base", Uint8Array.fromHex("13030182004e72531103190a11030505")],
      ["base", Uint8Array.fromHex("13030182004e7253110319191103050505")],
      ["x.cold", Uint8Array.fromHex("00")],
      ["018.cold", Uint8Array.fromHex("00")],
      ["18446744073709551615.cold", Uint8Array.fromHex("00")],
      ["7.cold", new Uint8Array(0)],
      ["full_repl_state", Uint8Array.fromHex("1303")],
      ["-----.wdiff", new Uint8Array(0)],
    ] as const) {
      await withTemporaryDirectory(async (directory) => {
        await writeLegacyArchiveVolume(disk, directory, archiveVolume);
        writeFileSync(join(directory, name), content);
        await expect(readLegacyArchiveVolume(disk, directory)).rejects.toMatchObject({
          code: "bad-format",
          where: { file: `${directory}/${name}` },
        });
      });
    }
  });
});
