/** @module The original's tools, which the program is when it is invoked under their names. */
import { basename } from "node:path";
import { asWalbError, WalbError } from "../../errors.ts";
import type { Io } from "../verb.ts";
import { HelpAsked, type OriginalArgs, originalUsage, parseOriginal } from "./options.ts";
import type { OriginalTool } from "./tool.ts";

/** By name; each is loaded only when it is called. */
const tools: Readonly<Record<string, () => Promise<{ readonly tool: OriginalTool }>>> = {
  "wlog-show": () => import("./tools/wlog-show.ts"),
  "wlog-cat": () => import("./tools/wlog-cat.ts"),
  "wlog-redo": () => import("./tools/wlog-redo.ts"),
  "wlog-restore": () => import("./tools/wlog-restore.ts"),
  "wlog-to-wdiff": () => import("./tools/wlog-to-wdiff.ts"),
  "wlog-gen": () => import("./tools/wlog-gen.ts"),
  "wlog-analyze": () => import("./tools/wlog-analyze.ts"),
  "wdiff-show": () => import("./tools/wdiff-show.ts"),
  "wdiff-merge": () => import("./tools/wdiff-merge.ts"),
  "wdiff-redo": () => import("./tools/wdiff-redo.ts"),
  "wdiff-full": () => import("./tools/wdiff-full.ts"),
  "wdiff-dump": () => import("./tools/wdiff-dump.ts"),
  "wdiff-send": () => import("./tools/wdiff-send.ts"),
  "wdiff-name-gen": () => import("./tools/wdiff-name-gen.ts"),
  "virt-full-cat": () => import("./tools/virt-full-cat.ts"),
  bdiff: () => import("./tools/bdiff.ts"),
  bhash: () => import("./tools/bhash.ts"),
  checksum: () => import("./tools/checksum.ts"),
  "wldev-info": () => import("./tools/wldev-info.ts"),
  "wldev-show": () => import("./tools/wldev-show.ts"),
  "wldev-dump": () => import("./tools/wldev-dump.ts"),
  "search-lsid": () => import("./tools/search-lsid.ts"),
  "search-invalid-logpack": () => import("./tools/search-invalid-logpack.ts"),
  "wlog-update": () => import("./tools/wlog-update.ts"),
  "wlog-show-raw": () => import("./tools/wlog-show-raw.ts"),
  "wdev-redo": () => import("./tools/wdev-redo.ts"),
  "metadiff-list": () => import("./tools/metadiff-list.ts"),
  "diffinfo-to-filename.py": () => import("./tools/diffinfo-to-filename.ts"),
  verify_wlog: () => import("./tools/verify-wlog.ts"),
  verify_wldev: () => import("./tools/verify-wldev.ts"),
  verify_written_data: () => import("./tools/verify-written-data.ts"),
  write_random_data: () => import("./tools/write-random-data.ts"),
  "fill-bdev": () => import("./tools/fill-bdev.ts"),
  trim: () => import("./tools/trim.ts"),
  "mon-blk": () => import("./tools/mon-blk.ts"),
  "wait-for-lv": () => import("./tools/wait-for-lv.ts"),
  "dirtree-hash": () => import("./tools/dirtree-hash.ts"),
  wcmpr: () => import("./tools/wcmpr.ts"),
  walbc: () => import("./walbc/walbc.ts"),
  "walb-storage": () => import("./daemon/storage.ts"),
  "walb-proxy": () => import("./daemon/proxy.ts"),
  "walb-archive": () => import("./daemon/archive.ts"),
};

/** Programs with commands of their own. */
const programs: Readonly<Record<string, () => Promise<{ readonly run: OriginalRun }>>> = {
  wdevc: () => import("./wdevc/main.ts"),
};

/** All tools, without the programs that have commands of their own. */
export async function loadOriginalTools(): Promise<OriginalTool[]> {
  return Promise.all(Object.values(tools).map(async (load) => (await load()).tool));
}

/** Runs the words behind a program's name and answers the exit code. */
export type OriginalRun = (words: readonly string[], io: Io) => Promise<number>;

/** Names of the tools that are there. */
export const originalToolNames: readonly string[] = [...Object.keys(tools), ...Object.keys(programs)];

/**
 * The tool that a program name stands for: runs it on the words behind the name and answers the exit code.
 * undefined when the name is none of the original's.
 */
export function originalTool(invokedAs: string): OriginalRun | undefined {
  const name = basename(invokedAs);
  const program = Object.hasOwn(programs, name) ? programs[name] : undefined;
  if (program !== undefined) return async (words, io) => (await program()).run(words, io);
  const load = Object.hasOwn(tools, name) ? tools[name] : undefined;
  if (load === undefined) return undefined;
  return async (words, io) => runOriginal((await load()).tool, words, io);
}

/** Runs one tool; 0 for success, 1 for every failure. */
export async function runOriginal(tool: OriginalTool, words: readonly string[], io: Io): Promise<number> {
  let args: OriginalArgs;
  try {
    args = parseOriginal(tool, words);
  } catch (error) {
    if (error instanceof HelpAsked) {
      io.out(originalUsage(tool));
      return 0;
    }
    io.out(`${asWalbError(error).what}\n${originalUsage(tool)}`);
    return 1;
  }
  const lines = new LineBuffer(io);
  const logError = (text: string): void => {
    lines.flush();
    io.err(`${timeText(io.nowMs())} ERROR ${text}\n`);
  };
  try {
    // Loaded here: every start of the program looks for its name in this file.
    const { withTool } = await import("../files/lib/tool.ts");
    const code = await withTool(io, tool.name, { quiet: true }, (files) =>
      tool.run({
        args,
        tool: files,
        print: (line) => lines.print(line),
        flush: () => lines.flush(),
        printError: (line) => io.err(`${line}\n`),
        logError,
        io,
      }),
    );
    lines.flush();
    return code ?? 0;
  } catch (thrown) {
    const error = asWalbError(thrown);
    logError(`${tool.name}:${error.message}`);
    if (!(thrown instanceof WalbError) && thrown instanceof Error && args.flag("debug")) io.err(`${thrown.stack}\n`);
    return 1;
  }
}

const flushChars = 64 * 1024;

/** Lines for standard output, written in large pieces. */
class LineBuffer {
  readonly #io: Io;
  #lines: string[] = [];
  #chars = 0;

  constructor(io: Io) {
    this.#io = io;
  }

  print(line: string): void {
    this.#lines.push(line);
    this.#chars += line.length + 1;
    if (this.#chars >= flushChars) this.flush();
  }

  flush(): void {
    if (this.#lines.length > 0) this.#io.out(`${this.#lines.join("\n")}\n`);
    this.#lines = [];
    this.#chars = 0;
  }
}

/** `YYYY-MM-DD hh:mm:ss.mmm`, UTC, as in the original's logs. */
function timeText(nowMs: number): string {
  return new Date(nowMs).toISOString().replace("T", " ").replace("Z", "");
}
