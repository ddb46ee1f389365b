/** @module Options the original's daemons share, and the life of such a process: log, signals, exit. */
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, resolve } from "node:path";
import { createLogger, type Logger } from "../../../control/logger.ts";
import type { RoleOptions, RunningRole } from "../../../control/role.ts";
import { version } from "../../../control/version.ts";
import { WalbError } from "../../../errors.ts";
import { createHttpFactory } from "../../../http/server.ts";
import { type Address, addressText, type KeepAlive } from "../../../platform/net.ts";
import { keepConnectionsAlive } from "../../../platform/real/net.ts";
import { programRunner } from "../../daemon/exec.ts";
import type { Io } from "../../verb.ts";
import type { OriginalArgs, OriginalOption } from "../options.ts";
import type { OriginalContext } from "../tool.ts";

/** Connections of ours are cheap, and a heartbeat that is refused looks like a dead daemon: never fewer than these. */
const connectionsMin = 64;

/** Options of every daemon. */
export const commonOptions = {
  p: { kind: "int", help: "port to listen on", default: "5000" },
  l: { kind: "text", help: "log file, relative to the base directory; - is stderr", default: "-" },
  maxconn: { kind: "int", help: "connections served at once", default: "10" },
  fg: { kind: "int", help: "foreground tasks at once", default: "2" },
  id: { kind: "text", help: "node id; default: the host name" },
  to: { kind: "int", help: "socket timeout, seconds", default: "10" },
  ka: { kind: "flag", help: "TCP keep-alive instead of the socket timeout" },
  kaidle: { kind: "int", help: "keep-alive: idle time, seconds", default: "1800" },
  kaintvl: { kind: "int", help: "keep-alive: interval, seconds", default: "60" },
  kacnt: { kind: "int", help: "keep-alive: probes", default: "10" },
  "allow-exec": { kind: "flag", help: "let exec run the device tool wdevc" },
} as const satisfies Record<string, OriginalOption>;

/** Options of retries, of storage and proxy. */
export const retryOptions = {
  bg: { kind: "int", help: "background tasks at once", default: "1" },
  delay: { kind: "int", help: "first delay before a retry, seconds", default: "1" },
  maxdelay: { kind: "int", help: "longest delay before a retry, seconds", default: "300" },
} as const satisfies Record<string, OriginalOption>;

/** `-bg -delay -maxdelay` as options of a role. */
export function retryOf(args: OriginalArgs) {
  const retryDelayMs = args.int("delay") * 1000;
  return {
    maxBackgroundTasks: positive(args, "bg"),
    retryDelayMs,
    retryDelayMsMax: Math.max(args.int("maxdelay") * 1000, retryDelayMs),
  };
}

/** A number that must not be 0. @throws WalbError `usage`. */
export function positive(args: OriginalArgs, name: string): number {
  const value = args.int(name);
  if (value > 0) return value;
  throw new WalbError("usage", { what: `-${name} must be positive` });
}

/** An address as the original writes it: `host:port`. @throws WalbError `usage`. */
export function hostPort(text: string, name: string): Address {
  const match = /^([^:\s]+):([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match !== null && port > 0 && port < 65_536) return { kind: "tcp", host: match[1]!, port };
  throw new WalbError("usage", { what: `-${name}: ${JSON.stringify(text)} is not host:port` });
}

/** Opens a role with the options all have; `execEnv` is for the programs that peers run; runs it until a signal or its `shutdown`. */
export async function runOriginalDaemon(
  name: string,
  { args, tool, io }: OriginalContext,
  open: (common: RoleOptions, log: Logger) => Promise<RunningRole>,
  execEnv: Readonly<Record<string, string>> = {},
): Promise<number> {
  const dataDir = resolve(io.cwd, args.text("b"));
  const nodeId = args.optionalText("id") ?? hostname();
  const keepAlive = keepAliveOf(args);
  if (keepAlive !== undefined) keepConnectionsAlive(keepAlive);
  const stop = Promise.withResolvers<"graceful" | "force">();
  const onSignal = (): void => stop.resolve("force");
  if (io.signal.aborted) onSignal();
  io.signal.addEventListener("abort", onSignal);
  const logFile = openLog(args.text("l"), dataDir, io);
  const log = createLogger({
    format: "original",
    level: args.flag("debug") ? "debug" : "info",
    clock: tool.platform.clock,
    write: logFile.write,
  });
  log.info(`${name} starts`, { version, ...args.all() });
  const exec = programRunner(args.flag("allow-exec") ? "wdevc" : "none", execEnv);
  const common: RoleOptions = {
    // Both kinds of addresses, as the original.
    listen: { kind: "tcp", host: "::", port: args.int("p") },
    dataDir,
    nodeId,
    security: "insecure",
    http: createHttpFactory(tool.platform.net),
    onShutdown: stop.resolve,
    maxConnections: Math.max(connectionsMin, args.int("maxconn")),
    maxForegroundTasks: positive(args, "fg"),
    socketTimeoutMs: (keepAlive === undefined ? positive(args, "to") : keepAliveSeconds(keepAlive)) * 1000,
    process: { pid: process.pid, ...(exec === undefined ? {} : { exec }) },
    ...(keepAlive === undefined ? {} : { keepAlive: { ...keepAlive, socketTimeoutS: positive(args, "to") } }),
  };
  try {
    const role = await openOnAnyAddress(common, (options) => open(options, log));
    log.info("ready to accept requests", { address: addressText(role.address) });
    const mode = await stop.promise;
    log.info("stopping", { mode });
    await role.close(mode);
    log.info("stopped");
    return 0;
  } finally {
    io.signal.removeEventListener("abort", onSignal);
    logFile.close();
  }
}

/** A host without IPv6 has no address of both kinds. */
async function openOnAnyAddress(
  options: RoleOptions,
  open: (options: RoleOptions) => Promise<RunningRole>,
): Promise<RunningRole> {
  try {
    return await open(options);
  } catch (error) {
    if (error instanceof WalbError && (error.code === "port-in-use" || options.listen.kind !== "tcp")) throw error;
    if (!/EAFNOSUPPORT|EADDRNOTAVAIL/.test(String(error))) throw error;
    return open({ ...options, listen: { ...options.listen, host: "0.0.0.0" } as Address });
  }
}

function keepAliveOf(args: OriginalArgs): KeepAlive | undefined {
  if (!args.flag("ka")) return undefined;
  // At most what Linux takes.
  return {
    idleS: Math.min(positive(args, "kaidle"), 32_767),
    intervalS: Math.min(positive(args, "kaintvl"), 3600),
    count: Math.min(positive(args, "kacnt"), 100),
  };
}

/** When keep-alive would have found a peer dead: what a step may take then. */
function keepAliveSeconds({ idleS, intervalS, count }: KeepAlive): number {
  return idleS + intervalS * count;
}

interface LogFile {
  readonly write: (line: string) => void;
  close(): void;
}

function openLog(path: string, dataDir: string, io: Io): LogFile {
  if (path === "-") return { write: (line) => io.err(`${line}\n`), close: () => undefined };
  const file = resolve(dataDir, path);
  mkdirSync(dirname(file), { recursive: true });
  const fd = openSync(file, "a");
  return {
    write: (line) => {
      try {
        writeSync(fd, `${line}\n`);
      } catch {
        // A log that cannot be written must not end the daemon.
      }
    },
    close: () => closeSync(fd),
  };
}
