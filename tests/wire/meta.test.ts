import { describe, expect, test } from "bun:test";
import { Codec } from "../../src/native/codec.ts";
import { unsetSnapshot } from "../../src/snapshot/types.ts";
import { putBackupRequest } from "../../src/wire/full-sync.ts";
import * as meta from "../../src/wire/meta.ts";
import { putFullRequest, putHashRequest } from "../../src/wire/repl-sync.ts";
import { type Decoder, decodeAll, type Encoder, encoded } from "../../src/wire/serializer.ts";
import { putWdiffRequest, takeWdiffRequest } from "../../src/wire/wdiff-transfer.ts";
import { takeWlogRequest } from "../../src/wire/wlog-transfer.ts";

const bytes = (hex: string): Uint8Array => Uint8Array.fromHex(hex.replaceAll(" ", ""));
const clean = (gid: bigint) => ({ gidB: gid, gidE: gid });
const uuid = "000102030405060708090a0b0c0d0e0f";
const snappy = { codec: Codec.snappy, level: 0, cpuCount: 1 };

function both<T>(
  hex: string,
  value: T,
  put: (encoder: Encoder, value: T) => void,
  take: (decoder: Decoder) => T,
): void {
  expect(encoded((encoder) => put(encoder, value)).toHex()).toBe(hex.replaceAll(" ", ""));
  expect(decodeAll(bytes(hex), "value", take)).toEqual(value);
}

describe("meta objects have the bytes of the original", () => {
  test("snapshots", () => {
    both("1103 00 00", clean(0n), meta.putSnapshot, meta.takeSnapshot);
    both("1103 05 0a", { gidB: 5n, gidE: 10n }, meta.putSnapshot, meta.takeSnapshot);
    both("1103 ff ff", unsetSnapshot, meta.putSnapshot, meta.takeSnapshot);
  });

  test("diffs", () => {
    const small = {
      from: clean(0n),
      to: clean(1n),
      isMergeable: true,
      isCompared: false,
      timestampS: 1_400_000_000,
      dataSizeBytes: 0,
    };
    both("1203 01 00 82004e7253 11030000 11030101 00", small, meta.putDiffMeta, meta.takeDiffMeta);
    const large = {
      from: { gidB: 300n, gidE: 70_000n },
      to: { gidB: 70_001n, gidE: 5_000_000_000n },
      isMergeable: false,
      isCompared: true,
      timestampS: 1_500_000_000,
      dataSizeBytes: 123_456,
    };
    const hex = "1203 00 01 82002f6859 1103 812c01 8270110100 1103 8271110100 8300f2052a01000000 8240e20100";
    both(hex, large, meta.putDiffMeta, meta.takeDiffMeta);
  });

  test("states", () => {
    const plain = { from: { gidB: 5n, gidE: 10n }, timestampS: 1_400_000_000 };
    both("1303 00 82004e7253 1103050a 1103050a", plain, meta.putArchiveState, meta.takeArchiveState);
    const applying = { from: { gidB: 0n, gidE: 10n }, to: clean(25n), timestampS: 1_400_000_000 };
    both("1303 01 82004e7253 1103000a 11031919", applying, meta.putArchiveState, meta.takeArchiveState);
    const unset = { from: unsetSnapshot, timestampS: 0 };
    both("1303 00 00 1103ffff 1103ffff", unset, meta.putArchiveState, meta.takeArchiveState);
  });

  test("positions of the log", () => {
    const unset = { isMergeable: false, timestampS: 1_400_000_000, lsid: undefined, gid: 2n ** 64n - 1n };
    both("1403 00 82004e7253 ff ff", unset, meta.putLsidGid, meta.takeLsidGid);
    const one = { isMergeable: true, timestampS: 1_400_000_000, lsid: 200, gid: 3n };
    both("1403 01 82004e7253 80c8 03", one, meta.putLsidGid, meta.takeLsidGid);
  });

  test("an archive of a proxy", () => {
    const target = { host: "127.0.0.1", port: 25999, compress: snappy, sendDelayS: 5 };
    both("09 3132372e302e302e31 8f65 020001 05", target, meta.putArchiveTarget, meta.takeArchiveTarget);
  });

  test("a newest snapshot, known and unknown", () => {
    const known = { volume: "v0", gid: 9n, timestampS: 0x6b01_1006, lsid: undefined };
    both("02 7630 09 820610016b ff", known, meta.putLatestSnapshot, meta.takeLatestSnapshot);
    const unknown = { volume: "zz", gid: 2n ** 64n - 1n, timestampS: 0, lsid: undefined };
    both("02 7a7a ff 00 ff", unknown, meta.putLatestSnapshot, meta.takeLatestSnapshot);
  });
});

describe("requests have the bytes of captured conversations", () => {
  test("wdiff-transfer, of one file and of a merge", () => {
    const head = `04 766f6c30 05 70726f7879 ${uuid} 00 810008`;
    const one = {
      volume: "vol0",
      hostType: "proxy",
      uuid,
      maxIoLb: 0,
      sizeLb: 2048,
      diff: {
        from: clean(0n),
        to: clean(1n),
        isMergeable: false,
        isCompared: false,
        timestampS: 0x6b01_0e6d,
        dataSizeBytes: 1416,
      },
    };
    both(`${head} 1203 0000 826d0e016b 11030000 11030101 818805`, one, putWdiffRequest, takeWdiffRequest);
    const merged = {
      ...one,
      diff: {
        ...one.diff,
        from: clean(3n),
        to: clean(6n),
        isMergeable: true,
        timestampS: 0x6b01_0eca,
        dataSizeBytes: 0,
      },
    };
    both(`${head} 1203 0100 82ca0e016b 11030303 11030606 00`, merged, putWdiffRequest, takeWdiffRequest);
  });

  test("dirty-full-sync3", () => {
    const request = {
      hostType: "storage",
      volume: "v0",
      sizeLb: 2048,
      timestampS: 0x6b01_0f45,
      bulkLb: 128,
      compress: snappy,
    };
    expect(encoded((encoder) => putBackupRequest(encoder, request)).toHex()).toBe(
      "0773746f7261676502763081000882450f016b8080020001",
    );
  });

  test("repl-sync3, a full copy and a hash turn", () => {
    const base = { from: clean(5n), timestampS: 0x5e0b_e100 };
    const full = { sizeLb: 4096, bulkLb: 512, base, uuid, compress: snappy };
    expect(encoded((encoder) => putFullRequest(encoder, full)).toHex()).toBe(
      `810010810002${"1303008200e10b5e1103050511030505"}${uuid}020001`,
    );
    const diff = {
      from: clean(6n),
      to: clean(7n),
      isMergeable: true,
      isCompared: true,
      timestampS: 0x6b01_0fda,
      dataSizeBytes: 0,
    };
    const hash = { sizeLb: 4096, bulkLb: 1024, diff, uuid, compress: snappy, hashSeed: 0x6b01_0fda };
    expect(encoded((encoder) => putHashRequest(encoder, hash)).toHex()).toBe(
      `810010810004${"1203010182da0f016b110306061103070700"}${uuid}02000182da0f016b`,
    );
  });
});

describe("values that cannot be are refused with the name of the field", () => {
  const refused: [string, string, (decoder: Decoder) => unknown, string][] = [
    ["a snapshot that ends before it begins", "1103 05 04", meta.takeSnapshot, "gidB"],
    ["a wrong preamble", "1203 05 05", meta.takeSnapshot, "0x312"],
    ["a diff that goes nowhere", "1203 0000 00 11030505 11030505 00", meta.takeDiffMeta, "diff.to.gidB"],
    ["a diff whose end shrinks", "1203 0000 00 11030509 11030608 00", meta.takeDiffMeta, "diff.to.gidE"],
    ["a flag of 2", "1203 0200 00 11030505 11030606 00", meta.takeDiffMeta, "isMergeable"],
    ["a dirty diff of a log", "1203 0000 00 11030505 11030608 00", meta.takeCleanDiffMeta, "diff.to"],
    ["a dirty start of a log", "1203 0000 00 11030506 11030808 00", meta.takeCleanDiffMeta, "diff.from"],
    ["a state applied backwards", "1303 01 00 11030505 11030505", meta.takeArchiveState, "state.to.gidB"],
    ["an unknown codec", "06 00 01", meta.takeCompressConfig, "type"],
    ["a level of 10", "01 0a 01", meta.takeCompressConfig, "level"],
    ["no CPU", "01 00 00", meta.takeCompressConfig, "numCpu"],
    ["an empty host", "00 0100", meta.takeHostPort, "host"],
    ["port 0", "01 61 0000", meta.takeHostPort, "port"],
    ["a snapshot of nothing", "00 00 00 00", meta.takeLatestSnapshot, "volume"],
    ["a time beyond 2^53", "1403 00 83ffffffffffffff7f 00 00", meta.takeLsidGid, "timestamp"],
    ["an lsid beyond 2^53", "1403 00 00 83ffffffffffffff7f 00", meta.takeLsidGid, "lsid"],
    ["a block size of 1024", `01 61 ${uuid} 810004 00 00 00`, takeWlogRequest, "pbs"],
    [
      "a volume beyond 8 PiB",
      `01 61 ${uuid} 810010 00 830000000000010000 00`.replace("00000000000100", "0000000000ff00"),
      takeWlogRequest,
      "volSizeLb",
    ],
  ];
  for (const [name, hex, take, field] of refused) {
    test(name, () => {
      expect(() => decodeAll(bytes(hex), "value", take)).toThrow(field);
    });
  }
});
