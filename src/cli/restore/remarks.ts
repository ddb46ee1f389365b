/** @module What a restore tells people beside its result. */
import { type ClientFlagValues, remark } from "../common.ts";
import { formatAge, formatTime } from "../text/time.ts";
import type { Io } from "../verb.ts";
import type { PointWish } from "./point.ts";

/** What a dry run cannot promise. */
export const notVerified = "data is read and checked only when restoring";

/** Says on stderr what was taken for a time that has not come yet. */
export function remarkFuture(wish: PointWish, pointMs: number, flags: ClientFlagValues, io: Io): void {
  const nowMs = io.nowMs();
  if (wish.atMs === undefined || wish.atMs <= nowMs) return;
  const age = formatAge(Math.max(0, nowMs - pointMs));
  remark(
    flags,
    io,
    `--at ${formatTime(wish.atMs)} is in the future: taken is the newest point, of ${formatTime(pointMs)} (${age} old)`,
  );
}
