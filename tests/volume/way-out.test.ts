import { describe, expect, test } from "bun:test";
import { archiveWayOut } from "../../src/archive/way-out.ts";
import { proxyWayOut } from "../../src/proxy/way-out.ts";
import { storageWayOut } from "../../src/storage/way-out.ts";

describe("a refusal by state says the way out", () => {
  test("at an archive that has backups already: a hash backup, or deleting them", () => {
    const hint = archiveWayOut("vol0", "a0", "Archived", ["SyncReady"]);
    expect(hint).toContain("walb backup vol0 --hash");
    expect(hint).toContain("walb stop vol0 --server a0; walb reset vol0 --server a0");
  });

  test("at an archive that has no backup yet, or is stopped, or runs", () => {
    expect(archiveWayOut("vol0", "a0", "SyncReady", ["Archived"])).toContain("walb backup vol0");
    expect(archiveWayOut("vol0", "a0", "Stopped", ["Archived"])).toBe("start it: walb start vol0 --server a0");
    expect(archiveWayOut("vol0", "a0", "Archived", ["SyncReady", "Stopped"])).toContain("walb stop vol0 --server a0");
  });

  test("at a proxy", () => {
    expect(proxyWayOut("vol0", "p0", "Started")).toBe("stop it first: walb stop vol0 --server p0");
    expect(proxyWayOut("vol0", "p0", "Stopped")).toBe("start it: walb start vol0 --server p0");
  });

  test("at a storage, with a command for every state", () => {
    for (const state of ["SyncReady", "Stopped", "Target", "Standby", "FullSync", "HashSync", "Reset"] as const) {
      expect(storageWayOut("vol0", "s0", state, ["SyncReady"])).toContain("walb ");
    }
  });
});
