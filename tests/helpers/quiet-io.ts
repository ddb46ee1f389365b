/** @module What a command gets from its process, with nobody at the terminal, and what it says. */
import type { Io } from "../../src/cli/verb.ts";

/** Input and output of one command; `said` is what it has written so far. */
export function quietIo(rest: Partial<Io> = {}): { readonly io: Io; readonly said: { out: string; err: string } } {
  const said = { out: "", err: "" };
  const io: Io = {
    out: (text) => {
      said.out += text;
    },
    err: (text) => {
      said.err += text;
    },
    isOutTerminal: false,
    isErrTerminal: false,
    isInTerminal: false,
    ask: async () => "",
    env: {},
    cwd: process.cwd(),
    nowMs: () => Date.now(),
    signal: new AbortController().signal,
    ...rest,
  };
  return { io, said };
}

/** What a run left. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs something in this process; whoever asks anything gets an error. */
export async function captured(run: (io: Io) => Promise<number>, rest: Partial<Io> = {}): Promise<Ran> {
  const ask = () => Promise.reject(new Error("nobody is there to answer"));
  const { io, said } = quietIo({ ask, errColumns: () => 80, ...rest });
  return { code: await run(io), ...said };
}
