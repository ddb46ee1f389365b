import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { chooseDevice, peerOf } from "../../src/cli/device/nbd.ts";
import { asGid, asInt, asVolume, list, option, required, toggle } from "../../src/cli/flags.ts";
import { nearest, parseCommandLine } from "../../src/cli/parse.ts";
import { progressLine } from "../../src/cli/progress.ts";
import { formatSize, parseSize } from "../../src/cli/text/size.ts";
import { renderTable } from "../../src/cli/text/table.ts";
import { formatDuration, formatTime, parseDuration, parseTime } from "../../src/cli/text/time.ts";
import { wrapText } from "../../src/cli/text/wrap.ts";
import { defineVerb } from "../../src/cli/verb.ts";
import { WalbError } from "../../src/errors.ts";

const units = ["", "K", "M", "G", "T"] as const;

function usage(work: () => unknown): WalbError {
  try {
    work();
  } catch (error) {
    if (error instanceof WalbError && error.code === "usage") return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("sizes", () => {
  test("a whole number with a unit is that many powers of 1024, in either case, with or without B", () => {
    fc.assert(
      fc.property(
        fc.nat(8191),
        fc.integer({ min: 0, max: 4 }),
        fc.constantFrom("", "B", "iB", "b"),
        (count, power, tail) => {
          const unit = units[power]!;
          expect(parseSize(`${count}${unit}${tail}`)).toBe(count * 1024 ** power);
          expect(parseSize(`${count}${unit.toLowerCase()}`)).toBe(count * 1024 ** power);
        },
      ),
    );
  });

  test("fractions are taken when they are whole bytes", () => {
    expect(parseSize("1.5G")).toBe(1_610_612_736);
    expect(parseSize("0.5K")).toBe(512);
    usage(() => parseSize("0.3K"));
    usage(() => parseSize("1.5"));
  });

  test("anything else is refused with an example, and nothing is rounded", () => {
    for (const bad of ["", "G", "-1", "1 G", "1X", "0x10", "1e3", "9007199254740993", "99999999T", "1..5G", "NaN"]) {
      expect(usage(() => parseSize(bad)).hint).toContain("10G");
    }
  });

  test("a size is shown with three digits at most, within one percent", () => {
    expect([0, 1, 999, 1000, 1024, 1536, 10 * 1024 ** 3, 2 ** 53 - 1].map(formatSize)).toEqual([
      "0B",
      "1B",
      "999B",
      "0.98K",
      "1.00K",
      "1.50K",
      "10.0G",
      "8.00P",
    ]);
    fc.assert(
      fc.property(fc.maxSafeNat(), (bytes) => {
        const text = formatSize(bytes);
        expect(text).toMatch(/^(\d{1,3}|\d\.\d\d|\d\d\.\d)[BKMGTPE]$/);
        const value = Number.parseFloat(text) * 1024 ** "BKMGTPE".indexOf(text.at(-1)!);
        expect(Math.abs(value - bytes)).toBeLessThanOrEqual(bytes * 0.01);
      }),
    );
  });
});

describe("times", () => {
  const nowMs = Date.UTC(2026, 10, 21, 12, 0, 0);

  test("what is shown as a time is read as the same time", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4_102_444_800 }), (seconds) => {
        const text = formatTime(seconds * 1000);
        // In the hour that clocks go back, a local time means two moments.
        const back = parseTime(text, nowMs);
        expect(formatTime(back)).toBe(text);
        expect(Math.abs(back - seconds * 1000)).toBeLessThanOrEqual(7_200_000);
      }),
    );
  });

  test("ISO times with a zone mean the same everywhere", () => {
    fc.assert(
      fc.property(fc.date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true }), (date) => {
        expect(parseTime(date.toISOString(), nowMs)).toBe(date.getTime());
      }),
    );
    expect(parseTime("2026-11-21T14:03:05+02:00", nowMs)).toBe(Date.UTC(2026, 10, 21, 12, 3, 5));
    expect(parseTime("2026-11-21T14:03:05-0530", nowMs)).toBe(Date.UTC(2026, 10, 21, 19, 33, 5));
  });

  test("local times may leave out seconds, or the time", () => {
    expect(parseTime("2026-11-21 14:03", nowMs)).toBe(new Date(2026, 10, 21, 14, 3).getTime());
    expect(parseTime("2026-11-21", nowMs)).toBe(new Date(2026, 10, 21).getTime());
    expect(parseTime("2026-11-21T14:03:05", nowMs)).toBe(new Date(2026, 10, 21, 14, 3, 5).getTime());
  });

  test("a relative time counts back from now", () => {
    expect(parseTime("now", nowMs)).toBe(nowMs);
    expect(parseTime("-5m", nowMs)).toBe(nowMs - 300_000);
    expect(parseTime("-1d12h", nowMs)).toBe(nowMs - 36 * 3_600_000);
  });

  test("times that do not exist are refused, not moved", () => {
    const bad = [
      "2026-02-30",
      "2026-13-01",
      "2026-11-21 24:30",
      "2026-11-21 14:60",
      "5m",
      "yesterday",
      "",
      "-9999999w",
    ];
    for (const text of bad) usage(() => parseTime(text, nowMs));
    usage(() => parseTime("2026-11-21T14:03:05+25:00", nowMs));
  });

  test("durations add their parts up", () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.nat(1000), fc.nat(1000), (hours, minutes, seconds) => {
        expect(parseDuration(`${hours}h${minutes}m${seconds}s`)).toBe(((hours * 60 + minutes) * 60 + seconds) * 1000);
      }),
    );
    expect(parseDuration("30")).toBe(30_000);
    expect(parseDuration("250ms")).toBe(250);
    for (const bad of ["", "m", "5x", "-5m", "1.5h", "5 m"]) usage(() => parseDuration(bad));
  });

  test("durations are shown in two units at most", () => {
    expect([0, 250, 42_000, 310_000, 300_000, 7_380_000, 90_000_000 * 4].map(formatDuration)).toEqual([
      "0s",
      "250ms",
      "42s",
      "5m 10s",
      "5m",
      "2h 3m",
      "4d 4h",
    ]);
  });
});

describe("command lines", () => {
  const verb = defineVerb({
    summary: "Test",
    positionals: [{ name: "VOL", help: "volume", isRequired: true }],
    flags: {
      to: required("PATH", "where", (text) => text),
      at: option("TIME", "when", (text) => text),
      count: option("COUNT", "how many", asInt(1, 9)),
      yes: toggle("do not ask", { alias: "y" }),
      nbd: list("ADDR", "where to serve", (text) => text),
    },
    examples: ["walb test v --to x"],
    async run() {
      return 0;
    },
  });
  const parse = (words: readonly string[], env: Record<string, string> = {}) => parseCommandLine(verb, words, env);

  test("flags are taken in any order, with = or a space, with dashes in values", () => {
    expect(parse(["--at", "-5m", "v", "--to=-", "-y", "--nbd", "a,b", "--nbd=c"])).toEqual({
      flags: { to: "-", at: "-5m", count: undefined, yes: true, nbd: ["a", "b", "c"] },
      args: ["v"],
    });
    expect(parse(["--to", "x", "--", "--at"]).args).toEqual(["--at"]);
    expect(parse(["v", "--to", "x", "--yes", "--count", "3"]).flags).toMatchObject({ yes: true, count: 3 });
  });

  test("every flag is also taken from the environment, and the command line wins", () => {
    const env = { WALB_TO: "env", WALB_COUNT: "5", WALB_YES: "1" };
    expect(parse(["v"], env).flags).toMatchObject({ to: "env", count: 5, yes: true });
    expect(parse(["v", "--to", "line", "--no-yes"], env).flags).toMatchObject({ to: "line", yes: false });
    expect(usage(() => parse(["v"], { ...env, WALB_COUNT: "x" })).message).toContain("WALB_COUNT");
  });

  test("what is unknown, missing, surplus, twice or of the wrong kind is refused and named", () => {
    const cases: readonly (readonly [readonly string[], string])[] = [
      [["v", "--to", "x", "--nope"], "--nope"],
      [["v", "--to", "x", "-z"], "-z"],
      [["v"], "--to is missing"],
      [["--to", "x"], "VOL is missing"],
      [["v", "w", "--to", "x"], '"w"'],
      [["v", "--to", "x", "--to", "y"], "--to is given twice"],
      [["v", "--to"], "--to needs a value"],
      [["v", "--to", "--yes"], "--to needs a value"],
      [["v", "--to", "x", "--count", "10"], "from 1 to 9"],
      [["v", "--to", "x", "--yes=maybe"], "maybe"],
      [["v", "--to", "x", "--no-to"], "--no-to"],
      [["v", "--to", "x", "--constructor"], "--constructor"],
    ];
    for (const [words, text] of cases) expect(usage(() => parse(words)).message).toContain(text);
  });

  test("any list of words either parses or is a usage error", () => {
    const word = fc.oneof(
      fc.constantFrom("--to", "--at=", "-y", "--", "-", "--count", "3", "v", "--no-yes", "--nbd"),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), (words) => {
        try {
          const { args } = parse(words);
          expect(args).toHaveLength(1);
        } catch (error) {
          expect(error).toBeInstanceOf(WalbError);
          expect((error as WalbError).code).toBe("usage");
        }
      }),
    );
  });

  test("a misspelt word finds its neighbour", () => {
    const words = ["restore", "snapshot", "snapshots", "status", "start"];
    expect(nearest("restroe", words)).toBe("restore");
    expect(nearest("statsu", words)).toBe("status");
    expect(nearest("xyzzy", words)).toBeUndefined();
  });

  test("gids and volumes are checked", () => {
    expect(asGid("9007199254740991")).toBe(9007199254740991n);
    for (const bad of ["", "-1", "1.5", "9007199254740992", "18446744073709551615", "x"]) usage(() => asGid(bad));
    for (const bad of ["", "../x", "a b"]) usage(() => asVolume(bad));
  });
});

describe("output", () => {
  test("numbers stand to the right, no line ends in a space", () => {
    const table = renderTable(
      [{ title: "NAME" }, { title: "SIZE", align: "right" }, { title: "NOTE" }],
      [
        ["vol0", "1.50G", ""],
        ["日本", "10M", "x"],
      ],
    );
    expect(table).toBe("NAME   SIZE  NOTE\nvol0  1.50G\n日本    10M  x\n");
  });

  test("progress shows how much of what, how fast, and when it ends, in one line of the terminal", () => {
    const progress = {
      doneBytes: 512 * 1024 ** 2,
      totalBytes: 1024 ** 3,
      rateBytesPerS: 128 * 1024 ** 2,
      etaS: 4,
      step: "writing",
    };
    const job = { id: "x-1", command: "restore", volume: "vol0", state: "running" as const, startedMs: 0, progress };
    expect(progressLine(job, 120)).toBe(
      "restore vol0 writing  [============            ]   50%  512M of 1.00G  128M/s  ETA 4s",
    );
    expect(progressLine(job, 80)).toBe(
      "restore vol0 writing  [=========         ]   50%  512M of 1.00G  128M/s  ETA 4s",
    );
    expect(progressLine(job)).toBe("restore vol0 writing   50%  512M of 1.00G  128M/s  ETA 4s");
    for (let width = 1; width < 200; width += 1) expect(progressLine(job, width).length).toBeLessThan(width);
    const { totalBytes: _, ...open } = progress;
    expect(progressLine({ ...job, progress: open }, 80)).toBe("restore vol0 writing  512M  128M/s  ETA 4s");
  });

  test("wrapped text keeps every word, in lines that fit", () => {
    const word = fc.string({ minLength: 1, maxLength: 12, unit: fc.constantFrom("a", "b", "-", "ü", "日") });
    fc.assert(
      fc.property(fc.array(word, { minLength: 1 }), fc.integer({ min: 24, max: 80 }), (words, width) => {
        const lines = wrapText(words.join(" "), width);
        expect(lines.join(" ").split(" ")).toEqual(words);
        for (const line of lines) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(width);
        for (const [index, line] of lines.slice(1).entries()) {
          const before = lines[index]!;
          expect(Bun.stringWidth(`${before} ${line.split(" ")[0]}`)).toBeGreaterThan(width);
        }
      }),
    );
    expect(wrapText("one\ntwo\n\nthree", 80)).toEqual(["one two", "", "three"]);
  });

  test("NBD addresses tell the socket, or host and port", () => {
    const exportName = "vol0";
    const unix = { host: "/run/walb/nbd.sock", port: "", exportName };
    expect(peerOf("nbd+unix:///vol0?socket=/run/walb/nbd.sock", exportName)).toEqual(unix);
    expect(peerOf("nbd://127.0.0.1:10810/vol0", exportName)).toEqual({ host: "127.0.0.1", port: "10810", exportName });
    expect(peerOf("nbd://[::1]/vol0", exportName)).toEqual({ host: "::1", port: "10809", exportName });
  });
});

describe("attaching", () => {
  const devices = [
    { path: "/dev/nbd0", isInUse: true },
    { path: "/dev/nbd1", isInUse: false },
  ];

  test("takes the first free device, or the one that was asked for", () => {
    expect(chooseDevice(undefined, devices)).toBe("/dev/nbd1");
    expect(chooseDevice("/dev/nbd1", devices)).toBe("/dev/nbd1");
  });

  test("says why there is none and what to do", () => {
    const failure = (work: () => unknown): string => {
      try {
        work();
      } catch (error) {
        if (error instanceof WalbError) return `${error.code}: ${error.what}; ${error.hint}`;
      }
      return "nothing";
    };
    expect(failure(() => chooseDevice(undefined, []))).toStartWith("not-found: the kernel has no nbd devices; load");
    expect(failure(() => chooseDevice("/dev/nbd0", devices))).toStartWith("busy: /dev/nbd0 is in use; leave it out");
    expect(failure(() => chooseDevice(undefined, devices.slice(0, 1)))).toStartWith("busy: all 1 nbd devices are in");
    expect(failure(() => chooseDevice("/dev/nbd7", devices))).toBe(
      "not-found: there is no /dev/nbd7; there are /dev/nbd0 to /dev/nbd1",
    );
  });
});
