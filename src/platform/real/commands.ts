/** @module Runs programs of the host, with a deadline and bounded output. */
import { isUnwritable, WalbError } from "../../errors.ts";
import type { CommandOptions, CommandResult, Commands } from "../commands.ts";
import type { RealDisk } from "./disk.ts";
import type { OpenFile } from "./open-file.ts";

const stdoutBytesMax = 64 * 1024 * 1024;
const stderrBytesMax = 64 * 1024;
const timeoutMsDefault = 60_000;
/** How long one that was told to end may take. A device that does not answer holds up even those that are killed. */
const endingMs = 2_000;
/** Left alone at once at most, each a process of the host. */
const leftMax = 16;
let leftCount = 0;
/** Tools of administration are not in every user's PATH. */
const systemDirectories = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";

/** Real programs. @param disk of the files that they keep locked. */
export function createCommands(disk: Pick<RealDisk, "openShared">): Commands {
  return {
    async run(argv, options = {}) {
      const lock = options.keepsLocked === undefined ? undefined : await openLock(disk, options.keepsLocked);
      try {
        return await run(argv, options, lock);
      } finally {
        await lock?.close();
      }
    },
  };
}

async function openLock(disk: Pick<RealDisk, "openShared">, path: string): Promise<OpenFile | undefined> {
  try {
    return await disk.openShared(path);
  } catch (error) {
    if (!isUnwritable(error)) throw error;
    return undefined;
  }
}

async function run(argv: readonly string[], options: CommandOptions, lock?: OpenFile): Promise<CommandResult> {
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
  if (leftCount >= leftMax) {
    throw new WalbError("busy", {
      what: `${name} is not run: ${leftCount} programs before it have not ended`,
      where,
      hint: "look at what holds them up on this host, e.g. a device that does not answer: ps -eo pid,stat,etime,args",
    });
  }
  const child = Bun.spawn([program, ...argv.slice(1)], {
    // Empty; LVM closes all other descriptors that it inherits, and with them would go the lock.
    stdin: lock?.fd ?? "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, PATH: path, LC_ALL: "C" },
  });
  let ended: "timed-out" | "cancelled" | "too-long" | undefined;
  const leaving = Promise.withResolvers<undefined>();
  let leaveTimer: ReturnType<typeof setTimeout> | undefined;
  const end = (why: NonNullable<typeof ended>): void => {
    if (ended !== undefined) return;
    ended = why;
    child.kill(options.ending === "ask" ? "SIGTERM" : "SIGKILL");
    leaveTimer = setTimeout(() => leaving.resolve(undefined), endingMs);
  };
  const timer = setTimeout(() => end("timed-out"), options.timeoutMs ?? timeoutMsDefault);
  const onAbort = (): void => end("cancelled");
  options.signal?.addEventListener("abort", onAbort, { once: true });
  const whole = async (): Promise<CommandResult> => {
    const [stdout, stderr] = await Promise.all([
      collect(child.stdout, stdoutBytesMax, () => end("too-long")),
      collectEnd(child.stderr, stderrBytesMax),
    ]);
    return { exitCode: await child.exited, stdout, stderr };
  };
  try {
    const running = whole();
    const result = await Promise.race([running, leaving.promise]);
    if (result === undefined) leave(child, running);
    if (ended === "cancelled") throw options.signal?.reason ?? new WalbError("cancelled", { what: "cancelled", where });
    if (ended === "too-long") throw new WalbError("io", { what: `${name} printed more than 64 MiB`, where });
    if (result !== undefined && (ended === undefined || result.exitCode === 0)) return result;
    const seconds = (options.timeoutMs ?? timeoutMsDefault) / 1000;
    throw new WalbError("timed-out", {
      what: `${name} did not end within ${seconds} s`,
      where,
      hint: "look at what holds it up on this host, e.g. a device that does not answer",
    });
  } finally {
    clearTimeout(timer);
    clearTimeout(leaveTimer);
    options.signal?.removeEventListener("abort", onAbort);
  }
}

/** Nobody waits for it any more. */
function leave(child: { readonly exited: Promise<unknown>; unref(): void }, running: Promise<unknown>): void {
  leftCount += 1;
  child.unref();
  running.catch(() => undefined);
  void child.exited.finally(() => {
    leftCount -= 1;
  });
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
