/** @module Flags all daemons share, and the life of a daemon process: ready line, signals, systemd, shutdown. */
import { hostname } from "node:os";
import { resolve } from "node:path";
import { createLogger, type Logger, logLevels } from "../../control/logger.ts";
import type { RoleOptions } from "../../control/role.ts";
import { WalbError } from "../../errors.ts";
import { isLoopbackName } from "../../http/guard.ts";
import { createHttpFactory } from "../../http/server.ts";
import { type Address, addressText } from "../../platform/net.ts";
import type { Platform } from "../../platform/platform.ts";
import { closePlatform, createPlatform } from "../../platform/real/index.ts";
import { asChoice, asDuration, asInt, asPath, asSize, asText, option, optionOr, toggle } from "../flags.ts";
import type { Io } from "../verb.ts";
import { notifySystemd } from "./notify.ts";

/** Flags of every daemon. */
export const daemonFlags = {
  node: option("ID", "name in logs, status and towards peers; default: the host name", asText),
  "log-format": optionOr("FORMAT", "human or json", asChoice(["human", "json"]), "human"),
  "log-level": optionOr("LEVEL", "debug, info, warn or error", asChoice(logLevels), "info"),
  memory: option("SIZE", "bound of the memory for data; default: a quarter of RAM, at most 1G", asSize),
};

/** Flags of the roles that peers connect to. */
export const roleFlags = {
  listen: optionOr("ADDR", "address to listen on; others than loopback need --insecure", asText, "127.0.0.1"),
  "cluster-key": option("FILE", "protect connections with this key", asPath),
  insecure: toggle("no protection at all: for unmodified walb-tools peers on a trusted network"),
  ...daemonFlags,
  "max-connections": option("COUNT", "conversations served at once", asInt(1, 10_000)),
  "max-foreground-tasks": option("COUNT", "large commands at once, default 2", asInt(1, 1000)),
  "max-background-tasks": option("COUNT", "transfers at once, default 1", asInt(1, 1000)),
  "socket-timeout": option("TIME", "deadline of every step with a peer, default 10s", asDuration),
};

/** Retry flags of storage and proxy. */
export const retryFlags = {
  "retry-delay": option("TIME", "wait before the first retry, default 1s; doubles with each failure", asDuration),
  "retry-delay-max": option("TIME", "longest wait before a retry, default 300s", asDuration),
};

interface DaemonFlagValues {
  readonly node: string | undefined;
  readonly "log-format": "human" | "json";
  readonly "log-level": "debug" | "info" | "warn" | "error";
  readonly memory: number | undefined;
}

interface RoleFlagValues extends DaemonFlagValues {
  readonly listen: string;
  readonly "cluster-key": string | undefined;
  readonly insecure: boolean;
  readonly port: number;
  readonly data: string;
  readonly "max-connections": number | undefined;
  readonly "max-foreground-tasks": number | undefined;
  readonly "max-background-tasks": number | undefined;
  readonly "socket-timeout": number | undefined;
}

/** Default data directory of a role. */
export const defaultDataDir = (role: string): string => `/var/lib/walb/${role}`;

/** Options of every role from its flags, but for what the process adds. @throws WalbError `usage` when it is not safe. */
export function roleOptions(flags: RoleFlagValues, io: Io): Omit<RoleOptions, "http" | "onShutdown"> {
  if (flags["cluster-key"] !== undefined) {
    throw new WalbError("unsupported", {
      what: "--cluster-key: protected connections are not possible yet",
      hint: "listen on loopback and tunnel, e.g. over ssh or WireGuard; or --insecure on a trusted network",
    });
  }
  const isLoopback = isLoopbackName(flags.listen);
  if (!isLoopback && !flags.insecure) {
    throw new WalbError("usage", {
      what: `--listen ${flags.listen}: anyone who reaches this address could read and delete backups`,
      where: { field: "listen" },
      hint: "listen on 127.0.0.1, or say --insecure when the network is trusted",
    });
  }
  return {
    listen: { kind: "tcp", host: flags.listen, port: flags.port },
    dataDir: resolve(io.cwd, flags.data),
    nodeId: flags.node ?? hostname(),
    security: flags.insecure ? "insecure" : "loopback",
    ...given("maxConnections", flags["max-connections"]),
    ...given("maxForegroundTasks", flags["max-foreground-tasks"]),
    ...given("maxBackgroundTasks", flags["max-background-tasks"]),
    ...given("socketTimeoutMs", flags["socket-timeout"]),
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
  /** For {@link RoleOptions}. */
  readonly role: Required<Pick<RoleOptions, "http" | "onShutdown">>;
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
  const platform = createPlatform(given("memoryBudgetBytes", flags.memory));
  const log = createLogger({
    format: flags["log-format"],
    level: flags["log-level"],
    clock: platform.clock,
    write: (line) => io.err(`${line}\n`),
  });
  const stop = Promise.withResolvers<"graceful" | "force">();
  const onSignal = (): void => stop.resolve("graceful");
  if (io.signal.aborted) onSignal();
  io.signal.addEventListener("abort", onSignal);
  const nodeId = flags.node ?? platform.hostName;
  try {
    const context = { platform, log, role: { http: createHttpFactory(platform.net), onShutdown: stop.resolve } };
    const daemon = await open(context);
    io.out(`walb ${name} ${nodeId} listening on ${daemon.addresses.map(addressText).join(", ")}\n`);
    await notifySystemd(io.env.NOTIFY_SOCKET, "READY=1");
    const mode = await stop.promise;
    log.info("stopping", { mode });
    await notifySystemd(io.env.NOTIFY_SOCKET, "STOPPING=1");
    await daemon.close(mode);
    log.info("stopped");
    return 0;
  } finally {
    io.signal.removeEventListener("abort", onSignal);
    await closePlatform(platform);
  }
}
