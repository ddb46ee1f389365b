/** @module Runs a procedure: its plan with reasons, then step by step; what ends it on its way leaves it to be repeated. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { asWalbError, WalbError, withArticle } from "../errors.ts";
import { editFleet, editText, type FleetEdit } from "../fleet/edit.ts";
import type { Fleet, FleetServer } from "../fleet/fleet.ts";
import { type AskOptions, askTimeoutMs, collectView, volumesAt } from "../fleet/procedures/collect.ts";
import { perform } from "../fleet/procedures/perform.ts";
import { type Step, stepText } from "../fleet/procedures/step.ts";
import type { VolumeView } from "../fleet/procedures/view.ts";
import { type ClientFlagValues, clientFlags, confirm, loadFleet, print, remark } from "./common.ts";
import { toggle } from "./flags.ts";
import { runJob } from "./job.ts";
import { archiveClient } from "./servers.ts";
import type { Io } from "./verb.ts";
import { waitRestorable } from "./wait.ts";

const { server: _, ...flagsOfFleet } = clientFlags;

/** Flags of verbs that span servers. */
export const procedureFlags = {
  "dry-run": toggle("only say what would be done, and why"),
  ...flagsOfFleet,
};

/** Values of {@link procedureFlags}; `server` may be there. */
export type ProcedureFlagValues = Omit<ClientFlagValues, "server"> & {
  readonly server?: string | undefined;
  readonly "dry-run": boolean;
};

/** What a procedure is going to do. */
export interface Procedure {
  /** As it was typed, to be typed again after a failure: `walb switch vol0 --to s1`. */
  readonly command: string;
  readonly steps: readonly Step[];
  /** Of the fleet file, behind the steps. */
  readonly edits?: readonly FleetEdit[];
  /** Asked before anything is done, when it destroys something. */
  readonly question?: string;
  /** Told when there is nothing to do. */
  readonly nothing: string;
  /** Told when it is done. */
  readonly done: string;
  /** Commands to type next. */
  readonly next?: readonly string[];
}

/** The flags as those of a client that is not bound to one server. */
export function clientOf(flags: ProcedureFlagValues): ClientFlagValues {
  return { ...flags, server: undefined };
}

/** The fleet and what its servers say of a volume. */
export async function lookAt(
  flags: ProcedureFlagValues,
  io: Io,
  volume: string,
): Promise<{ readonly fleet: Fleet; readonly view: VolumeView }> {
  const fleet = loadFleet(flags, io);
  return { fleet, view: await collectView(fleet, volume, askOptions(flags, io)) };
}

/** When the first thing was asked in a run of a command: from then on --timeout counts, for all of it. */
const beganMs = new WeakMap<Io, number>();

/** Time until --timeout is over, at least 1 ms: what is begun then ends as timed out. */
function leftMs(flags: Pick<ClientFlagValues, "timeout">, io: Io): number | undefined {
  if (!beganMs.has(io)) beganMs.set(io, performance.now());
  return flags.timeout === undefined ? undefined : Math.max(1, beganMs.get(io)! + flags.timeout - performance.now());
}

/** How to ask what there is: within the time that is left, when that is less than usual. */
export function askOptions(flags: Pick<ClientFlagValues, "timeout">, io: Io): AskOptions {
  const timeoutMs = Math.min(askTimeoutMs, leftMs(flags, io) ?? askTimeoutMs);
  return { signal: io.signal, timeoutMs };
}

/** All volumes that these servers know, and what the fleet says of each. */
export async function lookAtAll(
  flags: ProcedureFlagValues,
  fleet: Fleet,
  io: Io,
  servers: readonly FleetServer[],
  excused: readonly string[] = [],
): Promise<VolumeView[]> {
  const volumes = await volumesAt(servers, askOptions(flags, io), excused);
  const views: VolumeView[] = [];
  for (const volume of volumes) views.push(await collectView(fleet, volume, askOptions(flags, io)));
  return views;
}

/** A server of the fleet by name. @throws WalbError `usage`. */
export function serverNamed(fleet: Fleet, name: string, role?: FleetServer["role"]): FleetServer {
  const server = fleet.servers.find((known) => known.name === name);
  if (server !== undefined && (role === undefined || server.role === role)) return server;
  const names = fleet.servers.filter((known) => role === undefined || known.role === role).map((known) => known.name);
  throw new WalbError("usage", {
    what:
      server === undefined
        ? `the fleet has no server ${JSON.stringify(name)}`
        : `${name} is ${withArticle(server.role)} server, this needs a server that is ${role}`,
    hint: `write one of ${names.join(", ") || "its servers"}, or add it to walb.toml: [servers.${name}] role = "${role ?? "archive"}" address = "host:port"`,
  });
}

/**
 * Tells and does the steps. Ctrl-C ends it behind or in a step; the same command goes on from there.
 * @throws WalbError of the step that failed, which says how to go on.
 */
export async function runProcedure(
  flags: ProcedureFlagValues & { readonly yes?: boolean },
  io: Io,
  fleet: Fleet,
  procedure: Procedure,
): Promise<void> {
  const isDryRun = flags["dry-run"];
  const { steps, command } = procedure;
  const edits = pendingEdits(fleet, procedure.edits ?? []);
  const asJson = steps.map((step) => ({ server: step.at.name, step: stepText(step), why: step.why }));
  if (isDryRun) {
    const lines = [
      ...steps.map((step) => `${stepText(step)}\n    because ${step.why}\n`),
      ...edits.map((edit) => `${fleet.file ?? "walb.toml"}: ${editText(edit)}\n`),
      ...(procedure.next ?? []).map((line) => `then: ${line}\n`),
    ];
    const text = lines.length === 0 ? `${procedure.nothing}\n` : lines.join("");
    print(flags, io, { isDryRun, steps: asJson, edits: edits.map(editText), next: procedure.next ?? [] }, text);
    return;
  }
  if (procedure.question !== undefined && steps.length > 0) {
    await confirm({ yes: flags.yes === true }, io, procedure.question);
  }
  for (const [i, step] of steps.entries()) {
    remark(flags, io, `${i + 1}/${steps.length} ${stepText(step)} (${step.why})`);
    try {
      if (io.signal.aborted) throw new WalbError("cancelled", { what: "interrupted" });
      const told = await doStep(step, flags, io);
      if (told !== undefined) remark(flags, io, `    ${told}`);
    } catch (thrown) {
      throw stoppedAt(asWalbError(thrown), step, command, i);
    }
  }
  for (const edit of edits) applyEdit(fleet, edit, flags, io);
  const isNothing = steps.length === 0 && edits.length === 0;
  const next = (procedure.next ?? []).map((line) => `next: ${line}\n`).join("");
  const text = `${isNothing ? procedure.nothing : procedure.done}\n${next}`;
  print(flags, io, { isDryRun, steps: asJson, next: procedure.next ?? [] }, text);
}

/** Does one step, with progress. */
export function doStep(step: Step, flags: ProcedureFlagValues, io: Io): Promise<string | undefined> {
  const client = (): ClientFlagValues => ({ ...clientOf(flags), timeout: leftMs(flags, io) });
  return perform(step, {
    signal: io.signal,
    leftMs: () => leftMs(flags, io),
    async sleep(ms) {
      if (io.signal.aborted) throw new WalbError("cancelled", { what: "interrupted" });
      if (leftMs(flags, io) === 1) throw new WalbError("timed-out", { what: "--timeout is over" });
      await Bun.sleep(ms);
    },
    remark: (text) => remark(flags, io, `    ${text}`),
    runJob: (at, name, params) => runJob(at, name, params, client(), io),
    waitRestorable: (archive, volume, gid) => waitRestorable(archiveClient(archive), volume, gid, client(), io),
  });
}

function stoppedAt(error: WalbError, step: Step, command: string, doneCount: number): WalbError {
  const goOn = `${doneCount === 0 ? "nothing was changed before" : `${doneCount} steps are done`}; go on with the same command: ${command}`;
  return new WalbError(error.code, {
    what: `${stepText(step)}: ${error.what}`,
    where: error.where,
    hint: error.hint === undefined ? goOn : `${error.hint}; ${goOn}`,
    ...(error.cause === undefined ? {} : { cause: error.cause }),
  });
}

/** What the file does not say yet. A fleet without a file has nothing to edit. */
function pendingEdits(fleet: Fleet, edits: readonly FleetEdit[]): FleetEdit[] {
  const { file } = fleet;
  if (file === undefined) return [];
  const text = readFileSync(file, "utf8");
  return edits.filter((edit) => {
    try {
      return editFleet(text, file, edit) !== text;
    } catch {
      return true;
    }
  });
}

/** Writes the file anew; where it cannot be written, somebody is told what to write. */
function applyEdit(fleet: Fleet, edit: FleetEdit, flags: ProcedureFlagValues, io: Io): void {
  const file = fleet.file!;
  const edited = editFleet(readFileSync(file, "utf8"), file, edit);
  try {
    writeFileSync(`${file}.new`, edited);
    renameSync(`${file}.new`, file);
  } catch (cause) {
    throw new WalbError("io", {
      what: "all servers do what they should, but the fleet file could not be written",
      where: { file },
      hint: `write it yourself: ${editText(edit)}`,
      cause,
    });
  }
  remark(flags, io, `${file}: ${editText(edit)}`);
}
