import { expect, test } from "bun:test";
import { WalbError } from "../../src/errors.ts";
import { fuzz } from "../helpers/fuzz.ts";
import { createMemoryIo } from "../helpers/memory-disk.ts";

const share = 1e-9;

test("the fuzzer notices what must not be: other errors, nameless refusals, leaks, large memory", async () => {
  const io = createMemoryIo();
  const refuse = (where: object) => () => {
    throw new WalbError("damaged", { what: "bad", where });
  };
  expect(await fuzz({ share, attempt: refuse({ file: "/f", field: "x" }) })).toEqual({
    rounds: 1,
    refused: 1,
    taken: 0,
  });
  await expect(fuzz({ share, attempt: refuse({ field: "x" }) })).rejects.toThrow("no file");
  await expect(fuzz({ share, attempt: refuse({ file: "/f" }) })).rejects.toThrow("neither field nor offset");
  const crash = (): void => {
    throw new RangeError("out of bounds");
  };
  await expect(fuzz({ share, attempt: crash })).rejects.toThrow("not a WalbError");
  const internal = (): void => {
    throw new WalbError("internal", { what: "assertion", where: { file: "/f", field: "x" } });
  };
  await expect(fuzz({ share, attempt: internal })).rejects.toThrow("code internal");
  const large = (): void => {
    expect(new Float64Array(9 * 1024 * 1024).length).toBe(9 * 1024 * 1024);
  };
  await expect(fuzz({ share, attempt: large })).rejects.toThrow("an array of 75497472 bytes");
  const leased = async (): Promise<void> => {
    const leases = [await io.memory.lease(2 ** 26), await io.memory.lease(2 ** 12)];
    for (const lease of leases) lease.release();
  };
  await expect(fuzz({ share, attempt: leased, pools: [io.memory] })).rejects.toThrow("were leased at once");
  const leak = async (): Promise<void> => {
    await io.readPool.lease(1);
  };
  await expect(fuzz({ share, attempt: leak, pools: [io.readPool] })).rejects.toThrow("not given back");
  // What was watched is as before.
  expect(new Uint8Array(3)).toBeInstanceOf(Uint8Array);
  expect(Object.prototype.toString.call(new Uint8Array(3))).toBe("[object Uint8Array]");
});
