/** @module `walb resize VOL SIZE` */
import { WalbError } from "../../errors.ts";
import { collectView } from "../../fleet/procedures/collect.ts";
import { lbBytes } from "../../units.ts";
import { callOptions, clientFlags, loadFleet, remark } from "../common.ts";
import { asSize, asVolume, toggle } from "../flags.ts";
import { type PathServer, type PathStep, runSteps, statesOf } from "../path.ts";
import { sharedClient } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Grows a volume: its images at the archives first, then at the storage",
  description:
    "Grow what holds the data before; walb device resize does both for a file; a block device grow yourself.",
  positionals: [
    { name: "VOL", help: "name of the volume", isRequired: true },
    { name: "SIZE", help: "new size, e.g. 20G", isRequired: true },
  ],
  flags: { "dry-run": toggle("only say what would be done"), ...clientFlags },
  examples: ["walb resize vol0 20G", "walb resize vol0 20G --server a0"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const sizeBytes = asSize(args[1]!);
    if (sizeBytes === 0 || sizeBytes % lbBytes !== 0) {
      throw new WalbError("usage", { what: `${args[1]} is not a multiple of 512 bytes`, hint: "e.g. 20G" });
    }
    const options = callOptions(flags, io);
    const path = await statesOf(flags, io, volume);
    const servers = [...path, ...(flags.server === undefined ? await furtherArchives(path) : [])];
    const steps: PathStep[] = [];
    for (const server of [...servers].reverse()) {
      if (server.role === "proxy" || (server.state === "Clear" && flags.server === undefined)) continue;
      const client = sharedClient(server);
      const run = () => client.call("resize", { volume, sizeLb: sizeBytes / lbBytes }, options);
      steps.push({ server, text: `grow ${volume} to ${args[1]} at ${server.name}`, run });
    }
    await runSteps(flags, io, volume, servers, steps);
    return 0;

    /** Archives that the fleet file does not name for the volume, but that have it: proxies may feed them. */
    async function furtherArchives(named: readonly PathServer[]): Promise<PathServer[]> {
      const { archives, missing } = await collectView(loadFleet(flags, io), volume, { signal: io.signal });
      for (const { server, error } of missing) remark(flags, io, `going on without ${server.name}: ${error.what}`);
      return archives
        .filter(({ server, volume: { state } }) => state !== "Clear" && !named.some(({ name }) => name === server.name))
        .map(({ server, volume: { state } }) => ({ ...server, state }));
    }
  },
});
