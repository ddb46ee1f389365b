import { expect, test } from "bun:test";
import { RecordKind } from "../../src/diff/types.ts";
import { codeOf } from "../helpers/errors.ts";
import { run } from "./harness.ts";
import { History } from "./model.ts";
import { archived, deliver, withArchive } from "./real.ts";

interface Range {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  readonly isZero: boolean;
}

/** Ranges of the model's writes, those that touch joined. */
function wanted(history: History, from: number, to: number): Range[] {
  const ranges: Range[] = [];
  for (const { addressLb, blocksLb, kind } of history.diff(from, to)) {
    const isZero = kind !== RecordKind.normal;
    const last = ranges.at(-1);
    const [offsetBytes, sizeBytes] = [addressLb * 512, blocksLb * 512];
    if (last !== undefined && last.isZero === isZero && last.offsetBytes + last.sizeBytes === offsetBytes) {
      ranges.splice(-1, 1, { ...last, sizeBytes: last.sizeBytes + sizeBytes });
    } else ranges.push({ offsetBytes, sizeBytes, isZero });
  }
  return ranges;
}

test("the changes between any two points are what was written, through merges and applies", async () => {
  await withArchive(async (scene) => {
    const history = new History(3000, 4);
    for (let i = 0; i < 9; i++) history.step();
    await archived(scene, history, 2);
    for (let gid = 0; gid < 9; gid += gid === 0 ? 3 : 1) await deliver(scene, history, gid, gid === 0 ? 3 : gid + 1);
    const { control } = scene.role;
    const changes = (fromGid: number, toGid: number, rangesMax = 1000) =>
      run(control, "changes", { volume: "vol0", fromGid, toGid, rangesMax });
    const check = async (gids: readonly number[]) => {
      for (const [i, from] of gids.entries()) {
        for (const to of gids.slice(i)) {
          const ranges = wanted(history, from, to);
          const sum = (list: readonly Range[]) => list.reduce((bytes, { sizeBytes }) => bytes + sizeBytes, 0);
          expect(await changes(from, to)).toEqual({
            fromGid: BigInt(from),
            toGid: BigInt(to),
            rangeCount: ranges.length,
            changedBytes: sum(ranges),
            zeroBytes: sum(ranges.filter(({ isZero }) => isZero)),
            ranges,
          });
        }
      }
    };
    await check([3, 4, 5, 6, 7, 8, 9]);
    expect(await changes(3, 9, 1)).toMatchObject({ ranges: wanted(history, 3, 9).slice(0, 1) });
    await run(control, "merge", { volume: "vol0", fromGid: 5, toGid: 7 });
    await run(control, "apply", { volume: "vol0", gid: 4 });
    await check([4, 5, 7, 8, 9]);
    expect(await codeOf(changes(3, 9))).toBe("not-restorable");
    expect(await codeOf(changes(4, 6))).toBe("not-restorable");
    expect(await codeOf(changes(9, 4))).toBe("bad-parameter");
  });
});
