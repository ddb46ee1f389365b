/** @module The hash of zeroes without zeroes to read, as every processor would do it: tests/native/zerohash-check.c. */
import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const root = join(import.meta.dir, "..", "..");

test("zeroes are hashed for many seeds at once as one by one, by whatever the processor has", async () => {
  await withTemporaryDirectory(async (directory) => {
    const program = join(directory, "check");
    const sources = [join(root, "tests/native/zerohash-check.c"), join(root, "ffi/murmur3.c")];
    const flags = ["-std=gnu11", "-O2", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    execFileSync(process.env.CC ?? "gcc", [...flags, "-o", program, ...sources], { stdio: "pipe" });
    expect(execFileSync(program, { encoding: "utf8" })).toMatch(/^any\n/);
  });
});
