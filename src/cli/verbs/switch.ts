/** @module `walb switch VOL --to STORAGE`: another storage ships a volume. */
import { planSwitch } from "../../fleet/procedures/plan-storages.ts";
import { deviceReference } from "../device/reference.ts";
import { asText, asVolume, option, required, toggle } from "../flags.ts";
import { lookAt, procedureFlags, runProcedure, serverNamed } from "../procedure.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Makes another storage the one that ships a volume; the one before becomes its standby",
  description:
    "Both have the volume: as replicas, or because it moved. What the old one has logged goes to the archive first; then " +
    "the new one compares what it has with the archive (hash backup) and goes on from there.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: {
    to: required("STORAGE", "the new storage, a name from the fleet file", asText),
    device: option(
      "NAME",
      "the device there, when it does not know the volume; default: named as at the old one",
      asText,
    ),
    force: toggle("do not wait until the archive has what the old one has logged"),
    ...procedureFlags,
  },
  examples: ["walb switch vol0 --to s1", "walb switch vol0 --to s1 --device vol0 --dry-run"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const { fleet, view } = await lookAt(flags, io, volume);
    const to = serverNamed(fleet, flags.to, "storage");
    const device = flags.device === undefined ? undefined : deviceReference(flags.device, undefined, io);
    const named = flags.device === undefined ? "" : ` --device ${flags.device}`;
    await runProcedure(flags, io, fleet, {
      command: `walb switch ${volume} --to ${to.name}${named}${flags.force ? " --force" : ""}`,
      steps: planSwitch(view, to, { isForced: flags.force, device }),
      edits: [{ kind: "storage", volume, storage: to.name }],
      nothing: `${to.name} ships ${volume} already`,
      done: `${to.name} ships ${volume} now`,
    });
    return 0;
  },
});
