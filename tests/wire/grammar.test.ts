import { describe, expect, test } from "bun:test";
import * as grammar from "../../src/wire/grammar.ts";

describe("parameters are read as the original reads them", () => {
  test("sizes with units", () => {
    const size = (text: string): number => grammar.parseSizeBytes(text, "size");
    expect(size("0")).toBe(0);
    expect(size("0012")).toBe(12);
    expect(size("64k")).toBe(65_536);
    expect(size("64kB")).toBe(65_536);
    expect(size("1G")).toBe(2 ** 30);
    expect(size("16t")).toBe(2 ** 44);
    expect(size("7P")).toBe(7 * 2 ** 50);
    for (const text of ["", "k", "-1", "1.5g", "1z", "8p", "1e", "99999999999999999999", "1 k", "0x10"]) {
      expect(() => size(text)).toThrow();
    }
  });

  test("bulk and device sizes are rounded down to logical blocks and bounded", () => {
    expect(grammar.parseBulkLb("256k")).toBe(512);
    expect(grammar.parseBulkLb("1000")).toBe(1);
    expect(grammar.parseBulkLb("4m")).toBe(8192);
    for (const text of ["511", "0", "4097k"]) expect(() => grammar.parseBulkLb(text)).toThrow("out of range");
    expect(grammar.parseDeviceLb("1023")).toBe(1);
  });

  test("archives cannot name a path", () => {
    expect(grammar.parseArchiveName("a0.example_com")).toBe("a0.example_com");
    for (const text of ["", ".", "..", "../a", "a/b", "a\0", "a".repeat(129)]) {
      expect(() => grammar.parseArchiveName(text)).toThrow();
    }
  });

  test("numbers are unsigned decimals that fit", () => {
    expect(grammar.parseU64("18446744073709551615", "gid")).toBe(2n ** 64n - 1n);
    expect(() => grammar.parseU64("18446744073709551616", "gid")).toThrow("64 bits");
    for (const text of ["", "-1", "+1", "1x", "0x1", " 1"]) expect(() => grammar.parseU64(text, "gid")).toThrow();
  });

  test("stop modes go by their first letter", () => {
    expect(["force", "f", "empty", "e", "graceful", "x", undefined].map(grammar.parseStopMode)).toEqual([
      "force",
      "force",
      "empty",
      "empty",
      "graceful",
      "graceful",
      "graceful",
    ]);
  });

  test("addresses", () => {
    expect(grammar.parseHostPort("a0:10200")).toEqual({ host: "a0", port: 10_200 });
    expect(grammar.parseHostPort("[fe80::1]:5000")).toEqual({ host: "fe80::1", port: 5000 });
    for (const text of ["a0", "a0:", ":5000", "a0:0", "a0:65536", "fe80::1:5000", "a 0:1"]) {
      expect(() => grammar.parseHostPort(text)).toThrow();
    }
  });
});
