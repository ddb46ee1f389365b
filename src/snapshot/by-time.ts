/**
 * @module Points by time, where the clock that stamped them may have been wrong and set right. Pure.
 *
 * Gids rise always; times need not: what was written while a clock was a day behind looks a day old. A restore must not
 * take such a point for an old one in silence, and giving up old points must not take those before it along.
 */

/** Clocks are set by so much without anybody noticing, seconds. */
const slackMs = 5000;

/** What a time stands for. */
export interface PointAtTime<P> {
  /** The newest that is not after the time. */
  readonly point: P | undefined;
  /**
   * Set where the clock went back and passed the time twice: the last point before it went back, the first one behind,
   * and the newest that is not after the time before it went back.
   */
  readonly jump?: { readonly from: P; readonly to: P; readonly earlier: P | undefined };
}

/**
 * The point that a time stands for.
 * @param points oldest first. @param nowMs points of the future are known to be stamped wrong, and make no time ambiguous.
 */
export function pointAtTime<P>(
  points: readonly P[],
  timeMs: (point: P) => number,
  atMs: number,
  nowMs: number,
): PointAtTime<P> {
  const end = points.findLastIndex((point) => timeMs(point) <= atMs);
  const point = points[end];
  const isLater = (candidate: P): boolean => timeMs(candidate) > atMs + slackMs && timeMs(candidate) <= nowMs;
  const first = points.findIndex((candidate, i) => i < end && isLater(candidate));
  if (first < 0) return { point };
  const to = points.findIndex((candidate, i) => i > first && timeMs(candidate) <= atMs);
  return {
    point,
    jump: {
      from: points[to - 1]!,
      to: points[to]!,
      earlier: points.slice(0, first).findLast((p) => timeMs(p) <= atMs),
    },
  };
}

/**
 * Times of points that never fall, for judging their age: the latest that each can be from. What is stamped with the future,
 * or with less than a point before it, is taken to be from when the next point is that is not, or from now: a clock that is
 * behind must not make anything look old. How far such points are apart these times do not say.
 * @param timesMs of the points, oldest first.
 */
export function risingTimes(timesMs: readonly number[], nowMs: number): number[] {
  let highestMs = Number.NEGATIVE_INFINITY;
  const good = timesMs.map((timeMs) => {
    if (timeMs > nowMs || timeMs < highestMs) return undefined;
    highestMs = timeMs;
    return timeMs;
  });
  let laterMs = nowMs;
  return good
    .toReversed()
    .map((timeMs) => {
      laterMs = timeMs ?? laterMs;
      return laterMs;
    })
    .toReversed();
}
