/** @module `walb standby VOL`: a storage only keeps a volume's log free. */
import { storageOf } from "../../fleet/fleet.ts";
import { planStandby } from "../../fleet/procedures/plan-storages.ts";
import { deviceReference } from "../device/reference.ts";
import { asText, asVolume, option, toggle } from "../flags.ts";
import { lookAt, procedureFlags, runProcedure, serverNamed } from "../procedure.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Makes a storage a standby of a volume: it keeps the log free, and ships nothing",
  description:
    "For the host that holds a replica of a volume which another one ships. What a target has logged goes to the archive " +
    "first. To make another storage the target in one go: walb switch VOL --to SERVER.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: {
    server: option("STORAGE", "which storage; default: the one of the volume", asText),
    device: option("NAME", "the device there, when it does not know the volume yet", asText),
    force: toggle("do not wait until the archive has what is logged"),
    ...procedureFlags,
  },
  examples: ["walb standby vol0", "walb standby vol0 --server s1 --device vol0", "walb standby vol0 --force"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const { fleet, view } = await lookAt(flags, io, volume);
    const at = flags.server === undefined ? storageOf(fleet, volume) : serverNamed(fleet, flags.server, "storage");
    const device = flags.device === undefined ? undefined : deviceReference(flags.device, undefined, io);
    await runProcedure(flags, io, fleet, {
      command: `walb standby ${volume} --server ${at.name}${flags.force ? " --force" : ""}`,
      steps: planStandby(view, at.name, flags.force, device),
      nothing: `${volume} is a standby at ${at.name} already`,
      done: `${volume} is a standby at ${at.name}`,
    });
    return 0;
  },
});
