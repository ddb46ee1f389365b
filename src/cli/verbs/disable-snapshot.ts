/** @module `walb disable-snapshot VOL GID…` */
import { callOptions, clientFlags, print } from "../common.ts";
import { asGid, asVolume } from "../flags.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Lets merges take snapshots of a volume away",
  positionals: [
    { name: "VOL", help: "name of the volume", isRequired: true },
    { name: "GID", help: "snapshots, as walb snapshots shows them", isRequired: true, isVariadic: true },
  ],
  flags: clientFlags,
  examples: ["walb disable-snapshot vol0 42 57"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const gids = args.slice(1).map(asGid);
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    await archive.call("disable-snapshot", { volume, gids }, callOptions(flags, io));
    const text = `merges may take away snapshot ${gids.join(", ")} of ${volume} at ${archive.server.name}\n`;
    print(flags, io, { volume, gids }, text);
    return 0;
  },
});
