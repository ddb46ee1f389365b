/**
 * @module Names of logical volumes: those of the original, so that its volume groups can be used as they are.
 *
 * | what | name |
 * |---|---|
 * | base image | `wb_VOL` |
 * | restored snapshot | `wr_VOL_GID`, `wr_VOL_GID_tmp` while it is made |
 * | cold snapshot (thin only, read-only) | `wc_VOL_GID` |
 * | cold snapshot on its way to be the base | `wb_VOL_GID_tmp` |
 *
 * A volume's name has no `_`, so a name says without doubt what it is.
 */
const reserved =
  /_(cdata|cmeta|corig|cpool|cvol|imeta|iorig|mimage|mlog|pmspare|rimage|rmeta|tdata|tmeta|vdata|vorigin|wcorig)/;

const gidMax = 2n ** 64n - 1n;

/** What a logical volume of an archive is. */
export type LvRole =
  | { readonly kind: "base"; readonly volume: string }
  | { readonly kind: "restored" | "restoring" | "cold" | "promoting"; readonly volume: string; readonly gid: bigint };

/** The name of a logical volume. */
export function lvName(role: LvRole): string {
  switch (role.kind) {
    case "base":
      return `wb_${role.volume}`;
    case "restored":
      return `wr_${role.volume}_${role.gid}`;
    case "restoring":
      return `wr_${role.volume}_${role.gid}_tmp`;
    case "cold":
      return `wc_${role.volume}_${role.gid}`;
    case "promoting":
      return `wb_${role.volume}_${role.gid}_tmp`;
  }
}

/** Whether LVM keeps names that begin like those of a volume for itself: `wb_tdata1`. */
export function isReserved(volume: string): boolean {
  return reserved.test(`_${volume}`);
}

/** What a name says; undefined for volumes that are not an archive's. */
export function parseLvName(name: string): LvRole | undefined {
  const match = /^(wb|wr|wc)_([0-9A-Za-z-]{1,64})(?:_(0|[1-9]\d{0,19})(_tmp)?)?$/.exec(name);
  if (match === null) return undefined;
  const [, prefix, volume = "", gidText, temporary] = match;
  if (gidText === undefined) return prefix === "wb" ? { kind: "base", volume } : undefined;
  const gid = BigInt(gidText);
  if (gid > gidMax) return undefined;
  if (prefix === "wb") return temporary === undefined ? undefined : { kind: "promoting", volume, gid };
  if (prefix === "wc") return temporary === undefined ? { kind: "cold", volume, gid } : undefined;
  return { kind: temporary === undefined ? "restored" : "restoring", volume, gid };
}
