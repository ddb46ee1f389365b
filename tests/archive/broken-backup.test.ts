import { expect, test } from "bun:test";
import { openArchive } from "../../src/archive/server.ts";
import { createLogger } from "../../src/control/logger.ts";
import { createSimWorld } from "../../src/sim/sim.ts";
import { mib } from "../../src/units.ts";
import { run, statusOf } from "./harness.ts";
import { sendImage } from "./peers.ts";

test("a full backup that ends for want of space is a warning with the reason, and the volume's trouble", async () => {
  const world = createSimWorld(7);
  const archive = world.host("archive", { memoryBytes: 320 * mib });
  const client = world.host("client", { memoryBytes: 64 * mib });
  const lines: { level: string; message: string; error?: { code: string; what: string } }[] = [];
  const log = createLogger({
    format: "json",
    level: "info",
    clock: archive.platform.clock,
    write: (line) => lines.push(JSON.parse(line)),
  });
  const listen = { kind: "tcp", host: "", port: 10200 } as const;
  const options = { listen, dataDir: "/data", nodeId: "a0", security: "loopback" } as const;
  const role = await world.complete(() => openArchive(archive.platform, options, log));
  await world.complete(() => run(role.control, "init", { volume: "vol0" }));
  archive.storage.inject({ kinds: ["write"], pathIncludes: "base.img", effect: "no-space", times: 1000 });
  const image = crypto.getRandomValues(new Uint8Array(32 * 1024));
  const peer = { platform: client.platform, address: { kind: "tcp", host: "archive", port: 10200 } as const };
  const failure = await world.complete(() => sendImage(peer, image).then(String, (error: Error) => error.message));
  // The protocol has no words for it once the backup was accepted.
  expect(failure).not.toContain("space");
  await world.run(1_000);
  const told = lines.filter((line) => line.error?.code === "no-space");
  expect(told.map((line) => line.level)).toEqual(["warn", "warn"]);
  expect(told.map((line) => line.message)).toEqual([
    "a full backup was not received completely",
    "a conversation ended with an error",
  ]);
  const { trouble } = await world.complete(() => statusOf(role.control));
  expect(trouble).toMatchObject({ code: "no-space" });
  await world.complete(() => role.close("graceful"));
  world.close();
});
