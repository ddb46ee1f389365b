/** @module Limit: the receiving end of a TCP connection. Prints its port, then what came in. */
import { finished } from "../lib/inside.ts";

let bytes = 0;
let startMs = 0;
const server = Bun.listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    data(_, chunk) {
      if (bytes === 0) startMs = performance.now();
      bytes += chunk.length;
    },
    close() {
      const seconds = (performance.now() - startMs) / 1000;
      const { user, system } = process.cpuUsage();
      finished({ bytes, seconds, cpuS: (user + system) / 1e6 });
      server.stop();
    },
  },
});
console.log(JSON.stringify({ port: server.port }));
