/** @module A device daemon as a process of its own, to be killed: `main.ts DATADIR NBDSOCKET`. */
import { openDeviceDaemon } from "../../../src/device/user/daemon.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";

const [dataDir, nbdSocket] = process.argv.slice(2);
if (dataDir === undefined || nbdSocket === undefined) throw new Error("usage: main.ts DATADIR NBDSOCKET");
const platform = createPlatform({ memoryBudgetBytes: 512 * 1024 * 1024, threads: 2 });
const daemon = await openDeviceDaemon(platform, {
  dataDir,
  nodeId: "test",
  nbdListeners: [{ kind: "unix", path: nbdSocket }],
  onProblem: (error) => console.error(error.message),
});
process.on("SIGTERM", async () => {
  await daemon.close();
  await closePlatform(platform);
  process.exit(0);
});
console.log("ready");
setInterval(() => undefined, 1000);
