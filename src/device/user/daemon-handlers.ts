/** @module The operations of the control socket, performed by a set of volumes. */
import type { ControlHandlers } from "./control/server.ts";
import type { VolumeSet } from "./daemon-volumes.ts";

/** Handlers for the control server. */
export function controlHandlers(volumes: VolumeSet, nodeId: string): ControlHandlers {
  return {
    ping: async () => ({ nodeId, volumes: volumes.list().length }),
    list: async () => ({ volumes: volumes.list() }),
    show: async ({ name }) => volumes.show(name),
    create: (volume) => volumes.create(volume),
    delete: async ({ name, ...options }) => {
      await volumes.delete(name, options);
      return {};
    },
    start: ({ name }) => volumes.startAgain(name),
    stop: ({ name, ...options }) => volumes.stop(name, options),
    resize: ({ name, sizeBytes }) => volumes.resize(name, sizeBytes),
    checkpoint: async ({ name }) => {
      await volumes.engine(name).checkpoint();
      return {};
    },
    freeze: async ({ name, timeoutMs }) => {
      await volumes.engine(name).freeze(timeoutMs === undefined ? {} : { timeoutMs });
      return {};
    },
    melt: async ({ name }) => {
      volumes.engine(name).melt();
      return {};
    },
    resetLog: ({ name }) => volumes.resetLog(name),
    info: async ({ name }) => volumes.engine(name).deviceInfo(),
    status: async ({ name }) => volumes.engine(name).deviceStatus(),
    checkpointInterval: async ({ name, intervalMs }) => {
      const engine = volumes.engine(name);
      if (intervalMs !== undefined) engine.checkpointIntervalMs = intervalMs;
      return { intervalMs: engine.checkpointIntervalMs };
    },
    setOldest: async ({ name, lsid }) => {
      await volumes.engine(name).setOldest(lsid);
      return {};
    },
  };
}
