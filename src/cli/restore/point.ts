/** @module Which restorable point somebody means: pure. */
import type { RestorablePoint } from "../../control/archive-schemas.ts";
import { WalbError } from "../../errors.ts";
import { pointAtTime, risingTimes } from "../../snapshot/by-time.ts";
import { formatTime } from "../text/time.ts";

/** A gid, a time, or neither for the newest point. */
export interface PointWish {
  readonly gid?: bigint;
  readonly atMs?: number;
}

/**
 * The point that is meant; of a time the newest point that is not after it.
 * @param points ascending, as the archive tells them.
 * @throws WalbError `not-restorable`, also for a time that was twice because the clock went back.
 */
export function choosePoint(
  volume: string,
  points: readonly RestorablePoint[],
  wish: PointWish,
  nowMs: number,
): RestorablePoint {
  const { gid, atMs } = wish;
  if (gid !== undefined || atMs === undefined) {
    return required(
      volume,
      points,
      wish,
      gid === undefined ? points.at(-1) : points.find((point) => point.gid === gid),
    );
  }
  const { point, jump } = pointAtTime(points, ({ timeMs }) => timeMs, atMs, nowMs);
  if (jump === undefined) return required(volume, points, wish, point);
  const { from, to, earlier } = jump;
  const before = earlier === undefined ? "no point" : pointText(earlier);
  throw new WalbError("not-restorable", {
    what: `the clock went back between ${pointText(from)} and ${pointText(to)}, so that ${formatTime(atMs)} was twice: it stands for ${before} and for ${pointText(point!)}`,
    where: { volume },
    hint: `say which one by its gid: walb snapshots ${volume} --all`,
  });
}

/**
 * The oldest point to keep when what is older than a time is given up: no point goes that may be newer, whatever clocks
 * have said.
 * @throws WalbError `not-restorable`.
 */
export function oldestToKeep(
  volume: string,
  points: readonly RestorablePoint[],
  beforeMs: number,
  nowMs: number,
): RestorablePoint {
  const times = risingTimes(
    points.map(({ timeMs }) => timeMs),
    nowMs,
  );
  return required(volume, points, { atMs: beforeMs }, points[times.findLastIndex((timeMs) => timeMs <= beforeMs)]);
}

function required(
  volume: string,
  points: readonly RestorablePoint[],
  { gid, atMs }: PointWish,
  point: RestorablePoint | undefined,
): RestorablePoint {
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

function pointText({ gid, timeMs }: RestorablePoint): string {
  return `gid ${gid} (${formatTime(timeMs)})`;
}
