/** @module `walb delete-image VOL GID` */
import { callOptions, clientFlags, confirm, destructiveFlags, print } from "../common.ts";
import { asGid, asVolume, toggle } from "../flags.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Deletes an image that an archive keeps of a point; the point itself stays",
  positionals: [
    { name: "VOL", help: "name of the volume", isRequired: true },
    { name: "GID", help: "the point, as walb images shows it", isRequired: true },
  ],
  flags: {
    cold: toggle("the image kept for later restores, not the restored one"),
    ...destructiveFlags,
    ...clientFlags,
  },
  examples: ["walb delete-image vol0 42", "walb delete-image vol0 42 --cold --yes"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const gid = asGid(args[1]!);
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    const kind = flags.cold ? "cold" : "restored";
    const what = `the ${kind} image of gid ${gid} of ${volume} at ${archive.server.name}`;
    if (!flags["dry-run"]) {
      await confirm(flags, io, `This deletes ${what}.`);
      await archive.call(flags.cold ? "del-cold" : "del-restored", { volume, gid }, callOptions(flags, io));
    }
    const text = `${flags["dry-run"] ? "would delete" : "deleted"} ${what}\n`;
    print(flags, io, { volume, gid, kind, isDryRun: flags["dry-run"] }, text);
    return 0;
  },
});
