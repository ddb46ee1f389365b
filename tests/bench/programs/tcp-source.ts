/** @module Limit: the sending end of a TCP connection. */
import { finished } from "../lib/inside.ts";

const { port, sizeBytes } = JSON.parse(process.argv[2]!) as { port: number; sizeBytes: number };
const buffer = new Uint8Array(256 * 1024).fill(1);
let left = sizeBytes;
const socket = await Bun.connect({
  hostname: "127.0.0.1",
  port,
  socket: { data() {}, drain: send },
});
send();

function send(): void {
  while (left > 0) {
    const wanted = Math.min(left, buffer.length);
    const written = socket.write(buffer, 0, wanted);
    if (written < 0) throw new Error("the connection was closed");
    left -= written;
    if (written < wanted) return;
  }
  if (left === 0) {
    left = -1;
    socket.end();
    const { user, system } = process.cpuUsage();
    finished({ cpuS: (user + system) / 1e6 });
  }
}
