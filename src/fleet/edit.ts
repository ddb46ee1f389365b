/**
 * @module Changes of a fleet file that procedures bring about, made in its text, so that comments and order stay. Pure.
 */
import { WalbError } from "../errors.ts";
import { type Fleet, parseFleet } from "./fleet.ts";

/** One change. */
export type FleetEdit =
  | { readonly kind: "primary"; readonly archive: string }
  | { readonly kind: "storage"; readonly volume: string; readonly storage: string }
  /** In every list of archives that a volume is replicated to. */
  | { readonly kind: "replica"; readonly from: string; readonly to: string };

/**
 * The text with the change; the same text when it is so already.
 * @throws WalbError `usage` when the file is written in a way that is not understood here: then somebody has to do it.
 */
export function editFleet(text: string, file: string, edit: FleetEdit): string {
  if (isSo(parseFleet(text, file), edit)) return text;
  const edited =
    edit.kind === "primary"
      ? setPrimary(text, edit.archive)
      : edit.kind === "storage"
        ? setStorage(text, edit)
        : setReplica(text, edit);
  let isDone: boolean;
  try {
    isDone = isSo(parseFleet(edited, file), edit);
  } catch {
    isDone = false;
  }
  if (isDone) return edited;
  throw new WalbError("usage", {
    what: `the fleet file has to be changed by hand`,
    where: { file },
    hint: editText(edit),
  });
}

/** The change in words. */
export function editText(edit: FleetEdit): string {
  switch (edit.kind) {
    case "primary":
      return `primary = true belongs to [servers.${edit.archive}] and to no other archive`;
    case "storage":
      return `[volumes.${edit.volume}] needs storage = "${edit.storage}"`;
    case "replica":
      return `replicate lists need "${edit.to}" in the place of "${edit.from}"`;
  }
}

function isSo(fleet: Fleet, edit: FleetEdit): boolean {
  switch (edit.kind) {
    case "primary":
      return fleet.servers.some(({ name, isPrimary }) => isPrimary && name === edit.archive);
    case "storage":
      return fleet.volumes[edit.volume]?.storage === edit.storage;
    case "replica":
      return Object.values(fleet.volumes).every(({ replicate }) => replicate?.includes(edit.from) !== true);
  }
}

function setPrimary(text: string, archive: string): string {
  const without = text
    .split("\n")
    .filter((line) => !/^\s*primary\s*=\s*(true|false)\s*(#.*)?$/.test(line))
    .join("\n");
  return intoTable(without, `servers.${archive}`, "primary = true");
}

function setStorage(text: string, { volume, storage }: { readonly volume: string; readonly storage: string }): string {
  const line = `storage = "${storage}"`;
  const table = tableOf(text, `volumes.${volume}`);
  if (table === undefined) return `${text.trimEnd()}\n\n[volumes.${volume}]\n${line}\n`;
  const body = text.slice(table.start, table.end);
  const replaced = body.replace(/^(\s*)storage\s*=\s*(["'])[^"']*\2/m, `$1${line}`);
  if (replaced === body) return intoTable(text, `volumes.${volume}`, line);
  return text.slice(0, table.start) + replaced + text.slice(table.end);
}

function setReplica(text: string, { from, to }: { readonly from: string; readonly to: string }): string {
  return text.replace(/^(\s*replicate\s*=\s*)\[([^\]]*)\]/gm, (_, head: string, list: string) => {
    const names = list.split(",").map((name) => name.trim().replace(/^["']|["']$/g, ""));
    const next = new Set(names.filter((name) => name !== "").map((name) => (name === from ? to : name)));
    return `${head}[${[...next].map((name) => `"${name}"`).join(", ")}]`;
  });
}

/** A line as the first of a table. */
function intoTable(text: string, name: string, line: string): string {
  const table = tableOf(text, name);
  return table === undefined ? text : `${text.slice(0, table.start)}${line}\n${text.slice(table.start)}`;
}

/** Where the lines of a table are: behind its head, up to the next one. */
function tableOf(text: string, name: string): { readonly start: number; readonly end: number } | undefined {
  const head = new RegExp(`^\\s*\\[\\s*${name.replace(/[.]/g, "\\s*\\.\\s*")}\\s*\\][^\\n]*\\n?`, "m").exec(text);
  if (head === null) return undefined;
  const start = head.index + head[0].length;
  const next = /^\s*\[/m.exec(text.slice(start));
  return { start, end: next === null ? text.length : start + next.index };
}
