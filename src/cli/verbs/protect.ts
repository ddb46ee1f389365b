/** @module `walb protect VOL GID` */
import { callOptions, clientFlags, print } from "../common.ts";
import { asGid, asLabel, asVolume, option } from "../flags.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Keeps a snapshot whatever the policy says",
  positionals: [
    { name: "VOL", help: "name of the volume", isRequired: true },
    { name: "GID", help: "the snapshot, as walb snapshots shows it", isRequired: true },
  ],
  flags: { label: option("TEXT", "and names it", asLabel), ...clientFlags },
  examples: ["walb protect vol0 42", 'walb protect vol0 42 --label "before upgrade"'],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const gid = asGid(args[1]!);
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    const marks = { protect: true, ...(flags.label === undefined ? {} : { label: flags.label }) };
    await archive.call("label-snapshot", { volume, gid, ...marks }, callOptions(flags, io));
    print(
      flags,
      io,
      { volume, gid, ...marks },
      `snapshot ${gid} of ${volume} is protected at ${archive.server.name}\n`,
    );
    return 0;
  },
});
