/** @module `walb shutdown SERVER… | --all`: ends daemons, senders first. */
import { asWalbError, errorCodes, exitCodes, WalbError } from "../../errors.ts";
import type { FleetServer } from "../../fleet/fleet.ts";
import { clientFlags, loadFleet, print, remark } from "../common.ts";
import { toggle } from "../flags.ts";
import { namedServer, storageClient } from "../servers.ts";
import { defineVerb, type Io } from "../verb.ts";

const { server: _, ...flagsOfFleet } = clientFlags;
const order = { storage: 0, proxy: 1, archive: 2 } as const;
const askTimeoutMs = 5_000;
const pollMs = 100;
/** A graceful end waits for what is under way. */
const endMs = 10 * 60_000;

export const verb = defineVerb({
  summary: "Ends daemons, storages first, then proxies, then archives; waits until they are gone",
  description: "One that does not answer does not keep the others running; the exit code tells of it.",
  positionals: [{ name: "SERVER", help: "names from the fleet file, or host:port", isVariadic: true }],
  flags: {
    all: toggle("all servers of the fleet"),
    force: toggle("at once: what is under way is given up, as safe as a crash"),
    "dry-run": toggle("only say what would be done"),
    ...flagsOfFleet,
  },
  examples: ["walb shutdown s0", "walb shutdown --all", "walb shutdown p0 p1 --force"],
  async run({ flags, args, io }) {
    const client = { ...flags, server: undefined };
    if (flags.all === args.length > 0) {
      throw new WalbError("usage", { what: flags.all ? "--all and names exclude each other" : "no server is named" });
    }
    const servers = flags.all
      ? [...loadFleet(flags, io).servers]
      : await Promise.all(args.map((name) => namedServer(client, io, name)));
    servers.sort((a, b) => order[a.role] - order[b.role]);
    const mode = flags.force ? "force" : "graceful";
    const results: { server: string; isDown: boolean; error?: string }[] = [];
    let failure: WalbError | undefined;
    for (const server of servers) {
      if (flags["dry-run"]) {
        remark(flags, io, `would shut ${server.role} ${server.name} down (${mode})`);
        continue;
      }
      try {
        await shutDown(server, mode, flags.timeout ?? endMs, io);
        results.push({ server: server.name, isDown: true });
        remark(flags, io, `${server.name} is down`);
      } catch (thrown) {
        const error = asWalbError(thrown);
        if (error.code === "cancelled") throw error;
        failure ??= error;
        results.push({ server: server.name, isDown: false, error: error.message });
        io.err(`walb: ${error.message}\n`);
      }
    }
    print(flags, io, { mode, isDryRun: flags["dry-run"], servers: results }, "");
    return failure === undefined ? exitCodes.done : errorCodes[failure.code].exit;
  },
});

/** Any role has the command. Ended when it does not answer any more. */
async function shutDown(server: FleetServer, mode: "graceful" | "force", limitMs: number, io: Io): Promise<void> {
  const client = storageClient(server);
  const { startedMs } = await client.call("version", {}, { timeoutMs: askTimeoutMs, signal: io.signal });
  await client.call("shutdown", { mode }, { timeoutMs: askTimeoutMs, signal: io.signal });
  const untilMs = performance.now() + limitMs;
  while (performance.now() < untilMs) {
    try {
      const now = await client.call("version", {}, { timeoutMs: askTimeoutMs, signal: io.signal });
      // It was started again already, by whoever watches over it.
      if (now.startedMs !== startedMs) return;
    } catch (thrown) {
      const error = asWalbError(thrown);
      if (error.code === "cancelled") throw error;
      if (error.code === "unreachable") return;
    }
    await Bun.sleep(pollMs);
  }
  throw new WalbError("timed-out", {
    what: "it has not ended yet; it is still ending",
    where: { host: server.name },
    hint: `look with: walb status; or give up what it does: walb shutdown ${server.name} --force`,
  });
}
