/**
 * @module A small structured logger: a level, a message, fields; one line each, for people or as JSON.
 */
import type { Clock } from "../platform/clock.ts";

export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

/** Fields of a line; errors are shown with their text, WalbErrors with code and place. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Where a role writes what happened. Never throws. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds fields to every line, e.g. the volume. */
  with(fields: LogFields): Logger;
}

/** What {@link createLogger} needs. */
export interface LoggerOptions {
  /** `original` is that of walb-tools: `YYYY-MM-DD hh:mm:ss.mmm LEVEL message`, UTC. */
  readonly format: "human" | "json" | "original";
  readonly level: LogLevel;
  readonly clock: Pick<Clock, "nowMs">;
  /** Takes a line without its newline. */
  readonly write: (line: string) => void;
}

/** Makes a logger. */
export function createLogger(options: LoggerOptions): Logger {
  return loggerWith(options, {});
}

/** A logger that says nothing. */
export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  with: () => silentLogger,
};

function loggerWith(options: LoggerOptions, fixed: LogFields): Logger {
  const least = logLevels.indexOf(options.level);
  const log = (level: LogLevel, message: string, fields: LogFields = {}): void => {
    if (logLevels.indexOf(level) < least) return;
    const time = new Date(options.clock.nowMs()).toISOString();
    const all = { ...fixed, ...fields };
    if (options.format === "json") {
      options.write(JSON.stringify({ time, level, message, ...all }, jsonValue));
      return;
    }
    const name = level.toUpperCase();
    const start =
      options.format === "human" ? `${time} ${name.padEnd(5)}` : `${time.replace("T", " ").replace("Z", "")} ${name}`;
    options.write(`${start} ${message}${humanFields(all)}`);
  };
  return {
    debug: (message, fields) => log("debug", message, fields),
    info: (message, fields) => log("info", message, fields),
    warn: (message, fields) => log("warn", message, fields),
    error: (message, fields) => log("error", message, fields),
    with: (fields) => loggerWith(options, { ...fixed, ...fields }),
  };
}

function humanFields(fields: LogFields): string {
  let text = "";
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) text += ` ${name}=${humanValue(value)}`;
  }
  return text;
}

function humanValue(value: unknown): string {
  const text =
    value instanceof Error
      ? value.message
      : typeof value === "object" && value !== null
        ? JSON.stringify(value, jsonValue)
        : String(value);
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}

function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Error && !("toJSON" in value)) return value.message;
  return value;
}
