/** @module Flags all daemons share, and the life of a daemon process: ready line, signals, systemd, shutdown. */
import { hostname } from "node:os";
import { resolve } from "node:path";
import { createLogger, type Logger, logLevels } from "../../control/logger.ts";
import type { RoleOptions } from "../../control/role.ts";
import { asWalbError, WalbError } from "../../errors.ts";
import { createHttpFactory } from "../../http/server.ts";
import { type Address, addressText, type KeepAlive } from "../../platform/net.ts";
import type { Platform } from "../../platform/platform.ts";
import { createClock } from "../../platform/real/clock.ts";
import { closePlatform, createPlatform } from "../../platform/real/index.ts";
import { keepConnectionsAlive } from "../../platform/real/net.ts";
import { asChoice, asDuration, asInt, asPath, asSize, asText, list, option, optionOr, toggle } from "../flags.ts";
import type { Io } from "../verb.ts";
import { collectWhenDue } from "./collect.ts";
import { type ExecScope, programRunner } from "./exec.ts";
import { notifySystemd } from "./notify.ts";
import { openSecurity, type Security, type SecurityFlagValues, securityOf } from "./security.ts";

/** What Linux takes. */
const keepAliveSecondsMax = 32_767;

/** Flags of every daemon. */
export const daemonFlags = {
  node: option("ID", "name in logs, status and towards peers; default: the host name", asText),
  "log-format": optionOr("FORMAT", "human or json", asChoice(["human", "json"]), "human"),
  "log-level": optionOr("LEVEL", "debug, info, warn or error", asChoice(logLevels), "info"),
  memory: option("SIZE", "bound of the memory for data; default: a quarter of RAM, at most 1G", asSize),
};

/** Flags of everything that may listen to the network. */
export const securityFlags = {
  "cluster-key": option("FILE", "protect all connections with the key in this file: walb key new", asPath),
  "tls-name": list("NAME", "further names and addresses under which TLS clients of other makes know this host", asText),
};

/** Flags of the roles that peers connect to. */
export const roleFlags = {
  listen: optionOr("ADDR", "address to listen on; others than loopback need --cluster-key", asText, "127.0.0.1"),
  insecure: toggle("no protection at all: for unmodified walb-tools peers on a trusted network"),
  ...securityFlags,
  ...daemonFlags,
  "max-connections": option("COUNT", "conversations served at once", asInt(1, 10_000)),
  "max-foreground-tasks": option("COUNT", "large commands at once, default 2", asInt(1, 1000)),
  "max-background-tasks": option("COUNT", "transfers at once, default 1", asInt(1, 1000)),
  "socket-timeout": option("TIME", "deadline of every step with a peer, default 10s", asDuration),
  "keep-alive": option("TIME", "TCP keep-alive: probe peers that were silent for so long; default off", asDuration),
  "keep-alive-interval": optionOr("TIME", "between probes", asDuration, "60s"),
  "keep-alive-count": optionOr("COUNT", "probes without an answer that break a connection", asInt(1, 100), "10"),
  "allow-exec": optionOr(
    "WHAT",
    "what walbc exec may run here: none, wdevc (our own, no shell), or any, which needs --insecure",
    asChoice(["none", "wdevc", "any"]),
    "none",
  ),
};

/** Retry flags of storage and proxy. */
export const retryFlags = {
  "retry-delay": option("TIME", "wait before the first retry, default 1s; doubles with each failure", asDuration),
  "retry-delay-max": option("TIME", "longest wait before a retry, default 300s", asDuration),
};

interface DaemonFlagValues extends SecurityFlagValues {
  readonly node: string | undefined;
  readonly "log-format": "human" | "json";
  readonly "log-level": "debug" | "info" | "warn" | "error";
  readonly memory: number | undefined;
}

interface RoleFlagValues extends DaemonFlagValues {
  readonly listen: string;
  readonly insecure: boolean;
  readonly port: number;
  readonly data: string;
  readonly "max-connections": number | undefined;
  readonly "max-foreground-tasks": number | undefined;
  readonly "max-background-tasks": number | undefined;
  readonly "socket-timeout": number | undefined;
  readonly "keep-alive": number | undefined;
  readonly "keep-alive-interval": number;
  readonly "keep-alive-count": number;
  readonly "allow-exec": ExecScope;
}

/** Default data directory of a role. */
export const defaultDataDir = (role: string): string => `/var/lib/walb/${role}`;

/**
 * Options of every role from its flags, but for what the process adds.
 * @throws WalbError `usage` when it is not safe, or the key file is not good.
 */
export function roleOptions(flags: RoleFlagValues, io: Io): Omit<RoleOptions, "http" | "onShutdown"> {
  const scope = flags["allow-exec"];
  if (scope === "any" && !flags.insecure) {
    throw new WalbError("usage", {
      what: "--allow-exec any lets whoever reaches this daemon run programs as its user",
      where: { field: "allow-exec" },
      hint: "say --allow-exec wdevc; or --insecure too, when the network is trusted with all of this host",
    });
  }
  const exec = programRunner(scope);
  const keepAlive = keepAliveOf(flags);
  if (keepAlive !== undefined) keepConnectionsAlive(keepAlive);
  return {
    listen: { kind: "tcp", host: flags.listen, port: flags.port },
    dataDir: resolve(io.cwd, flags.data),
    nodeId: flags.node ?? hostname(),
    security: securityOf(flags, [flags.listen], "listen"),
    ...given("maxConnections", flags["max-connections"]),
    ...given("maxForegroundTasks", flags["max-foreground-tasks"]),
    ...given("maxBackgroundTasks", flags["max-background-tasks"]),
    ...given("socketTimeoutMs", flags["socket-timeout"]),
    ...given("keepAlive", keepAlive),
    process: { pid: process.pid, ...given("exec", exec) },
  };
}

/** @throws WalbError `usage` for times that no system takes. */
function keepAliveOf(flags: RoleFlagValues): KeepAlive | undefined {
  const idleMs = flags["keep-alive"];
  if (idleMs === undefined) return undefined;
  const seconds = (field: "keep-alive" | "keep-alive-interval", timeMs: number): number => {
    const timeS = Math.ceil(timeMs / 1000);
    if (timeS >= 1 && timeS <= keepAliveSecondsMax) return timeS;
    throw new WalbError("usage", {
      what: `--${field} is to be between 1s and ${keepAliveSecondsMax}s`,
      where: { field },
      hint: "for example --keep-alive 30m --keep-alive-interval 60s",
    });
  };
  return {
    idleS: seconds("keep-alive", idleMs),
    intervalS: seconds("keep-alive-interval", flags["keep-alive-interval"]),
    count: flags["keep-alive-count"],
  };
}

/** `{name: value}`, or nothing when there is no value. */
export function given<Name extends string, Value>(name: Name, value: Value | undefined): { [key in Name]?: Value } {
  return value === undefined ? {} : ({ [name]: value } as { [key in Name]: Value });
}

/** What a running daemon is to its process. */
export interface RunningDaemon {
  readonly addresses: readonly Address[];
  close(mode: "graceful" | "force"): Promise<void>;
}

/** What opening a daemon gets. */
export interface DaemonContext {
  readonly platform: Platform;
  readonly log: Logger;
  /** With a cluster key. */
  readonly security: Security | undefined;
  /** For {@link RoleOptions}. */
  readonly role: Required<Pick<RoleOptions, "http" | "onShutdown">>;
  /** Told to people on stderr, behind the ready line: what to type next. */
  afterReady(text: string): void;
}

/**
 * Runs a daemon until SIGTERM, SIGINT or its `shutdown` command; a second signal ends the process at once (main.ts).
 * Prints the ready line on stdout when it serves.
 */
export async function runDaemon(
  name: string,
  flags: DaemonFlagValues,
  io: Io,
  open: (context: DaemonContext) => Promise<RunningDaemon>,
): Promise<number> {
  const nodeId = flags.node ?? hostname();
  const log = createLogger({
    format: flags["log-format"],
    level: flags["log-level"],
    clock: createClock(),
    write: (line) => io.err(`${line}\n`),
  });
  const security = openSecurity(flags, io, nodeId, log);
  const platform = createPlatform({
    ...given("memoryBudgetBytes", flags.memory),
    // The device daemon listens for NBD alone, which turns to TLS by a request of its own.
    ...given("secureNet", name === "device" ? undefined : security?.secureNet),
  });
  const stop = Promise.withResolvers<"graceful" | "force">();
  const onSignal = (): void => stop.resolve("graceful");
  if (io.signal.aborted) onSignal();
  io.signal.addEventListener("abort", onSignal);
  let hasHungJobs = false;
  try {
    const http = createHttpFactory(platform.net, security?.tokens);
    let hint = "";
    const afterReady = (text: string): void => {
      hint = text;
    };
    const context = { platform, log, security, role: { http, onShutdown: stop.resolve }, afterReady };
    const daemon = await open(context);
    io.out(`walb ${name} ${nodeId} listening on ${daemon.addresses.map(addressText).join(", ")}\n`);
    // A daemon that writes JSON, or that a supervisor started, has no reader who types.
    if (flags["log-format"] === "human" && io.env.NOTIFY_SOCKET === undefined) io.err(hint);
    await notifySystemd(io.env.NOTIFY_SOCKET, "READY=1");
    collectWhenDue();
    const mode = await stop.promise;
    log.info("stopping", { mode });
    await notifySystemd(io.env.NOTIFY_SOCKET, "STOPPING=1");
    try {
      await daemon.close(mode);
    } catch (error) {
      hasHungJobs = asWalbError(error).code === "timed-out";
      throw error;
    }
    log.info("stopped");
    return 0;
  } finally {
    io.signal.removeEventListener("abort", onSignal);
    // Jobs that hang would be waited for; the end of the process ends them.
    if (!hasHungJobs) await closePlatform(platform);
  }
}
