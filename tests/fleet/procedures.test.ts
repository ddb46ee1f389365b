import { expect, test } from "bun:test";
import fc from "fast-check";
import { WalbError } from "../../src/errors.ts";
import type { FleetEdit } from "../../src/fleet/edit.ts";
import { planDesynchronize, planPromote, planSynchronize } from "../../src/fleet/procedures/plan-archives.ts";
import { planForget } from "../../src/fleet/procedures/plan-forget.ts";
import { planReplace } from "../../src/fleet/procedures/plan-replace.ts";
import { planPrepareBackup, planStandby, planSwitch } from "../../src/fleet/procedures/plan-storages.ts";
import { type Step, stepText } from "../../src/fleet/procedures/step.ts";
import { FleetModel } from "../helpers/fleet-model.ts";

/** Every plan, done against a model of the servers: what was begun is gone on with from wherever it was ended. */
interface Command {
  readonly kind: "synchronize" | "desynchronize" | "promote" | "switch" | "replace" | "standby" | "halt" | "forget";
  readonly from: string;
  readonly to: string;
}
interface Plan {
  readonly steps: readonly Step[];
  readonly edits?: readonly FleetEdit[];
}

const names = ["s0", "s1", "p0", "p1", "p2", "a0", "a1", "a2"];
const runs = Number(process.env.WALB_PLAN_RUNS ?? 400);
/** A plan is some tens of calls; one that is begun again for ever is far beyond. */
const callsMax = 400;

function planOf(model: FleetModel, { kind, from, to }: Command): Plan {
  const view = model.view();
  const server = model.server(to);
  switch (kind) {
    case "synchronize":
      return { steps: planSynchronize(view, server) };
    case "desynchronize":
      return { steps: planDesynchronize(view, server) };
    case "promote":
      return {
        steps: planPromote([view], server, { isLost: false }).steps,
        edits: [{ kind: "primary", archive: to }],
      };
    case "switch":
      return { steps: planSwitch(view, server, { isForced: false }) };
    case "replace":
      return planReplace({}, [view], model.server(from), server, { isLost: false });
    case "standby":
      return { steps: planStandby(view, to, false) };
    case "forget":
      return { steps: planForget(view, []) };
    case "halt": {
      const at = view.proxies.find(({ server: proxy }) => proxy.name === to)!;
      const action = { kind: "stop", mode: "graceful" } as const;
      return { steps: at.volume.state === "Started" ? [{ at: server, volume: "vol0", action, why: "a test" }] : [] };
    }
  }
}

/** Does a command; the controller dies behind as many calls as `deaths` says, each time. @returns false when it was refused. */
function run(model: FleetModel, command: Command, deaths: readonly number[], ticks: readonly number[]): boolean {
  model.isForgetting = command.kind === "forget";
  const left = [...deaths];
  let calls = 0;
  for (;;) {
    let plan: Plan;
    try {
      plan = planOf(model, command);
    } catch (error) {
      if (!(error instanceof WalbError) || error.hint === undefined) throw error;
      return false;
    }
    let untilDeath = left.shift() ?? Number.POSITIVE_INFINITY;
    for (const step of plan.steps) {
      for (const call of model.calls(step)) {
        if (untilDeath-- <= 0) break;
        call();
        if (!model.isForgetting && !model.isSafe) throw new Error(`behind ${stepText(step)} something is nowhere`);
        model.tick(ticks[calls % ticks.length]!);
        calls += 1;
        if (calls > callsMax) throw new Error(`${command.kind} does not end`);
      }
      if (untilDeath < 0) break;
    }
    if (untilDeath >= 0) {
      for (const edit of plan.edits ?? []) model.edit(edit);
      return true;
    }
  }
}

const some = (letter: string) => fc.constantFrom(...names.filter((name) => name.startsWith(letter)));
const aimed = (kind: Command["kind"], letter: string): fc.Arbitrary<Command> =>
  some(letter).map((to) => ({ kind, from: "", to }));
const replaced = (letter: string): fc.Arbitrary<Command> =>
  fc
    .tuple(some(letter), some(letter))
    .filter(([from, to]) => from !== to)
    .map(([from, to]) => ({ kind: "replace", from, to }));
const commandOf = fc.oneof(
  ...(["synchronize", "desynchronize", "promote"] as const).map((kind) => aimed(kind, "a")),
  ...(["switch", "standby"] as const).map((kind) => aimed(kind, "s")),
  aimed("halt", "p"),
  ...["s", "p", "a"].map(replaced),
);

const history = fc.array(
  fc.record({
    command: commandOf,
    /** Calls until each death of the controller. */
    deaths: fc.array(fc.nat(6), { maxLength: 12 }),
    ticks: fc.array(fc.nat(3), { minLength: 1, maxLength: 5 }),
  }),
  { minLength: 1, maxLength: 6 },
);

test("whatever was begun and ended anywhere, a plan comes to its end, loses nothing, and then has nothing left to do", () => {
  let done = 0;
  fc.assert(
    fc.property(history, (commands) => {
      const model = new FleetModel(names, 2);
      for (const { command, deaths, ticks } of commands) {
        if (!run(model, command, deaths, ticks) || command.kind === "halt") continue;
        done += 1;
        model.settle();
        let again: readonly Step[];
        try {
          again = planOf(model, command).steps;
        } catch (error) {
          // What became primary, or is gone, cannot be asked for again.
          if (error instanceof WalbError) continue;
          throw error;
        }
        expect(again.map(stepText)).toEqual([]);
      }
    }),
    { numRuns: runs, seed: 7, includeErrorInReport: true },
  );
  expect(done).toBeGreaterThan(runs / 2);
});

test("a plan that was begun and is given up never keeps another one from its end", () => {
  fc.assert(
    fc.property(commandOf, fc.nat(25), fc.array(fc.nat(3), { minLength: 1 }), (first, calls, ticks) => {
      const model = new FleetModel(names, 2);
      let left = calls;
      let plan: Plan;
      try {
        plan = planOf(model, first);
      } catch {
        return;
      }
      for (const step of plan.steps) {
        if (left <= 0) break;
        for (const call of model.calls(step)) {
          if (left-- <= 0) break;
          call();
          model.tick(ticks[Math.max(left, 0) % ticks.length]!);
        }
      }
      // A backup that ends while it is forgotten is refused and asked again, as by a person: no end of a job (3) here.
      run(
        model,
        { kind: "forget", from: "", to: "" },
        [],
        ticks.map((tick) => tick % 3),
      );
      for (const known of [...model.storages.values(), ...model.proxies.values(), ...model.archives.values()])
        expect(known.state).toBe("Clear");
    }),
    { numRuns: runs, seed: 8, includeErrorInReport: true },
  );
});

test("an overflowed or stopped target is prepared for a backup, and the archive and the proxies with it", () => {
  const model = new FleetModel(names, 2);
  model.storages.get("s0")!.state = "Stopped";
  model.proxies.get("p1")!.archives.clear();
  const steps = planPrepareBackup(model.view(), "s0", { asked: "hash" }).map(stepText);
  expect(steps).toEqual(["s0: reset vol0", "p1: send vol0 to a0 at a0", "p2: send vol0 to a0 at a0"]);
});

test("no log is given up for an archive that does not answer or cannot read what it has, nor where another archive has the backups", () => {
  const model = new FleetModel(names, 2);
  const view = model.view();
  const trouble = {
    code: "unreadable",
    message: "the base image cannot be read",
    hint: "chown it",
    atMs: 0,
    sinceMs: 0,
  };
  const archives = view.archives.map(({ server, volume }) => ({ server, volume: { ...volume, trouble } }));
  const compare = () => planPrepareBackup({ ...view, archives }, "s0", { asked: "hash" });
  expect(compare).toThrow(/not given up .* the base image cannot be read/);
  const error = new WalbError("unreachable", { what: "connection refused" });
  const missing = { ...view, archives: [], missing: [{ server: view.primary, error }] };
  for (const asked of ["hash", "full"] as const) {
    const prepare = () => planPrepareBackup(missing, "s0", { asked });
    expect(prepare).toThrow(/not given up .* does not answer: connection refused/);
    model.storages.get("s0")!.state = "SyncReady";
    const ready = { ...missing, storages: model.view().storages };
    expect(planPrepareBackup(ready, "s0", { asked }).map(stepText)).not.toContain("s0: reset vol0");
  }
  model.storages.get("s0")!.state = "Target";
  model.archives.get("a0")!.state = "SyncReady";
  model.archives.get("a1")!.state = "Archived";
  const asked = { asked: "full" } as const;
  const anew = () => planPrepareBackup(model.view(), "s0", { ...asked, isOwnChoice: true });
  expect(anew).toThrow(/no backup of the volume any more, but a1 has/);
  expect(planPrepareBackup(model.view(), "s0", asked).map(stepText).slice(0, 2)).toEqual([
    "s0: stop vol0",
    "s0: reset vol0",
  ]);
  model.archives.get("a1")!.state = "SyncReady";
  expect(anew().map(stepText)).toContain("s0: reset vol0");
});

test("no log is given up for a backup that the archive is going to refuse", () => {
  const model = new FleetModel(names, 2);
  const prepare = (asked: "full" | "hash") => () => planPrepareBackup(model.view(), "s0", { asked });
  expect(prepare("full")).toThrow(/the archive has backups of the volume/);
  model.archives.get("a0")!.state = "Stopped";
  expect(prepare("hash")).toThrow(/takes no backup in state Stopped/);
  model.archives.get("a0")!.state = "SyncReady";
  expect(prepare("hash")).toThrow(/no backup of the volume to compare with/);
  expect(prepare("full")().map(stepText).slice(0, 2)).toEqual(["s0: stop vol0", "s0: reset vol0"]);
});
