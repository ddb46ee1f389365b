import { describe, expect, test } from "bun:test";
import { WalbError } from "../../src/errors.ts";
import { VolumeMachine } from "../../src/volume/machine.ts";

type State = "Stopped" | "Start" | "Started" | "WlogRecv";
const machine = () => new VolumeMachine<State, "send" | "merge">("vol0", "Stopped", () => 1000);

describe("the state machine of a volume", () => {
  test("shows the temporary state while a transition runs and the new one after the commit", () => {
    const volume = machine();
    const transition = volume.begin(["Stopped"], "Start", "start");
    expect(volume.state).toBe("Start");
    expect(volume.steadyState).toBe("Stopped");
    transition.commit("Started");
    expect(volume.state).toBe("Started");
    transition.rollback();
    expect(volume.state).toBe("Started");
  });

  test("goes back to where it was when a transition is rolled back", () => {
    const volume = machine();
    volume.begin(["Stopped"], "Start", "start").rollback();
    expect(volume.state).toBe("Stopped");
    expect(volume.isInTransition).toBe(false);
  });

  test("refuses a second transition and a wrong state, naming volume and states", () => {
    const volume = machine();
    expect(() => volume.begin(["Started"], "WlogRecv", "receive a log")).toThrow(
      "volume vol0: cannot receive a log in state Stopped; it needs Started",
    );
    volume.begin(["Stopped"], "Start", "start");
    expect(() => volume.begin(["Start"], "WlogRecv", "receive")).toThrow(WalbError);
  });

  test("tells the role's way out with a refusal", () => {
    const wayOut = (state: State, needed: readonly State[]) => `from ${state} to ${needed.join()}`;
    const volume = new VolumeMachine<State, "send">("vol0", "Stopped", () => 1000, wayOut);
    const refuse = () => volume.require(["Started", "WlogRecv"], "stop");
    expect(refuse).toThrow(expect.objectContaining({ code: "state", hint: "from Stopped to Started,WlogRecv" }));
  });

  test("refuses work while an action that excludes it runs", () => {
    const volume = machine();
    const end = volume.beginAction("merge");
    expect(() => volume.requireIdle(["merge"], "apply")).toThrow("cannot apply while merge is running");
    end();
    end();
    volume.requireIdle(["merge"], "apply");
    expect(volume.running()).toBe(0);
    expect(volume.lastBeganMs("merge")).toBe(1000);
  });

  test("wakes waiters on every change and when their signal aborts", async () => {
    const volume = machine();
    const end = volume.beginAction("send");
    const idle = volume.until(() => volume.running() === 0);
    end();
    await idle;
    const abort = new AbortController();
    const never = volume.until(() => false, abort.signal);
    abort.abort();
    await expect(never).rejects.toThrow();
  });
});
