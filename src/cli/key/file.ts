/** @module Key files as commands use them. */
import { resolve } from "node:path";
import { readSecretFile } from "../../platform/real/secret.ts";
import { type ClusterKeys, parseKeys } from "../../secure/key.ts";
import type { Io } from "../verb.ts";

/** Where a key is unless said otherwise: beside the fleet file of the system. */
export const defaultKeyFile = "/etc/walb/cluster-key";

/** The keys of a file. @throws WalbError `usage` when it is missing, open to others or no key file. */
export function readKeys(io: Io, file: string): ClusterKeys {
  const path = resolve(io.cwd, file);
  return parseKeys(readSecretFile(path), path);
}

/** The file that a command about keys means: its argument, else the flag or WALB_CLUSTER_KEY, else the default. */
export function keyFileOf(args: readonly string[], flags: { readonly "cluster-key": string | undefined }): string {
  return args[0] ?? flags["cluster-key"] ?? defaultKeyFile;
}
