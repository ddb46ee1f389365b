/** @module The four daemons of the demo as child processes: started, watched for their ready line, stopped. */
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { WalbError } from "../../errors.ts";

const readyTimeoutMs = 20_000;
const stopTimeoutMs = 10_000;

/** A daemon that runs. */
export interface Daemon {
  readonly role: string;
  readonly pid: number;
  /** What the ready line says it listens on. */
  readonly address: string;
  /** SIGTERM, and SIGKILL when it does not end in time. */
  stop(): Promise<void>;
  /** SIGKILL, at once. */
  kill(): Promise<void>;
}

/** How to start this very program again: the binary alone, or Bun with the entry file in a source tree. */
export function ownCommand(): string[] {
  return Bun.main.startsWith("/$bunfs/") ? [process.execPath] : [process.execPath, Bun.main];
}

/** Environment of children: flags given to us by variables must not steer them. */
export function childEnvironment(): Record<string, string> {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("WALB_") || name === "WALB_DEBUG");
  return Object.fromEntries(kept.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}

/** Starts a daemon and waits for its ready line. @param logPath gets its log. @throws WalbError with the log's end. */
export async function startDaemon(role: string, args: readonly string[], logPath: string): Promise<Daemon> {
  const child = Bun.spawn([...ownCommand(), role, ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: Bun.file(logPath),
    env: childEnvironment(),
  });
  const address = await readyAddress(child, role, logPath);
  const end = async (signal: "SIGTERM" | "SIGKILL"): Promise<void> => {
    child.kill(signal);
    const timer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
    await child.exited;
    clearTimeout(timer);
  };
  return { role, pid: child.pid, address, stop: () => end("SIGTERM"), kill: () => end("SIGKILL") };
}

async function readyAddress(
  child: Bun.Subprocess<"ignore", "pipe", Bun.BunFile>,
  role: string,
  logPath: string,
): Promise<string> {
  let text = "";
  const timer = setTimeout(() => child.kill("SIGKILL"), readyTimeoutMs);
  try {
    const reader = child.stdout.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
      const ready = / listening on (.+)\n/.exec(text);
      if (ready?.[1] !== undefined) {
        // The pipe must stay open: a daemon whose stdout is gone may be ended by it.
        void drain(reader);
        return ready[1];
      }
    }
  } finally {
    clearTimeout(timer);
  }
  throw new WalbError("io", {
    what: `walb ${role} did not start`,
    where: { file: logPath },
    hint: lastLines(logPath) || "its log is empty",
  });
}

async function drain(reader: { read(): Promise<{ done: boolean }> }): Promise<void> {
  while (!(await reader.read()).done) {
    // Nothing is expected on stdout after the ready line.
  }
}

function lastLines(path: string): string {
  try {
    return readFileSync(path, "utf8").trimEnd().split("\n").slice(-3).join("\n  ");
  } catch {
    return "";
  }
}

/** `preferred` when nobody listens there, else a free port. */
export async function freePort(preferred: number): Promise<number> {
  return (await bindPort(preferred)) ?? (await bindPort(0)) ?? 0;
}

function bindPort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : undefined));
    });
  });
}
