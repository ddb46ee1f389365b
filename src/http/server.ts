/**
 * @module Serves HTTP on connections of a daemon's one port.
 *
 * Bun.serve has no way to take a connection that is already open, so it listens on a unix socket that only this user can
 * reach, and connections are piped to it.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Hono } from "hono";
import type { HttpFactory, HttpService } from "../control/role.ts";
import { asWalbError } from "../errors.ts";
import type { Connection, Net } from "../platform/net.ts";
import { makePrivateDirectory } from "../platform/real/private-directory.ts";
import type { Tokens } from "../secure/token.ts";
import { createApp } from "./app.ts";
import { Exchange, leastMissed } from "./exchange.ts";
import { attach, hold } from "./pipe.ts";

/** Most HTTP connections at once. Peers that proved nothing have room of their own. */
const connectionsMax = { trusted: 256, unproven: 64 } as const;
/** A request that has not come completely by then never will; and how often that is looked at. */
const requestMsMax = 10_000;
const requestLookMs = 2_000;
/** That there are too many is told once in so long. */
const tellAgainMs = 60_000;
const connectTimeoutMs = 5000;
/** How long a close waits for answers under way. */
const answerMs = 1000;
const pollMs = 5;

/**
 * Makes HTTP services over a Net that has unix sockets.
 * @param tokens for peers that are not trusted; without, such peers are not served.
 */
export function createHttpFactory(net: Net, tokens?: Tokens): HttpFactory {
  return (control, log): HttpService => {
    // A directory of mode 0700: nobody else can connect, whatever the mode of the socket.
    const directory = makePrivateDirectory();
    const serve = (name: string, app: Hono) => {
      const path = join(directory, name);
      const server = Bun.serve({
        unix: path,
        fetch(request, self) {
          // Bun gives an answer ten seconds. A stop may wait until everything is sent, however long that takes.
          self.timeout(request, 0);
          return app.fetch(request);
        },
      });
      return { path, server };
    };
    const trusted = serve("http.sock", createApp(control, log));
    const unproven = tokens === undefined ? undefined : serve("token.sock", createApp(control, log, tokens));
    const open = { trusted: new Set<OpenConnection>(), unproven: new Set<OpenConnection>() };
    let toldMs = Number.NEGATIVE_INFINITY;
    const drop = (entry: OpenConnection): void => {
      open[entry.outside.peerTrust].delete(entry);
      entry.outside.close();
    };
    /** Whether there is a place for one more; who does not come to the point makes room. */
    const hasPlace = (peer: string, trust: keyof typeof open): boolean => {
      if (open[trust].size < connectionsMax[trust]) return true;
      const nowMs = performance.now();
      if (nowMs >= toldMs + tellAgainMs) {
        toldMs = nowMs;
        log.warn("too many HTTP connections", { peer, connectionsMax: connectionsMax[trust] });
      }
      const least = leastMissed(open[trust], nowMs);
      if (least !== undefined) drop(least);
      return least !== undefined;
    };
    let looking: ReturnType<typeof setInterval> | undefined;
    const look = (): void => {
      const limitMs = performance.now() - requestMsMax;
      const all = [...open.trusted, ...open.unproven];
      for (const entry of all) {
        if (entry.exchange.state === "asking" && entry.exchange.sinceMs < limitMs) drop(entry);
      }
      if (all.length > 0) return;
      clearInterval(looking);
      looking = undefined;
    };
    const everyServer = [trusted.server, ...(unproven === undefined ? [] : [unproven.server])];

    return {
      accept(outside, firstBytes) {
        const held = hold(outside, firstBytes);
        const { peerTrust } = outside;
        const to = peerTrust === "trusted" ? trusted : unproven;
        if (to === undefined || !hasPlace(outside.peer, peerTrust)) {
          outside.close();
          return;
        }
        const exchange = new Exchange(performance.now());
        exchange.asked(firstBytes, performance.now());
        const entry = { outside, exchange };
        open[peerTrust].add(entry);
        looking ??= setInterval(look, requestLookMs);
        const forget = (): boolean => open[peerTrust].delete(entry);
        net.connect({ kind: "unix", path: to.path }, { timeoutMs: connectTimeoutMs }).then(
          (inside) =>
            attach(outside, inside, held, {
              closed: forget,
              sawLeft: (chunk) => exchange.asked(chunk, performance.now()),
              sawRight: () => exchange.answered(performance.now()),
            }),
          (error: unknown) => {
            log.error("cannot serve an HTTP connection", { peer: outside.peer, error: asWalbError(error) });
            outside.close();
            forget();
          },
        );
      },
      async close() {
        clearInterval(looking);
        // Answers under way are finished, the one to `shutdown` among them; streams and idle connections are cut.
        await within(Promise.all(everyServer.map((server) => server.stop())), answerMs);
        await Promise.all(everyServer.map((server) => server.stop(true)));
        for (const group of [open.trusted, open.unproven]) {
          await within(whenEmpty(group), answerMs);
          for (const { outside } of group) outside.close();
        }
        rmSync(directory, { recursive: true, force: true });
      },
    };
  };
}

/** A connection that is served. */
interface OpenConnection {
  readonly outside: Connection;
  readonly exchange: Exchange;
}

/** Waits for work, but not longer than `limitMs`. */
async function within(work: Promise<unknown>, limitMs: number): Promise<void> {
  const limit = Promise.withResolvers<void>();
  const timer = setTimeout(limit.resolve, limitMs);
  await Promise.race([work, limit.promise]);
  clearTimeout(timer);
}

async function whenEmpty(open: ReadonlySet<unknown>): Promise<void> {
  for (let round = 0; round < answerMs / pollMs && open.size > 0; round += 1) await Bun.sleep(pollMs);
}
