import { expect, test } from "bun:test";
import { RawNbd, request } from "./raw.ts";
import { platform, setup } from "./setup.ts";

/** mulberry32: the seed is printed with a failure. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

test("pipelined random requests on several connections agree with a model, in whatever pieces they arrive", async () => {
  const seed = Number(process.env.WALB_SEED ?? Date.now() % 2 ** 31);
  const at = await setup();
  const shareBytes = 8 * 1024 * 1024;
  try {
    await Promise.all(
      [0, 1, 2, 3].map(async (c) => {
        const random = seeded(seed + c);
        const client = await RawNbd.go(platform.net, at.address, "vol0", { structured: c % 2 === 0 });
        const model = Buffer.alloc(shareBytes);
        for (let round = 0; round < 40; round++) {
          const parts: Buffer[] = [];
          const expected: (Buffer | undefined)[] = [];
          // Requests under way together must not overlap: each has a lane of its own.
          for (let lane = 0; lane < 8; lane++) {
            const laneBytes = shareBytes / 8;
            const size = 512 * (1 + random(random(4) === 0 ? 256 : 24));
            const offset = lane * laneBytes + 512 * random((laneBytes - size) / 512);
            const base = c * shareBytes + offset;
            const kind = random(5);
            if (kind < 2) {
              const data = Buffer.alloc(size);
              for (let i = 0; i < size; i += 4) data.writeUInt32LE(random(2 ** 32), i);
              data.copy(model, offset);
              parts.push(request(1, lane, base, size, random(2), data));
            } else if (kind === 2) {
              model.fill(0, offset, offset + size);
              parts.push(request(random(2) === 0 ? 4 : 6, lane, base, size));
            } else {
              expected[lane] = Buffer.from(model.subarray(offset, offset + size));
              parts.push(request(0, lane, base, size));
            }
          }
          const stream = Buffer.concat(parts);
          for (let sent = 0; sent < stream.length; ) {
            const piece = Math.min(stream.length - sent, 1 + random(random(3) === 0 ? 40 : 70_000));
            client.send(stream.subarray(sent, sent + piece));
            sent += piece;
            if (random(4) === 0) await Bun.sleep(0);
          }
          const sizes = expected.map((data) => data?.length ?? 0);
          for (let n = 0; n < 8; n++) {
            const reply = await nextOf(client, sizes);
            const want = expected[reply.handle];
            const got = reply.type === 0 ? reply.payload : reply.payload.subarray(8);
            const isSame = want === undefined || want.equals(got);
            expect({ seed, round, lane: reply.handle, error: reply.error, isSame }).toEqual({
              seed,
              round,
              lane: reply.handle,
              error: 0,
              isSame: true,
            });
          }
        }
        client.connection.close();
      }),
    );
  } finally {
    await at.close();
  }
  expect(at.pool.leasedBytes).toBe(0);
});

/** The next reply, knowing how much data follows the simple reply of each handle. */
async function nextOf(client: RawNbd, sizes: readonly number[]): ReturnType<RawNbd["nextReply"]> {
  const head = await client.nextReply();
  if (head.type !== 0 || (sizes[head.handle] ?? 0) === 0) return head;
  return { ...head, payload: await client.take(sizes[head.handle]!) };
}
