/** @module `walb label VOL GID [TEXT]` */
import { callOptions, clientFlags, print } from "../common.ts";
import { asGid, asLabel, asVolume } from "../flags.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Names a snapshot, or takes its name away",
  positionals: [
    { name: "VOL", help: "name of the volume", isRequired: true },
    { name: "GID", help: "the snapshot, as walb snapshots shows it", isRequired: true },
    { name: "TEXT", help: "its name for people; none: takes the name away" },
  ],
  flags: clientFlags,
  examples: ['walb label vol0 42 "before upgrade"', "walb label vol0 42"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const gid = asGid(args[1]!);
    const label = args[2] === undefined ? "" : asLabel(args[2]);
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    await archive.call("label-snapshot", { volume, gid, label }, callOptions(flags, io));
    const what = label === "" ? "has no label" : `is labelled ${JSON.stringify(label)}`;
    print(flags, io, { volume, gid, label }, `snapshot ${gid} of ${volume} ${what} at ${archive.server.name}\n`);
    return 0;
  },
});
