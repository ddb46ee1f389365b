/** @module `walb desynchronize VOL --from ARCHIVE`: proxies stop feeding a second archive. */
import { planDesynchronize } from "../../fleet/procedures/plan-archives.ts";
import { asText, asVolume, required } from "../flags.ts";
import { lookAt, procedureFlags, runProcedure, serverNamed } from "../procedure.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Stops the proxies from feeding a second archive; it keeps what it has",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: { from: required("ARCHIVE", "that archive, a name from the fleet file", asText), ...procedureFlags },
  examples: ["walb desynchronize vol0 --from a1"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const { fleet, view } = await lookAt(flags, io, volume);
    const from = serverNamed(fleet, flags.from, "archive");
    await runProcedure(flags, io, fleet, {
      command: `walb desynchronize ${volume} --from ${from.name}`,
      steps: planDesynchronize(view, from),
      nothing: `no proxy feeds ${from.name} with ${volume}`,
      done: `${from.name} keeps what it has of ${volume}, and gets no more from the proxies`,
    });
    return 0;
  },
});
