/** @module Flags the file tools share, and how they tell their results. */
import { WalbError } from "../../errors.ts";
import { parseCompressOption } from "../../native/compress-option.ts";
import { lbBytes, u64Max } from "../../units.ts";
import { asPath, asSize, option, optionOr, toggle } from "../flags.ts";
import type { Io } from "../verb.ts";
import { isStandardOutput } from "./lib/stdio.ts";

/** `--json --quiet`. */
export const toolFlags = {
  json: toggle("JSON instead of text, one value or one a line; fields may be added"),
  quiet: toggle("no progress and no remarks", { alias: "q" }),
};

/** `--output --overwrite`. */
export const outputFlags = {
  output: optionOr("FILE", "file to make, - for standard output", asPath, "-", {
    alias: "o",
    isFromEnvironment: false,
  }),
  overwrite: toggle("replace an existing file, write over a device"),
};

/** `--input` of tools that read a stream. */
export const inputFlags = {
  input: optionOr("FILE", "file to read, - for standard input", asPath, "-", { alias: "i" }),
};

/** An lsid: 64 bits. */
export function asLsid(text: string): bigint {
  const value = /^\d{1,20}$/.test(text) ? BigInt(text) : u64Max;
  if (value < u64Max) return value;
  const what = `${JSON.stringify(text)} is no lsid`;
  throw new WalbError("usage", { what, where: { field: "lsid" }, hint: "lsids go from 0 to 18446744073709551614" });
}

/** `--from --to`, of lsids. */
export const rangeFlags = {
  from: option("LSID", "only from this lsid on", asLsid, { isFromEnvironment: false }),
  to: option("LSID", "only up to this lsid, without it", asLsid, { isFromEnvironment: false }),
};

/** `--lenient`. */
export const lenientFlags = {
  lenient: toggle("take a file that was cut off between two packs for complete"),
};

/** `--compress --max-io`, of tools that make diffs. */
export const diffOutputFlags = {
  compress: optionOr("CODEC", "codec[:level]: none, snappy, gzip, lzma, lz4, zstd", asCodec, "snappy"),
  "max-io": optionOr("SIZE", "largest record; 0 for no limit", asSize, "1M"),
};

/** Runs `work`; what it says of a value that a flag gave is told of the flag, as a wrong command line. */
export async function tellingFlags<R>(
  flagOfField: Readonly<Record<string, string>>,
  work: () => Promise<R>,
): Promise<R> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof WalbError) || !["out-of-range", "bad-parameter"].includes(error.code)) throw error;
    const { field = "" } = error.where;
    const flag = Object.hasOwn(flagOfField, field) ? flagOfField[field] : undefined;
    if (flag === undefined) throw error;
    const what = error.what.replaceAll(field, `--${flag}`);
    throw new WalbError("usage", {
      what,
      where: { field: flag },
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    });
  }
}

/** Largest record in blocks. @throws WalbError `usage` when it is no number of blocks. */
export function blocksOf(sizeBytes: number, flag: string): number {
  if (sizeBytes % lbBytes === 0) return sizeBytes / lbBytes;
  throw new WalbError("usage", {
    what: `--${flag} ${sizeBytes} is not a multiple of 512`,
    where: { field: flag },
    hint: "e.g. 4K",
  });
}

/** A codec with its level. */
function asCodec(text: string): ReturnType<typeof parseCompressOption> {
  try {
    return parseCompressOption(text);
  } catch (error) {
    if (!(error instanceof WalbError)) throw error;
    throw new WalbError("usage", { what: error.what, ...(error.hint === undefined ? {} : { hint: error.hint }) });
  }
}

/** A uuid as 32 hex digits, with or without dashes. */
export function asUuid(text: string): string {
  const hex = text.toLowerCase().replaceAll("-", "");
  if (/^[0-9a-f]{32}$/.test(hex)) return hex;
  throw new WalbError("usage", { what: `${JSON.stringify(text)} is no uuid`, hint: "32 hex digits" });
}

/** The range that was asked for. */
export function rangeValues(flags: { readonly from: bigint | undefined; readonly to: bigint | undefined }): {
  readonly fromLsid?: bigint;
  readonly toLsid?: bigint;
} {
  return {
    ...(flags.from === undefined ? {} : { fromLsid: flags.from }),
    ...(flags.to === undefined ? {} : { toLsid: flags.to }),
  };
}

declare global {
  interface JSON {
    /** A number as its text says; newer than the types of the language. */
    rawJSON(text: string): unknown;
  }
}

/** JSON in which every number is exact: beyond 2^53 − 1 it has digits that not every reader keeps. */
function exactJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => (typeof item === "bigint" ? JSON.rawJSON(String(item)) : item));
}

/** Tells a result: on stdout, or on stderr where stdout has data. */
export function tell(
  flags: { readonly json: boolean; readonly quiet: boolean; readonly output?: string },
  io: Io,
  value: unknown,
  text: string,
): void {
  const line = flags.json ? exactJson(value) : text;
  if (flags.output === undefined || !isStandardOutput(flags.output)) io.out(`${line}\n`);
  else if (flags.json || !flags.quiet) io.err(`${line}\n`);
}

/** Lines on stdout, written in large pieces: text, or JSON. */
class LineOutput {
  readonly #io: Io;
  readonly #isJson: boolean;
  #lines: string[] = [];
  #chars = 0;

  constructor(io: Io, isJson: boolean) {
    this.#io = io;
    this.#isJson = isJson;
  }

  /** One line of either. */
  line(value: unknown, text: () => string): void {
    const line = this.#isJson ? exactJson(value) : text();
    this.#lines.push(line);
    this.#chars += line.length;
    if (this.#chars >= 65536) this.flush();
  }

  flush(): void {
    if (this.#lines.length > 0) this.#io.out(`${this.#lines.join("\n")}\n`);
    this.#lines = [];
    this.#chars = 0;
  }
}

/** Runs `work` with lines that are flushed however it ends. */
export async function withLines<R>(io: Io, isJson: boolean, work: (lines: LineOutput) => Promise<R>): Promise<R> {
  const lines = new LineOutput(io, isJson);
  try {
    return await work(lines);
  } finally {
    lines.flush();
  }
}
