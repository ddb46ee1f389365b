import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createSimWorld } from "../../src/sim/sim.ts";
import { expectSame, gidsOf, openTestArchive, run, statusOf } from "../archive/harness.ts";
import { vectorBytes, vectorNames, vectorPath } from "../helpers/vectors.ts";

interface Segment {
  readonly dir: "C>" | "S>";
  readonly hex?: string;
  readonly base64?: string;
}

interface Conversation {
  readonly name: string;
  readonly context: string;
  readonly segments: readonly Segment[];
}

const isThere = vectorNames("wire", /^repl-sync3\.jsonl\.gz$/).length > 0;

function recorded(): Conversation[] {
  const packed = readFileSync(vectorPath("wire/repl-sync3.jsonl.gz"));
  const lines = new TextDecoder().decode(Bun.gunzipSync(packed)).split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as Conversation);
}

function bytesOf({ segments }: Conversation, dir: "C>" | "S>"): Buffer {
  const parts = segments.filter((segment) => segment.dir === dir);
  return Buffer.concat(
    parts.map(({ hex, base64 }) => (hex === undefined ? Buffer.from(base64 ?? "", "base64") : Buffer.from(hex, "hex"))),
  );
}

/** An archive of ours that a recorded archive of the original replicates to. */
class Receiver {
  readonly world = createSimWorld(1);
  readonly host;
  readonly client = this.world.host("client", { memoryBytes: 64 << 20 });
  role!: Awaited<ReturnType<typeof openTestArchive>>;

  constructor(readonly name: string) {
    this.host = this.world.host(name, { memoryBytes: 320 << 20 });
  }

  async open(volume: string): Promise<void> {
    const listen = { kind: "tcp", host: "", port: 10200 } as const;
    this.role = await this.world.complete(() =>
      openTestArchive(this.host.platform, "/data", { listen, nodeId: this.name }),
    );
    await this.world.complete(() => run(this.role.control, "init", { volume }));
  }

  /** Says what the original said, and answers what ours did. */
  async replay(conversation: Conversation): Promise<Buffer> {
    const { net } = this.client.platform;
    const chunks: Uint8Array[] = [];
    await this.world.complete(async () => {
      const connection = await net.connect({ kind: "tcp", host: this.name, port: 10200 }, { timeoutMs: 5_000 });
      await new Promise<void>((resolve) => {
        connection.setReader({ data: (chunk) => chunks.push(chunk.slice()), end: resolve, closed: () => resolve() });
        connection.resume();
        connection.write(new Uint8Array(bytesOf(conversation, "C>")));
      });
      connection.close();
    });
    return Buffer.concat(chunks);
  }

  /** The points it has, each the image of the original's volume at that time. */
  async check(volume: string): Promise<number[]> {
    for (let i = 0; i < 100; i++) {
      const { state } = await this.world.complete(() => statusOf(this.role.control, volume));
      if (state !== "Resync") break;
      await this.world.run(100);
    }
    const gids = await this.world.complete(() => gidsOf(this.role.control, volume));
    for (const gid of gids) {
      const [name] = vectorNames("wire/images", new RegExp(`^${volume}-g${gid}\\.img\\.xz$`));
      if (name === undefined) continue;
      const to = "/restored.img";
      await this.world.complete(() => run(this.role.control, "restore", { volume, gid, to, overwrite: true }));
      const expected = await vectorBytes(name);
      expectSame(this.host.storage.peek(to, 0, expected.length), expected, `${volume} at gid ${gid}`);
    }
    return gids;
  }
}

describe.skipIf(!isThere)("an archive of the original replicates to ours", () => {
  const accepted = recordedWhenThere().filter(({ name }) => !name.includes("bad-state"));
  const to = (name: string): Conversation[] =>
    accepted.filter((conversation) => conversation.name.includes(`-${name}-`));

  test("byte for byte, and every image is the original's: full copy, diffs, nothing to do, resync", async () => {
    const receiver = new Receiver("a1");
    await receiver.open("vol0");
    const kinds: string[] = [];
    for (const conversation of to("a1")) {
      const theirs = bytesOf(conversation, "S>");
      const ours = await receiver.replay(conversation);
      kinds.push(conversation.context);
      expect({ name: conversation.name, bytes: ours.toString("hex") }).toEqual({
        name: conversation.name,
        bytes: theirs.toString("hex"),
      });
      expect((await receiver.check("vol0")).length).toBeGreaterThan(0);
    }
    expect(kinds).toEqual([
      "replicate full",
      "snapshot vol0 11",
      "snapshot vol0 13",
      "replicate nothing to do",
      "replicate resync",
    ]);
    receiver.world.close();
  });

  test("to an archive for a volume with blocks of 4096 bytes", async () => {
    const receiver = new Receiver("a2");
    await receiver.open("volk");
    for (const conversation of to("a2")) {
      const theirs = bytesOf(conversation, "S>");
      expect((await receiver.replay(conversation)).toString("hex")).toBe(theirs.toString("hex"));
    }
    expect(await receiver.check("volk")).toEqual([1, 3, 5]);
    receiver.world.close();
  });

  function recordedWhenThere(): Conversation[] {
    return isThere ? recorded() : [];
  }
});
