/** @module `walb restore --to -`: the image of a volume on standard output, whatever host the archive is on. */
import { ProgressMeter } from "../../control/rate.ts";
import { asWalbError, WalbError } from "../../errors.ts";
import type { FleetServer } from "../../fleet/fleet.ts";
import { clientNet } from "../../http/gateway.ts";
import { closePlatform, createPlatform } from "../../platform/real/index.ts";
import { lbBytes } from "../../units.ts";
import { type ClientFlagValues, callOptions, print, remark } from "../common.ts";
import { parseAddress } from "../flags.ts";
import { progressView } from "../progress.ts";
import { archiveClient } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { formatDuration, formatTime } from "../text/time.ts";
import type { Io } from "../verb.ts";
import { choosePoint, type PointWish } from "./point.ts";
import { notVerified, remarkFuture } from "./remarks.ts";
import { writeStandardOutput } from "./stdout.ts";
import { streamImage } from "./stream.ts";

/** Flags of walb restore that count here. */
export interface OutputFlags extends ClientFlagValues {
  readonly overwrite: boolean;
  readonly "dry-run": boolean;
}

/** Restores to standard output. What it tells people goes to stderr. */
export async function restoreToOutput(
  server: FleetServer,
  volume: string,
  wish: PointWish,
  flags: OutputFlags,
  io: Io,
): Promise<number> {
  const isDryRun = flags["dry-run"];
  if (flags.overwrite) throw new WalbError("usage", { what: "--overwrite means nothing with --to -" });
  if (!isDryRun && flags.json) {
    throw new WalbError("usage", { what: "--json goes not with --to -: the image is what stdout is for" });
  }
  if (!isDryRun && io.isOutTerminal) {
    throw new WalbError("usage", {
      what: "an image has no business on a terminal",
      hint: `send it on: walb restore ${volume} --to - > ${volume}.img`,
    });
  }
  const options = callOptions(flags, io);
  const { snapshots } = await archiveClient(server).call("snapshots", { volume, all: true }, options);
  const point = choosePoint(volume, snapshots, wish, io.nowMs());
  const sizeBytes = point.sizeLb * lbBytes;
  const name = `${volume} as of ${formatTime(point.timeMs)} (snapshot ${point.gid}, ${formatSize(sizeBytes)})`;
  remarkFuture(wish, point.timeMs, flags, io);
  if (isDryRun) {
    const value = { volume, to: "-", isDryRun, gid: point.gid, timeMs: point.timeMs, sizeBytes, bytes: sizeBytes };
    print(flags, io, { ...value, isVerified: false }, `would restore ${name} to standard output; ${notVerified}\n`);
    return 0;
  }
  const startMs = io.nowMs();
  await copy(server, volume, { gid: point.gid, sizeLb: point.sizeLb }, flags, io);
  remark(flags, io, `restored ${name} to standard output in ${formatDuration(io.nowMs() - startMs)}`);
  return 0;
}

async function copy(
  server: FleetServer,
  volume: string,
  point: { readonly gid: bigint; readonly sizeLb: number },
  flags: ClientFlagValues,
  io: Io,
): Promise<void> {
  const { clusterKey } = server;
  const platform = createPlatform(clusterKey === undefined ? {} : { secureNet: clientNet(clusterKey) });
  const view = progressView(io, flags.quiet);
  const meter = new ProgressMeter(platform.clock.monotonicMs());
  const abort = new AbortController();
  const onSignal = (): void => abort.abort(asWalbError(io.signal.reason));
  const timer =
    flags.timeout === undefined
      ? undefined
      : platform.clock.timer(flags.timeout, () =>
          abort.abort(new WalbError("timed-out", { what: "the time is over; the output is incomplete" })),
        );
  if (io.signal.aborted) onSignal();
  io.signal.addEventListener("abort", onSignal);
  try {
    await streamImage(platform, {
      archive: parseAddress(server.address),
      volume,
      ...point,
      write: io.outData ?? writeStandardOutput,
      signal: abort.signal,
      progress(doneBytes) {
        meter.report({ doneBytes, totalBytes: point.sizeLb * lbBytes, step: "reading" }, platform.clock.monotonicMs());
        const job = { id: "", command: "restore", volume, state: "running" as const, startedMs: 0 };
        view.show({ ...job, progress: meter.progress(platform.clock.monotonicMs()) });
      },
    });
  } finally {
    view.end();
    timer?.cancel();
    io.signal.removeEventListener("abort", onSignal);
    await closePlatform(platform);
  }
}
