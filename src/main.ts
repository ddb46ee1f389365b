/** @module The program: which command argv selects, the process's input and output, signals, the exit code. */

import { writeSync } from "node:fs";
import { originalTool } from "./cli/original/index.ts";
import { runCommandLine } from "./cli/run.ts";
import type { Io } from "./cli/verb.ts";
import { exitCodes, WalbError } from "./errors.ts";

/** Exit codes of a process that a signal ended at once. */
const forcedExits = { SIGINT: exitCodes.interrupted, SIGTERM: 143 } as const;

const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (interrupted.signal.aborted) process.exit(forcedExits[signal]);
    interrupted.abort(new WalbError("cancelled", { what: `interrupted by ${signal}` }));
  });
}

const io: Io = {
  out: (text) => write(1, text),
  err: (text) => write(2, text),
  isOutTerminal: process.stdout.isTTY === true,
  isErrTerminal: process.stderr.isTTY === true,
  isInTerminal: process.stdin.isTTY === true,
  // Some terminals say 0.
  errColumns: () => process.stderr.columns || 80,
  async ask(question) {
    // Loaded by those who ask: the others start without it.
    const { createInterface } = await import("node:readline/promises");
    const lines = createInterface({ input: process.stdin, output: process.stderr });
    try {
      return await lines.question(question, { signal: interrupted.signal });
    } finally {
      lines.close();
    }
  },
  env: process.env,
  cwd: process.cwd(),
  nowMs: () => Date.now(),
  signal: interrupted.signal,
};

// Under a link with the name of one of the original's tools the program is that tool; `walb NAME` is it too.
const words = process.argv.slice(2);
const linked = originalTool(process.argv0);
const named = linked === undefined && words[0]?.includes("/") === false ? originalTool(words[0]) : undefined;
process.exit(await (linked?.(words, io) ?? named?.(words.slice(1), io) ?? runCommandLine(words, io)));

/** Writes all of it before it returns, so that nothing is lost at exit. A reader that went away ends the program. */
function write(descriptor: 1 | 2, text: string): void {
  const bytes = Buffer.from(text);
  let offset = 0;
  while (offset < bytes.length) {
    try {
      offset += writeSync(descriptor, bytes, offset);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code === "EAGAIN") {
        Bun.sleepSync(1);
        continue;
      }
      if (descriptor === 2) return;
      if (code === "EPIPE") process.exit(exitCodes.done);
      write(2, `walb: standard output: write failed (${String(code)})\n`);
      process.exit(exitCodes.failed);
    }
  }
}
