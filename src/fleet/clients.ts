/** @module Typed clients of the roles. */
import { type ArchiveCommands, archiveCommands } from "../control/archive.ts";
import { type CommonCommands, commonCommands } from "../control/common.ts";
import { type ProxyCommands, proxyCommands } from "../control/proxy.ts";
import { type StorageCommands, storageCommands } from "../control/storage.ts";
import { Client, type ServerReference } from "../http/client.ts";

export type StorageClient = Client<StorageCommands & CommonCommands>;
export type ProxyClient = Client<ProxyCommands & CommonCommands>;
export type ArchiveClient = Client<ArchiveCommands & CommonCommands>;

export const storageClient = (server: ServerReference): StorageClient =>
  new Client(server, { ...storageCommands, ...commonCommands });
export const proxyClient = (server: ServerReference): ProxyClient =>
  new Client(server, { ...proxyCommands, ...commonCommands });
export const archiveClient = (server: ServerReference): ArchiveClient =>
  new Client(server, { ...archiveCommands, ...commonCommands });

/** Commands that several roles have with the same parameters. */
const sharedCommands = {
  start: archiveCommands.start,
  stop: archiveCommands.stop,
  clear: archiveCommands.clear,
  reset: archiveCommands.reset,
  resize: archiveCommands.resize,
};
export const sharedClient = (server: ServerReference): Client<typeof sharedCommands> =>
  new Client(server, sharedCommands);
