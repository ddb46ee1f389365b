import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  alignedPartLb,
  alignmentLb,
  cutPieces,
  overlayRecords,
  pow2floor,
  splitLimitsLb,
} from "../../src/diff/overlay.ts";
import { PieceBuffer, type PieceList } from "../../src/diff/pieces.ts";
import { RecordIndex } from "../../src/diff/record-index.ts";
import { sweepRecords } from "../../src/diff/sweep.ts";
import { RecordKind } from "../../src/diff/types.ts";
import { type ModelIo, type ModelPiece, naiveIndexOverlay, naiveOverlay } from "../helpers/diff.ts";

const kinds = { N: RecordKind.normal, Z: RecordKind.allZero, D: RecordKind.discard } as const;
type KindLetter = keyof typeof kinds;

function indexOf(ios: readonly ModelIo[]): RecordIndex {
  const records = new RecordIndex();
  for (const { addressLb, blocksLb, kind } of ios) {
    records.push(addressLb, blocksLb, kind, 0, 0, 0, kind === 0 ? 1 : 0, kind === 0 ? blocksLb : 0, 0, 0);
  }
  return records;
}

function modelOf(pieces: PieceList, records: RecordIndex): ModelPiece[] {
  return Array.from({ length: pieces.count }, (_, i) => {
    const id = pieces.record[i]!;
    const addressLb = pieces.addressLb[i]!;
    return { addressLb, blocksLb: pieces.blocksLb[i]!, id, offsetLb: addressLb - records.addressLb[id]! };
  });
}

function iosOf(list: readonly (readonly [number, number, KindLetter])[]): ModelIo[] {
  return list.map(([addressLb, blocksLb, kind], id) => ({ addressLb, blocksLb, kind: kinds[kind], id }));
}

/** "[0,3 a][3,4 b]": letters are the records in order. */
function show(pieces: readonly ModelPiece[]): string {
  return pieces.map((p) => `[${p.addressLb},${p.blocksLb} ${"abcdefgh"[p.id]}]`).join("");
}

describe("the overlay of the sorted kind", () => {
  const vectors: [string, [number, number, KindLetter][], number, string][] = [
    [
      "keeps both ends of a record cut in the middle",
      [
        [0, 10, "N"],
        [3, 4, "N"],
      ],
      2048,
      "[0,3 a][3,4 b][7,3 a]",
    ],
    [
      "cuts the front",
      [
        [4, 8, "N"],
        [0, 6, "N"],
      ],
      2048,
      "[0,6 b][6,6 a]",
    ],
    [
      "cuts the back",
      [
        [0, 6, "N"],
        [4, 8, "N"],
      ],
      2048,
      "[0,4 a][4,8 b]",
    ],
    [
      "lets the last of three win",
      [
        [0, 4, "N"],
        [0, 4, "D"],
        [0, 4, "Z"],
      ],
      2048,
      "[0,4 c]",
    ],
    [
      "lets a discard cut data",
      [
        [0, 10, "N"],
        [2, 3, "D"],
      ],
      2048,
      "[0,2 a][2,3 b][5,5 a]",
    ],
    [
      "lets data cut a discard",
      [
        [0, 10, "D"],
        [2, 3, "N"],
      ],
      2048,
      "[0,2 a][2,3 b][5,5 a]",
    ],
    [
      "stacks",
      [
        [8, 8, "N"],
        [4, 8, "N"],
        [0, 8, "N"],
      ],
      2048,
      "[0,8 c][8,4 b][12,4 a]",
    ],
    [
      "swallows",
      [
        [0, 2, "N"],
        [4, 2, "Z"],
        [8, 2, "D"],
        [1, 8, "N"],
      ],
      2048,
      "[0,1 a][1,8 d][9,1 c]",
    ],
    ["cuts to the maximal size", [[0, 10, "N"]], 4, "[0,4 a][4,4 a][8,2 a]"],
    ["cuts discards from their own start", [[1, 10, "D"]], 4, "[1,4 a][5,4 a][9,2 a]"],
    [
      "keeps earlier cuts",
      [
        [0, 10, "N"],
        [3, 2, "N"],
      ],
      4,
      "[0,3 a][3,2 b][5,3 a][8,2 a]",
    ],
    ["cuts to 1 MiB by default", [[0, 5000, "N"]], 2048, "[0,2048 a][2048,2048 a][4096,904 a]"],
    ["does not cut without a limit", [[0, 5000, "N"]], 0, "[0,5000 a]"],
    [
      "never joins",
      [
        [0, 4, "N"],
        [4, 4, "N"],
        [8, 4, "Z"],
        [12, 4, "Z"],
      ],
      2048,
      "[0,4 a][4,4 b][8,4 c][12,4 d]",
    ],
  ];
  for (const [name, list, maxIoLb, expected] of vectors) {
    test(name, () => {
      const records = indexOf(iosOf(list));
      expect(show(modelOf(cutPieces(overlayRecords(records), records, maxIoLb), records))).toBe(expected);
    });
  }

  test("is the same swept over the addresses, whatever the number of runs", () => {
    const one = fc.record({
      addressLb: fc.oneof(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 2 ** 33, max: 2 ** 33 + 60 })),
      blocksLb: fc.integer({ min: 1, max: 30 }),
    });
    fc.assert(
      fc.property(fc.array(one, { maxLength: 120 }), (list) => {
        const records = new RecordIndex();
        for (const { addressLb, blocksLb } of list) records.push(addressLb, blocksLb, 2, 0, 0, 0, 0, 0, 0, 0);
        const merged = new Map<number, number>();
        for (const [id, { addressLb, blocksLb }] of list.entries()) {
          for (let at = addressLb; at < addressLb + blocksLb; at++) merged.set(at, id);
        }
        for (const pieces of [sweepRecords(records), overlayRecords(records)]) {
          const swept = new Map<number, number>();
          for (let i = 0; i < pieces.count; i++) {
            const start = pieces.addressLb[i]!;
            for (let at = start; at < start + pieces.blocksLb[i]!; at++) swept.set(at, pieces.record[i]!);
            const before = i - 1;
            if (i === 0) continue;
            const beforeEnd = pieces.addressLb[before]! + pieces.blocksLb[before]!;
            expect(beforeEnd <= start).toBe(true);
            // No piece is left in two where it is in one.
            expect(beforeEnd === start && pieces.record[before] === pieces.record[i]).toBe(false);
          }
          expect([...swept].sort(([a], [b]) => a - b)).toEqual([...merged].sort(([a], [b]) => a - b));
        }
      }),
      { numRuns: 400 },
    );
  });

  test("cuts a discard of 70000 blocks into 34 of 2048 and one of 368", () => {
    const records = indexOf(iosOf([[100, 70000, "D"]]));
    const pieces = cutPieces(overlayRecords(records), records, 2048);
    expect(pieces.count).toBe(35);
    expect(pieces.blocksLb[34]).toBe(368);
  });

  test("holds a discard of 2^32 - 1 blocks far out", () => {
    const records = indexOf(
      iosOf([
        [2 ** 43, 0xffff_ffff, "D"],
        [2 ** 43 + 2 ** 31, 8, "N"],
      ]),
    );
    expect(show(modelOf(overlayRecords(records), records))).toBe(
      `[${2 ** 43},${2 ** 31} a][${2 ** 43 + 2 ** 31},8 b][${2 ** 43 + 2 ** 31 + 8},${2 ** 31 - 9} a]`,
    );
  });
});

/** All parts of the indexed kind. */
function splitPieces(pieces: PieceList, records: RecordIndex, maxIoLb: number): PieceList {
  const limits = splitLimitsLb(pieces, records, maxIoLb);
  const parts = new PieceBuffer(1);
  for (let i = 0; i < pieces.count; i++) {
    const record = pieces.record[i]!;
    const maxLb = records.kind[record] === RecordKind.normal ? limits.dataLb : limits.emptyLb;
    const endLb = pieces.addressLb[i]! + pieces.blocksLb[i]!;
    for (let at = pieces.addressLb[i]!; at < endLb; at += parts.blocksLb[parts.count - 1]!) {
      parts.push(at, alignedPartLb(at, endLb - at, maxLb), record);
    }
  }
  return parts;
}

describe("the overlay of the indexed kind", () => {
  const vectors: [[number, number, KindLetter][], number, string][] = [
    [
      [
        [5, 3, "N"],
        [6, 1, "Z"],
        [8, 12, "D"],
      ],
      2048,
      "5,1a0 6,1b0 7,1a2 8,8c0 16,4c8",
    ],
    [[[0, 15, "D"]], 2048, "0,8a0 8,4a8 12,2a12 14,1a14"],
    [
      [
        [0, 16, "N"],
        [3, 2, "N"],
      ],
      2048,
      "0,2a0 2,1a2 3,1b0 4,1b1 5,1a5 6,2a6 8,8a8",
    ],
    [[[0, 16, "N"]], 3, "0,2a0 2,2a2 4,2a4 6,2a6 8,2a8 10,2a10 12,2a12 14,2a14"],
    [[[0, 5000, "N"]], 2048, "0,2048a0 2048,2048a2048 4096,512a4096 4608,256a4608 4864,128a4864 4992,8a4992"],
    [[[0, 5000, "D"]], 0, "0,4096a0 4096,512a4096 4608,256a4608 4864,128a4864 4992,8a4992"],
    [
      [
        [4, 1, "N"],
        [6, 1, "N"],
        [0, 8, "Z"],
      ],
      2048,
      "0,8c0",
    ],
  ];
  for (const [list, maxIoLb, expected] of vectors) {
    test(`gives ${expected}`, () => {
      const records = indexOf(iosOf(list));
      const pieces = modelOf(splitPieces(overlayRecords(records), records, maxIoLb), records);
      expect(pieces.map((p) => `${p.addressLb},${p.blocksLb}${"abc"[p.id]}${p.offsetLb}`).join(" ")).toBe(expected);
    });
  }

  test("splits into aligned powers of two", () => {
    const split = (address: number, blocks: number): number[] => {
      const sizes: number[] = [];
      for (let done = 0; done < blocks; done += sizes.at(-1)!) {
        sizes.push(alignedPartLb(address + done, blocks - done, 2048));
      }
      return sizes;
    };
    expect(split(0, 15)).toEqual([8, 4, 2, 1]);
    expect(split(1, 15)).toEqual([1, 2, 4, 8]);
    expect(split(5, 3)).toEqual([1, 2]);
    expect(split(8, 12)).toEqual([8, 4]);
    expect(split(7, 1)).toEqual([1]);
    expect(split(1023, 4096)).toEqual([1, 1024, 2048, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1]);
    expect([alignmentLb(96), alignmentLb(2 ** 40), alignmentLb(0), alignmentLb(2 ** 31)]).toEqual([
      32,
      2 ** 31,
      2 ** 31,
      2 ** 31,
    ]);
    expect([pow2floor(4097), pow2floor(0), pow2floor(1), pow2floor(0xffff_ffff)]).toEqual([4096, 0, 1, 2 ** 31]);
  });
});

const anyIos = fc
  .array(
    fc.record({
      addressLb: fc.integer({ min: 0, max: 90 }),
      blocksLb: fc.integer({ min: 1, max: 40 }),
      kind: fc.constantFrom(RecordKind.normal, RecordKind.allZero, RecordKind.discard),
    }),
    { maxLength: 40 },
  )
  .map((list) => list.map((one, id) => ({ ...one, id })));

test("the fast overlay equals the definition, cuts included", () => {
  fc.assert(
    fc.property(anyIos, fc.constantFrom(0, 1, 2, 3, 4, 7, 16, 2048), (ios, maxIoLb) => {
      const records = indexOf(ios);
      const pieces = cutPieces(overlayRecords(records), records, maxIoLb);
      expect(modelOf(pieces, records)).toEqual(naiveOverlay(ios, maxIoLb));
    }),
    { numRuns: 2000 },
  );
});

test("the fast index overlay equals the definition, fragments included", () => {
  fc.assert(
    fc.property(anyIos, fc.constantFrom(0, 1, 2, 3, 4, 7, 16, 2048), (ios, maxIoLb) => {
      const records = indexOf(ios);
      expect(modelOf(splitPieces(overlayRecords(records), records, maxIoLb), records)).toEqual(
        naiveIndexOverlay(ios, maxIoLb),
      );
    }),
    { numRuns: 2000 },
  );
});
