/** @module `walb unprotect VOL GID` */
import { callOptions, clientFlags, print } from "../common.ts";
import { asGid, asVolume } from "../flags.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Leaves a protected snapshot to the policy again",
  positionals: [
    { name: "VOL", help: "name of the volume", isRequired: true },
    { name: "GID", help: "the snapshot, as walb snapshots shows it", isRequired: true },
  ],
  flags: clientFlags,
  examples: ["walb unprotect vol0 42"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const gid = asGid(args[1]!);
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    await archive.call("label-snapshot", { volume, gid, protect: false }, callOptions(flags, io));
    const text = `snapshot ${gid} of ${volume} is no longer protected at ${archive.server.name}\n`;
    print(flags, io, { volume, gid, protect: false }, text);
    return 0;
  },
});
