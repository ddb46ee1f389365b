/** @module `walb start VOL` */
import { callOptions, clientFlags } from "../common.ts";
import { asVolume, toggle } from "../flags.ts";
import { type PathStep, runSteps, statesOf } from "../path.ts";
import { sharedClient, storageClient } from "../servers.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Starts a stopped volume again, at one server or along the whole path, receivers first",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: {
    standby: toggle("storage: do not ship the log, only keep it empty; the volume must be in SyncReady"),
    ...clientFlags,
  },
  examples: ["walb start vol0", "walb start vol0 --server p0", "walb start vol0 --standby --server s0"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const options = callOptions(flags, io);
    const servers = await statesOf(flags, io, volume);
    const steps: PathStep[] = [];
    for (const server of [...servers].reverse()) {
      if (server.role === "storage") {
        const mode = flags.standby ? "standby" : "target";
        if (server.state !== (flags.standby ? "SyncReady" : "Stopped")) continue;
        const run = () => storageClient(server).call("start", { volume, mode }, options);
        steps.push({ server, text: `start ${volume} at ${server.name} (${mode})`, run });
      } else if (server.state === "Stopped" && !flags.standby) {
        const client = sharedClient(server);
        const run = () => client.call("start", { volume }, options);
        steps.push({ server, text: `start ${volume} at ${server.name}`, run });
      }
    }
    await runSteps(flags, io, volume, servers, steps);
    return 0;
  },
});
