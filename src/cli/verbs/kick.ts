/** @module `walb kick [VOL]` */
import { asWalbError, errorCodes, exitCodes, type WalbError } from "../../errors.ts";
import { callOptions, clientFlags, loadFleet, print, remark } from "../common.ts";
import { asVolume } from "../flags.ts";
import { namedServer, proxyClient, storageClient } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Tries at once everything that waits for its next attempt, at storages and proxies",
  description: "One that does not answer does not keep the others from trying; the exit code tells of it.",
  positionals: [{ name: "VOL", help: "only this volume" }],
  flags: clientFlags,
  examples: ["walb kick", "walb kick vol0 --server p0"],
  async run({ flags, args, io }) {
    const volume = args[0] === undefined ? {} : { volume: asVolume(args[0]) };
    const options = callOptions(flags, io);
    const all =
      flags.server === undefined ? loadFleet(flags, io).servers : [await namedServer(flags, io, flags.server)];
    const servers = all.filter((server) => server.role !== "archive");
    const kicked: string[] = [];
    const failed: { readonly server: string; readonly error: string }[] = [];
    let failure: WalbError | undefined;
    for (const server of servers) {
      try {
        if (server.role === "storage") await storageClient(server).call("kick", volume, options);
        else await proxyClient(server).call("kick", volume, options);
      } catch (thrown) {
        const error = asWalbError(thrown);
        // None keeps the others from trying, unless it was the one that was meant.
        if (flags.server !== undefined || error.code === "cancelled") throw error;
        if (error.code === "state" || error.code === "not-found") {
          remark(flags, io, `${server.name} has nothing to try: ${error.what}`);
          continue;
        }
        failure ??= error;
        failed.push({ server: server.name, error: error.message });
        io.err(`walb: ${error.message}\n`);
        continue;
      }
      kicked.push(server.name);
      remark(flags, io, `kicked ${server.name}`);
    }
    print(flags, io, { servers: kicked, failed }, "");
    return failure === undefined ? exitCodes.done : errorCodes[failure.code].exit;
  },
});
