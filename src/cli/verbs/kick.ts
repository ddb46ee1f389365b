/** @module `walb kick [VOL]` */
import { WalbError } from "../../errors.ts";
import { callOptions, clientFlags, loadFleet, print, remark } from "../common.ts";
import { asVolume } from "../flags.ts";
import { namedServer, proxyClient, storageClient } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Tries at once everything that waits for its next attempt, at storages and proxies",
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
    for (const server of servers) {
      try {
        if (server.role === "storage") await storageClient(server).call("kick", volume, options);
        else await proxyClient(server).call("kick", volume, options);
      } catch (error) {
        // One that has nothing to try does not keep the others from trying, unless it was the one that was meant.
        const hasNothing = error instanceof WalbError && (error.code === "state" || error.code === "not-found");
        if (!hasNothing || flags.server !== undefined) throw error;
        remark(flags, io, `${server.name} has nothing to try: ${error.what}`);
        continue;
      }
      kicked.push(server.name);
      remark(flags, io, `kicked ${server.name}`);
    }
    print(flags, io, { servers: kicked }, "");
    return 0;
  },
});
