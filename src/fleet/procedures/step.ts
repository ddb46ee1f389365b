/** @module One step of a procedure: what is done at which server, and why. Steps are data; `perform.ts` does them. */
import type { DeviceReference } from "../../control/storage.ts";
import type { FleetServer } from "../fleet.ts";

/** What is done. */
export type Action =
  | { readonly kind: "init-storage"; readonly device: DeviceReference }
  | { readonly kind: "init-archive" }
  | { readonly kind: "start-target" | "start-standby" | "start" }
  | { readonly kind: "stop"; readonly mode: "graceful" | "force" }
  /** Of a proxy: everything is delivered when it ends. */
  | { readonly kind: "stop-empty" }
  | { readonly kind: "reset" | "clear" }
  /** Takes a snapshot and waits until the archive can restore it: nothing of the log is missing there then. */
  | { readonly kind: "settle"; readonly archive: FleetServer }
  /** With an archive it also waits until that can restore it. */
  | { readonly kind: "backup"; readonly mode: "full" | "hash"; readonly archive?: FleetServer }
  | {
      readonly kind: "register";
      readonly archive: FleetServer;
      readonly compression?: string;
      readonly delayS?: number;
    }
  | { readonly kind: "unregister"; readonly archive: FleetServer }
  | { readonly kind: "replicate"; readonly to: FleetServer }
  /** Replicates until the diffs that wait at the proxies lead on at the other archive. */
  | { readonly kind: "catch-up"; readonly to: FleetServer; readonly proxies: readonly FleetServer[] }
  /** Waits for the end of a backup or copy that somebody began before. */
  | { readonly kind: "await-sync" }
  | { readonly kind: "kick" }
  | { readonly kind: "set-archive"; readonly archive: FleetServer }
  | { readonly kind: "set-proxies"; readonly addresses: readonly string[] };

/** A step. */
export interface Step {
  readonly at: FleetServer;
  /** Empty for steps that are about a server, not a volume. */
  readonly volume: string;
  readonly action: Action;
  /** English, for people. */
  readonly why: string;
}

/** A step in words: `p0: send vol0 to a1, too`. */
export function stepText({ at, volume, action }: Step): string {
  return `${at.name}: ${actionText(volume, action)}`;
}

function actionText(volume: string, action: Action): string {
  switch (action.kind) {
    case "init-storage":
      return `${volume} is device ${action.device.name}`;
    case "init-archive":
      return `make a place for ${volume}`;
    case "start":
      return `start ${volume}`;
    case "start-target":
      return `start ${volume} as target`;
    case "start-standby":
      return `start ${volume} as standby`;
    case "stop":
      return `stop ${volume}${action.mode === "force" ? " at once" : ""}`;
    case "stop-empty":
      return `stop ${volume} when everything is sent`;
    case "reset":
      return `reset ${volume}`;
    case "clear":
      return `forget ${volume}`;
    case "settle":
      return `take a snapshot of ${volume} and wait until ${action.archive.name} has it`;
    case "backup":
      return `${action.mode} backup of ${volume}`;
    case "register":
      return `send ${volume} to ${action.archive.name} at ${action.archive.address}`;
    case "unregister":
      return `send ${volume} to ${action.archive.name} no more`;
    case "replicate":
      return `replicate ${volume} to ${action.to.name}`;
    case "catch-up":
      return `replicate ${volume} to ${action.to.name} until the proxies lead on`;
    case "await-sync":
      return `wait for the backup of ${volume} that is under way`;
    case "kick":
      return `try at once what waits of ${volume}`;
    case "set-archive":
      return `take backups to ${action.archive.name} at ${action.archive.address}`;
    case "set-proxies":
      return `ship logs to ${action.addresses.join(", ")}`;
  }
}
