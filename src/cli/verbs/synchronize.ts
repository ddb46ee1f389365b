/** @module `walb synchronize VOL --to ARCHIVE`: proxies feed a second archive, too. */
import { planSynchronize } from "../../fleet/procedures/plan-archives.ts";
import { asText, asVolume, required } from "../flags.ts";
import { lookAt, procedureFlags, runProcedure, serverNamed } from "../procedure.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Makes the proxies feed a second archive with a volume, beside the primary",
  description:
    "The other archive is brought up to date by replication first; each proxy stops only for the moment it takes to " +
    "learn of it. Whatever ends it on its way, nothing is lost, and the same command goes on.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: { to: required("ARCHIVE", "the second archive, a name from the fleet file", asText), ...procedureFlags },
  examples: ["walb synchronize vol0 --to a1", "walb synchronize vol0 --to a1 --dry-run"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const { fleet, view } = await lookAt(flags, io, volume);
    const to = serverNamed(fleet, flags.to, "archive");
    await runProcedure(flags, io, fleet, {
      command: `walb synchronize ${volume} --to ${to.name}`,
      steps: planSynchronize(view, to),
      nothing: `the proxies feed ${to.name} with ${volume} already`,
      done: `the proxies feed ${to.name} with ${volume}, beside ${view.primary.name}`,
    });
    return 0;
  },
});
