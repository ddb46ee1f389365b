import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { WalbError } from "../../src/errors.ts";
import { PackBuilder, sealPack } from "../../src/log/builder.ts";
import { sealBlock, walbChecksum } from "../../src/log/checksum.ts";
import { maxRecordsPerPack, ringSizePbOf } from "../../src/log/geometry.ts";
import {
  decodePackHeader,
  encodeEndBlock,
  encodePackHeader,
  isEndBlock,
  isPackFault,
  nextPackLsid,
  recordDataPb,
  shrinkPack,
  tryDecodePackHeader,
} from "../../src/log/pack.ts";
import { decodeSuperblock, encodeSuperblock, type Superblock } from "../../src/log/superblock.ts";
import { decodeWlogHeader, encodeWlogHeader } from "../../src/log/wlogheader.ts";
import { u64Max } from "../../src/units.ts";
import { fromHex, packOf, vectorBytes, vectorsDir } from "./helpers.ts";

const salt = 0x12345678;
const uuid = "000102030405060708090a0b0c0d0e0f";

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof WalbError) return `${error.code} ${error.where.field ?? ""}`.trim();
    throw error;
  }
  return "nothing";
}

describe("the checksum", () => {
  test("matches the vectors, tails included", () => {
    const ascending = Uint8Array.from({ length: 256 }, (_, i) => i);
    const cases: [Uint8Array, number, number][] = [
      [new Uint8Array(0), 0, 0],
      [new Uint8Array(0), 1, 0xffffffff],
      [fromHex("01020304"), 0, 0xfbfcfdff],
      [fromHex("01020304"), salt, 0xe9c8a787],
      [fromHex("0102030405"), 0, 0xfbfcfdfa],
      [new Uint8Array(8).fill(0xff), 0, 2],
      [new Uint8Array(512), salt, 0xedcba988],
      [new Uint8Array(512).fill(0x41), 0, 0x5f5f5f80],
      [ascending, 0, 0x9fe02080],
    ];
    for (const [bytes, seed, expected] of cases) expect(walbChecksum(bytes, seed)).toBe(expected);
  });

  test("is the same for unaligned memory", () => {
    const bytes = Uint8Array.from({ length: 103 }, (_, i) => i * 7);
    const shifted = new Uint8Array(104);
    shifted.set(bytes, 1);
    expect(walbChecksum(shifted.subarray(1), 5)).toBe(walbChecksum(bytes, 5));
  });
});

describe("the superblock", () => {
  const superblock: Superblock = {
    pbsBytes: 512,
    metadataSizePb: 0,
    salt,
    uuid,
    name: "vol",
    ringSizePb: 2038,
    oldestLsid: 0,
    writtenLsid: 0,
    deviceSizeLb: 1000,
  };

  test("matches the vector for both block sizes", () => {
    const small = encodeSuperblock(superblock);
    expect(hex(small.subarray(0, 104))).toBe(
      hex(
        fromHex(
          `0100 0200 1b0e3dc9 00020000 00020000 00000000 78563412 ${uuid} 766f6c00 ${"00".repeat(28)}
           f607000000000000 0000000000000000 0000000000000000 e803000000000000`,
        ),
      ),
    );
    const large = encodeSuperblock({ ...superblock, pbsBytes: 4096, ringSizePb: 253 });
    expect(large.length).toBe(4096);
    expect(hex(large.subarray(4, 8))).toBe("14073dc9");
    expect(decodeSuperblock(large, "log")).toEqual({ ...superblock, pbsBytes: 4096, ringSizePb: 253 });
    expect(ringSizePbOf(2048 * 512, 512)).toBe(2038);
    expect(ringSizePbOf(1024 * 1024, 4096)).toBe(253);
  });

  test("is refused when any bit of it is wrong", () => {
    const good = encodeSuperblock(superblock);
    for (let bit = 0; bit < 104 * 8; bit += 5) {
      const bad = good.slice();
      bad[bit >> 3]! ^= 1 << (bit & 7);
      expect(["damaged", "bad-format"]).toContain(codeOf(() => decodeSuperblock(bad, "log")).split(" ")[0]!);
    }
  });

  test("is refused when its fields contradict each other", () => {
    const withField = (offset: number, value: bigint): Uint8Array => {
      const block = encodeSuperblock(superblock);
      new DataView(block.buffer).setBigUint64(offset, value, true);
      sealBlock(block, 4, 0);
      return block;
    };
    expect(codeOf(() => decodeSuperblock(withField(80, 1n), "log"))).toBe("damaged oldest_lsid");
    expect(codeOf(() => decodeSuperblock(withField(72, 0n), "log"))).toBe("damaged ring_buffer_size");
    expect(codeOf(() => decodeSuperblock(withField(72, 1n << 50n), "log"))).toBe("damaged ring_buffer_size");
    expect(codeOf(() => decodeSuperblock(withField(88, (1n << 64n) - 1n), "log"))).toBe("damaged written_lsid");
    expect(codeOf(() => decodeSuperblock(withField(96, 1n << 60n), "log"))).toBe("out-of-range device_size");
    expect(codeOf(() => decodeSuperblock(new Uint8Array(4096), "log"))).toBe("bad-format");
  });
});

/** The pack of the format's vector: lsid 100, data byte k of record i is k + i. */
function vectorPack(pbsBytes: number) {
  const data = (i: number, sizeLb: number): Uint8Array => Uint8Array.from({ length: sizeLb * 512 }, (_, k) => k + i);
  return packOf(
    100,
    [
      { kind: "data", offsetLb: 8, sizeLb: 3, data: data(0, 3) },
      { kind: "discard", offsetLb: 1000, sizeLb: 70000 },
      { kind: "padding", sizeLb: pbsBytes === 512 ? 2 : 16 },
      { kind: "data", offsetLb: 16, sizeLb: 1, data: data(3, 1) },
    ],
    pbsBytes,
    salt,
  );
}

describe("a pack header", () => {
  test("matches the vector for both block sizes", () => {
    const small = encodePackHeader(vectorPack(512), 512, salt);
    expect(hex(small.subarray(0, 24 + 4 * 32))).toBe(
      hex(
        fromHex(`5fbcaa92 0300 0600 6400000000000000 0400 0100 00000000
          886c0cad 01000000 0800000000000000 03000000 0100 0000 6500000000000000
          00000000 05000000 e803000000000000 70110100 0400 0000 6800000000000000
          00000000 03000000 0000000000000000 02000000 0400 0000 6800000000000000
          08690cae 01000000 1000000000000000 01000000 0600 0000 6a00000000000000`),
      ),
    );
    expect(nextPackLsid(vectorPack(512))).toBe(107);
    expect(decodePackHeader(small, { pbsBytes: 512, salt, expectedLsid: 100 })).toEqual(vectorPack(512));
    const large = encodePackHeader(vectorPack(4096), 4096, salt);
    expect(hex(large.subarray(0, 4))).toBe("5dbcac92");
    expect(vectorPack(4096).totalDataPb).toBe(4);
    expect(nextPackLsid(vectorPack(4096))).toBe(105);
  });

  test("is refused when any bit of the block is wrong", () => {
    const good = encodePackHeader(vectorPack(512), 512, salt);
    for (let bit = 0; bit < 512 * 8; bit += 7) {
      const bad = good.slice();
      bad[bit >> 3]! ^= 1 << (bit & 7);
      expect(isPackFault(tryDecodePackHeader(bad, { pbsBytes: 512, salt, expectedLsid: 100 }))).toBe(true);
    }
  });

  test("is refused with the field named when a field lies under a good checksum", () => {
    const fault = (offset: number, bytes: number, value: number): string => {
      const block = encodePackHeader(vectorPack(512), 512, salt);
      const view = new DataView(block.buffer);
      if (bytes === 2) view.setUint16(offset, value, true);
      else view.setUint32(offset, value, true);
      sealBlock(block, 0, salt);
      const result = tryDecodePackHeader(block, { pbsBytes: 512, salt, expectedLsid: 100 });
      return isPackFault(result) ? result.field : "none";
    };
    expect(fault(6, 2, 7)).toBe("total_io_size");
    expect(fault(16, 2, 16)).toBe("n_records");
    expect(fault(16, 2, 0xffff)).toBe("n_records");
    expect(fault(16, 2, 3)).toBe("total_io_size");
    expect(fault(18, 2, 0)).toBe("n_padding");
    expect(fault(28, 4, 0)).toBe("record[0].flags");
    expect(fault(40, 4, 0)).toBe("record[0].io_size");
    expect(fault(40, 4, 65536)).toBe("record[0].io_size");
    expect(fault(44, 2, 2)).toBe("record[0].lsid_local");
    expect(fault(24 + 32 + 20, 2, 5)).toBe("record[1].lsid_local");
    expect(fault(48, 4, 1)).toBe("record[0].lsid");
    expect(fault(36, 4, 0x200000)).toBe("record[0].offset");
    expect(fault(12, 4, 0x200000)).toBe("logpack_lsid");
    expect(fault(0, 4, 0)).toBe("none");
  });

  test("survives any bytes without a throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 512, maxLength: 512 }), (bytes) => {
        const block = bytes.slice();
        new DataView(block.buffer).setUint16(4, 3, true);
        sealBlock(block, 0, salt);
        tryDecodePackHeader(block, { pbsBytes: 512, salt });
      }),
    );
  });

  test("shrinks to its first records, at any count", () => {
    for (let count = 0; count <= 4; count += 1) {
      const small = shrinkPack(vectorPack(512), count, 512);
      const block = encodePackHeader(small, 512, salt);
      expect(decodePackHeader(block, { pbsBytes: 512, salt })).toEqual(small);
      expect(small.records.length).toBe(count);
    }
    expect(nextPackLsid(shrinkPack(vectorPack(512), 0, 512))).toBe(100);
    expect(nextPackLsid(shrinkPack(vectorPack(512), 3, 512))).toBe(106);
  });

  test("the end block is the complement of the salt and is recognised", () => {
    const block = encodeEndBlock(512, salt);
    expect(hex(block.subarray(0, 16))).toBe("87a9cbed03000000ffffffffffffffff");
    expect(isEndBlock(block)).toBe(true);
    expect(isEndBlock(encodePackHeader(vectorPack(512), 512, salt))).toBe(false);
  });
});

describe("the wlog header", () => {
  const header = { pbsBytes: 512, salt, uuid, beginLsid: 100, endLsid: 200n, lsidBase: 0n };

  test("matches the vector for both block sizes", () => {
    const block = encodeWlogHeader(header);
    expect(hex(block.subarray(0, 56))).toBe(
      hex(fromHex(`0400 0200 0010 0000 4078a9c9 78563412 00020000 00020000 ${uuid} 6400000000000000 c800000000000000`)),
    );
    expect(hex(encodeWlogHeader({ ...header, pbsBytes: 4096 }).subarray(8, 12))).toBe("406aa9c9");
    expect(decodeWlogHeader(block, "x.wlog")).toEqual(header);
    const open = { ...header, endLsid: undefined };
    expect(decodeWlogHeader(encodeWlogHeader(open), "x.wlog")).toEqual(open);
  });

  test("keeps all 64 bits of its lsids", () => {
    for (const endLsid of [2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, u64Max - 1n]) {
      const far = { ...header, endLsid };
      expect(decodeWlogHeader(encodeWlogHeader(far), "x.wlog")).toEqual(far);
    }
    for (const lsidBase of [2n ** 52n, 2n ** 53n + 1n, u64Max - 5n]) {
      const late = { ...header, beginLsid: 0, endLsid: u64Max - 1n, lsidBase };
      const block = encodeWlogHeader(late);
      expect(new DataView(block.buffer).getBigUint64(40, true)).toBe(lsidBase);
      expect(decodeWlogHeader(block, "x.wlog")).toEqual(late);
    }
    const none = encodeWlogHeader({ ...header, beginLsid: 0, lsidBase: u64Max, endLsid: undefined });
    expect(codeOf(() => decodeWlogHeader(none, "x"))).toBe("damaged end_lsid");
  });

  test("is refused when damaged, empty or contradictory", () => {
    const bad = encodeWlogHeader(header);
    bad[30]! ^= 1;
    expect(codeOf(() => decodeWlogHeader(bad, "x"))).toBe("damaged checksum");
    expect(codeOf(() => decodeWlogHeader(new Uint8Array(4096), "x"))).toBe("bad-format");
    const crossed = encodeWlogHeader({ ...header, endLsid: 100n });
    expect(codeOf(() => decodeWlogHeader(crossed, "x"))).toBe("damaged end_lsid");
  });
});

describe("the pack builder", () => {
  test("keeps every limit of the format, and no data crosses the ring end", () => {
    const request = fc.record({ isDiscard: fc.boolean(), sizeLb: fc.integer({ min: 1, max: 60 }) });
    const input = fc.record({
      pbsBytes: fc.constantFrom(512, 4096),
      ringSizePb: fc.integer({ min: 256, max: 300 }),
      startLsid: fc.integer({ min: 0, max: 5000 }),
      maxPackPb: fc.integer({ min: 1, max: 100 }),
      requests: fc.array(request, { minLength: 1, maxLength: 120 }),
    });
    fc.assert(
      fc.property(input, ({ pbsBytes, ringSizePb, startLsid, maxPackPb, requests }) => {
        const ring = { pbsBytes, ringSizePb, ringOffsetPb: 10, salt };
        const builder = new PackBuilder(ring, maxPackPb);
        const seen: string[] = [];
        let lsid = startLsid;
        let block = new Uint8Array(pbsBytes);
        const finish = (): void => {
          builder.end();
          sealPack(block, salt);
          const header = decodePackHeader(block, { pbsBytes, salt, expectedLsid: lsid });
          expect(header.records.length).toBeLessThanOrEqual(maxRecordsPerPack(pbsBytes));
          expect(nextPackLsid(header)).toBe(builder.endLsid);
          for (const record of header.records) {
            const dataPb = recordDataPb(record, pbsBytes);
            const roomPb = ringSizePb - (record.lsid % ringSizePb);
            if (record.kind === "data") expect(dataPb).toBeLessThanOrEqual(roomPb);
            if (record.kind === "padding") expect(dataPb).toBe(roomPb);
            else seen.push(`${record.kind} ${record.offsetLb} ${record.sizeLb}`);
          }
          lsid = builder.endLsid;
          block = new Uint8Array(pbsBytes);
          builder.begin(block, lsid);
        };
        builder.begin(block, lsid);
        requests.forEach(({ isDiscard, sizeLb }, i) => {
          const add = (): boolean => (isDiscard ? builder.addDiscard(i, sizeLb) : builder.addData(i, sizeLb, 0) >= 0);
          if (add()) return;
          finish();
          expect(add()).toBe(true);
        });
        finish();
        expect(seen).toEqual(
          requests.map(({ isDiscard, sizeLb }, i) => `${isDiscard ? "discard" : "data"} ${i} ${sizeLb}`),
        );
      }),
    );
  });
});

describe.skipIf(vectorsDir === undefined)("log devices of the original", () => {
  for (const name of ["fresh512", "fresh4k", "p512-s1", "p4k-s11", "wrap512"]) {
    test(`the superblock of ${name} decodes and encodes to the same bytes`, async () => {
      const image = await vectorBytes(`ldev/${name}.img.xz`);
      const superblock = decodeSuperblock(image.subarray(4096, 8192), name);
      const again = encodeSuperblock(superblock);
      expect(hex(again)).toBe(hex(image.subarray(4096, 4096 + superblock.pbsBytes)));
      expect(superblock.name).toBe(name);
    });
  }
});
