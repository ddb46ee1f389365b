/** @module `walb dump-log-header VOL LSID` */
import { callOptions, clientFlags, print } from "../common.ts";
import { asInt, asVolume } from "../flags.ts";
import { serverFor, storageClient } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Keeps a block of a volume's log as a file beside its state at the storage, and says whether it is a header",
  description: "A header that cannot be read while the log is shipped is kept in the same way by the storage itself.",
  positionals: [
    { name: "VOL", help: "name of the volume", isRequired: true },
    { name: "LSID", help: "number of the block, as in walb status VOL --json", isRequired: true },
  ],
  flags: clientFlags,
  examples: ["walb dump-log-header vol0 4096"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const lsid = asInt(0, Number.MAX_SAFE_INTEGER)(args[1]!);
    const storage = storageClient(await serverFor(flags, io, "storage", volume));
    const { file, fault } = await storage.call("dump-log-header", { volume, lsid }, callOptions(flags, io));
    const what = fault === undefined ? "a good header" : `no header: ${fault}`;
    print(flags, io, { volume, lsid, file, fault }, `${storage.server.name}:${file}: ${what}\n`);
    return 0;
  },
});
