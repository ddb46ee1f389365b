/**
 * @module Serves HTTP on connections of a daemon's one port.
 *
 * Bun.serve has no way to take a connection that is already open, so it listens on a unix socket that only this user can
 * reach, and connections are piped to it.
 */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HttpFactory, HttpService } from "../control/role.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { Connection, Net } from "../platform/net.ts";
import { createApp } from "./app.ts";
import { pipe } from "./pipe.ts";

/** Most HTTP connections at once; more are closed at once. */
const connectionsMax = 256;
const connectTimeoutMs = 5000;
/** How long a close waits for answers under way. */
const answerMs = 1000;
const pollMs = 5;

/** Followed by the process id, so that what a killed process left behind can be told. */
const directoryPrefix = "walb-http-";

/** Makes HTTP services over a Net that has unix sockets. */
export function createHttpFactory(net: Net): HttpFactory {
  return (control, log): HttpService => {
    // A directory of mode 0700: nobody else can connect, whatever the mode of the socket.
    const directory = makePrivateDirectory();
    const path = join(directory, "http.sock");
    const app = createApp(control, log);
    const server = Bun.serve({ unix: path, fetch: (request) => app.fetch(request) });
    const open = new Set<Connection>();

    return {
      accept(outside, firstBytes) {
        const held = hold(outside, firstBytes);
        if (open.size >= connectionsMax) {
          log.warn("too many HTTP connections", { peer: outside.peer, connectionsMax });
          outside.close();
          return;
        }
        open.add(outside);
        const forget = (): boolean => open.delete(outside);
        net.connect({ kind: "unix", path }, { timeoutMs: connectTimeoutMs }).then(
          (inside) => attach(outside, inside, held, forget),
          (error: unknown) => {
            log.error("cannot serve an HTTP connection", { peer: outside.peer, error: asWalbError(error) });
            outside.close();
            forget();
          },
        );
      },
      async close() {
        // Answers under way are finished, the one to `shutdown` among them; streams and idle connections are cut.
        await within(server.stop(), answerMs);
        await server.stop(true);
        await within(whenEmpty(open), answerMs);
        for (const connection of open) connection.close();
        rmSync(directory, { recursive: true, force: true });
      },
    };
  };
}

/** Waits for work, but not longer than `limitMs`. */
async function within(work: Promise<void>, limitMs: number): Promise<void> {
  const limit = Promise.withResolvers<void>();
  const timer = setTimeout(limit.resolve, limitMs);
  await Promise.race([work, limit.promise]);
  clearTimeout(timer);
}

async function whenEmpty(open: ReadonlySet<Connection>): Promise<void> {
  for (let round = 0; round < answerMs / pollMs && open.size > 0; round += 1) await Bun.sleep(pollMs);
}

/** What came in before there was somewhere to send it. */
interface Held {
  readonly chunks: Uint8Array[];
  isEnded: boolean;
  isGone: boolean;
}

function hold(connection: Connection, firstBytes: Uint8Array): Held {
  const held: Held = { chunks: [firstBytes], isEnded: false, isGone: false };
  connection.setReader({
    data(chunk) {
      held.chunks.push(chunk);
    },
    end() {
      held.isEnded = true;
    },
    closed() {
      held.isGone = true;
    },
  });
  connection.pause();
  return held;
}

function attach(outside: Connection, inside: Connection, held: Held, closed: () => void): void {
  if (held.isGone || outside.isClosed) {
    inside.close();
    closed();
    return;
  }
  for (const chunk of held.chunks) inside.write(chunk);
  pipe(outside, inside, { isLeftEnded: held.isEnded, closed });
}

/** Makes a directory of mode 0700 in the first place that allows it. @throws WalbError `io` when none does. */
function makePrivateDirectory(): string {
  const places = [tmpdir(), process.env.XDG_RUNTIME_DIR ?? "/run", "/dev/shm", "/var/tmp"];
  let cause: unknown;
  for (const place of places) {
    try {
      removeStaleDirectories(place);
      return mkdtempSync(join(place, `${directoryPrefix}${process.pid}-`));
    } catch (error) {
      cause ??= error;
    }
  }
  throw new WalbError("io", {
    what: `cannot make a private directory for the HTTP socket in any of ${places.join(", ")}`,
    hint: "set TMPDIR to a directory that this user may write to",
    cause,
  });
}

/** Removes the directories of processes that are gone. Those of other users fail, and are theirs to remove. */
function removeStaleDirectories(place: string): void {
  for (const name of readdirSync(place)) {
    const pid = new RegExp(`^${directoryPrefix}([0-9]+)-`).exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    try {
      rmSync(join(place, name), { recursive: true, force: true });
    } catch {
      // Another user's.
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Only "no such process" says that it is gone.
    return !(error instanceof Error && "code" in error && error.code === "ESRCH");
  }
}
