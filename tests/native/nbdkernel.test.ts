import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { WalbError } from "../../src/errors.ts";
import {
  closeNbdConnections,
  connectNbdDevice,
  livingNbdConnections,
  openNbdConnections,
} from "../../src/native/nbdkernel.ts";
import { DeviceProcess } from "../helpers/device-process.ts";

const failure = (work: () => unknown): WalbError => {
  try {
    work();
  } catch (error) {
    if (error instanceof WalbError) return error;
    throw error;
  }
  throw new Error("it did not fail");
};

describe("connections for the kernel's NBD driver", () => {
  let device: DeviceProcess;
  beforeEach(async () => {
    device = new DeviceProcess();
    await device.start();
    await device.create(8 << 20, 4 << 20);
  });
  afterEach(() => device.close());
  const peer = (exportName: string) => ({ host: device.socket, port: "", exportName });

  test("are negotiated with size and flags, and are over when the server is", async () => {
    const connections = openNbdConnections(peer("vol"), 4);
    expect(connections.fds).toHaveLength(4);
    expect(connections.sizeBytes).toBe(8 << 20);
    // Flags, flush, FUA, trim, zeroes, many connections.
    expect(connections.flags & 0x16d).toBe(0x16d);
    expect(livingNbdConnections(connections).fds).toHaveLength(4);
    await device.end("SIGKILL");
    expect(livingNbdConnections(connections).fds).toHaveLength(0);
    await device.start();
    const again = openNbdConnections(peer("vol"), 1);
    expect(livingNbdConnections(again).fds).toHaveLength(1);
    closeNbdConnections(again);
  }, 300_000);

  test("fail with the reason: no such export, no server", () => {
    expect(failure(() => openNbdConnections(peer("nobody"), 2))).toMatchObject({
      code: "unreachable",
      where: { volume: "nobody" },
    });
    expect(failure(() => openNbdConnections(peer("nobody"), 2)).message).toContain("no such export");
    const elsewhere = { host: "/nowhere", port: "", exportName: "vol" };
    expect(failure(() => openNbdConnections(elsewhere, 1)).message).toContain("No such file");
    const refusing = { host: "127.0.0.1", port: "1", exportName: "vol" };
    expect(failure(() => openNbdConnections(refusing, 1)).message).toMatch(/refused/i);
  }, 300_000);

  test.skipIf(existsSync("/sys/block/nbd0"))(
    "a kernel without the driver is told, with what to do",
    () => {
      const connections = openNbdConnections(peer("vol"), 1);
      const patience = { requestTimeoutS: 30, deadTimeoutS: 600 };
      const error = failure(() => connectNbdDevice(0, connections, patience, "walb:vol"));
      closeNbdConnections(connections);
      expect(error.code).toBe("unsupported");
      expect(error.hint).toContain("modprobe nbd");
    },
    30_000,
  );
});
