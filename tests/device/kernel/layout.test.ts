import { describe, expect, test } from "bun:test";
import {
  anyMinor,
  checkStartParam,
  decodeCtl,
  decodeDiskData,
  decodeStartParam,
  decodeVersion,
  defaultStartParam,
  driverCommands,
  driverRequests,
  encodeCtl,
  encodeMinorRange,
  encodeStartParam,
} from "../../../src/device/kernel/layout.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("the driver's structures", () => {
  test("requests have the documented numbers", () => {
    expect(driverRequests).toEqual({ version: 0x8004fe00, control: 0xc078fe01, wdev: 0xc078fe02 });
  });

  test("commands have the documented codes", () => {
    expect(driverCommands).toEqual({
      START_DEV: 1,
      STOP_DEV: 2,
      GET_MAJOR: 3,
      LIST_DEV: 4,
      NUM_OF_DEV: 5,
      GET_OLDEST_LSID: 6,
      SET_OLDEST_LSID: 7,
      GET_CHECKPOINT_INTERVAL: 16,
      TAKE_CHECKPOINT: 17,
      SET_CHECKPOINT_INTERVAL: 18,
      GET_WRITTEN_LSID: 19,
      GET_PERMANENT_LSID: 20,
      GET_COMPLETED_LSID: 21,
      GET_LOG_USAGE: 22,
      GET_LOG_CAPACITY: 23,
      IS_FLUSH_CAPABLE: 24,
      RESIZE: 25,
      CLEAR_LOG: 26,
      IS_LOG_OVERFLOW: 27,
      FREEZE: 28,
      MELT: 29,
      IS_FROZEN: 30,
    });
  });

  test("the control structure is the documented 120 bytes", () => {
    const { argument, buffers } = encodeCtl({
      command: "START_DEV",
      valInt: -2,
      valU64: 0x1234_5678_9abc,
      valU32: 0xdeadbeef,
      u2k: { wmajor: 1, wminor: anyMinor, lmajor: 8, lminor: 0x11, dmajor: 253, dminor: 0x22 },
      toKernel: new Uint8Array(64),
      fromKernelBytes: 40,
    });
    expect(hex(argument)).toBe(
      [
        "01000000", // command
        "feffffff", // val_int
        "bc9a785634120000", // val_u64
        "efbeadde", // val_u32
        "00000000", // error
        "01000000ffffffff0800000011000000fd00000022000000", // u2k: wrapper, log, data
        "4000000000000000", // buf_size
        "0000000000000000", // buf, set when it is known
        "0000000000000000", // kbuf
        "000000000000000000000000000000000000000000000000", // k2u
        "2800000000000000",
        "0000000000000000",
        "0000000000000000",
      ].join(""),
    );
    expect(buffers.map(({ pointerOffset, bytes }) => [pointerOffset, bytes.length])).toEqual([
      [56, 64],
      [104, 40],
    ]);
  });

  test("what the driver leaves is read from the documented places", () => {
    const argument = new Uint8Array(120);
    const view = new DataView(argument.buffer);
    view.setInt32(4, -7, true);
    view.setBigUint64(8, 0x1f_ffff_ffff_ffffn, true);
    view.setUint32(16, 5000, true);
    view.setInt32(20, -6, true);
    view.setUint32(72, 250, true);
    view.setUint32(76, 4, true);
    const output = decodeCtl(argument);
    expect(output).toMatchObject({ valInt: -7, valU32: 5000, error: -6, wmajor: 250, wminor: 4 });
    expect(output.valU64).toBe(Number.MAX_SAFE_INTEGER);
    view.setBigUint64(8, 2n ** 64n - 1n, true);
    expect(() => decodeCtl(argument).valU64).toThrow("beyond what can be handled");
  });

  test("a buffer above a page, which the driver frees wrongly, is never passed", () => {
    expect(() => encodeCtl({ command: "LIST_DEV", fromKernelBytes: 4097 })).toThrow("4096");
    expect(() => encodeCtl({ command: "START_DEV", toKernel: new Uint8Array(8192) })).toThrow("4096");
  });

  test("start parameters are the documented 64 bytes, with the original's defaults", () => {
    const bytes = encodeStartParam({ ...defaultStartParam, name: "vol0" });
    expect(hex(bytes)).toBe(
      `766f6c30${"00".repeat(28)}2000000010000000640000002000000064000000100000008000000000040000`,
    );
    expect(decodeStartParam(bytes)).toEqual({ ...defaultStartParam, name: "vol0" });
  });

  test("a list entry is 40 bytes, the range two minors, the version three bytes", () => {
    const bytes = new Uint8Array(80);
    bytes.set(new TextEncoder().encode("walb/vol0"), 40);
    const view = new DataView(bytes.buffer);
    view.setUint32(72, 250, true);
    view.setUint32(76, 6, true);
    expect(decodeDiskData(bytes, 2)[1]).toEqual({ diskName: "walb/vol0", major: 250, minor: 6 });
    expect(() => decodeDiskData(bytes, 3)).toThrow("lists 3 devices in 80 bytes");
    expect(() => decodeDiskData(bytes, -1)).toThrow("lists -1 devices");
    expect(hex(encodeMinorRange(2, 0x10000))).toBe("0200000000000100");
    expect(decodeVersion(Uint8Array.of(1, 5, 1, 0))).toBe("1.5.1");
  });
});

describe("start parameters the driver would refuse without a reason are refused with one", () => {
  const cases: readonly [string, Partial<typeof defaultStartParam>][] = [
    ["max_pending_mb", { maxPendingMb: 1 }],
    ["max_pending_mb", { maxPendingMb: 16385 }],
    ["min_pending_mb", { minPendingMb: 0 }],
    ["min_pending_mb", { minPendingMb: 32 }],
    ["queue_stop_timeout_ms", { queueStopTimeoutMs: 0 }],
    ["log_flush_interval_mb", { logFlushIntervalMb: 17 }],
    ["bulk", { packBulk: 0 }],
    ["bulk", { ioBulk: 0 }],
    ["name", { name: "a-name-of-twenty-six-bytes" }],
    ["name", { name: "a/b" }],
  ];
  for (const [field, change] of cases) {
    test(`${field}: ${JSON.stringify(change)}`, () => {
      expect(() => checkStartParam({ ...defaultStartParam, ...change })).toThrow(
        expect.objectContaining({ code: "bad-parameter", where: { field } }),
      );
    });
  }

  test("the limits themselves are accepted", () => {
    checkStartParam({ ...defaultStartParam, name: "a-name-of-twenty-five-byt", maxPendingMb: 16384, maxLogpackKb: 0 });
    checkStartParam({ ...defaultStartParam, maxPendingMb: 2, minPendingMb: 1, logFlushIntervalMb: 1 });
  });
});
