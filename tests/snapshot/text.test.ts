import { describe, expect, test } from "bun:test";
import {
  diffLineText,
  diffText,
  diffVerboseText,
  gidInfoText,
  lsidGidText,
  parseDiffText,
  parseGid,
  parseGidInfo,
  parseLsidGid,
  parseSnapshot,
  parseState,
  snapshotText,
  stateText,
  stateTimeText,
} from "../../src/snapshot/text.ts";
import { parseTime, timeText } from "../../src/snapshot/time.ts";
import { gidMax, unsetSnapshot } from "../../src/snapshot/types.ts";
import { d, s, st } from "../helpers/diffs.ts";

const badFormat = expect.objectContaining({ code: "bad-format" });

describe("snapshots as text", () => {
  test("show one gid when clean and two when dirty, and are read back", () => {
    for (const [snap, text] of [
      [s(5), "|5|"],
      [s([5, 10]), "|5,10|"],
      [unsetSnapshot, "|18446744073709551615|"],
    ] as const) {
      expect(snapshotText(snap)).toBe(text);
      expect(parseSnapshot(text)).toEqual(snap);
    }
    expect(parseSnapshot("|5,5|")).toEqual(s(5));
    expect(parseSnapshot("|5|whatever")).toEqual(s(5));
    expect(parseSnapshot("|007|")).toEqual(s(7));
  });

  for (const text of [
    "",
    "5",
    "||",
    "|5",
    "|5,|",
    "|,5|",
    "|a|",
    "|5,4|",
    "| 5|",
    "|-5|",
    "|18446744073709551616|",
    `|${"0".repeat(5000)}|`,
  ]) {
    test(`"${text.slice(0, 30)}" is refused`, () => expect(() => parseSnapshot(text)).toThrow(badFormat));
  }
});

describe("diffs as text", () => {
  const diff = d(0, [1, 3], "M-", 1795234715, 4128);

  test("have a short, a list and a verbose form, all of which are read", () => {
    expect(diffText(diff)).toBe("|0|-->|1,3|");
    expect(diffLineText(diff)).toBe("|0|-->|1,3| M- 2026-11-21T04:18:35 4128");
    expect(diffVerboseText(diff)).toBe("|0|-->|1,3| (M- 2026-11-21T04:18:35 4128)");
    expect(diffLineText(d(0, 1, "-C"))).toBe("|0|-->|1| -C --- 0");
    expect(parseDiffText("|0|-->|1,3|")).toEqual(d(0, [1, 3], "--"));
    for (const text of [diffLineText(diff), diffVerboseText(diff)]) expect(parseDiffText(text)).toEqual(diff);
    expect(parseDiffText("|0|-->|1| -C --- 0")).toEqual(d(0, 1, "-C"));
  });

  for (const text of [
    "|0|",
    "|0|->|1|",
    "|1|-->|0|",
    "|0|-->|1| ",
    "|0|-->|1| M-",
    "|0|-->|1| XX --- 0",
    "|0|-->|1| (M- --- 0",
    "|0|-->|1| M- --- 0)",
    "|0|-->|1| M- 2026-11-21 0",
    "|0|-->|1| M- --- 9999999999999999",
  ]) {
    test(`"${text}" is refused`, () => expect(() => parseDiffText(text)).toThrow(badFormat));
  }
});

describe("states as text", () => {
  test("show both ends while applying, and the time on request", () => {
    const plain = st([0, 1], undefined, 1795234712);
    const applying = st([0, 1], 5, 1795234723);
    expect(stateText(plain)).toBe("<|0,1|>");
    expect(stateTimeText(plain)).toBe("<|0,1|>-20261121041832");
    expect(stateText(applying)).toBe("<|0,1|-->|5|>");
    expect(stateTimeText(applying)).toBe("<|0,1|-->|5|>-20261121041843");
    for (const state of [plain, applying]) {
      expect(parseState(stateTimeText(state), 9)).toEqual(state);
      expect(parseState(stateText(state), 9)).toEqual({ ...state, timestampS: 9 });
    }
  });

  for (const text of [
    "",
    "|0|",
    "<|0|",
    "<|0|>-",
    "<|0|>x",
    "<|0|>x20261121041832",
    "<|0|>-2026112104183",
    "<|0|>-202611210418321",
    "<|0|>-20261321041832",
    "<|5|-->|5|>",
    "<|5|-->|6|",
    "<|5|--|6|>",
    "<|5| >",
  ]) {
    test(`"${text}" is refused`, () => expect(() => parseState(text, 0)).toThrow(badFormat));
  }
});

describe("lines of lists", () => {
  test("a restorable snapshot is gid, time and whether it is explicit", () => {
    const info = { gid: 1n, timestampS: 1795234715, isExplicit: true };
    expect(gidInfoText(info)).toBe("1 2026-11-21T04:18:35 1");
    expect(parseGidInfo("1 2026-11-21T04:18:35 1")).toEqual(info);
    expect(gidInfoText({ gid: gidMax, timestampS: 0, isExplicit: false })).toBe("18446744073709551615 --- 0");
    expect(parseGidInfo("18446744073709551615 --- 0")).toEqual({ gid: gidMax, timestampS: 0, isExplicit: false });
    for (const text of ["1 --- 2", "1 ---", "x --- 0", "1  --- 0", "1 --- 0 "]) {
      expect(() => parseGidInfo(text)).toThrow(badFormat);
    }
  });

  test("a position in the log is time, flag, lsid and gid", () => {
    const text = "LsidGid timestamp 2026-11-21T04:18:35 isMergeable 0 lsid 0 gid 1";
    const point = { lsid: 0, gid: 1n, isMergeable: false, timestampS: 1795234715 };
    expect(lsidGidText(point)).toBe(text);
    expect(parseLsidGid(text)).toEqual(point);
    const unset = { lsid: undefined, gid: gidMax, isMergeable: true, timestampS: 0 };
    expect(parseLsidGid(lsidGidText(unset))).toEqual(unset);
    expect(() => parseLsidGid("LsidGid timestamp --- isMergeable 0 lsid 9007199254740992 gid 1")).toThrow(badFormat);
    expect(() => parseLsidGid("LsidGid timestamp --- isMergeable 2 lsid 0 gid 1")).toThrow(badFormat);
  });

  test("gids and times are read strictly", () => {
    expect(parseGid("18446744073709551615")).toBe(gidMax);
    expect(parseGid("0000")).toBe(0n);
    for (const digits of ["", "-1", "1e3", "0x1", " 1", "1.0", "18446744073709551616", "9".repeat(4000)]) {
      expect(() => parseGid(digits)).toThrow(badFormat);
    }
    expect(timeText(0)).toBe("---");
    expect(parseTime("---")).toBe(0);
    for (const text of ["2026-11-21 04:18:35", "2026-11-21T04:18", "2026-11-21T04:18:35Z", "0000-11-21T04:18:35"]) {
      expect(() => parseTime(text)).toThrow(badFormat);
    }
  });
});
