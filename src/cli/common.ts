/** @module Flags that all commands talking to daemons share, and what follows from them: the fleet, clients, output. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { toJson } from "../control/schemas.ts";
import { WalbError } from "../errors.ts";
import { defaultFleet, type Fleet, parseFleet, withClusterKey } from "../fleet/fleet.ts";
import { asDuration, asPath, asText, option, toggle } from "./flags.ts";
import type { Io } from "./verb.ts";

/** `--json --quiet --timeout --server --fleet --cluster-key`. */
export const clientFlags = {
  json: toggle("one JSON value on stdout instead of text; fields may be added"),
  quiet: toggle("no progress and no remarks", { alias: "q" }),
  timeout: option("TIME", "give up after this time; work that was begun goes on", asDuration),
  server: option("SERVER", "host:port, or a name from the fleet file", asText),
  fleet: option("FILE", "fleet file; without it ./walb.toml, then /etc/walb/walb.toml", asPath),
  "cluster-key": option("FILE", "key of the daemons; default: cluster-key of the fleet file", asPath),
};

/** `--yes --dry-run`, of commands that destroy something. */
export const destructiveFlags = {
  yes: toggle("do not ask", { alias: "y" }),
  "dry-run": toggle("only say what would be done"),
};

/** Values of {@link clientFlags}. */
export interface ClientFlagValues {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly timeout: number | undefined;
  readonly server: string | undefined;
  readonly fleet: string | undefined;
  readonly "cluster-key": string | undefined;
}

/** Reads the fleet file, or takes the default fleet; with the key to reach it. @throws WalbError `usage`. */
export function loadFleet(flags: Pick<ClientFlagValues, "fleet" | "cluster-key">, io: Io): Fleet {
  const fleet = readFleet(flags, io);
  const given = flags["cluster-key"];
  if (given !== undefined) return withClusterKey(fleet, resolve(io.cwd, given));
  if (fleet.clusterKey === undefined) return fleet;
  return withClusterKey(fleet, resolve(dirname(fleet.file ?? io.cwd), fleet.clusterKey));
}

function readFleet(flags: Pick<ClientFlagValues, "fleet">, io: Io): Fleet {
  const candidates = flags.fleet === undefined ? ["walb.toml", "/etc/walb/walb.toml"] : [flags.fleet];
  for (const candidate of candidates) {
    const path = resolve(io.cwd, candidate);
    if (existsSync(path)) return parseFleet(readFleetFile(path), path);
  }
  if (flags.fleet === undefined) return defaultFleet;
  throw new WalbError("usage", { what: "the fleet file is not there", where: { file: resolve(io.cwd, flags.fleet) } });
}

/** The text of a fleet file that is there. @throws WalbError `usage` naming it, when it cannot be read. */
export function readFleetFile(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const why = cause instanceof Error && "code" in cause ? `: ${String(cause.code)}` : "";
    throw new WalbError("usage", {
      what: `the fleet file cannot be read${why}`,
      where: { file },
      hint: "it is a text file that the user who runs this may read",
      cause,
    });
  }
}

/** Options of a call from the flags. */
export function callOptions(flags: ClientFlagValues, io: Io): { signal: AbortSignal; timeoutMs?: number } {
  return { signal: io.signal, ...(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout }) };
}

/** Prints a result: as JSON, or as the text. */
export function print(flags: { readonly json: boolean }, io: Io, value: unknown, text: string): void {
  io.out(flags.json ? `${toJson(value)}\n` : text);
}

/** A remark on stderr, unless quiet. */
export function remark(flags: { readonly quiet: boolean }, io: Io, text: string): void {
  if (!flags.quiet) io.err(`${text}\n`);
}

/**
 * Lets a destructive command go on: asks on a terminal; elsewhere it must have --yes.
 * @param question what is about to be destroyed, as a sentence: "This deletes all backups of vol0 at a0."
 * @throws WalbError `usage` without a terminal, `cancelled` when the answer is not yes.
 */
export async function confirm(flags: { readonly yes: boolean }, io: Io, question: string): Promise<void> {
  if (flags.yes) return;
  if (!io.isInTerminal || !io.isErrTerminal) {
    throw new WalbError("usage", {
      what: `${question} It was not confirmed`,
      hint: "add --yes to do it without asking",
    });
  }
  const answer = await io.ask(`${question} Go on? [y/N] `);
  if (!/^y(es)?$/i.test(answer.trim())) throw new WalbError("cancelled", { what: "not confirmed, nothing was done" });
}
