/** @module `walb reset VOL` */
import { callOptions, clientFlags, confirm, destructiveFlags } from "../common.ts";
import { asVolume } from "../flags.ts";
import { type PathStep, requireStopped, runSteps, statesOf } from "../path.ts";
import { sharedClient } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Starts the backup of a stopped volume from scratch: empties its log, deletes its backups at the archive",
  description:
    "With --server only there: at a storage the log is emptied and the next backup can be a hash backup, which keeps " +
    "the points at the archive; at an archive all backups of the volume are deleted.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: { ...destructiveFlags, ...clientFlags },
  examples: ["walb reset vol0 --server s0 --yes", "walb reset vol0 --dry-run"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const options = callOptions(flags, io);
    const servers = await statesOf(flags, io, volume);
    requireStopped(
      volume,
      servers.filter(({ role }) => role !== "proxy"),
    );
    const steps: PathStep[] = [];
    for (const server of servers) {
      if (server.role === "storage" && server.state === "SyncReady" && flags.server === undefined) continue;
      if (server.role === "proxy" || (server.state === "Clear" && flags.server === undefined)) continue;
      const client = sharedClient(server);
      const what = server.role === "storage" ? "empty the log" : "delete all backups";
      const run = () => client.call("reset", { volume }, options);
      steps.push({ server, text: `${what} of ${volume} at ${server.name}`, run });
    }
    if (!flags["dry-run"] && steps.length > 0) {
      await confirm(flags, io, `This is going to: ${steps.map(({ text }) => text).join("; ")}.`);
    }
    await runSteps(flags, io, volume, servers, steps);
    return 0;
  },
});
