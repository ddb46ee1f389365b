import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { WalbError } from "../../src/errors.ts";
import { QueueFile } from "../../src/legacy/queue.ts";
import { decodeQueue, encodeQueue } from "../../src/legacy/storage.ts";
import { SeededRandom } from "../../src/log/generate-random.ts";
import { type LsidGid, putLsidGid, takeLsidGid } from "../../src/wire/meta.ts";
import { decodeAll, encoded } from "../../src/wire/serializer.ts";
import { vectorBytes, vectorNames, vectorsDirectory } from "../helpers/vectors.ts";

const bytesOf = (record: LsidGid): Uint8Array => encoded((encoder) => putLsidGid(encoder, record));
const at = (lsid: number, gid: number, timestampS = 1_400_000_000, isMergeable = false): LsidGid => ({
  isMergeable,
  timestampS,
  lsid,
  gid: BigInt(gid),
});

/** Offsets of the front record and of the end stub, from the header. */
function offsetsOf(queue: QueueFile): [number, number] {
  const view = new DataView(queue.bytes().buffer);
  return [Number(view.getBigUint64(12, true)), Number(view.getBigUint64(20, true))];
}

describe("a queue file", () => {
  test("is made and grown as published, byte for byte", () => {
    const queue = QueueFile.create(0x1234_5678);
    expect(queue.bytes().subarray(0, 28).toHex()).toBe("a7839d11e1252edc7856341200000000000000000000000000000000");
    expect(queue.bytes().length).toBe(4096);
    const ten = bytesOf(at(100, 1));
    expect(ten.toHex()).toBe("14030082004e72536401");
    queue.pushFront(ten);
    const bytes = queue.bytes();
    expect(offsetsOf(queue)).toEqual([0, 26]);
    expect(bytes.subarray(4, 8).toHex()).toBe("c7252edc");
    expect(bytes.subarray(28, 56)).toEqual(bytes.subarray(0, 28));
    expect(new DataView(bytes.buffer).getUint32(60, true)).toBe(0x1859_5710);
  });

  test("moves its records as published when the front has no room", () => {
    const queue = QueueFile.create(0x89_44_4ae9);
    const ten = new Uint8Array(10).fill(1);
    const twelve = new Uint8Array(12).fill(2);
    queue.pushFront(ten);
    expect(offsetsOf(queue)).toEqual([0, 26]);
    queue.pushFront(twelve);
    expect(offsetsOf(queue)).toEqual([14, 68]);
    expect(queue.popBack()).toEqual(ten);
    expect(offsetsOf(queue)).toEqual([14, 42]);
    queue.pushFront(twelve);
    expect(offsetsOf(queue)).toEqual([30, 86]);
    queue.pushFront(twelve);
    expect(offsetsOf(queue)).toEqual([2, 86]);
  });

  test("holds what a plain list holds under any operations, saved and opened again at every step", () => {
    const data = fc.uint8Array({ minLength: 1, maxLength: 40 });
    const operation = fc.oneof(
      fc.record({ kind: fc.constantFrom("pushFront", "pushBack"), data }),
      fc.record({
        kind: fc.constantFrom("popFront", "popBack", "clear", "compact"),
        data: fc.constant(new Uint8Array(0)),
      }),
    );
    fc.assert(
      fc.property(
        fc.array(operation, { maxLength: 60 }),
        fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        (operations, salt) => {
          let queue = QueueFile.create(salt);
          const model: Uint8Array[] = [];
          for (const { kind, data: one } of operations) {
            if (kind === "pushFront") {
              queue.pushFront(one);
              model.unshift(one);
            } else if (kind === "pushBack") {
              queue.pushBack(one);
              model.push(one);
            } else if (kind === "popFront") expect(queue.popFront()).toEqual(model.shift());
            else if (kind === "popBack") expect(queue.popBack()).toEqual(model.pop());
            else if (kind === "clear") {
              queue.clear();
              model.length = 0;
            } else queue.compact();
            const bytes = queue.bytes();
            expect(bytes.length % 4096).toBe(0);
            queue = QueueFile.decode(bytes, "queue");
            expect([queue.count, queue.salt]).toEqual([model.length, salt]);
            expect(queue.records()).toEqual(model);
            expect([queue.front(), queue.back()]).toEqual([model[0], model.at(-1)]);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test("does not grow when it is used as a queue and compacted", () => {
    const queue = QueueFile.create(1);
    for (let i = 0; i < 20_000; i += 1) {
      queue.pushBack(new Uint8Array(20).fill(i));
      if (i > 5) queue.popFront();
      queue.compact();
    }
    expect([queue.count, queue.bytes().length]).toEqual([6, 4096]);
  });

  test("is read from its second header when the first is damaged, and refused when both are", () => {
    const queue = QueueFile.create(7);
    queue.pushBack(bytesOf(at(5, 6)));
    const first = queue.bytes();
    first[13] = first[13]! ^ 1;
    expect(QueueFile.decode(first, "q").count).toBe(1);
    const both = first.slice();
    both[41] = both[41]! ^ 1;
    expect(() => QueueFile.decode(both, "q")).toThrow("damaged in both copies");
  });

  test("is refused when any bit of what counts is wrong", () => {
    const queue = encodeQueue([at(300, 9), at(200, 5), at(100, 2)], 0xabcd_ef01);
    const liveBytes = 56 + 3 * 16 + 12 + 11 + 10 + 16;
    const isFree = (byte: number): boolean => (byte >= 68 && byte < 72) || byte < 56;
    let changed = 0;
    const good = decodeQueue(queue, "q");
    for (let byte = 0; byte < liveBytes; byte += 1) {
      for (let bit = 0; bit < 8; bit += 1) {
        const bad = queue.slice();
        bad[byte] = bad[byte]! ^ (1 << bit);
        try {
          expect(decodeQueue(bad, "q")).toEqual(good);
          // One header is enough; the link back of the first record, and most of the stub, say nothing.
          if (!isFree(byte) && byte < liveBytes - 16) throw new Error(`bit ${bit} of byte ${byte} is not noticed`);
        } catch (error) {
          if (!(error instanceof WalbError)) throw error;
          expect([error.code, error.where.file]).toEqual(["bad-format", "q"]);
          changed += 1;
        }
      }
    }
    expect(changed).toBeGreaterThan(600);
  });

  test("of snapshots must get older towards the back", () => {
    expect(decodeQueue(encodeQueue([at(200, 5), at(200, 4)], 1), "q")).toHaveLength(2);
    expect(() => decodeQueue(encodeQueue([at(200, 5), at(201, 4)], 1), "q")).toThrow("record[1].lsid");
    expect(() => decodeQueue(encodeQueue([at(200, 5), at(200, 5)], 1), "q")).toThrow("record[1].gid");
    expect(() => decodeQueue(encodeQueue([{ ...at(1, 1), lsid: undefined }], 1), "q")).toThrow(
      "record[0].lsid is unset",
    );
  });

  test("has bounds: records and files that no queue has are refused before anything is taken", () => {
    const queue = QueueFile.create(1);
    expect(() => queue.pushBack(new Uint8Array(65537))).toThrow("65537 bytes");
    expect(() => queue.pushFront(new Uint8Array(0))).toThrow("0 bytes");
    for (const size of [0, 71, 4095, 5000, 64 * 1024 * 1024 + 4096]) {
      expect(() => QueueFile.decode(new Uint8Array(size), "q")).toThrow("file size");
    }
  });
});

describe.skipIf(vectorsDirectory === undefined)("queue files of the original", () => {
  test("are read, and rebuilding them with the same salt gives the same bytes", async () => {
    const names = vectorNames("meta", /^queue/);
    expect(names.length).toBeGreaterThanOrEqual(4);
    for (const name of names) {
      const bytes = await vectorBytes(name);
      const queue = QueueFile.decode(bytes, name);
      const records = decodeQueue(bytes, name);
      expect([name, records.length]).toEqual([name, queue.count]);
      records.forEach((record, i) => {
        expect(bytesOf(record)).toEqual(queue.records()[i]!);
      });
      const again = QueueFile.create(queue.salt);
      if (name === "meta/queue-empty") expect(again.bytes()).toEqual(bytes);
      if (name === "meta/queue3") {
        for (const data of queue.records().reverse()) again.pushFront(data);
        expect(Buffer.compare(again.bytes(), bytes)).toBe(0);
      }
      if (name.startsWith("meta/queue3-popped")) {
        expect(queue.count).toBe(3);
        // The two records that were popped are still there behind the end.
        const stale = bytes.subarray(56 + 84 + 16);
        const second = decodeAll(stale.slice(0, 10), "stale", takeLsidGid);
        const first = decodeAll(stale.slice(26, 36), "stale", takeLsidGid);
        for (const record of [first, second, ...records.slice().reverse()]) again.pushFront(bytesOf(record));
        again.popBack();
        again.popBack();
        expect(Buffer.compare(again.bytes(), bytes)).toBe(0);
      }
    }
  });
});

test("a thousand random damages of a queue file give records or an error that says where", () => {
  const random = new SeededRandom(3);
  const queue = encodeQueue(
    Array.from({ length: 40 }, (_, i) => at(10_000 - 100 * i, 500 - i)),
    77,
  );
  for (let i = 0; i < 1000; i += 1) {
    const bad = queue.slice();
    for (let n = random.between(1, 4); n > 0; n -= 1) bad[random.below(2000)] = random.u32() & 0xff;
    try {
      decodeQueue(bad, "q");
    } catch (error) {
      if (!(error instanceof WalbError)) throw error;
      expect([error.code, error.where.file, error.where.field !== undefined]).toEqual(["bad-format", "q", true]);
    }
  }
});
