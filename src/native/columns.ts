/** @module The record index of diffs, one array a field, as the shim fills and reads it: see ffi/index.c. */
import { WalbError } from "../errors.ts";
import { shim } from "./shim.ts";

/** The fields of records; `RecordIndex` of diff/ is one and says what they are. */
export interface RecordColumns {
  readonly addressLb: Float64Array;
  readonly blocksLb: Uint32Array;
  readonly kind: Uint8Array;
  readonly codec: Uint8Array;
  readonly source: Uint16Array;
  readonly dataOffset: Float64Array;
  readonly storedBytes: Uint32Array;
  readonly imageLb: Uint32Array;
  readonly sliceLb: Uint32Array;
  readonly checksum: Uint32Array;
}

/** Numbers by kind of record: normal, all-zero, discard. */
export type ByKind = readonly [number, number, number];

/** Where pack headers are parsed to. */
export interface PackPlace {
  /** Records in the columns already. */
  readonly count: number;
  /** Number of the file. */
  readonly source: number;
  readonly fileBytes: number;
  /** Of the first header in its file. */
  readonly offsetBytes: number;
  /** Records do not start below it, and end by `limitLb`. */
  readonly fromLb: number;
  readonly limitLb: number;
}

/** What was good of them: all of the first `packs`. */
export interface ParsedPacks {
  readonly packs: number;
  /** Records in the columns now. */
  readonly count: number;
  /** Of the next header. */
  readonly offsetBytes: number;
  readonly endLb: number;
  readonly dataBytes: number;
  readonly isEnd: boolean;
}

const parsing = new Float64Array(9);
const choosing = new Float64Array(12);

function byKind(from: Float64Array, at: number): ByKind {
  return [from[at] ?? 0, from[at + 1] ?? 0, from[at + 2] ?? 0];
}

/** Takes `packs` pack headers of 4096 bytes each, up to the first that breaks a rule or for which there is no room. */
export function parsePacks(headers: Uint8Array, packs: number, columns: RecordColumns, place: PackPlace): ParsedPacks {
  const room = checkedLength(columns) - place.count;
  if (packs * 4096 > headers.byteLength || room < 0)
    throw new WalbError("internal", { what: "pack headers without room" });
  parsing.fill(0);
  parsing.set([place.source, place.fileBytes, place.limitLb, room, place.count, place.offsetBytes, place.fromLb]);
  const good = shim.parsePacks(headers, packs, parsing, columns);
  const [, , , , count = 0, offsetBytes = 0, endLb = 0, dataBytes = 0, isEnd = 0] = parsing;
  return { packs: good, count, offsetBytes, endLb, dataBytes, isEnd: isEnd !== 0 };
}

/** How much to choose at once. */
export interface RowLimits {
  readonly rowsMax: number;
  readonly bytesMax: number;
  /** It ends before a record whose image is larger. */
  readonly imageBytesMax: number;
}

/** No limits. */
export const allRows: RowLimits = {
  rowsMax: Number.POSITIVE_INFINITY,
  bytesMax: Number.POSITIVE_INFINITY,
  imageBytesMax: Number.POSITIVE_INFINITY,
};

/** Records [from, to), of which `rows` have data. */
export interface ChosenRows {
  readonly to: number;
  readonly rows: number;
  readonly blocksLb: ByKind;
  readonly records: ByKind;
}

/**
 * Chooses records from `from` on that are transferred as they are, and puts them into a table when there is one.
 * @param table address of as many items as there are rows. @param files descriptors of the sources; only looked at with a table.
 * @throws WalbError `internal` for numbers that no file has.
 */
export function chooseRows(
  columns: RecordColumns,
  from: number,
  end: number,
  limits: RowLimits,
  files = new Int32Array(0),
  table = 0,
): ChosenRows {
  if (from < 0 || end < from || end > checkedLength(columns)) {
    throw new WalbError("internal", { what: `records ${from} to ${end} are not in the index` });
  }
  choosing.fill(0);
  choosing.set([from, end, limits.rowsMax, limits.bytesMax, limits.imageBytesMax]);
  if (!shim.chooseRows(choosing, table, files, columns)) {
    throw new WalbError("internal", { what: `a record behind record ${from} lies in no file` });
  }
  return { to: choosing[1] ?? 0, rows: choosing[5] ?? 0, blocksLb: byKind(choosing, 6), records: byKind(choosing, 9) };
}

/** Length of all columns. */
function checkedLength(columns: RecordColumns): number {
  const { length } = columns.addressLb;
  const { blocksLb, kind, codec, source, dataOffset, storedBytes, imageLb, sliceLb, checksum } = columns;
  for (const column of [blocksLb, kind, codec, source, dataOffset, storedBytes, imageLb, sliceLb, checksum]) {
    if (column.length < length) throw new WalbError("internal", { what: "the columns of an index differ in length" });
  }
  return length;
}
