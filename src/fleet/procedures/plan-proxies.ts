/** @module The plan of replacing a proxy by another: the new one first, then the storages, then the old one runs dry. Pure. */
import { WalbError } from "../../errors.ts";
import type { FleetServer } from "../fleet.ts";
import type { Step } from "./step.ts";
import { entryOf, requireAll, settingsOf, type VolumeView } from "./view.ts";

export interface ReplaceProxyOptions {
  /** The old proxy is gone with what it held. */
  readonly isLost: boolean;
}

/** @param views one for each volume that the old proxy, or a storage, knows. @throws WalbError `state`, `unreachable`. */
export function planReplaceProxy(
  views: readonly VolumeView[],
  from: FleetServer,
  to: FleetServer,
  { isLost }: ReplaceProxyOptions,
): { readonly steps: readonly Step[]; readonly next: readonly string[] } {
  const steps: Step[] = [];
  const drain: Step[] = [];
  const next: string[] = [];
  for (const view of views) {
    const { volume } = view;
    requireAll(view, ["storage", "proxy"], isLost ? [from.name] : []);
    const add = (list: Step[], at: FleetServer, action: Step["action"], why: string): void => {
      list.push({ at, volume, action, why });
    };
    const old = view.proxies.find(({ server }) => server.name === from.name);
    const fresh = view.proxies.find(({ server }) => server.name === to.name);
    const archives = isLost || old === undefined ? undefined : old.volume.archives;
    if (archives !== undefined && archives.length === 0) continue;
    const isShipped = view.storages.some(({ volume: { state } }) => state !== "Clear" && state !== "Standby");
    if (archives === undefined && !isShipped) continue;
    const how = settingsOf(view);
    const entries = archives ?? [
      {
        archiveName: view.primary.name,
        address: view.primary.address,
        compression: how?.compression,
        delayS: how?.delayS,
      },
    ];
    let isChanged = false;
    for (const { archiveName, address, compression, delayS } of entries) {
      const archive: FleetServer = { name: archiveName, role: "archive", address, isPrimary: false };
      if (fresh !== undefined && entryOf(fresh, archive) !== undefined) continue;
      const settings = {
        ...(compression === undefined ? {} : { compression }),
        ...(delayS === undefined ? {} : { delayS }),
      };
      add(steps, to, { kind: "register", archive, ...settings }, `as at ${from.name}`);
      isChanged = true;
    }
    if (!isChanged && fresh?.volume.state === "Stopped") add(steps, to, { kind: "start" }, "it is stopped");
    if (old !== undefined && !isLost) {
      if (old.volume.state === "Stopped" && old.volume.archives.some(({ pendingCount }) => pendingCount > 0)) {
        add(drain, from, { kind: "start" }, "it has diffs to send still");
        add(drain, from, { kind: "stop-empty" }, "no diff may be lost");
      } else if (old.volume.state !== "Stopped") add(drain, from, { kind: "stop-empty" }, "no diff may be lost");
      add(drain, from, { kind: "clear" }, `${to.name} does its work`);
    }
    if (isLost)
      next.push(...view.storages.filter(({ volume: { state } }) => state === "Target").map(() => backup(volume)));
  }
  const storages = new Map(views.flatMap(({ storages: all }) => all).map((storage) => [storage.server.name, storage]));
  for (const { server, proxies } of storages.values()) {
    if (!proxies.includes(from.address) && proxies.includes(to.address)) continue;
    if (!proxies.includes(from.address)) {
      throw new WalbError("state", {
        what: `storage ${server.name} ships to ${proxies.join(", ")}, which ${from.name} (${from.address}) is not among`,
        where: { host: server.name },
        hint: "write the address into walb.toml by which the storages know the proxy",
      });
    }
    const addresses = [...new Set(proxies.map((address) => (address === from.address ? to.address : address)))];
    const why = `${from.name} is replaced by ${to.name}`;
    steps.push({ at: server, volume: "", action: { kind: "set-proxies", addresses }, why });
  }
  return { steps: [...steps, ...drain], next };
}

/** What the lost proxy held is in no log any more: only a comparison finds it. */
const backup = (volume: string): string => `walb backup ${volume} --hash --wait`;
