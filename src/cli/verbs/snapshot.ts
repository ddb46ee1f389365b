/** @module `walb snapshot VOL` */
import { WalbError } from "../../errors.ts";
import { callOptions, clientFlags, loadFleet, print } from "../common.ts";
import { asText, asVolume, option, toggle } from "../flags.ts";
import { archiveClient, archivesOf, serverFor, storageClient } from "../servers.ts";
import { formatTime } from "../text/time.ts";
import { defineVerb } from "../verb.ts";
import { waitRestorable } from "../wait.ts";

export const verb = defineVerb({
  summary: "Takes a snapshot: the volume as it is now stays restorable",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true, isVariadic: true }],
  flags: {
    wait: toggle("wait until it is restorable at the archive"),
    label: option("TEXT", "a name for people", asText),
    protect: toggle("never delete it by policy"),
    ...clientFlags,
  },
  examples: ["walb snapshot vol0", 'walb snapshot vol0 --label "before upgrade" --protect --wait'],
  async run({ flags, args, io }) {
    if (args.length > 1) {
      throw new WalbError("unsupported", {
        what: "several volumes at one instant are not possible yet",
        hint: `take them one after the other: ${args.map((name) => `walb snapshot ${name}`).join("; ")}`,
      });
    }
    const volume = asVolume(args[0]!);
    const storage = storageClient(await serverFor(flags, io, "storage", volume));
    const label = flags.label === undefined ? {} : { label: flags.label };
    const params = { volume, ...label, ...(flags.protect ? { protect: true } : {}) };
    const { gid, timeMs } = await storage.call("snapshot", params, callOptions(flags, io));
    if (flags.wait) {
      const archive = archivesOf(loadFleet(flags, io), volume)[0]!;
      await waitRestorable(archiveClient(archive), volume, gid, flags, io);
    }
    print(flags, io, { volume, gid, timeMs, isRestorable: flags.wait }, `${volume} ${gid} ${formatTime(timeMs)}\n`);
    return 0;
  },
});
