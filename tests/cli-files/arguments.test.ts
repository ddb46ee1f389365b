/** @module Values of flags that are no good: told of the flag, before anything is made. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { original, walb } from "./tools.ts";

let directory = "";
const at = (name: string): string => join(directory, name);
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "walb-arguments-"));
  writeFileSync(at("image"), Buffer.alloc(4096));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("a value out of its range is told of its flag, with the range", async () => {
  const cases: readonly (readonly [flag: string, ...words: string[]])[] = [
    [
      "--min-io is 8192, but must be a whole number from 512 to 4096",
      "wlog",
      "generate",
      "--min-io",
      "8K",
      "--max-io",
      "4K",
    ],
    ["a physical block size of 777 bytes", "wlog", "generate", "--block-size", "777"],
    ["--size is 100,", "wlog", "generate", "--size", "100"],
    ["--max-pack is 0,", "wlog", "generate", "--max-pack", "0"],
    ["--block-size is 0,", "image", "hash", at("image"), "--kind", "blocks", "--block-size", "0"],
    ["--block-size is 0,", "image", "diff", at("image"), at("image"), "--block-size", "0"],
    ['--blocks: "-1"', "wdiff", "dump", at("image"), "--address", "0", "--blocks", "-1"],
  ];
  for (const [text, ...words] of cases) {
    const { code, err } = await walb(...words, ...(words[1] === "generate" ? ["-o", at("made")] : []));
    expect({ words, code, err }).toEqual({ words, code: 2, err: expect.stringContaining(text) });
    expect(err).not.toMatch(/Bytes|field /);
  }
  expect(readdirSync(directory)).toEqual(["image"]);
});

test("a part that begins behind the end of an image is an error, not the hash of nothing", async () => {
  const hash = await walb("image", "hash", at("image"), "--offset", "8K");
  expect([hash.code, hash.err]).toEqual([1, expect.stringContaining("it has only 4096 bytes")]);
  expect((await original("bhash", "-off", "8K", at("image"))).code).toBe(1);
  expect((await walb("image", "hash", at("image"), "--offset", "4K")).code).toBe(0);
});
