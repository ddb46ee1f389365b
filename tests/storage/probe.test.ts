import { expect, test } from "bun:test";
import { createLogger } from "../../src/control/logger.ts";
import { createSimWorld } from "../../src/sim/sim.ts";
import { openStorage } from "../../src/storage/server.ts";

const tcp = (host: string, port: number) => ({ kind: "tcp", host, port }) as const;

test("a storage whose archive and proxy do not answer says so once after its start, and runs", async () => {
  const world = createSimWorld(1);
  const host = world.host("s0", { memoryBytes: 256 * 1024 * 1024 });
  const lines: string[] = [];
  const write = (line: string): void => void lines.push(line);
  const log = createLogger({ format: "human", level: "warn", clock: host.platform.clock, write });
  const storage = await world.complete(() =>
    openStorage(
      host.platform,
      {
        listen: tcp("", 10000),
        dataDir: "/storage",
        nodeId: "s0",
        security: "insecure",
        archive: tcp("nohost", 1),
        proxies: [tcp("noproxy", 2)],
      },
      log,
    ),
  );
  await world.run(120_000);
  expect(lines.filter((line) => line.includes("the archive does not answer"))).toHaveLength(1);
  expect(lines.find((line) => line.includes("the archive does not answer"))).toContain("nohost:1");
  expect(lines.filter((line) => line.includes("a proxy does not answer"))).toHaveLength(1);
  await world.complete(() => storage.close("graceful"));
  world.close();
});
