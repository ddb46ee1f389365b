import { expect, test } from "bun:test";
import { Limiter } from "../../src/volume/limiter.ts";

test("a limiter runs so many at once, the others in the order they came, and hands places on after failures", async () => {
  const limiter = new Limiter(2);
  const order: string[] = [];
  const gates = new Map<string, { resolve: () => void; reject: (error: Error) => void }>();
  const start = (name: string): Promise<void> =>
    limiter.run(async () => {
      order.push(name);
      await new Promise<void>((resolve, reject) => gates.set(name, { resolve, reject }));
    });
  const runs = ["a", "b", "c", "d", "e"].map(start);
  await Bun.sleep(0);
  expect(order).toEqual(["a", "b"]);
  expect(limiter.waitingCount).toBe(3);
  gates.get("b")!.reject(new Error("failed"));
  await expect(runs[1]!).rejects.toThrow("failed");
  gates.get("a")!.resolve();
  await Bun.sleep(0);
  expect(order).toEqual(["a", "b", "c", "d"]);
  for (const name of ["c", "d"]) gates.get(name)!.resolve();
  await Bun.sleep(0);
  gates.get("e")!.resolve();
  await Promise.allSettled(runs);
  expect(order).toEqual(["a", "b", "c", "d", "e"]);
});

test("who gives up waiting leaves the line, and the place goes to the next", async () => {
  const limiter = new Limiter(1);
  const leave = await limiter.enter();
  const abort = new AbortController();
  const impatient = limiter.enter(abort.signal);
  const patient = limiter.enter();
  abort.abort(new Error("enough"));
  await expect(impatient).rejects.toThrow("enough");
  leave();
  // Twice is once.
  leave();
  const second = await patient;
  expect(limiter.waitingCount).toBe(0);
  const third = limiter.enter();
  expect(limiter.waitingCount).toBe(1);
  second();
  (await third)();
  await expect(limiter.run(async () => 1, abort.signal)).rejects.toThrow("enough");
  expect(await limiter.run(async () => 7)).toBe(7);
});
