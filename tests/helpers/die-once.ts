/**
 * @module Preloaded into a command (`bun --preload`): it kills itself (SIGKILL) at a call that changes something, once for
 * each such call. `DIE_ONCE_LIST` is the file with those it died at; `DIE_ONCE_AT` says when, by turns: `sent` is before the
 * answer, `answered` is behind it.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";

const file = process.env.DIE_ONCE_LIST;
if (file === undefined) throw new Error("DIE_ONCE_LIST is missing");
const ways = (process.env.DIE_ONCE_AT ?? "sent,answered").split(",");
const asking = ["status", "volumes", "version", "diffs", "snapshots"];
const seen = existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
const send = globalThis.fetch;
/** Long enough that the request is on its way; whether it has been done is open, as it is for anybody who is killed. */
const onItsWayMs = 15;

globalThis.fetch = Object.assign(
  async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const { host, pathname } = new URL(input instanceof Request ? input.url : input);
    const command = /^\/api\/([a-z-]+)$/.exec(pathname)?.[1];
    if (init?.method !== "POST" || command === undefined || asking.includes(command)) return send(input, init);
    const key = `${host} ${command} ${typeof init.body === "string" ? init.body : ""}`;
    if (seen.includes(key)) return send(input, init);
    appendFileSync(file, `${key}\n`);
    const answer = send(input, init);
    if (ways[seen.filter((line) => line !== "").length % ways.length] === "sent") await Bun.sleep(onItsWayMs);
    else await answer.catch(() => undefined);
    process.kill(process.pid, "SIGKILL");
    return new Promise<Response>(() => undefined);
  },
  { preconnect: send.preconnect },
);
