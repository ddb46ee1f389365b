/** @module Our snappy decoder against the library, in C: tests/native/snappy-check.c. */
import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dir, "..", "..");
/** More by option. */
const cases = Number(process.env.WALB_SNAPPY_CASES ?? 50_000);

test("snappy is decoded as the library does, and refused where it refuses, without a byte too far", () => {
  const directory = mkdtempSync(join(tmpdir(), "walb-snappy-"));
  try {
    const program = join(directory, "check");
    const sources = [join(root, "tests/native/snappy-check.c"), join(root, "ffi/snappy.c")];
    const flags = ["-std=gnu11", "-O2", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    execFileSync(process.env.CC ?? "gcc", [...flags, "-o", program, ...sources, "-lsnappy"], { stdio: "pipe" });
    const said = execFileSync(program, [`${cases}`, "1"], { encoding: "utf8" });
    const [, good, bad] = said.match(/^(\d+) good, (\d+) bad\n$/) ?? [];
    expect(Number(good) + Number(bad)).toBe(cases);
    expect(Number(good)).toBeGreaterThan(cases / 2);
    expect(Number(bad)).toBeGreaterThan(cases / 10);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
