/** @module `walb clear VOL` */
import { callOptions, clientFlags, confirm, destructiveFlags } from "../common.ts";
import { asVolume } from "../flags.ts";
import { type PathStep, requireStopped, runSteps, statesOf } from "../path.ts";
import { sharedClient, storageClient } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Forgets a stopped volume, at one server or everywhere, with all its backups",
  description: "The device itself and its data stay as they are.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: { ...destructiveFlags, ...clientFlags },
  examples: ["walb clear vol0 --dry-run", "walb clear vol0 --server p0 --yes"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const options = callOptions(flags, io);
    const servers = await statesOf(flags, io, volume);
    requireStopped(volume, servers);
    const steps: PathStep[] = [];
    for (const server of servers) {
      if (server.state === "Clear") continue;
      const client = sharedClient(server);
      const what = { storage: "forget", proxy: "delete unsent diffs of", archive: "delete all backups of" }[
        server.role
      ];
      const run = async (): Promise<void> => {
        // A storage forgets only what was reset.
        if (server.role === "storage" && server.state === "Stopped") {
          await storageClient(server).call("reset", { volume }, options);
        }
        await client.call("clear", { volume }, options);
      };
      steps.push({ server, text: `${what} ${volume} at ${server.name}`, run });
    }
    if (!flags["dry-run"] && steps.length > 0) {
      await confirm(flags, io, `This is going to: ${steps.map(({ text }) => text).join("; ")}.`);
    }
    await runSteps(flags, io, volume, servers, steps);
    return 0;
  },
});
