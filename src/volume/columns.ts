/**
 * @module Column types for databases opened with safe integers: the driver gives every integer as bigint, so each
 * column says what it is in TypeScript, and nothing is rounded on the way.
 */
import { customType } from "drizzle-orm/sqlite-core";
import { WalbError } from "../errors.ts";
import { safeNumber } from "../units.ts";

const i64Max = 0x7fff_ffff_ffff_ffffn;

/** A generation id: bigint. SQLite integers end at 2^63 − 1; "unset" is NULL, never 2^64 − 1. */
export const gidColumn = customType<{ data: bigint; driverData: bigint }>({
  dataType: () => "integer",
  toDriver: (value) => {
    if (value < 0n || value > i64Max) {
      throw new WalbError("out-of-range", { what: `gid ${value} cannot be stored`, where: { field: "gid" } });
    }
    return value;
  },
  fromDriver: (value) => BigInt(value),
});

/** A whole number within ±(2^53 − 1). */
export const numberColumn = customType<{ data: number; driverData: bigint }>({
  dataType: () => "integer",
  toDriver: (value) => {
    if (!Number.isSafeInteger(value)) {
      throw new WalbError("out-of-range", { what: `${value} is not a whole number that can be stored` });
    }
    return BigInt(value);
  },
  fromDriver: (value) => (value < 0n ? -safeNumber(-value, "column") : safeNumber(BigInt(value), "column")),
});

/** A truth value, 0 or 1. */
export const booleanColumn = customType<{ data: boolean; driverData: bigint }>({
  dataType: () => "integer",
  toDriver: (value) => (value ? 1n : 0n),
  fromDriver: (value) => BigInt(value) !== 0n,
});
