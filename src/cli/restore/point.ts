/** @module Which restorable point somebody means: pure. */
import type { RestorablePoint } from "../../control/archive-schemas.ts";
import { WalbError } from "../../errors.ts";
import { formatTime } from "../text/time.ts";

/** A gid, a time, or neither for the newest point. */
export interface PointWish {
  readonly gid?: bigint;
  readonly atMs?: number;
}

/**
 * The point that is meant; of a time the newest point that is not after it.
 * @param points ascending, as the archive tells them.
 * @throws WalbError `not-restorable`.
 */
export function choosePoint(volume: string, points: readonly RestorablePoint[], wish: PointWish): RestorablePoint {
  const { gid, atMs } = wish;
  const point = points.findLast((candidate) =>
    gid === undefined ? atMs === undefined || candidate.timeMs <= atMs : candidate.gid === gid,
  );
  if (point !== undefined) return point;
  const [oldest, newest] = [points[0], points.at(-1)];
  if (oldest === undefined || newest === undefined) {
    throw new WalbError("not-restorable", {
      what: "nothing can be restored yet",
      where: { volume },
      hint: `see why: walb status ${volume}`,
    });
  }
  throw new WalbError("not-restorable", {
    what: gid === undefined ? `there is no point before ${formatTime(atMs ?? 0)}` : `${gid} is not a restorable point`,
    where: { volume },
    hint: `the points are from ${formatTime(oldest.timeMs)} to ${formatTime(newest.timeMs)}: walb snapshots ${volume} --all`,
  });
}
