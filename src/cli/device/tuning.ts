/** @module The tuning of a device of the daemon as flags of `walb device create`, and as `walb device show` tells it. */
import type { VolumeTuning } from "../../device/user/control/schema.ts";
import { WalbError } from "../../errors.ts";
import { asDuration, asInt, asSize, option } from "../flags.ts";
import { formatSize } from "../text/size.ts";

/** Bounds of the daemon, told where a flag is read: it knows the flag by another name, and bytes or milliseconds alone. */
function within(parse: (text: string) => number, min: string, max: string): (text: string) => number {
  return (text) => {
    const value = parse(text);
    if (value >= parse(min) && value <= parse(max)) return value;
    throw new WalbError("usage", { what: `${JSON.stringify(text)} is not from ${min} to ${max}` });
  };
}

export const tuningFlags = {
  "max-pending": option(
    "SIZE",
    "writes wait when so much is not on the data store, default what --memory allows",
    within(asSize, "1M", "16G"),
  ),
  "min-pending": option("SIZE", "… until it is less than this, default 7/8 of that", within(asSize, "1", "16G")),
  "queue-stop-timeout": option("TIME", "… or at the latest so long, default 100ms", within(asDuration, "1ms", "1d")),
  "max-pack": option("SIZE", "most data of one log pack, default and most 1M", within(asSize, "512", "4T")),
  "log-sync-size": option("SIZE", "the log is synced when so much is not, default 16M", within(asSize, "0", "16G")),
  "log-sync-interval": option("TIME", "… or after so long, default 100ms", within(asDuration, "0ms", "1d")),
  "batch-packs": option("N", "packs that go to the log at once, default and most 64", asInt(1, 2 ** 32)),
  "batch-writes": option("N", "writes that go to the log at once, default and most 960", asInt(1, 2 ** 32)),
};

type TuningFlagValues = { readonly [Name in keyof typeof tuningFlags]: number | undefined };

/** Only what was given. */
export function tuningOf(flags: TuningFlagValues): VolumeTuning {
  const tuning = {
    maxPendingBytes: flags["max-pending"],
    minPendingBytes: flags["min-pending"],
    queueStopTimeoutMs: flags["queue-stop-timeout"],
    maxPackBytes: flags["max-pack"],
    logSyncBytes: flags["log-sync-size"],
    logSyncIntervalMs: flags["log-sync-interval"],
    maxBatchPacks: flags["batch-packs"],
    maxBatchWrites: flags["batch-writes"],
  };
  if ((tuning.minPendingBytes ?? 0) >= (tuning.maxPendingBytes ?? Number.POSITIVE_INFINITY)) {
    throw new WalbError("usage", { what: "--min-pending is not less than --max-pending" });
  }
  return Object.fromEntries(Object.entries(tuning).filter(([, value]) => value !== undefined));
}

/** A line for each part of a tuning. */
export function tuningLines(tuning: VolumeTuning): [string, string][] {
  const size = (bytes: number): string => formatSize(bytes);
  const time = (ms: number): string => `${ms} ms`;
  const count = (number: number): string => String(number);
  const lines: [string, number | undefined, (value: number) => string][] = [
    ["pending at most", tuning.maxPendingBytes, size],
    ["goes on below", tuning.minPendingBytes, size],
    ["or goes on after", tuning.queueStopTimeoutMs, time],
    ["log pack at most", tuning.maxPackBytes, size],
    ["log synced each", tuning.logSyncBytes, size],
    ["log synced after", tuning.logSyncIntervalMs, time],
    ["packs at once", tuning.maxBatchPacks, count],
    ["writes at once", tuning.maxBatchWrites, count],
  ];
  return lines.flatMap(([label, value, text]) => (value === undefined ? [] : [[label, text(value)]]));
}
