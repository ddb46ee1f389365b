/** @module Times of a daemon's error texts, as the other texts of the command line have them. */
import { WalbError } from "../../errors.ts";
import { formatTime } from "../text/time.ts";

/** A moment in UTC, ISO 8601. */
const utcTime = /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;

/** Moments in a text in local time, as `walb snapshots` lists them and `--at` takes them. */
function withLocalTimes(text: string): string {
  return text.replace(utcTime, (found) => formatTime(Date.parse(found)));
}

/** An error with local times; anything else as it is. */
export function errorWithLocalTimes(error: unknown): unknown {
  if (!(error instanceof WalbError)) return error;
  return new WalbError(error.code, {
    what: withLocalTimes(error.what),
    where: error.where,
    ...(error.hint === undefined ? {} : { hint: withLocalTimes(error.hint) }),
    ...(error.cause === undefined
      ? {}
      : { cause: typeof error.cause === "string" ? withLocalTimes(error.cause) : error.cause }),
  });
}
