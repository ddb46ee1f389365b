import { describe, expect, test } from "bun:test";
import { SipHash } from "../../src/native/index.ts";
import { diffFileName, parseDiffFileName } from "../../src/snapshot/filename.ts";
import { parseCompactTime } from "../../src/snapshot/time.ts";
import { diffMeta, snapshot } from "../../src/snapshot/types.ts";
import {
  putArchiveState,
  putArchiveTarget,
  putCompressConfig,
  putDiffMeta,
  putLsidGid,
  putSnapshot,
  takeArchiveState,
  takeArchiveTarget,
  takeCompressConfig,
  takeDiffMeta,
  takeLsidGid,
  takeSnapshot,
} from "../../src/wire/meta.ts";
import { type Decoder, decodeAll, type Encoder, encoded } from "../../src/wire/serializer.ts";
import { createMemoryIo } from "../helpers/memory-disk.ts";
import { vectorBytes, vectorNames, vectorsDirectory, vectorText } from "../helpers/vectors.ts";

const { compute, memory } = createMemoryIo();

/** A number in the words of the list: 5, 2^32, u64max, u64max-2^31, minus128. */
function numberOf(words: string): bigint {
  const sum = /^(u64max|u32max)-(.+)$/.exec(words);
  if (sum !== null) return numberOf(sum[1]!) - numberOf(sum[2]!);
  if (words === "u64max") return 2n ** 64n - 1n;
  if (words === "u32max") return 2n ** 32n - 1n;
  const power = /^2\^(\d+)$/.exec(words);
  if (power !== null) return 2n ** BigInt(power[1]!);
  const minus = /^minus(\d+)$/.exec(words);
  return minus === null ? BigInt(words) : -BigInt(minus[1]!);
}

/** What the name of a file says it holds, as bytes. undefined when the name gives only the type. */
function bytesOf(name: string): Uint8Array | undefined {
  const asType = /^int-(.+)-as-(u32|int)$/.exec(name);
  if (asType !== null) {
    const value = Number(numberOf(asType[1]!));
    return encoded((encoder) => (asType[2] === "u32" ? encoder.u32(value) : encoder.i32(value)));
  }
  const hex = /^int-u32-([0-9a-f]+)$/.exec(name);
  if (hex !== null) return encoded((encoder) => encoder.u32(Number.parseInt(hex[1]!, 16)));
  const whole = /^int-(.+)$/.exec(name);
  if (whole !== null) return encoded((encoder) => encoder.u64(numberOf(whole[1]!)));
  const fixed = /^u(8|16)-(\d+)$/.exec(name);
  if (fixed !== null) {
    return encoded((encoder) => (fixed[1] === "8" ? encoder.u8(Number(fixed[2])) : encoder.u16(Number(fixed[2]))));
  }
  if (name.startsWith("bool-")) return encoded((encoder) => encoder.bool(name === "bool-true"));
  if (name === "str-empty") return encoded((encoder) => encoder.string(""));
  if (name === "str-abc") return encoded((encoder) => encoder.string("abc"));
  const long = /^str-(\d+)$/.exec(name);
  if (long !== null) return encoded((encoder) => encoder.string("x".repeat(Number(long[1]))));
  return undefined;
}

/** Decoding and encoding again, by type. */
const roundTrips: readonly (readonly [RegExp, (decoder: Decoder) => (encoder: Encoder) => unknown])[] = [
  [
    /^strvec/,
    (decoder) =>
      (
        (values) => (encoder) =>
          encoder.strings(values)
      )(decoder.strings()),
  ],
  [
    /^metasnap/,
    (decoder) =>
      (
        (value) => (encoder) =>
          putSnapshot(encoder, value)
      )(takeSnapshot(decoder)),
  ],
  [
    /^metadiff/,
    (decoder) =>
      (
        (value) => (encoder) =>
          putDiffMeta(encoder, value)
      )(takeDiffMeta(decoder)),
  ],
  [
    /^metastate/,
    (decoder) =>
      (
        (value) => (encoder) =>
          putArchiveState(encoder, value)
      )(takeArchiveState(decoder)),
  ],
  [
    /^lsidgid/,
    (decoder) =>
      (
        (value) => (encoder) =>
          putLsidGid(encoder, value)
      )(takeLsidGid(decoder)),
  ],
  [
    /^cmpropt/,
    (decoder) =>
      (
        (value) => (encoder) =>
          putCompressConfig(encoder, value)
      )(takeCompressConfig(decoder)),
  ],
  [
    /^hostinfo/,
    (decoder) =>
      (
        (value) => (encoder) =>
          putArchiveTarget(encoder, value)
      )(takeArchiveTarget(decoder)),
  ],
  [
    /^uuid/,
    (decoder) =>
      (
        (value) => (encoder) =>
          encoder.uuid(value)
      )(decoder.uuid()),
  ],
  [
    /^fullreplstate/,
    (decoder) => {
      const state = takeArchiveState(decoder);
      const [progressLb, timestampS] = [decoder.u64(), decoder.u64()];
      return (encoder) => {
        putArchiveState(encoder, state);
        encoder.u64(progressLb).u64(timestampS);
      };
    },
  ],
];

const pattern = (sizeBytes: number): Uint8Array => Uint8Array.from({ length: sizeBytes }, (_, i) => (i * 7) & 0xff);

describe.skipIf(vectorsDirectory === undefined)("serialized values of the original", () => {
  const lines = vectorsDirectory === undefined ? [] : vectorText("meta/list.txt").trim().split("\n");
  const values = lines.map((line) => line.split("\t") as [string, string]).filter(([name]) => !name.includes(" "));

  test("are what we write for the same value, and survive reading and writing", () => {
    expect(values.length).toBeGreaterThan(40);
    for (const [name, text] of values) {
      const expected = bytesOf(name);
      if (expected !== undefined) {
        expect(`${name} ${expected.toHex()}`).toBe(`${name} ${text}`);
        continue;
      }
      const trip = roundTrips.find(([type]) => type.test(name));
      if (trip === undefined) throw new Error(`no test knows ${name}`);
      const put = decodeAll(Uint8Array.fromHex(text), name, trip[1]);
      expect(`${name} ${encoded((encoder) => put(encoder)).toHex()}`).toBe(`${name} ${text}`);
    }
  });

  test("are the files beside the list", async () => {
    const byName = new Map(values);
    for (const path of vectorNames("meta", /^(?!list\.txt$|queue)/)) {
      const name = path.slice("meta/".length);
      expect(`${name} ${(await vectorBytes(path)).toHex()}`).toBe(`${name} ${byName.get(name)}`);
    }
  });

  test("have the listed hashes", async () => {
    let checked = 0;
    for (const [name, text] of lines.map((line) => line.split("\t") as [string, string])) {
      const murmur = /^murmur3_x64_128 seed (\d+) n (\d+)$/.exec(name);
      const sip = /^siphash24_128 n (\d+)$/.exec(name);
      const sizeBytes = Number(murmur?.[2] ?? sip?.[1] ?? -1);
      if (sizeBytes < 0) continue;
      const lease = await memory.lease(sizeBytes);
      lease.bytes.set(pattern(sizeBytes));
      if (murmur !== null) {
        expect(`${name} ${(await compute.hashes([lease], Number(murmur[1]))).toHex()}`).toBe(`${name} ${text}`);
      } else {
        // However the stream is cut, the hash is the same.
        for (const step of [sizeBytes + 1, 1, 3, 8, 13]) {
          const hash = new SipHash();
          for (let at = 0; at < sizeBytes; at += step) hash.update(lease.bytes.subarray(at, at + step));
          expect(`${name} ${hash.end()}`).toBe(`${name} ${text}`);
        }
      }
      lease.release();
      checked += 1;
    }
    expect(checked).toBeGreaterThanOrEqual(14);
  });

  test("names of diffs are built as the original's tool builds them", () => {
    const cases = vectorText("misc/wdiff-names.txt").trim().split("\n");
    expect(cases.length).toBeGreaterThan(4);
    for (const line of cases) {
      const [options, name] = line.split("\t") as [string, string];
      const words = options.split(" ");
      const gids = words.filter((word, i) => /^\d+$/.test(word) && words[i - 1] !== "-d").map(BigInt);
      const [a, b, c, d] = gids.length === 2 ? [gids[0]!, gids[0]!, gids[1]!, gids[1]!] : gids;
      const meta = diffMeta({
        from: snapshot(a!, b!),
        to: snapshot(c!, d!),
        isMergeable: !words.includes("-nomerge"),
        isCompared: words.includes("-comp"),
        timestampS: parseCompactTime(words[words.indexOf("-d") + 1]!, "time"),
      });
      expect(diffFileName(meta)).toBe(name);
      expect(parseDiffFileName(name)).toEqual(meta);
    }
  });
});

test("the tool hash has its published values, and a stream is over after its end", () => {
  const hashOf = (bytes: Uint8Array): string => {
    const hash = new SipHash();
    hash.update(bytes);
    return hash.end();
  };
  expect(hashOf(Uint8Array.from({ length: 15 }, (_, i) => i))).toBe("c6165eed744305a22353e0a415892c03");
  expect(hashOf(new Uint8Array(512))).toBe("f0888a9d1e6148884cefd1814aca6f04");
  const over = new SipHash();
  over.end();
  expect(() => over.update(new Uint8Array(1))).toThrow("after its end");
});
