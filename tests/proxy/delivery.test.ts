import { describe, expect, test } from "bun:test";
import type { ProxyStatus } from "../../src/control/proxy.ts";
import { call } from "../helpers/backup-path.ts";
import { expectError } from "../helpers/errors.ts";
import { io, ProxyBench, volume } from "./fixture.ts";

const codeOf = (bench: ProxyBench, command: string, params: object): Promise<string> =>
  bench.complete(() =>
    call(bench.proxy, command, { volume, ...params }).then(
      () => "ok",
      (error: { code?: string }) => error.code ?? "?",
    ),
  );

describe("what waits for an archive", () => {
  test("goes in few transfers: a thousand small diffs", async () => {
    const bench = await new ProxyBench(1).open();
    bench.world.network.refuse("p0", "a0");
    await bench.complete(async () => {
      for (let i = 0; i < 1000; i++) await bench.send([io((i * 7) % 4000, 1 + (i % 9), i % 256)]);
    });
    expect((await bench.status()).archives[0]).toMatchObject({ pendingCount: 1000, oldestGid: 0n, latestGid: 1000n });
    bench.world.network.accept("p0", "a0");
    await bench.delivered(400_000);
    expect(bench.archive.applied.length).toBeLessThan(4);
    await bench.expectClean();
    bench.world.close();
  }, 300_000);

  test("is merged up to a count and a size, and never across a snapshot that was asked for", async () => {
    const bench = await new ProxyBench(2, 1, { wdiffSendCountMax: 4 }).open();
    bench.world.network.refuse("p0", "a0");
    await bench.complete(async () => {
      for (let i = 0; i < 12; i++) await bench.send([io(i * 8, 8, i + 1)], { isMergeable: i !== 6 });
    });
    bench.world.network.accept("p0", "a0");
    await bench.delivered(400_000);
    expect(bench.archive.applied.map((diff) => [diff.from.gidB, diff.to.gidB])).toEqual([
      [0n, 4n],
      [4n, 6n],
      [6n, 10n],
      [10n, 12n],
    ]);
    await bench.expectClean();
    bench.world.close();
  });

  test("waits as long as the archive's delay says, not longer, whatever the clock does", async () => {
    const bench = await new ProxyBench(3, 2).open([{}, { delayS: 60 }]);
    await bench.complete(() => bench.send([io(0, 8, 1)]));
    await bench.delivered(5_000, [bench.archive]);
    await bench.world.run(1_000);
    bench.host.jumpWallClock(-3_600_000);
    await bench.world.run(30_000);
    await bench.complete(() => bench.send([io(0, 8, 2)]));
    expect(bench.archives[1]!.applied).toHaveLength(0);
    await bench.delivered(125_000);
    await bench.expectClean();
    bench.world.close();
  });

  test("is delivered once more, harmlessly, when the proxy died between the delivery and its files", async () => {
    for (let operation = 1; operation <= 20; operation++) {
      const bench = await new ProxyBench(operation, 2).open();
      bench.world.network.refuse("p0", "a0");
      bench.world.network.refuse("p0", "a1");
      await bench.complete(async () => {
        for (let i = 0; i < 3; i++) await bench.send([io(i, 4, i + 1)]);
      });
      bench.host.crashAtOperation(operation);
      bench.world.network.accept("p0", "a0");
      bench.world.network.accept("p0", "a1");
      await bench.world.run(60_000);
      await bench.restart();
      await bench.delivered(100_000);
      await bench.complete(() => bench.send([io(9, 4, 9)]));
      await bench.delivered(100_000);
      await bench.world.run(400_000);
      await bench.expectClean();
      bench.world.close();
    }
  });
});

describe("a proxy that starts", () => {
  test("removes what was begun, adopts what is complete, leaves what it cannot read, and tells what is missing", async () => {
    const bench = await new ProxyBench(4).open();
    bench.world.network.refuse("p0", "a0");
    await bench.complete(async () => {
      for (let i = 0; i < 3; i++) await bench.send([io(i, 4, i + 1)]);
    });
    const [first, second] = bench.files();
    const { disk } = bench.host.platform;
    const directory = first!.slice(0, first!.lastIndexOf("/"));
    await bench.complete(async () => {
      // A name of its own: complete, without a row.
      await disk.link(second!, `${directory}/20260101000000-7-8.wdiff`.replace("-7-8.", "-M--7-8."));
      await disk.writeSmall(`${directory}/receiving-00.tmp`, new Uint8Array(10));
      await disk.writeSmall(`${directory}/nonsense.wdiff`, new Uint8Array(10));
      await disk.makeDirectory("/proxy/vol0/diffs/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
      await disk.remove(first!);
    });
    bench.host.kill();
    bench.host.restart();
    await bench.complete(() => bench.openProxy());
    const status = await bench.status();
    expect(status.state).toBe("Started");
    expect(status.trouble).toMatchObject({ code: "damaged" });
    expect(status.trouble!.message).toContain(first!.slice(first!.lastIndexOf("/") + 1));
    const names = bench.files().map((file) => file.slice(file.lastIndexOf("/") + 1));
    expect(names).toContain("nonsense.wdiff");
    expect(names.some((name) => name.startsWith("receiving-"))).toBe(false);
    expect(names.some((name) => name.startsWith("aaaa"))).toBe(false);
    bench.world.close();
  });

  test("starts the healthy volumes when one is broken, and says which", async () => {
    const bench = await new ProxyBench(5).open();
    await bench.complete(() =>
      call(bench.proxy, "add-archive", { volume: "bad", archiveName: "a0", address: "a0:10200" }),
    );
    bench.host.kill();
    bench.host.storage.corrupt("/proxy/bad/volume.db", 0, 100);
    bench.host.restart();
    await bench.complete(() => bench.openProxy());
    const { volumes } = await bench.complete(() =>
      call<{ volumes: { volume: string; state: string }[] }>(bench.proxy, "status"),
    );
    expect(volumes.map(({ volume: name, state }) => `${name} ${state}`)).toEqual(["vol0 Started", "bad Broken"]);
    const bad = await bench.complete(() =>
      call<ProxyStatus>(bench.proxy, "status", { volume: "bad" }).then((status) => status.volumes[0]!),
    );
    expect(bad.trouble!.hint).toContain("diffs beside it are taken over");
    await expectError(
      bench.complete(() => call(bench.proxy, "add-archive", { volume: "bad", archiveName: "a0", address: "a0:10200" })),
      "not a SQLite database",
    );
    await bench.complete(() => bench.send([io(0, 8, 1)]));
    await bench.delivered();
    bench.world.close();
  });

  test("tells that a volume lost its database while diffs wait, and sends them when it is made anew", async () => {
    const bench = await new ProxyBench(9).open();
    bench.world.network.refuse("p0", "a0");
    await bench.complete(async () => {
      for (let i = 0; i < 5; i++) await bench.send([io(i * 8, 8, i + 1)]);
    });
    await bench.complete(() => bench.host.platform.disk.remove("/proxy/vol0/volume.db"));
    await bench.restart();
    const lost = await bench.status();
    expect(lost).toMatchObject({ state: "Broken", trouble: { code: "damaged" } });
    expect(lost.trouble!.message).toContain("5 diffs");
    expect(lost.trouble!.hint).toContain("walb init vol0");
    bench.world.network.accept("p0", "a0");
    await bench.complete(() => call(bench.proxy, "add-archive", { volume, archiveName: "a0", address: "a0:10200" }));
    expect((await bench.status()).archives[0]).toMatchObject({ pendingCount: 5, oldestGid: 0n });
    await bench.complete(() => call(bench.proxy, "start", { volume }));
    // Sent by the storage after the loss: it is worth nothing without those before it.
    await bench.complete(() => bench.send([io(100, 8, 99)]));
    await bench.delivered();
    await bench.expectClean();
    bench.world.close();
  });

  test("takes over diffs for the first archive, also when it died after the volume was made anew", async () => {
    const bench = await new ProxyBench(10).open();
    bench.world.network.refuse("p0", "a0");
    await bench.complete(async () => {
      for (let i = 0; i < 3; i++) await bench.send([io(i * 8, 8, i + 1)]);
    });
    await bench.complete(() => bench.host.platform.disk.remove("/proxy/vol0/volume.db"));
    await bench.restart();
    for (let operation = 1; operation <= 12; operation++) {
      bench.host.crashAtOperation(operation);
      await bench.world
        .complete(() => call(bench.proxy, "add-archive", { volume, archiveName: "a0", address: "a0:10200" }))
        .catch(() => undefined);
      await bench.restart();
    }
    bench.world.network.accept("p0", "a0");
    await bench.complete(() => call(bench.proxy, "add-archive", { volume, archiveName: "a0", address: "a0:10200" }));
    await bench.complete(() => call(bench.proxy, "start", { volume }));
    await bench.delivered();
    await bench.expectClean();
    bench.world.close();
  });

  test("leaves volumes alone that were stopped, and all with --stopped", async () => {
    const bench = await new ProxyBench(6, 1, { isStopped: true }).open();
    await bench.restart();
    expect((await bench.status()).state).toBe("Stopped");
    bench.world.close();
  });
});

describe("stopping a volume of a proxy", () => {
  test("empty waits until everything is delivered, however long, and takes nothing new meanwhile", async () => {
    const bench = await new ProxyBench(7, 1).open([{ delayS: 3600 }]);
    bench.world.network.refuse("p0", "a0");
    await bench.complete(() => bench.send([io(0, 8, 1)]));
    let isStopped = false;
    bench.world.after(
      0,
      () => void call(bench.proxy, "stop", { volume, mode: "empty" }).then(() => (isStopped = true)),
    );
    await bench.world.run(300_000);
    expect(await bench.status()).toMatchObject({ state: "WaitForEmpty", stopState: "waiting-for-empty" });
    expect(isStopped).toBe(false);
    await expectError(
      bench.complete(() => bench.send([io(0, 8, 2)])),
      "stopping",
    );
    expect((await bench.status()).waiting).toMatchObject({
      step: "stop when empty",
      why: expect.stringContaining("a0"),
    });
    bench.world.network.accept("p0", "a0");
    await bench.world.runUntil(() => isStopped, { limitMs: 310_000 });
    await bench.delivered();
    expect((await bench.status()).state).toBe("Stopped");
    bench.world.close();
  });

  test("when empty is taken back by a start, and the volume goes on as before", async () => {
    const bench = await new ProxyBench(13).open();
    bench.world.network.refuse("p0", "a0");
    await bench.complete(() => bench.send([io(0, 8, 1)]));
    let outcome = "";
    bench.world.after(0, () => {
      call(bench.proxy, "stop", { volume, mode: "empty" }).then(
        () => (outcome = "ok"),
        (error: { code: string }) => (outcome = error.code),
      );
    });
    await bench.world.run(100_000);
    expect(await codeOf(bench, "start", {})).toBe("ok");
    await bench.world.runUntil(() => outcome !== "", { limitMs: 1_000 });
    expect(outcome).toBe("cancelled");
    expect(await bench.status()).toMatchObject({ state: "Started", stopState: "not-stopping" });
    await bench.complete(() => bench.send([io(0, 8, 2)]));
    bench.world.network.accept("p0", "a0");
    await bench.complete(() => call(bench.proxy, "kick", { volume }));
    await bench.delivered();
    await bench.expectClean();
    await bench.restart();
    expect((await bench.status()).state).toBe("Started");
    bench.world.close();
  });

  test("by force or gracefully overtakes a stop that waits for an archive that never takes anything", async () => {
    for (const mode of ["graceful", "force"] as const) {
      const bench = await new ProxyBench(8).open();
      bench.world.network.refuse("p0", "a0");
      await bench.complete(() => bench.send([io(0, 8, 1)]));
      let outcome = "";
      bench.world.after(0, () => {
        call(bench.proxy, "stop", { volume, mode: "empty" }).then(
          () => (outcome = "ok"),
          (error: { code: string }) => (outcome = error.code),
        );
      });
      await bench.world.run(20_000);
      expect(await codeOf(bench, "stop", { mode: "empty" })).toBe("busy");
      expect(await codeOf(bench, "stop", { mode })).toBe("ok");
      expect(outcome).toBe("cancelled");
      expect(await bench.status()).toMatchObject({ state: "Stopped", stopState: "not-stopping" });
      bench.world.network.accept("p0", "a0");
      await bench.complete(() => call(bench.proxy, "start", { volume }));
      await bench.delivered();
      await bench.expectClean();
      bench.world.close();
    }
  });

  test("gracefully lets a transfer end, by force breaks it off", async () => {
    for (const mode of ["graceful", "force"] as const) {
      const bench = await new ProxyBench(9).open();
      bench.archive.delayMs = 9_000;
      await bench.complete(() => bench.send([io(0, 8, 1)]));
      await bench.world.run(500);
      expect((await bench.status()).archives[0]!.isSending).toBe(true);
      const startMs = bench.world.nowMs();
      expect(await codeOf(bench, "stop", { mode })).toBe("ok");
      const tookMs = bench.world.nowMs() - startMs;
      if (mode === "graceful") expect(tookMs).toBeGreaterThan(5_000);
      else expect(tookMs).toBeLessThan(100);
      expect((await bench.status()).archives[0]!.pendingCount).toBe(mode === "graceful" ? 0 : 1);
      bench.world.close();
    }
  });
});

describe("the commands of a proxy", () => {
  test("are refused in states they do not belong to", async () => {
    const bench = await new ProxyBench(10).open();
    const archive = { archiveName: "a1", address: "a1:10200" };
    expect(await codeOf(bench, "add-archive", archive)).toBe("state");
    expect(await codeOf(bench, "remove-archive", { archiveName: "a0" })).toBe("state");
    expect(await codeOf(bench, "clear", {})).toBe("state");
    expect(await codeOf(bench, "start", {})).toBe("state");
    expect(await codeOf(bench, "stop", { mode: "graceful" })).toBe("ok");
    expect(await codeOf(bench, "stop", { mode: "graceful" })).toBe("state");
    expect(await codeOf(bench, "remove-archive", { archiveName: "a1" })).toBe("not-found");
    expect(await codeOf(bench, "add-archive", archive)).toBe("ok");
    expect(await codeOf(bench, "remove-archive", { archiveName: "a1" })).toBe("ok");
    expect(await codeOf(bench, "kick", {})).toBe("state");
    expect(await codeOf(bench, "start", {})).toBe("ok");
    expect(await codeOf(bench, "kick", {})).toBe("ok");
    expect(await codeOf(bench, "kick", { archiveName: "a9" })).toBe("not-found");
    expect(await codeOf(bench, "resize", { sizeLb: 8192 })).toBe("state");
    bench.world.close();
  });

  test("resize sets what archives are told, durably, and logs of a larger volume raise it", async () => {
    const bench = await new ProxyBench(14).open();
    expect(await codeOf(bench, "stop", { mode: "graceful" })).toBe("ok");
    expect(await codeOf(bench, "resize", { sizeLb: 2048 })).toBe("ok");
    await bench.restart();
    expect((await bench.status()).sizeLb).toBe(2048);
    expect(await codeOf(bench, "start", {})).toBe("ok");
    await bench.complete(() => bench.send([io(0, 8, 1)]));
    await bench.delivered();
    expect((await bench.status()).sizeLb).toBe(4096);
    expect(bench.archive.asked.at(-1)!.request.sizeLb).toBe(4096);
    bench.world.close();
  });

  test("remove an archive with what only it waits for, and clear all of a volume, durably", async () => {
    const bench = await new ProxyBench(11, 2).open();
    bench.world.network.refuse("p0", "a1");
    await bench.complete(() => bench.send([io(0, 8, 1)]));
    await bench.delivered(5_000, [bench.archive]);
    await bench.world.run(1_000);
    expect(bench.files()).toHaveLength(1);
    await bench.complete(() => call(bench.proxy, "stop", { volume, mode: "graceful" }));
    await bench.complete(() => call(bench.proxy, "remove-archive", { volume, archiveName: "a1" }));
    expect(bench.files()).toEqual([]);
    await bench.complete(() => call(bench.proxy, "clear", { volume }));
    expect((await bench.status()).state).toBe("Clear");
    await bench.restart();
    expect((await bench.status()).state).toBe("Clear");
    expect(bench.host.storage.paths().filter((path) => path.includes("vol0"))).toEqual([]);
    // And it can be made again.
    await bench.complete(() => call(bench.proxy, "add-archive", { volume, archiveName: "a0", address: "a0:10200" }));
    expect((await bench.status()).state).toBe("Stopped");
    bench.world.close();
  });

  test("kick tries again at once what waits for a long back-off", async () => {
    const bench = await new ProxyBench(12).open();
    bench.world.network.refuse("p0", "a0");
    await bench.complete(() => bench.send([io(0, 8, 1)]));
    await bench.world.run(2_000_000);
    bench.world.network.accept("p0", "a0");
    expect(await codeOf(bench, "kick", { archiveName: "a0" })).toBe("ok");
    await bench.delivered(1_500);
    bench.world.close();
  });

  test("waits no longer than ten seconds behind a backup that an archive was busy with, however long that took", async () => {
    const bench = await new ProxyBench(13).open();
    bench.archive.state = "HashSync";
    await bench.complete(() => bench.send([io(0, 8, 1)]));
    await bench.world.run(2_000_000);
    expect(bench.archive.applied).toHaveLength(0);
    bench.archive.state = "Archived";
    await bench.delivered(11_000);
    bench.world.close();
  });
});
