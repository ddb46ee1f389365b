/** @module `walb enable-snapshot VOL GID…` */
import { callOptions, clientFlags, print } from "../common.ts";
import { asGid, asVolume } from "../flags.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Keeps merges from taking snapshots of a volume away",
  positionals: [
    { name: "VOL", help: "name of the volume", isRequired: true },
    { name: "GID", help: "snapshots, as walb snapshots shows them", isRequired: true, isVariadic: true },
  ],
  flags: clientFlags,
  examples: ["walb enable-snapshot vol0 42 57"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const gids = args.slice(1).map(asGid);
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    await archive.call("enable-snapshot", { volume, gids }, callOptions(flags, io));
    const text = `merges keep snapshot ${gids.join(", ")} of ${volume} at ${archive.server.name}\n`;
    print(flags, io, { volume, gids }, text);
    return 0;
  },
});
