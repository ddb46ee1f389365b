/** @module `walb status`: is every volume protected, and if not, why not. */
import { asWalbError, exitCodes, WalbError } from "../../errors.ts";
import type { AgeLimits } from "../../fleet/protection.ts";
import { type ClientFlagValues, clientFlags, print } from "../common.ts";
import { asDuration, asVolume, optionOr, toggle } from "../flags.ts";
import { collectStatus, type FleetStatus, statusValue } from "../status/collect.ts";
import { nagiosStatus, unknownStatus } from "../status/nagios.ts";
import { renderStatus } from "../status/render.ts";
import { formatTime } from "../text/time.ts";
import { defineVerb, type Io } from "../verb.ts";

export const verb = defineVerb({
  summary: "Says of each volume whether it is protected and why not, its newest restorable point, lag and log usage",
  description:
    "TO PROXY and TO ARCHIVE are what has not got there yet, and for how long. A volume is protected when its writes " +
    "are being shipped, there is a point to restore, and that point is not older than --critical while writes wait.\n\n" +
    "With --nagios: one line with performance data; exit codes 0 OK, 1 warning, 2 critical, 3 unknown.",
  positionals: [{ name: "VOL", help: "only this volume" }],
  flags: {
    watch: toggle("again and again, until Ctrl-C"),
    interval: optionOr("TIME", "between looks, with --watch", asDuration, "2s"),
    nagios: toggle("as a Nagios plugin"),
    warning: optionOr("TIME", "age of the newest point to warn of while writes wait", asDuration, "10m", {
      alias: "w",
    }),
    critical: optionOr("TIME", "age from which the volume is not protected", asDuration, "1h", { alias: "c" }),
    ...clientFlags,
  },
  examples: ["walb status", "walb status vol0 --watch", "walb status --nagios -w 10m -c 1h", "walb status --json"],
  exits: { 1: "a volume is not protected" },
  async run({ flags, args, io }) {
    const only = args[0] === undefined ? undefined : asVolume(args[0]);
    const limits = { warningMs: flags.warning, criticalMs: flags.critical };
    if (limits.warningMs > limits.criticalMs) {
      throw new WalbError("usage", { what: "--warning is longer than --critical", hint: "e.g. -w 10m -c 1h" });
    }
    if (flags.nagios) {
      if (flags.watch || flags.json || flags.server !== undefined) {
        throw new WalbError("usage", { what: "--nagios goes with none of --watch, --json and --server" });
      }
      return runNagios(flags, io, only, limits);
    }
    if (flags.watch) return watch(flags, io, only, limits);
    const status = await collectStatus(flags, io, only, limits);
    print(flags, io, statusValue(status), renderStatus(status));
    return exitOf(status);
  },
});

/** One server alone cannot say whether a volume is protected. */
function exitOf({ rows, reports }: FleetStatus): number {
  const isGood = rows.every((row) => row.isProtected !== false);
  return isGood && reports.every((report) => report.error === undefined) ? exitCodes.done : exitCodes.failed;
}

async function runNagios(
  flags: ClientFlagValues,
  io: Io,
  only: string | undefined,
  limits: AgeLimits,
): Promise<number> {
  let result: ReturnType<typeof nagiosStatus>;
  try {
    result = nagiosStatus(await collectStatus(flags, io, only, limits), limits);
  } catch (error) {
    result = unknownStatus(asWalbError(error).message);
  }
  io.out(result.text);
  return result.exit;
}

/** Until interrupted; a server that cannot be reached for a while does not end it. */
async function watch(
  flags: ClientFlagValues & { readonly interval: number },
  io: Io,
  only: string | undefined,
  limits: AgeLimits,
): Promise<number> {
  while (!io.signal.aborted) {
    try {
      const status = await collectStatus(flags, io, only, limits);
      print(flags, io, statusValue(status), screen(io, renderStatus(status)));
    } catch (thrown) {
      const error = asWalbError(thrown);
      if (error.code !== "unreachable" && error.code !== "timed-out") throw error;
      if (flags.json) io.err(`${JSON.stringify({ error: error.toJSON() })}\n`);
      else io.out(screen(io, `${error.message}\n`));
    }
    await pause(flags.interval, io.signal);
  }
  return exitCodes.interrupted;
}

/** A look: over the one before on a terminal, below it elsewhere. */
function screen(io: Io, text: string): string {
  const whole = `${formatTime(io.nowMs())}\n${text}`;
  return io.isOutTerminal ? `\x1b[H${whole.replaceAll("\n", "\x1b[K\n")}\x1b[J` : `${whole}\n`;
}

async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, delayMs);
  const onAbort = (): void => resolve();
  signal.addEventListener("abort", onAbort, { once: true });
  await promise;
  clearTimeout(timer);
  signal.removeEventListener("abort", onAbort);
}
