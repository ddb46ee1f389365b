/** @module Runs the small programs of tests/bench/programs: each is a process of its own that answers JSON. */
import { join } from "node:path";

const programs = join(import.meta.dir, "..", "programs");

/** A program that has printed its first line. */
export interface Started {
  readonly pid: number;
  /** First line, parsed. */
  readonly first: unknown;
  /** Last line, parsed, when it has ended. */
  readonly last: Promise<unknown>;
}

/** Starts a program and waits for its first line. @throws when it ends without one. */
export async function startProgram(name: string, parameters: unknown): Promise<Started> {
  const child = Bun.spawn([process.execPath, join(programs, `${name}.ts`), JSON.stringify(parameters)], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const lines = linesOf(child.stdout);
  const first = await lines.next();
  if (first.done === true) throw new Error(`${name} ended with ${await child.exited} and no answer`);
  return { pid: child.pid, first: JSON.parse(first.value), last: rest() };

  async function rest(): Promise<unknown> {
    let last = first.value as string;
    for await (const line of lines) last = line;
    const code = await child.exited;
    if (code !== 0) throw new Error(`${name} ended with ${code}`);
    return JSON.parse(last);
  }
}

/** Runs a program to its end. @returns what it printed last. */
export async function runProgram<T>(name: string, parameters: unknown): Promise<T> {
  return (await (
    await startProgram(name, parameters)
  ).last) as T;
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    const lines = text.split("\n");
    text = lines.pop()!;
    yield* lines;
  }
  return undefined;
}
