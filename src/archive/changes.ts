/** @module What was written to a volume between two of its points: ranges, from the indexes of the diffs alone. */
import { type MergePlan, planMerge } from "../diff/merge.ts";
import { type DiffIo, RecordKind } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import { applyAll } from "../snapshot/algebra.ts";
import { restoreRound } from "../snapshot/restore.ts";
import { lbBytes } from "../units.ts";
import { openDiffs } from "./diffs.ts";
import { choosePoint } from "./restore.ts";
import type { ArchiveVolume } from "./volume.ts";

/** A range that was written. */
export interface ChangedRange {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  /** It reads as zeroes now: written so, or discarded. */
  readonly isZero: boolean;
}

/** What was written. */
export interface Changes {
  readonly fromGid: bigint;
  readonly toGid: bigint;
  /** Bytes of all ranges, and of those that read as zeroes now. */
  readonly changedBytes: number;
  readonly zeroBytes: number;
  /** All; `ranges` has the first ones. */
  readonly rangeCount: number;
  readonly ranges: ChangedRange[];
}

/** Looks at the diffs between two points. @throws WalbError `bad-parameter`, `not-restorable`, `damaged`. */
export async function changesBetween(
  volume: ArchiveVolume,
  io: DiffIo,
  request: { readonly fromGid: bigint; readonly toGid: bigint; readonly rangesMax: number },
  signal: AbortSignal,
): Promise<Changes> {
  const { fromGid, toGid, rangesMax } = request;
  const { store, name } = volume;
  if (fromGid > toGid) {
    throw new WalbError("bad-parameter", {
      what: `gid ${fromGid} is behind gid ${toGid}`,
      where: { volume: name, field: "toGid" },
      hint: "name the older point first",
    });
  }
  const base = volume.requireBase();
  const points = volume.points().map(({ point }) => point);
  for (const gid of [fromGid, toGid]) choosePoint(points, { gid }, volume);
  const { timestampS } = base;
  const from = applyAll(base.from, restoreRound(store.set, base, fromGid));
  const diffs = restoreRound(store.set, { from, timestampS }, toGid).map((meta) => store.diff(meta));
  const round = await openDiffs(volume, io, diffs, { signal });
  try {
    return { fromGid, toGid, ...rangesOf(planMerge(round.open.records), rangesMax) };
  } finally {
    await round.close();
  }
}

/** Joins pieces that touch. */
function rangesOf(
  { records, pieces }: MergePlan,
  rangesMax: number,
): Pick<Changes, "changedBytes" | "zeroBytes" | "rangeCount" | "ranges"> {
  const ranges: ChangedRange[] = [];
  let [changedBytes, zeroBytes, rangeCount] = [0, 0, 0];
  let startLb = 0;
  let endLb = 0;
  let isZero = false;
  const end = (): void => {
    if (endLb === startLb) return;
    const sizeBytes = (endLb - startLb) * lbBytes;
    rangeCount++;
    changedBytes += sizeBytes;
    if (isZero) zeroBytes += sizeBytes;
    if (ranges.length < rangesMax) ranges.push({ offsetBytes: startLb * lbBytes, sizeBytes, isZero });
  };
  for (let i = 0; i < pieces.count; i++) {
    const atLb = pieces.addressLb[i]!;
    const isZeroPiece = records.kind[pieces.record[i]!] !== RecordKind.normal;
    if (atLb !== endLb || isZeroPiece !== isZero) {
      end();
      startLb = atLb;
      isZero = isZeroPiece;
    }
    endLb = atLb + pieces.blocksLb[i]!;
  }
  end();
  return { changedBytes, zeroBytes, rangeCount, ranges };
}
