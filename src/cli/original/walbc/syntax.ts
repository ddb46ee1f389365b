/** @module Commands of the original's controller: what arguments each takes, and how it is answered. Pure. */
import { WalbError } from "../../../errors.ts";
import { findGetTarget, getTargets } from "../../../wire/get.ts";
import { parseOriginalInt } from "../options.ts";

/** How a command is answered. */
export type Answering =
  | "ok"
  | "accept"
  | "status"
  | "snapshot"
  | "archive-info"
  | "bhash"
  | "scan"
  | "get"
  | "exec"
  | "shutdown"
  | "sleep"
  | "version";

/** A command: `words` name its arguments; `?` is one that may be missing, `#` one that must be a number, `…` any more. */
export interface WalbcCommand {
  readonly words: string;
  readonly answering: Answering;
}

const command = (words: string, answering: Answering = "ok"): WalbcCommand => ({ words, answering });

/** By name. */
export const walbcCommands: Readonly<Record<string, WalbcCommand>> = {
  status: command("vol?", "status"),
  "init-vol": command("vol wdevPath?"),
  "clear-vol": command("vol"),
  "reset-vol": command("vol gid#?"),
  "full-bkp": command("vol bulkSize#?", "accept"),
  "hash-bkp": command("vol bulkSize#?", "accept"),
  start: command("vol mode?"),
  stop: command("vol mode?", "accept"),
  snapshot: command("vol", "snapshot"),
  restore: command("vol gid#", "accept"),
  "del-restored": command("vol gid#"),
  "del-cold": command("vol gid#"),
  apply: command("vol gid#", "accept"),
  merge: command("vol gidB# size|gid n#", "accept"),
  replicate: command("vol size|gid n# addr:port doResync? dontMerge? compression? maxMergeSize? bulkSize#?", "accept"),
  resize: command("vol size# zeroclear?"),
  kick: command("vol? archive?"),
  "set-full-scan-bps": command("bytes#"),
  "archive-info": command("add|update|get|delete|list vol archive? addr:port? compression? delay#?", "archive-info"),
  "disable-snapshot": command("vol gid# gid#…"),
  "enable-snapshot": command("vol gid# gid#…"),
  bhash: command("vol gid# bulkSize#? size#? sleepPct#?", "bhash"),
  "virt-full-scan": command("devPath|stdout vol gid# bulkSize#? size#? sleepPct#?", "scan"),
  "gc-diff": command("vol"),
  get: command("target arg…", "get"),
  exec: command("program arg…", "exec"),
  shutdown: command("graceful|force?", "shutdown"),
  sleep: command("seconds#?", "sleep"),
  version: command("", "version"),
  "dbg-reload-metadata": command("vol"),
  "dbg-set-uuid": command("vol uuid"),
  "dbg-set-state": command("vol state"),
  "dbg-set-base": command("vol state"),
  "dbg-dump-logpack-header": command("vol lsid#"),
};

interface Word {
  readonly name: string;
  readonly isNumber: boolean;
  readonly isOptional: boolean;
  readonly isRepeated: boolean;
}

function wordsOf({ words }: WalbcCommand): Word[] {
  return words.split(" ").flatMap((word) =>
    word === ""
      ? []
      : [
          {
            name: word.replace(/[#?…]+$/, ""),
            isNumber: word.includes("#"),
            isOptional: /[?…]$/.test(word),
            isRepeated: word.endsWith("…"),
          },
        ],
  );
}

/** Finds a command and checks its arguments as the original does, before anybody is asked. @throws WalbError `usage`. */
export function checkedCommand(name: string, args: readonly string[]): WalbcCommand {
  const found = Object.hasOwn(walbcCommands, name) ? walbcCommands[name] : undefined;
  if (found === undefined) throw optionError(`bad command:${name}`);
  const words = wordsOf(found);
  for (const [i, word] of words.entries()) {
    const given = word.isRepeated ? args.slice(i) : args.slice(i, i + 1);
    if (given.length === 0 && !word.isOptional) throw optionError(`no param:${word.name}`);
    if (word.isNumber) for (const text of given) parseOriginalInt(text, word.name);
  }
  const surplus = args[words.length];
  if (surplus !== undefined && words.at(-1)?.isRepeated !== true) throw optionError(`redundant argVal:${surplus}`);
  const empty = args.indexOf("");
  if (empty >= 0) throw optionError(`empty param:${empty + 1}`);
  return found;
}

/** The target must be one, and have its arguments. @throws WalbError `usage`. */
export function checkGet([name, ...args]: readonly string[]): void {
  const target = findGetTarget(name ?? "");
  if (target === undefined) {
    throw new WalbError("usage", {
      what: `no such get target:${name}`,
      hint: `the targets are ${Object.keys(getTargets).join(", ")}`,
    });
  }
  if (args.length < target.minArgs) {
    throw new WalbError("usage", { what: `get ${name}:missing required params: ${args.length} ${target.minArgs}` });
  }
}

function optionError(what: string): WalbError {
  return new WalbError("usage", { what: `OptionError:${what}` });
}

/** The commands, one a line, for the text of `-h`. */
export function commandsText(): string {
  const lines = Object.entries(walbcCommands).map(
    ([name, found]) =>
      `  ${name.padEnd(24)}${wordsOf(found)
        .map(({ name: word, isOptional, isRepeated }) => (isOptional ? `(${word}${isRepeated ? " ..." : ""})` : word))
        .join(" ")}`,
  );
  return `commands:\n${lines.join("\n")}`;
}
