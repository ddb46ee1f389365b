/** @module The plan of replacing a storage, a proxy or an archive by another one, with all its volumes. Pure. */
import type { DeviceReference } from "../../control/storage.ts";
import type { FleetEdit } from "../edit.ts";
import type { Fleet, FleetServer } from "../fleet.ts";
import { behind, planDesynchronize, planPromote, planSynchronize } from "./plan-archives.ts";
import { planReplaceProxy } from "./plan-proxies.ts";
import { planSwitch } from "./plan-storages.ts";
import type { Step } from "./step.ts";
import { entryOf, imageStates, targetStates, type VolumeView } from "./view.ts";

const shipping: readonly string[] = [...targetStates, "Stopped"];

type FleetVolumes = Fleet["volumes"];

/** A plan, the changes of the fleet file behind it, and what has to be done besides by somebody. */
export interface Replacement {
  readonly steps: readonly Step[];
  readonly edits: readonly FleetEdit[];
  readonly next: readonly string[];
}

export interface ReplaceOptions {
  /** The old server is gone and does not come back. */
  readonly isLost: boolean;
}

/**
 * @param views one for each volume that is known anywhere.
 * @param from the old server. @param to the new one, of the same role.
 * @throws WalbError `state`, `unreachable`.
 */
export function planReplace(
  volumes: FleetVolumes,
  views: readonly VolumeView[],
  from: FleetServer,
  to: FleetServer,
  { isLost }: ReplaceOptions,
): Replacement {
  if (from.role === "proxy") return { ...planReplaceProxy(views, from, to, { isLost }), edits: [] };
  if (from.role === "storage") return replaceStorage(volumes, views, from, to, isLost);
  const replica = { kind: "replica", from: from.name, to: to.name } as const;
  const leave = (steps: readonly Step[]): Step[] =>
    views.flatMap((view) => planDesynchronize({ ...behind(view, steps), primary: to }, from));
  if (to.isPrimary) return { steps: leave([]), edits: [replica], next: [] };
  if (!from.isPrimary) return { steps: replaceSecondary(volumes, views, from, to), edits: [replica], next: [] };
  const edits: FleetEdit[] = [{ kind: "primary", archive: to.name }, replica];
  // Gone on with: whom the proxies have left already must not be fed again.
  if (!isLost && isPromoted(views, from, to)) return { steps: leave([]), edits, next: [] };
  const { steps, next } = planPromote(views, to, { isLost });
  return { steps: isLost ? steps : [...steps, ...leave(steps)], edits, next };
}

function replaceSecondary(
  volumes: FleetVolumes,
  views: readonly VolumeView[],
  from: FleetServer,
  to: FleetServer,
): Step[] {
  const feeds = (view: VolumeView, archive: FleetServer): boolean =>
    view.proxies.some((proxy) => entryOf(proxy, archive) !== undefined);
  const fed = views.filter((view) => feeds(view, from));
  const copied = views.filter((view) => !feeds(view, from) && hasImage(view, from) && isNamed(volumes, view, from));
  // Where only the new one is fed, a proxy may have been left stopped on the way.
  const left = views.filter((view) => !feeds(view, from) && feeds(view, to));
  return [
    ...fed.flatMap((view) => {
      const first = planSynchronize(view, to);
      return [...first, ...planDesynchronize(behind(view, first), from)];
    }),
    ...left.flatMap((view) => planDesynchronize(view, from)),
    ...copied.flatMap((view) => copyOf(view, to)),
  ];
}

/** True when the storages take their backups there already, and every proxy feeds it: only the old one is to be left. */
function isPromoted(views: readonly VolumeView[], from: FleetServer, to: FleetServer): boolean {
  const storages = views.flatMap((view) => view.storages);
  if (storages.length === 0 || storages.some(({ archive }) => archive !== to.address)) return false;
  return views.every(({ proxies }) =>
    proxies.every((proxy) => entryOf(proxy, from) === undefined || entryOf(proxy, to) !== undefined),
  );
}

function replaceStorage(
  volumes: FleetVolumes,
  views: readonly VolumeView[],
  from: FleetServer,
  to: FleetServer,
  isLost: boolean,
): Replacement {
  const steps: Step[] = [];
  const edits: FleetEdit[] = [];
  for (const view of views) {
    const isShippedBy = (name: string): boolean =>
      view.storages.some(({ server, volume: { state } }) => server.name === name && shipping.includes(state));
    const isElsewhere = view.storages.some(
      ({ server: { name } }) => ![from.name, to.name].includes(name) && isShippedBy(name),
    );
    // What the fleet file says counts; or that nobody else ships what the old one, or a proxy of a lost one, knows.
    const isKnown = view.storages.some(({ server, volume }) => server.name === from.name && volume.state !== "Clear");
    const owner = volumes[view.volume]?.storage ?? ((isLost || isKnown) && !isElsewhere ? from.name : undefined);
    if (!isShippedBy(from.name) && owner !== from.name) continue;
    const device = isLost ? deviceNamed(volumes[view.volume]?.device ?? view.volume) : undefined;
    steps.push(...planSwitch(view, to, { isForced: false, device }));
    edits.push({ kind: "storage", volume: view.volume, storage: to.name });
  }
  return { steps, edits, next: [] };
}

/** A lost storage cannot say which device it was: it is named in the fleet file, or as the volume. */
function deviceNamed(name: string): DeviceReference {
  const kernel = /^\/dev\/walb\/(.+)$/.exec(name)?.[1];
  return kernel === undefined ? { kind: "user", name } : { kind: "kernel", name: kernel };
}

/** True when the fleet file says that a volume is replicated to an archive. */
function isNamed(volumes: FleetVolumes, { volume }: VolumeView, { name }: FleetServer): boolean {
  return volumes[volume]?.replicate?.includes(name) === true;
}

/** One that is lost is taken for one that had it. */
function hasImage(view: VolumeView, { name }: FleetServer): boolean {
  const archive = view.archives.find(({ server }) => server.name === name);
  const isAway = view.missing.some(({ server }) => server.name === name);
  return isAway || (archive !== undefined && imageStates.includes(archive.volume.state));
}

function copyOf(view: VolumeView, to: FleetServer): Step[] {
  const { volume, primary } = view;
  const state = view.archives.find(({ server }) => server.name === to.name)?.volume.state;
  const why = `${to.name} takes the place of an archive that is replicated to`;
  return [
    ...(state === "Clear" ? [{ at: to, volume, action: { kind: "init-archive" }, why } as const] : []),
    { at: primary, volume, action: { kind: "replicate", to }, why },
  ];
}
