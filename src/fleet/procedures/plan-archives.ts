/** @module Plans about which archives the proxies feed: synchronize, desynchronize, promote. Pure. */
import { WalbError } from "../../errors.ts";
import { type FleetServer, isSameAddress } from "../fleet.ts";
import type { Step } from "./step.ts";
import {
  archiveAt,
  entryOf,
  gidOf,
  gidOnItsWay,
  imageStates,
  type ProxyView,
  requireAll,
  settingsOf,
  type VolumeView,
} from "./view.ts";

/**
 * A second archive is fed by the proxies, beside the primary. First the bulk is replicated while everything runs; then each
 * proxy in turn stops for the moment it takes to learn of the archive (storages ship to the others meanwhile); what a proxy
 * had sent before goes only through the primary, so a last replication closes the gap. Nothing is lost wherever it ends:
 * what waits at the proxies for the new archive stays there until the gap is closed.
 * @throws WalbError `state`, `unreachable`.
 */
export function planSynchronize(view: VolumeView, to: FleetServer): Step[] {
  const { volume, primary } = view;
  if (to.name === primary.name) {
    throw new WalbError("state", {
      what: `${to.name} is the primary archive, which proxies feed anyway`,
      where: { volume },
      hint: `walb backup ${volume}`,
    });
  }
  requireAll(view, ["proxy"]);
  const [source, target] = [archiveAt(view, primary.name), archiveAt(view, to.name)];
  requireImage(view, source.volume.state, primary);
  const { state } = target.volume;
  const isNew = ["Clear", "SyncReady", "FullSync"].includes(state);
  if (!isNew && !imageStates.includes(state)) {
    throw new WalbError("state", {
      what: `the archive takes nothing in state ${state}`,
      where: { host: to.name, volume },
      hint: state === "Stopped" ? `walb start ${volume} --server ${to.name}` : `look with: walb status ${volume}`,
    });
  }
  if (!isNew && target.volume.archiveUuid !== source.volume.archiveUuid) {
    throw new WalbError("state", {
      what: `${to.name} has backups of another line of the volume than ${primary.name}`,
      where: { volume },
      hint: `replace them: walb replicate ${volume} --to ${to.name} --resync; then again: walb synchronize ${volume} --to ${to.name}`,
    });
  }
  const steps: Step[] = [];
  const add = (at: FleetServer, action: Step["action"], why: string): void => {
    steps.push({ at, volume, action, why });
  };
  const isBehind = isNew || gidOf(target.volume) < gidOnItsWay(view);
  if (state === "Clear") add(to, { kind: "init-archive" }, `${to.name} does not know ${volume}`);
  if (state === "FullSync") add(to, { kind: "await-sync" }, "a copy to it is under way");
  const unfed = view.proxies.filter((proxy) => entryOf(proxy, to) === undefined);
  if (isBehind) {
    add(primary, { kind: "replicate", to }, isNew ? `${to.name} has nothing of it yet` : `${to.name} is behind`);
  }
  steps.push(...feedPrimary(view));
  const settings = settingsOf(view);
  for (const { server } of unfed) {
    const how = settings === undefined ? {} : { compression: settings.compression, delayS: settings.delayS };
    add(server, { kind: "register", archive: to, ...how }, `${server.name} does not feed ${to.name}`);
  }
  if (unfed.length > 0 || isBehind) {
    const proxies = view.proxies.map(({ server }) => server);
    const why = "what the proxies sent before is only at the primary archive";
    add(primary, { kind: "catch-up", to, proxies }, why);
  }
  return steps;
}

/** Proxies that do not feed the primary archive are told to: what they hold would be gone after the others have it. */
export function feedPrimary(view: VolumeView, primary = view.primary): Step[] {
  const settings = settingsOf(view);
  const how = settings === undefined ? {} : { compression: settings.compression, delayS: settings.delayS };
  return view.proxies.flatMap((proxy): Step[] => {
    const of = { at: proxy.server, volume: view.volume };
    if (entryOf(proxy, primary) === undefined) {
      const why = `${proxy.server.name} does not feed the primary archive`;
      return [{ ...of, action: { kind: "register", archive: primary, ...how }, why }];
    }
    return proxy.volume.state === "Stopped" ? [{ ...of, action: { kind: "start" }, why: "it is stopped" }] : [];
  });
}

/** A view as it will be behind steps that change whom proxies feed: a plan that follows is made from it. */
export function behind(view: VolumeView, steps: readonly Step[]): VolumeView {
  const proxies = view.proxies.map((proxy) => {
    let { volume } = proxy;
    for (const { at, volume: name, action } of steps) {
      if (at.name !== proxy.server.name || name !== view.volume) continue;
      if (action.kind === "start") volume = { ...volume, state: "Started" };
      if (action.kind !== "register") continue;
      const { archive, compression = "snappy", delayS = 0 } = action;
      const to = { archiveName: archive.name, address: archive.address, compression, delayS };
      const entry = { ...to, pendingCount: 0, pendingBytes: 0, isSending: false };
      volume = { ...volume, state: "Started", archives: [...volume.archives, entry] };
    }
    return { ...proxy, volume };
  });
  return { ...view, proxies };
}

/** The proxies stop feeding an archive; it keeps what it has. @throws WalbError `state` for the primary. */
export function planDesynchronize(view: VolumeView, from: FleetServer): Step[] {
  const { volume, primary } = view;
  if (from.name === primary.name) {
    throw new WalbError("state", {
      what: `${from.name} is the primary archive: without it nothing is backed up`,
      where: { volume },
      hint: `make another one primary first: walb promote ARCHIVE; or stop the volume: walb stop ${volume}`,
    });
  }
  requireAll(view, ["proxy"]);
  return leave(view, from, `${from.name} is not to get any more`);
}

/** Removes an archive from every proxy that feeds it. */
function leave(view: VolumeView, from: FleetServer, why: string): Step[] {
  return view.proxies.flatMap((proxy: ProxyView): Step[] => {
    const entry = entryOf(proxy, from);
    if (entry === undefined) {
      const isCutOff = proxy.volume.state === "Stopped" && proxy.volume.archives.length > 0;
      const start = { at: proxy.server, volume: view.volume, action: { kind: "start" }, why: "it is stopped" } as const;
      return isCutOff ? [start] : [];
    }
    const lost = entry.pendingCount === 0 ? "" : `; ${entry.pendingCount} diffs that wait for it are deleted`;
    const action = { kind: "unregister", archive: from } as const;
    return [{ at: proxy.server, volume: view.volume, action, why: `${why}${lost}` }];
  });
}

export interface PromoteOptions {
  /** The old primary archive is gone and does not come back. */
  readonly isLost: boolean;
}

/** A plan, and what has to be done besides by somebody. */
export interface PromotePlan {
  readonly steps: readonly Step[];
  readonly next: readonly string[];
}

/**
 * Another archive becomes the one that backups go to. While the old one is there, the new one is brought to the same state
 * first, and the old one goes on being fed. One that is lost is taken from the proxies.
 * @param views one for each volume.
 */
export function planPromote(views: readonly VolumeView[], to: FleetServer, { isLost }: PromoteOptions): PromotePlan {
  const steps: Step[] = [];
  const next: string[] = [];
  for (const view of views) {
    requireAll(view, ["storage", "proxy"]);
    const { volume, primary } = view;
    const target = archiveAt(view, to.name);
    const away = view.missing.find(({ server }) => server.name === primary.name);
    if (away !== undefined && primary.name !== to.name && !isLost) {
      throw new WalbError(away.error.code, {
        what: away.error.what,
        where: { host: primary.name, volume },
        hint: `start it, so that nothing is missing; or, when it never comes back: walb promote ${to.name} --lost`,
      });
    }
    if (primary.name !== to.name && !isLost) steps.push(...followPrimary(view, to));
    if (primary.name !== to.name && isLost) {
      const { state } = target.volume;
      const isFed = view.proxies.length > 0 && view.proxies.every((proxy) => entryOf(proxy, to) !== undefined);
      if (state === "Clear") {
        steps.push({ at: to, volume, action: { kind: "init-archive" }, why: `${to.name} does not know ${volume}` });
      }
      if (state === "Stopped") steps.push({ at: to, volume, action: { kind: "start" }, why: "it is stopped" });
      steps.push(...feedPrimary(view, to));
      steps.push(...leave(view, primary, `${primary.name} is lost`));
      if (!isFed || !imageStates.includes(state)) {
        const mode = imageStates.includes(state) ? "--hash" : "--full";
        next.push(`walb backup ${volume} ${mode} --wait`);
      } else {
        for (const { server } of view.proxies) {
          steps.push({ at: server, volume, action: { kind: "kick" }, why: "what waits is for the new primary" });
        }
      }
    }
  }
  const storages = new Map(views.flatMap(({ storages: all }) => all).map((storage) => [storage.server.name, storage]));
  for (const { server, archive } of storages.values()) {
    if (archive === to.address) continue;
    const why = `its backups go to ${archive}`;
    steps.push({ at: server, volume: "", action: { kind: "set-archive", archive: to }, why });
  }
  return { steps, next };
}

/**
 * The same views, where somebody had made the new archive the primary of the fleet file before: with the one that storages
 * take backups to still, when it is in the file, as long as the new one is not fed with what that has.
 */
export function withFormerPrimary(
  views: readonly VolumeView[],
  archives: readonly FleetServer[],
  to: FleetServer,
): VolumeView[] {
  return views.map((view) => {
    if (view.primary.name !== to.name) return view;
    const target = view.archives.find(({ server }) => server.name === to.name);
    const isThere = target !== undefined && imageStates.includes(target.volume.state);
    if (isThere && view.proxies.every((proxy) => entryOf(proxy, to) !== undefined)) return view;
    const told = view.storages.map(({ archive }) => archive).filter((address) => !isSameAddress(address, to.address));
    const [former, ...others] = archives.filter(
      ({ name, address }) => name !== to.name && told.some((other) => isSameAddress(other, address)),
    );
    return former === undefined || others.length > 0 ? view : { ...view, primary: former };
  });
}

/** As synchronize; a volume without a first backup only gets its place, and its way. */
function followPrimary(view: VolumeView, to: FleetServer): Step[] {
  const { state } = archiveAt(view, view.primary.name).volume;
  if (state === "Clear") return [];
  if (state !== "SyncReady") return planSynchronize(view, to);
  const steps = feedPrimary(view, to);
  if (archiveAt(view, to.name).volume.state !== "Clear") return steps;
  const why = `${to.name} does not know ${view.volume}`;
  return [{ at: to, volume: view.volume, action: { kind: "init-archive" }, why }, ...steps];
}

function requireImage(view: VolumeView, state: string, archive: FleetServer): void {
  if (imageStates.includes(state)) return;
  throw new WalbError("state", {
    what: `the primary archive has nothing to begin with (state ${state})`,
    where: { host: archive.name, volume: view.volume },
    hint: `walb backup ${view.volume}`,
  });
}
