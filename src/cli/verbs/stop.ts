/** @module `walb stop VOL` */
import { WalbError } from "../../errors.ts";
import { callOptions, clientFlags, remark } from "../common.ts";
import { asVolume, toggle } from "../flags.ts";
import { type PathStep, runSteps, statesOf } from "../path.ts";
import { proxyClient, sharedClient } from "../servers.ts";
import { defineVerb } from "../verb.ts";

/** A stop waits for as long as there is something to send or to finish, unless --timeout says otherwise. */
const stopTimeoutMs = 20 * 86_400_000;

export const verb = defineVerb({
  summary: "Stops a volume, at one server or along the whole path, senders first",
  description:
    "While it is stopped the volume is not protected; its log fills up, and when it is full, data is lost for the backup and a new one is needed.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: {
    force: toggle("abort what is running"),
    empty: toggle("proxies: first send everything that waits"),
    "dry-run": toggle("only say what would be done"),
    ...clientFlags,
  },
  examples: ["walb stop vol0 --empty", "walb stop vol0 --server a0"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    if (flags.force && flags.empty) throw new WalbError("usage", { what: "--force and --empty exclude each other" });
    const options = { timeoutMs: stopTimeoutMs, ...callOptions(flags, io) };
    const servers = await statesOf(flags, io, volume);
    const mode = flags.force ? "force" : "graceful";
    const steps: PathStep[] = [];
    for (const server of servers) {
      if (server.state === "Clear" || server.state === "Stopped" || server.state === "SyncReady") {
        remark(flags, io, `${server.name}: nothing to stop, ${volume} is ${server.state} there`);
        continue;
      }
      if (server.role === "proxy") {
        const proxyMode = flags.empty ? "empty" : mode;
        const run = () => proxyClient(server).call("stop", { volume, mode: proxyMode }, options);
        steps.push({ server, text: `stop ${volume} at ${server.name} (${proxyMode})`, run });
      } else {
        const client = sharedClient(server);
        const run = () => client.call("stop", { volume, mode }, options);
        steps.push({ server, text: `stop ${volume} at ${server.name} (${mode})`, run });
      }
    }
    await runSteps(flags, io, volume, servers, steps);
    return 0;
  },
});
