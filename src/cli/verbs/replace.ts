/** @module `walb replace OLD --with NEW`: a storage, a proxy or an archive takes the place of another one. */
import { asWalbError, WalbError } from "../../errors.ts";
import { serversOf } from "../../fleet/fleet.ts";
import { planReplace } from "../../fleet/procedures/plan-replace.ts";
import { loadFleet } from "../common.ts";
import { asText, required, toggle } from "../flags.ts";
import { lookAtAll, procedureFlags, runProcedure, serverNamed } from "../procedure.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Puts a new storage, proxy or archive in the place of an old one, with all its volumes",
  description:
    "Both are in the fleet file, with the same role. A storage: each volume is switched to the device of the same name at " +
    "the new one. A proxy: the new one takes over, the old one sends what it has and forgets it. An archive: the new one " +
    "gets everything, and the primary's place if it was that; the old one keeps what it has and gets no more. With --lost " +
    "the old one is not asked. Take it out of the fleet file in the end.",
  positionals: [{ name: "OLD", help: "the server to be replaced, a name from the fleet file", isRequired: true }],
  flags: {
    with: required("NEW", "the server that takes its place, a name from the fleet file", asText),
    lost: toggle("the old one is gone and does not come back"),
    ...procedureFlags,
  },
  examples: ["walb replace p0 --with p2", "walb replace a0 --with a2 --dry-run", "walb replace s0 --with s2 --lost"],
  async run({ flags, args, io }) {
    const fleet = loadFleet(flags, io);
    const from = serverNamed(fleet, args[0]!);
    const to = serverNamed(fleet, flags.with, from.role);
    if (from.name === to.name) throw new WalbError("usage", { what: "a server cannot take its own place" });
    const isLost = flags.lost;
    const askable = [...serversOf(fleet, "storage"), ...serversOf(fleet, "proxy"), from, to];
    const views = await lookAtAll(flags, fleet, io, askable, isLost ? [from.name] : []).catch((thrown: unknown) => {
      throw lostOrAway(asWalbError(thrown), from.name, to.name);
    });
    await runProcedure(flags, io, fleet, {
      ...planReplace(fleet.volumes, views, from, to, { isLost }),
      command: `walb replace ${from.name} --with ${to.name}${flags.lost ? " --lost" : ""}`,
      nothing: `${to.name} has the place of ${from.name} already`,
      done: `${to.name} has the place of ${from.name}; take [servers.${from.name}] out of the fleet file`,
    });
    return 0;
  },
});

/** The old server must be there for a replacement without loss; one that is gone is given up by a word. */
function lostOrAway(error: WalbError, from: string, to: string): WalbError {
  if (error.where.host !== from || !["unreachable", "timed-out"].includes(error.code)) return error;
  return new WalbError(error.code, {
    what: error.what,
    where: error.where,
    hint: `start it, so that nothing is missing; or, when it never comes back: walb replace ${from} --with ${to} --lost`,
  });
}
