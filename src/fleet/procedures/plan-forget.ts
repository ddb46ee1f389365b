/** @module The plan of forgetting a volume everywhere, senders first, so that nothing comes back. Pure. */
import type { Step } from "./step.ts";
import { requireAll, type VolumeView } from "./view.ts";

/** @param excused names of servers that need not answer. @throws WalbError `unreachable`. */
export function planForget(view: VolumeView, excused: readonly string[]): Step[] {
  requireAll(view, ["storage", "proxy", "archive"], excused);
  const { volume } = view;
  const steps: Step[] = [];
  for (const { server, volume: known } of [...view.storages, ...view.proxies, ...view.archives]) {
    const { state } = known;
    if (state === "Clear") continue;
    const add = (action: Step["action"], why: string): void => {
      steps.push({ at: server, volume, action, why });
    };
    const isIdle = ["SyncReady", "Stopped", "Broken"].includes(state);
    if (!isIdle) add({ kind: "stop", mode: "force" }, `it is ${state}`);
    const isTarget = server.role === "storage" && ["Target", "Stopped"].includes(state);
    if (isTarget) add({ kind: "reset" }, "a storage forgets only what was reset");
    const why = { storage: "the device stays as it is", proxy: "unsent diffs go", archive: "all its backups go" }[
      server.role
    ];
    add({ kind: "clear" }, why);
  }
  return steps;
}
