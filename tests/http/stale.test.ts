import { expect, test } from "bun:test";
import { existsSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Control } from "../../src/control/control.ts";
import { silentLogger } from "../../src/control/logger.ts";
import { createHttpFactory } from "../../src/http/server.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";

test("a new HTTP service removes what a killed process left behind, and nothing of a living one", async () => {
  const child = Bun.spawn(["true"]);
  await child.exited;
  const dead = join(tmpdir(), `walb-http-${child.pid}-gone`);
  const alive = join(tmpdir(), `walb-http-${process.pid}-alive`);
  mkdirSync(dead);
  mkdirSync(alive);
  const platform = createPlatform();
  const service = createHttpFactory(platform.net)({} as Control, silentLogger);
  expect(existsSync(dead)).toBe(false);
  expect(existsSync(alive)).toBe(true);
  await service.close();
  await closePlatform(platform);
  Bun.spawnSync(["rmdir", alive]);
});

test("an unusable TMPDIR does not keep a daemon from serving HTTP", async () => {
  const before = process.env.TMPDIR;
  process.env.TMPDIR = "/nonexistent/walb";
  const platform = createPlatform();
  try {
    await createHttpFactory(platform.net)({} as Control, silentLogger).close();
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
    await closePlatform(platform);
  }
});
