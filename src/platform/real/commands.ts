/** @module Runs programs of the host, with a deadline and bounded output. */
import { WalbError } from "../../errors.ts";
import type { CommandOptions, CommandResult, Commands } from "../commands.ts";

const stdoutBytesMax = 64 * 1024 * 1024;
const stderrBytesMax = 64 * 1024;
const timeoutMsDefault = 60_000;
/** Tools of administration are not in every user's PATH. */
const systemDirectories = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";

/** Real programs. */
export function createCommands(): Commands {
  return { run };
}

async function run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [name = ""] = argv;
  const where = { step: argv.join(" ").slice(0, 200) };
  const path = process.env.PATH === undefined ? systemDirectories : `${process.env.PATH}:${systemDirectories}`;
  const program = Bun.which(name, { PATH: path });
  if (program === null) {
    throw new WalbError("not-found", {
      what: `the program ${name} is not installed`,
      where,
      hint: `install the package that has it (on Debian: apt-get install lvm2), or look at PATH`,
    });
  }
  options.signal?.throwIfAborted();
  const child = Bun.spawn([program, ...argv.slice(1)], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, PATH: path, LC_ALL: "C" },
  });
  let ended: "timed-out" | "cancelled" | "too-long" | undefined;
  const end = (why: NonNullable<typeof ended>): void => {
    ended ??= why;
    child.kill("SIGKILL");
  };
  const timer = setTimeout(() => end("timed-out"), options.timeoutMs ?? timeoutMsDefault);
  const onAbort = (): void => end("cancelled");
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const [stdout, stderr] = await Promise.all([
      collect(child.stdout, stdoutBytesMax, () => end("too-long")),
      collectEnd(child.stderr, stderrBytesMax),
    ]);
    const exitCode = await child.exited;
    if (ended === "cancelled") throw options.signal?.reason ?? new WalbError("cancelled", { what: "cancelled", where });
    if (ended === "timed-out") {
      const seconds = (options.timeoutMs ?? timeoutMsDefault) / 1000;
      throw new WalbError("timed-out", {
        what: `${name} did not end within ${seconds} s`,
        where,
        hint: "look at what holds it up on this host, e.g. a device that does not answer",
      });
    }
    if (ended === "too-long") throw new WalbError("io", { what: `${name} printed more than 64 MiB`, where });
    return { exitCode, stdout, stderr };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", onAbort);
  }
}

async function collect(stream: ReadableStream<Uint8Array>, bytesMax: number, tooLong: () => void): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of stream) {
    bytes += part.length;
    if (bytes > bytesMax) tooLong();
    else parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

/** Keeps only the end: what a program says last is why it failed. */
async function collectEnd(stream: ReadableStream<Uint8Array>, bytesMax: number): Promise<string> {
  let kept = Buffer.alloc(0);
  for await (const part of stream) {
    kept = Buffer.concat([kept, part]);
    if (kept.length > bytesMax) kept = kept.subarray(kept.length - bytesMax);
  }
  return kept.toString();
}
