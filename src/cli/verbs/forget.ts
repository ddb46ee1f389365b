/** @module `walb forget VOL`: removes a volume from all servers, with its backups. */
import { planForget } from "../../fleet/procedures/plan-forget.ts";
import { destructiveFlags } from "../common.ts";
import { asText, asVolume, list } from "../flags.ts";
import { lookAt, procedureFlags, runProcedure } from "../procedure.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Forgets a volume everywhere: stops it, and deletes all its backups at all archives",
  description: "The device itself and its data stay as they are. At one server only: walb clear VOL --server SERVER.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: {
    without: list("SERVER", "servers that are gone and need not be asked", asText),
    ...procedureFlags,
    ...destructiveFlags,
  },
  examples: ["walb forget vol0 --dry-run", "walb forget vol0 --yes", "walb forget vol0 --without a1 --yes"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const { fleet, view } = await lookAt(flags, io, volume);
    const steps = planForget(view, flags.without);
    const archives = new Set(steps.filter(({ at }) => at.role === "archive").map(({ at }) => at.name));
    const what = archives.size === 0 ? "" : `, with all its backups at ${[...archives].join(" and ")}`;
    await runProcedure(flags, io, fleet, {
      command: `walb forget ${volume}${flags.without.map((name) => ` --without ${name}`).join("")} --yes`,
      steps,
      question: `This is going to forget ${volume}${what}.`,
      nothing: `no server knows ${volume}`,
      done: `${volume} is forgotten; its device is as it was`,
    });
    return 0;
  },
});
