import { describe, expect, test } from "bun:test";
import { CollectionRule } from "../../src/cli/daemon/collect.ts";

const mib = 1024 * 1024;
const run = (residentMib: readonly number[]): number[] => {
  const rule = new CollectionRule();
  return residentMib.flatMap((value, i) => (rule.isDue(value * mib) ? [i] : []));
};

describe("a daemon collects garbage", () => {
  test("when its memory has grown by 16 MiB since it was collected last, however slowly", () => {
    expect(run([120, 130, 135, 136, 125, 130, 140, 141, 120])).toEqual([3, 7]);
    expect(run(Array.from({ length: 100 }, (_, i) => 120 + i / 2))).toEqual([32, 65, 98]);
  });

  test("not when it is small, and not again when there was nothing to be freed", () => {
    expect(run([40, 60, 80, 100, 111])).toEqual([]);
    expect(run([40, 112])).toEqual([1]);
    expect(run([120, 136, 136, 142, 150, 151, 152, 152])).toEqual([1, 6]);
  });

  test("from the least that it came down to, since memory goes back to the system late", () => {
    expect(run([120, 136, 135, 130, 121, 136, 137])).toEqual([1, 6]);
  });
});
