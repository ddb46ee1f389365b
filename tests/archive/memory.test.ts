import { afterAll, describe, expect, test } from "bun:test";
import { carveArchiveMemory } from "../../src/archive/memory.ts";
import { asWalbError } from "../../src/errors.ts";
import { closePlatform, createPlatform, memoryBudgetBytesMin } from "../../src/platform/real/index.ts";
import { mib } from "../../src/units.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";
import { openTestArchive } from "./harness.ts";

const platform = createPlatform({ memoryBudgetBytes: 2048 * mib, threads: 2 });
afterAll(() => closePlatform(platform));
const withMemory = (budgetMib: number) => ({ ...platform, memory: platform.memory.carve(budgetMib * mib) });

describe("the memory of an archive", () => {
  test("that is too little is refused with the flag and the least, which every default has", async () => {
    await withTemporaryDirectory(async (directory) => {
      for (const budgetMib of [16, 64, 96, 128, 145]) {
        const error = await openTestArchive(withMemory(budgetMib), `${directory}/data`).then(
          () => Promise.reject(new Error("it opened")),
          (thrown: unknown) => asWalbError(thrown),
        );
        expect(error.code).toBe("bad-parameter");
        expect(error.message).toContain(`an archive needs 146 MiB of memory for data, but has ${budgetMib} MiB`);
        expect(error.hint).toContain("--memory 146M");
      }
      for (const budgetMib of [146, memoryBudgetBytesMin / mib]) {
        const role = await openTestArchive(withMemory(budgetMib), `${directory}/data`);
        await role.close("graceful");
      }
    });
  });

  test("is shared out to the last, up to what makes it faster", () => {
    const sum = (budgetMib: number): number => {
      const { bulks, packs, receiving, working } = carveArchiveMemory(withMemory(budgetMib));
      expect(packs.budgetBytes).toBeGreaterThanOrEqual(64 * mib);
      expect(working.memory.budgetBytes).toBeGreaterThanOrEqual(64 * mib);
      return [bulks, packs, receiving.memory, working.memory].reduce((all, pool) => all + pool.budgetBytes / mib, 0);
    };
    expect(sum(146)).toBe(146);
    expect(sum(210)).toBeWithin(206, 211);
    expect(sum(304)).toBe(304);
    expect(sum(400)).toBe(304);
  });
});
