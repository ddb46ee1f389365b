/** @module `walb replace OLD --with NEW`: a storage, a proxy or an archive takes the place of another one. */
import { WalbError } from "../../errors.ts";
import type { FleetEdit } from "../../fleet/edit.ts";
import { type Fleet, type FleetServer, serversOf } from "../../fleet/fleet.ts";
import { planDesynchronize, planPromote, planSynchronize } from "../../fleet/procedures/plan-archives.ts";
import { planReplaceProxy } from "../../fleet/procedures/plan-proxies.ts";
import { planSwitch } from "../../fleet/procedures/plan-storages.ts";
import type { Step } from "../../fleet/procedures/step.ts";
import { entryOf, imageStates, targetStates, type VolumeView } from "../../fleet/procedures/view.ts";
import { loadFleet } from "../common.ts";
import { asText, required, toggle } from "../flags.ts";
import { lookAtAll, procedureFlags, runProcedure, serverNamed } from "../procedure.ts";
import { defineVerb, type Io } from "../verb.ts";

interface Replacement {
  readonly steps: readonly Step[];
  readonly edits: readonly FleetEdit[];
  readonly next: readonly string[];
}

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
    const plan = await planOf(fleet, from, to, flags.lost, io);
    await runProcedure(flags, io, fleet, {
      ...plan,
      command: `walb replace ${from.name} --with ${to.name}${flags.lost ? " --lost" : ""}`,
      nothing: `${to.name} has the place of ${from.name} already`,
      done: `${to.name} has the place of ${from.name}; take [servers.${from.name}] out of the fleet file`,
    });
    return 0;
  },
});

async function planOf(fleet: Fleet, from: FleetServer, to: FleetServer, isLost: boolean, io: Io): Promise<Replacement> {
  const excused = isLost ? [from.name] : [];
  const askable = [...serversOf(fleet, "storage"), ...serversOf(fleet, "proxy"), from, to];
  const views = await lookAtAll(fleet, io, askable, excused);
  if (from.role === "proxy") return { ...planReplaceProxy(views, from, to, { isLost }), edits: [] };
  if (from.role === "storage") return replaceStorage(fleet, views, from, to);
  const replica = { kind: "replica", from: from.name, to: to.name } as const;
  if (!from.isPrimary) {
    const fed = views.filter((view) => view.proxies.some((proxy) => entryOf(proxy, from) !== undefined));
    const steps = fed.flatMap((view) => [...planSynchronize(view, to), ...planDesynchronize(view, from)]);
    const copied = views.filter(
      (view) => !fed.includes(view) && hasImage(view, from) && from.name in named(fleet, view),
    );
    return { steps: [...steps, ...copied.flatMap((view) => copyOf(view, to))], edits: [replica], next: [] };
  }
  const { steps, next } = planPromote(views, to, { isLost });
  const primary: FleetEdit = { kind: "primary", archive: to.name };
  if (isLost) return { steps, edits: [primary, replica], next };
  const leaving = views.flatMap((view) => planDesynchronize({ ...view, primary: to }, from));
  return { steps: [...steps, ...leaving], edits: [primary, replica], next };
}

function replaceStorage(fleet: Fleet, views: readonly VolumeView[], from: FleetServer, to: FleetServer): Replacement {
  const steps: Step[] = [];
  const edits: FleetEdit[] = [];
  for (const view of views) {
    const old = view.storages.find(({ server }) => server.name === from.name)?.volume.state ?? "Clear";
    const isOwner = fleet.volumes[view.volume]?.storage === from.name;
    if (![...targetStates, "Stopped"].includes(old) && !isOwner) continue;
    steps.push(...planSwitch(view, to, { isForced: false }));
    edits.push({ kind: "storage", volume: view.volume, storage: to.name });
  }
  return { steps, edits, next: [] };
}

/** Archives that the fleet file says a volume is replicated to. */
function named(fleet: Fleet, { volume }: VolumeView): Readonly<Record<string, true>> {
  return Object.fromEntries((fleet.volumes[volume]?.replicate ?? []).map((name) => [name, true]));
}

function hasImage(view: VolumeView, { name }: FleetServer): boolean {
  const archive = view.archives.find(({ server }) => server.name === name);
  return archive !== undefined && imageStates.includes(archive.volume.state);
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
