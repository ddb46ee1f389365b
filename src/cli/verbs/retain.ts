/** @module `walb retain VOL`: keeps the points that the rules of the volume name, lets the others go. */
import { exitCodes, WalbError } from "../../errors.ts";
import { primaryArchive } from "../../fleet/fleet.ts";
import { collectViews, newWorkerMemory } from "../../fleet/worker/collect.ts";
import { type KeepPoint, parseKeep, planRetention, type Retention } from "../../fleet/worker/keep.ts";
import { performTask, taskText } from "../../fleet/worker/perform.ts";
import { planWorker, type VolumeView } from "../../fleet/worker/plan.ts";
import { workerPolicy } from "../../fleet/worker/policy.ts";
import { clientFlags, confirm, destructiveFlags, loadFleet, print, remark } from "../common.ts";
import { asText, asVolume, list } from "../flags.ts";
import { parseSize } from "../text/size.ts";
import { renderTable } from "../text/table.ts";
import { formatTime, parseDuration } from "../text/time.ts";
import { defineVerb } from "../verb.ts";

/** Steps of one run; each takes at least a point away. */
const stepsMax = 10_000;

export const verb = defineVerb({
  summary: "Keeps the points that the rules of a volume name, and lets the others go",
  description:
    "The rules are keep of [volumes.VOL] in the fleet file, or --keep. Each keeps, for a time, the last point of each of " +
    "its intervals (of the clock in UTC): all, every5m, hourly, daily, weekly, monthly, yearly. Protected points and the " +
    "newest one always stay. walb worker does the same on its own.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: {
    keep: list("RULE=TIME", "a rule in place of the fleet file's, e.g. hourly=3d; may be repeated", asText),
    ...destructiveFlags,
    ...clientFlags,
  },
  examples: [
    "walb retain vol0 --dry-run",
    "walb retain vol0 --keep all=2h --keep hourly=3d --keep daily=forever --yes",
  ],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const fleet = loadFleet(flags, io);
    const rules =
      flags.keep.length === 0
        ? fleet.volumes[volume]?.keep
        : Object.fromEntries(flags.keep.map((text) => splitRule(text)));
    if (rules === undefined) {
      throw new WalbError("usage", {
        what: "there are no rules for the volume, so all points stay",
        where: { volume, ...(fleet.file === undefined ? {} : { file: fleet.file }) },
        hint: `add to walb.toml: [volumes.${volume}] keep = { all = "2h", hourly = "3d", daily = "14d" }; or say --keep hourly=3d`,
      });
    }
    const keep = parseKeep(rules, parseDuration, `volumes.${volume}.keep`);
    const memory = newWorkerMemory();
    const policy = workerPolicy(undefined, { duration: parseDuration, size: parseSize });
    const timeoutMs = flags.timeout ?? 90_000;
    const look = async (): Promise<VolumeView> => {
      const readers = { readDuration: parseDuration, timeoutMs, nowMs: io.nowMs };
      const options = { fleet, memory, ...readers, volume, signal: io.signal };
      const { views, failures } = await collectViews(options);
      if (failures[0] !== undefined) throw failures[0].error;
      const view = views.find((found) => found.volume === volume);
      if (view !== undefined && view.state !== "Clear") return { ...view, keep, replicas: [] };
      throw new WalbError("not-found", {
        what: "the archive does not know this volume",
        where: { host: primaryArchive(fleet).name, volume },
        hint: "look at all of them with: walb status",
      });
    };
    const view = await look();
    const retention = planRetention(view.points, keep, io.nowMs());
    const { droppedGids, kept } = retention;
    const value = { volume, kept, droppedGids, isDryRun: flags["dry-run"] };
    if (flags["dry-run"]) {
      print(flags, io, value, retentionText(view.points, retention));
      return exitCodes.done;
    }
    if (droppedGids.length > 0) {
      await confirm(flags, io, `${droppedGids.length} of ${view.points.length} points of ${volume} go for good.`);
    }
    let current = view;
    for (let step = 0; step < stepsMax; step++) {
      const { tasks, waiting } = planWorker([current], policy, io.nowMs());
      const [task] = tasks;
      if (task === undefined) {
        if (waiting[0] !== undefined) {
          const hint = `look with: walb status ${volume}; then say it again`;
          throw new WalbError("state", { what: waiting[0].reason, where: { volume }, hint });
        }
        break;
      }
      remark(flags, io, `${taskText(task)}: ${task.reason}`);
      await performTask(task, { fleet, policy, memory, nowMs: io.nowMs, signal: io.signal });
      current = await look();
    }
    const left = new Set(current.points.map(({ gid }) => gid));
    const leftOver = droppedGids.filter((gid) => left.has(gid)).length;
    const goneCount = droppedGids.length - leftOver;
    const remaining = leftOver === 0 ? "" : `; ${leftOver} stay because they cannot be merged away`;
    print(flags, io, { ...value, goneCount }, `${goneCount} points went, ${left.size} stay${remaining}\n`);
    return exitCodes.done;
  },
});

function splitRule(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw new WalbError("usage", { what: `${JSON.stringify(text)} is no rule`, hint: "for example: --keep hourly=3d" });
}

/** Every kept point with why; those that go only in number between them. */
function retentionText(points: readonly KeepPoint[], { kept, droppedGids }: Retention): string {
  const reasons = new Map(kept.map((point) => [point.gid, point.reasons]));
  const rows: string[][] = [];
  let gone = 0;
  for (const { gid, timeMs } of points) {
    const why = reasons.get(gid);
    if (why === undefined) {
      gone += 1;
      continue;
    }
    if (gone > 0) rows.push(["", "", `${gone} go`]);
    gone = 0;
    rows.push([formatTime(timeMs), gid.toString(), why.join(", ")]);
  }
  const columns = [{ title: "TIME" }, { title: "GID", align: "right" }, { title: "KEPT BY" }] as const;
  return `${renderTable(columns, rows)}${kept.length} points would stay, ${droppedGids.length} would go\n`;
}
