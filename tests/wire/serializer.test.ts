import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Decoder, decodeAll, Encoder, encoded, ShortRead } from "../../src/wire/serializer.ts";

const hex = (write: (encoder: Encoder) => void): string => encoded(write).toHex();
const decoder = (text: string): Decoder => new Decoder(Uint8Array.fromHex(text.replaceAll(" ", "")));
const top = 2n ** 64n;

describe("variable integers are written in the canonical form", () => {
  const u64: [bigint, string][] = [
    [0n, "00"],
    [1n, "01"],
    [127n, "7f"],
    [128n, "8080"],
    [255n, "80ff"],
    [256n, "810001"],
    [65535n, "81ffff"],
    [65536n, "8200000100"],
    [2n ** 32n - 1n, "82ffffffff"],
    [2n ** 32n, "830000000001000000"],
    [top - 1n, "ff"],
    [top - 2n, "fe"],
    [top - 120n, "88"],
    [top - 121n, "8487"],
    [top - 127n, "8481"],
    [top - 128n, "8480"],
    [top - 129n, "857fff"],
    [top - 32768n, "850080"],
    [top - 32769n, "86ff7fffff"],
    [top - 40000n, "86c063ffff"],
    [top - 2n ** 31n, "8600000080"],
    [top - 2n ** 31n - 1n, "83ffffff7fffffffff"],
    [top - 3000000000n, "8300a22f4dffffffff"],
    [0x123456789abcdef0n, "83f0debc9a78563412"],
  ];
  for (const [value, text] of u64) {
    test(`u64 ${value} is ${text}`, () => {
      expect(hex((encoder) => encoder.u64(value))).toBe(text);
      expect(decoder(text).u64()).toBe(value);
    });
  }
  const u32: [number, string][] = [
    [0xffff_ffff, "ff"],
    [0xffff_ff80, "8480"],
    [0xffff_8000, "850080"],
    [0xffff_7fff, "82ff7fffff"],
    [0x8000_0000, "8200000080"],
    [0x626c_6177, "8277616c62"],
    [2, "02"],
    [128, "8080"],
  ];
  for (const [value, text] of u32) {
    test(`u32 ${value} is ${text}`, () => {
      expect(hex((encoder) => encoder.u32(value))).toBe(text);
      expect(decoder(text).u32()).toBe(value);
    });
  }
  const i32: [number, string][] = [
    [-1, "ff"],
    [-120, "88"],
    [-121, "8487"],
    [-128, "8480"],
    [-129, "857fff"],
    [-200, "8538ff"],
    [-32768, "850080"],
    [-32769, "82ff7fffff"],
    [-40000, "82c063ffff"],
    [65535, "81ffff"],
    [65536, "8200000100"],
    [40000, "81409c"],
  ];
  for (const [value, text] of i32) {
    test(`i32 ${value} is ${text}`, () => {
      expect(hex((encoder) => encoder.i32(value))).toBe(text);
      expect(decoder(text).i32()).toBe(value);
    });
  }

  test("raw integers, flags, strings and vectors have their fixed forms", () => {
    expect(hex((encoder) => encoder.u16(0x0311))).toBe("1103");
    expect(hex((encoder) => encoder.u8(3).bool(true))).toBe("0301");
    expect(hex((encoder) => encoder.string("ok"))).toBe("026f6b");
    expect(hex((encoder) => encoder.string("SyncReady"))).toBe("0953796e635265616479");
    expect(hex((encoder) => encoder.strings(["a", "bc"]))).toBe("020161026263");
    expect(hex((encoder) => encoder.strings([]))).toBe("00");
    expect(hex((encoder) => encoder.uuid("000102030405060708090a0b0c0d0e0f"))).toBe("000102030405060708090a0b0c0d0e0f");
  });
});

test("values are written whole wherever the buffer has to grow", () => {
  for (let fill = 0; fill < 40; fill++) {
    for (const [write, text] of [
      [(encoder: Encoder) => encoder.u8(7), "07"],
      [(encoder: Encoder) => encoder.u16(0x0201), "0102"],
      [(encoder: Encoder) => encoder.u32(70000), "8270110100"],
      [(encoder: Encoder) => encoder.i32(-300), "85d4fe"],
      [(encoder: Encoder) => encoder.u64(5_000_000_000n), "8300f2052a01000000"],
      [(encoder: Encoder) => encoder.u64(2n ** 64n - 40000n), "86c063ffff"],
      [(encoder: Encoder) => encoder.string("ok"), "026f6b"],
    ] as const) {
      const encoder = new Encoder(16).raw(new Uint8Array(fill));
      write(encoder);
      expect(encoder.bytes().subarray(fill).toHex()).toBe(text);
    }
  }
});

describe("every form is read", () => {
  test("forms that are longer than needed have the same value", () => {
    for (const text of ["05", "8005", "810500", "8205000000", "830500000000000000", "8405", "850500", "8605000000"]) {
      expect(decoder(text).u64()).toBe(5n);
    }
    expect(decoder("870500000000000000").u64()).toBe(5n);
    expect(decoder("8205000000").u32()).toBe(5);
    expect(decoder("85ffff").u32()).toBe(0xffff_ffff);
  });

  test("a 64-bit form is refused where 32 bits are expected", () => {
    expect(() => decoder("830500000000000000").u32("salt")).toThrow("salt has 64 bits");
    expect(() => decoder("870500000000000000").i32()).toThrow("64 bits");
  });

  test("any number survives a round trip, as number and as bigint", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: top - 1n }), (value) => {
        expect(new Decoder(encoded((encoder) => encoder.u64(value))).u64()).toBe(value);
        if (value <= BigInt(Number.MAX_SAFE_INTEGER)) {
          expect(hex((encoder) => encoder.u64(Number(value)))).toBe(hex((encoder) => encoder.u64(value)));
          expect(new Decoder(encoded((encoder) => encoder.u64(value))).size("n")).toBe(Number(value));
        }
      }),
    );
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer(), (unsigned, signed) => {
        const bytes = encoded((encoder) => encoder.u32(unsigned).i32(signed));
        const reader = new Decoder(bytes);
        expect([reader.u32(), reader.i32()]).toEqual([unsigned, signed]);
      }),
    );
  });

  test("no canonical encoding is longer than any other form of the same value", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 9, maxLength: 9 }), (bytes) => {
        const reader = new Decoder(bytes);
        const value = reader.u64();
        expect(encoded((encoder) => encoder.u64(value)).length).toBeLessThanOrEqual(reader.offsetBytes);
      }),
    );
  });

  test("strings of any text survive a round trip", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: "grapheme" })), (values) => {
        expect(new Decoder(encoded((encoder) => encoder.strings(values))).strings()).toEqual(values);
      }),
    );
  });
});

describe("hostile bytes", () => {
  test("a cut value asks for more bytes at every cut, and never for more than it needs", () => {
    const bytes = encoded((encoder) =>
      encoder
        .u64(2n ** 40n)
        .string("hello")
        .strings(["a", "b"])
        .u16(1)
        .bool(true)
        .u32(70000),
    );
    const read = (reader: Decoder): void => {
      reader.u64();
      reader.string();
      reader.strings();
      reader.u16();
      reader.bool();
      reader.u32();
    };
    for (let cut = 0; cut < bytes.length; cut++) {
      let needed = 0;
      try {
        read(new Decoder(bytes.subarray(0, cut)));
      } catch (error) {
        if (!(error instanceof ShortRead)) throw error;
        needed = error.neededBytes;
      }
      expect(needed).toBeGreaterThan(cut);
      expect(needed).toBeLessThanOrEqual(bytes.length);
    }
    read(new Decoder(bytes));
  });

  test("lengths and counts beyond the bound are refused before anything is allocated", () => {
    const huge = encoded((encoder) => encoder.u64(2n ** 40n));
    expect(() => new Decoder(huge).string("volId")).toThrow("volId length");
    expect(() => new Decoder(huge).strings("lines")).toThrow("lines count");
    expect(() => decoder("ff").size("sizeLb")).toThrow("sizeLb");
    expect(() => decoder("8064").size("level", 9)).toThrow("level");
    expect(() => decoder("0a").size("level", 9)).toThrow("level");
  });

  test("a flag that is neither 0 nor 1, and bytes behind a value, are refused", () => {
    expect(() => decoder("02").bool("isMergeable")).toThrow("isMergeable");
    expect(() => decodeAll(Uint8Array.of(1, 2), "record", (reader) => reader.u8())).toThrow("record");
    expect(() => decodeAll(Uint8Array.of(0x82, 1), "record", (reader) => reader.u32())).toThrow("cut short");
  });

  test("values that do not fit are not written", () => {
    const encoder = new Encoder();
    expect(() => encoder.u8(256)).toThrow("u8");
    expect(() => encoder.u32(-1)).toThrow("u32");
    expect(() => encoder.u64(-1n)).toThrow("u64");
    expect(() => encoder.u64(2n ** 64n)).toThrow("u64");
    expect(() => encoder.u64(1.5)).toThrow("u64");
    expect(() => encoder.uuid("00")).toThrow("not a uuid");
  });
});
