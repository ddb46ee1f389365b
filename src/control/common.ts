/** @module The commands every role has; `createControl` answers them. */
import { z } from "zod";
import { defineCommand } from "./command.ts";
import { doneSchema, noParams, timeMsSchema } from "./schemas.ts";

const serverInfoSchema = z.object({
  role: z.enum(["storage", "proxy", "archive"]),
  nodeId: z.string(),
  version: z.string(),
  startedMs: timeMsSchema,
  nowMs: timeMsSchema,
  /** How connections are protected: loopback only, by a cluster key, or not. */
  security: z.enum(["loopback", "cluster-key", "insecure"]),
});
/** What a daemon is, answered by `version`. */
export type ServerInfo = z.output<typeof serverInfoSchema>;

export const commonCommands = {
  version: defineCommand({
    summary: "Role, node id and version of the daemon",
    params: noParams,
    result: serverInfoSchema,
    isReadOnly: true,
  }),
  shutdown: defineCommand({
    summary: "Ends the daemon; gracefully unless forced",
    params: z.strictObject({ mode: z.enum(["graceful", "force"]).optional() }),
    result: doneSchema,
  }),
} as const;
export type CommonCommands = typeof commonCommands;
