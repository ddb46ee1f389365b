import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { diffFileName, parseDiffFileName } from "../../src/snapshot/filename.ts";
import { parseCompactTime } from "../../src/snapshot/time.ts";
import { diffMeta, snapshot } from "../../src/snapshot/types.ts";
import { d } from "../helpers/diffs.ts";

describe("the name of a wdiff", () => {
  test("says time, flags and gids", () => {
    expect(diffFileName(d(0, 1, "M-", 1400000000))).toBe("20140513165320-M--0-1.wdiff");
    expect(diffFileName(d(0, 1, "--", 0))).toBe("19700101000000----0-1.wdiff");
    expect(diffFileName(d([300, 70000], [70001, 5000000000], "-C", 1500000000))).toBe(
      "20170714024000--C-300-70000-70001-5000000000.wdiff",
    );
    expect(diffFileName(d(10, [11, 15], "--", 0))).toBe("19700101000000----10-10-11-15.wdiff");
  });

  test("cannot be made for a time with five digits of a year", () => {
    expect(diffFileName(d(0, 1, "M-", 253402300799))).toStartWith("99991231235959-");
    expect(() => diffFileName(d(0, 1, "M-", 253402300800))).toThrow("no text form");
  });

  test("is read back as it was made, whatever the gids", () => {
    const gid = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    fc.assert(
      fc.property(
        fc.uniqueArray(gid, { minLength: 4, maxLength: 4 }),
        fc.boolean(),
        fc.boolean(),
        fc.integer({ min: 0, max: 253402300799 }),
        fc.constantFrom("clean", "dirty", "mixed"),
        (values, isMergeable, isCompared, timestampS, kind) => {
          const [a, b, c, e] = [...values].sort((x, y) => (x < y ? -1 : 1)) as [bigint, bigint, bigint, bigint];
          const from = kind === "dirty" ? snapshot(a, b) : snapshot(a);
          const to = kind === "clean" ? snapshot(c) : snapshot(c, e);
          const diff = diffMeta({ from, to, isMergeable, isCompared, timestampS, dataSizeBytes: 5 });
          expect(parseDiffFileName(diffFileName(diff), 5)).toEqual(diff);
        },
      ),
    );
  });

  const accepted: [string, ReturnType<typeof diffMeta>][] = [
    ["20140513165320-M--0-1.wdiff", d(0, 1, "M-", 1400000000)],
    ["20140513165320----0-1.wdiff.tmp", d(0, 1, "--", 1400000000)],
    ["20140513165320-xx-0-1.wdiff", d(0, 1, "--", 1400000000)],
    ["20140513165320-MC-1-2-3-4-5.wdiff", d([1, 2], [3, 4], "MC", 1400000000)],
    ["20140513165320-MC-1-2-3-4-x.wdiff", d([1, 2], [3, 4], "MC", 1400000000)],
    [
      "20140513165320-MC-0-18446744073709551615.wdiff",
      diffMeta({
        from: snapshot(0n),
        to: snapshot(2n ** 64n - 1n),
        isMergeable: true,
        isCompared: true,
        timestampS: 1400000000,
      }),
    ],
    ["20140513165320-MC-00-01.wdiff", d(0, 1, "MC", 1400000000)],
    ["20140229000000-MC-0-1.wdiff", d(0, 1, "MC", 1393632000)],
    ["20140513165360-MC-0-1.wdiff", d(0, 1, "MC", 1400000040)],
    ["20140513165320-MC-0-1-2-2.wdiff", d([0, 1], 2, "MC", 1400000000)],
  ];
  for (const [name, expected] of accepted) {
    test(`${name} is read`, () => expect(parseDiffFileName(name)).toEqual(expected));
  }

  const refused: [string, string][] = [
    ["20140513165320-MC-1-2-3.wdiff", "3 gids"],
    ["20140513165320-MC-2-1.wdiff", "no progress"],
    ["20140513165320-MC--1.wdiff", "too short"],
    ["20140513165320-MC--10.wdiff", "not a decimal number"],
    ["20140513165320-MC-0-18446744073709551616.wdiff", "64-bit"],
    ["20140513165320-MC-0-0x1.wdiff", "not a decimal number"],
    ["20140513165320-MC-0-1-0-1.wdiff", "no progress"],
    ["20140513165320-MC-0-1-5-4.wdiff", "ends before"],
    ["20140513165320-MC-10000000.wdiff", "1 gids"],
    ["20140513165320-MC-0-100.wdif", "does not end in"],
    ["20140513165320-MC-0-100.walog", "does not end in"],
    ["20140513165320+MC-0-100.wdiff", "separated"],
    ["20140513165320-MC+0-100.wdiff", "separated"],
    ["2014051316532x-MC-0-1.wdiff", "14 digits"],
    ["20141313165320-MC-0-1.wdiff", "not a time"],
    ["20140532165320-MC-0-1.wdiff", "not a time"],
    ["20140513245320-MC-0-1.wdiff", "not a time"],
    ["20140513166020-MC-0-1.wdiff", "not a time"],
    ["20140513165361-MC-0-1.wdiff", "not a time"],
    ["18991231235959-MC-0-1.wdiff", "not a time"],
    ["19691231235959-MC-0-1.wdiff", "not a time"],
    [`20140513165320-MC-0-${"0".repeat(300)}1.wdiff`, "too long"],
    [`20140513165320-MC-0-${"9".repeat(21)}.wdiff`, "digits"],
  ];
  for (const [name, reason] of refused) {
    test(`${name.slice(0, 60)} is refused: ${reason}`, () => {
      expect(() => parseDiffFileName(name)).toThrow(reason);
      expect(() => parseDiffFileName(name)).toThrow(expect.objectContaining({ code: "bad-format" }));
      expect(() => parseDiffFileName(name)).toThrow(name.slice(0, 27));
    });
  }

  const vectors = join(process.env.WALB_VECTORS ?? "", "misc/wdiff-names.txt");
  const hasVectors = process.env.WALB_VECTORS !== undefined && existsSync(vectors);
  test.skipIf(!hasVectors)(
    `names made by the original are made and read${hasVectors ? "" : " (WALB_VECTORS is not set)"}`,
    () => {
      const lines = readFileSync(vectors, "utf8").trim().split("\n");
      expect(lines.length).toBeGreaterThan(0);
      for (const line of lines) {
        const [request, name] = line.split("\t") as [string, string];
        const words = request.split(" ");
        const gids = words.filter((word, at) => /^\d+$/.test(word) && words[at - 1] !== "-d").map(BigInt);
        const [a, b, c, e] = gids as [bigint, bigint, bigint | undefined, bigint | undefined];
        const diff = diffMeta({
          from: c === undefined ? snapshot(a) : snapshot(a, b),
          to: c === undefined ? snapshot(b) : snapshot(c, e),
          isMergeable: !words.includes("-nomerge"),
          isCompared: words.includes("-comp"),
          timestampS: parseCompactTime(words[words.indexOf("-d") + 1]!),
        });
        expect(diffFileName(diff)).toBe(name);
        expect(parseDiffFileName(name)).toEqual(diff);
      }
    },
  );
});
