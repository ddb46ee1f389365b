/** @module `walb promote ARCHIVE`: another archive becomes the one that backups go to. */
import { primaryArchive, serversOf } from "../../fleet/fleet.ts";
import { planPromote, withFormerPrimary } from "../../fleet/procedures/plan-archives.ts";
import { loadFleet } from "../common.ts";
import { toggle } from "../flags.ts";
import { lookAtAll, procedureFlags, runProcedure, serverNamed } from "../procedure.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Makes another archive the primary one, which backups go to, for all volumes",
  description:
    "While the old one is there, the new one is first brought to the same state, and both are fed from then on; end that " +
    "with walb desynchronize. With --lost the old one is given up: the proxies forget it. Storages are told at run time, " +
    "and remember it; the fleet file is changed in the end.",
  positionals: [{ name: "ARCHIVE", help: "the new primary, a name from the fleet file", isRequired: true }],
  flags: { lost: toggle("the old primary is gone and does not come back"), ...procedureFlags },
  examples: ["walb promote a1", "walb promote a1 --lost", "walb promote a1 --dry-run"],
  async run({ flags, args, io }) {
    const fleet = loadFleet(flags, io);
    const to = serverNamed(fleet, args[0]!, "archive");
    const askable = [...serversOf(fleet, "storage"), ...serversOf(fleet, "proxy"), to];
    const views = withFormerPrimary(await lookAtAll(flags, fleet, io, askable), serversOf(fleet, "archive"), to);
    const plan = planPromote(views, to, { isLost: flags.lost });
    const old = views.find(({ primary }) => primary.name !== to.name)?.primary ?? primaryArchive(fleet);
    const desynchronize = views.map(({ volume }) => `walb desynchronize ${volume} --from ${old.name}`);
    const stays = old.name === to.name || flags.lost ? [] : desynchronize;
    await runProcedure(flags, io, fleet, {
      command: `walb promote ${to.name}${flags.lost ? " --lost" : ""}`,
      steps: plan.steps,
      edits: [{ kind: "primary", archive: to.name }],
      nothing: `${to.name} is the primary archive already`,
      done: `${to.name} is the primary archive`,
      next: plan.next,
    });
    if (stays.length > 0 && !flags.quiet && !flags["dry-run"]) {
      io.err(`${old.name} is fed still; to end that: ${stays.join("; ")}\n`);
    }
    return 0;
  },
});
