import { describe, expect, test } from "bun:test";
import { createSimWorld } from "../../src/sim/sim.ts";
import { takeSnapshot } from "../../src/wire/meta.ts";
import { Decoder } from "../../src/wire/serializer.ts";
import { expectSame, gidsOf, openTestArchive, run, statusOf } from "../archive/harness.ts";
import {
  bytesOf,
  type Conversation,
  hasRecordings,
  loadRecorded,
  recordedKinds,
  serverHello,
} from "../helpers/recorded.ts";
import { vectorBytes, vectorNames } from "../helpers/vectors.ts";

const numberOf = ({ name }: Conversation): number => Number.parseInt(name, 10);
const recorded = recordedKinds()
  .flatMap(loadRecorded)
  .filter((one) => one.server === "archive" && serverHello(bytesOf(one, "S>")).serverId === "a0")
  .sort((a, b) => numberOf(a) - numberOf(b));

/** Recorded conversations of the archive a0 from one number to another, in their order. */
const between = (first: number, last: number): Conversation[] =>
  recorded.filter((one) => numberOf(one) >= first && numberOf(one) <= last);

/** An archive of ours in the place of a recorded one. */
class Successor {
  readonly world = createSimWorld(1);
  readonly host = this.world.host("a0", { memoryBytes: 320 << 20 });
  readonly client = this.world.host("client", { memoryBytes: 64 << 20 });
  role!: Awaited<ReturnType<typeof openTestArchive>>;
  comparedImages = 0;

  async open(): Promise<void> {
    const listen = { kind: "tcp", host: "", port: 10200 } as const;
    this.role = await this.world.complete(() => openTestArchive(this.host.platform, "/data", { listen, nodeId: "a0" }));
  }

  run(command: string, params: object): Promise<Record<string, unknown>> {
    return this.world.complete(() => run(this.role.control, command, params));
  }

  /** Says what the recorded client said, ends as that one did, and returns what ours answered. */
  async hear(conversation: Conversation): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    await this.world.complete(async () => {
      const to = { kind: "tcp", host: "a0", port: 10200 } as const;
      const connection = await this.client.platform.net.connect(to, { timeoutMs: 5_000 });
      await new Promise<void>((resolve) => {
        connection.setReader({ data: (chunk) => chunks.push(chunk.slice()), end: resolve, closed: () => resolve() });
        connection.resume();
        connection.write(bytesOf(conversation, "C>"));
        if (conversation.segments.some((one) => one.dir === "C>" && "event" in one)) connection.end();
      });
      connection.close();
    });
    await this.world.run(500);
    return Buffer.concat(chunks);
  }

  /** Compares the newest point, if the original's image of it was kept. */
  async compareNewest(volume: string): Promise<void> {
    const gid = (await this.world.complete(() => gidsOf(this.role.control, volume))).at(-1);
    const [name] = vectorNames("wire/images", new RegExp(`^${volume}-g${gid}\\.img\\.xz$`));
    if (name === undefined) return;
    await this.run("restore", { volume, gid, to: "/restored.img", overwrite: true });
    const expected = await vectorBytes(name);
    expectSame(this.host.storage.peek("/restored.img", 0, expected.length), expected, `${volume} at gid ${gid}`);
    this.comparedImages += 1;
  }
}

/** Answers that say something of this host or of this moment. */
const isOfItsOwn = ({ protocol, request }: Conversation): boolean =>
  (protocol === "get" &&
    ["pid", "archive-uuid", "all-actions", "volume-group", "ts-delta"].includes(`${request[0]}`)) ||
  protocol === "status" ||
  protocol === "replicate";

/** What a refusal says to a script: its first line, of which ours has a second one and theirs addresses of a stack. */
const firstLine = (text: string): string => text.split("\n")[0]!;

describe.skipIf(!hasRecordings)("an archive of ours in the place of a recorded one", () => {
  test("answers every backup, diff, command and question byte for byte, and has the original's image of each point", async () => {
    // Up to here nothing is missing between the recordings of these volumes.
    for (const [volume, first, last] of [
      ["vol0", 83, 237],
      ["volk", 401, 408],
    ] as const) {
      const ours = new Successor();
      await ours.open();
      if (volume !== "vol0") await ours.run("init", { volume });
      let played = 0;
      for (const conversation of between(first, last)) {
        if (conversation.result.startsWith("no answer")) continue;
        const theirs = bytesOf(conversation, "S>");
        const said = await ours.hear(conversation);
        const { name } = conversation;
        const answer = serverHello(theirs).first;
        const isRefused =
          !["", "ok", "accept", "accepted"].includes(answer) && !["get"].includes(conversation.protocol);
        if (isRefused && !isOfItsOwn(conversation)) {
          expect({ name, refusal: firstLine(serverHello(said).first) }).toEqual({ name, refusal: firstLine(answer) });
        } else if (!isOfItsOwn(conversation)) {
          expect({ name, bytes: said.toString("hex") }).toEqual({ name, bytes: Buffer.from(theirs).toString("hex") });
          played += 1;
        }
        if (conversation.protocol === "wdiff-transfer") await ours.compareNewest(volume);
      }
      expect(played).toBeGreaterThan(2);
      expect(ours.comparedImages).toBeGreaterThan(0);
      ours.world.close();
    }
  });

  test("tells a recorded storage the hashes that the original told of the same image", async () => {
    for (const [number, image, ...diffs] of [
      [277, "vol0-g19"],
      [524, "volo-g10", 526],
    ] as const) {
      const [hash] = between(number, number);
      const volume = `${hash!.request[0]}`;
      const theirs = bytesOf(hash!, "S>");
      const decoder = new Decoder(theirs);
      for (let i = 0; i < 3; i++) decoder.string();
      const { gidB } = takeSnapshot(decoder);
      const ours = new Successor();
      await ours.open();
      await ours.run("init", { volume });
      const full = recorded.find((one) => one.protocol === "dirty-full-sync3" && one.request[0] === volume);
      await ours.hear(full!);
      ours.host.storage.poke(`/data/${volume}/base.img`, 0, await vectorBytes(`wire/images/${image}.img.xz`));
      await ours.run("stop", { volume, mode: "graceful" });
      await ours.run("dbg-set-base", { volume, base: `<|${gidB}|>-20261121041832` });
      await ours.run("start", { volume });
      expect((await ours.hear(hash!)).toString("hex")).toBe(Buffer.from(theirs).toString("hex"));
      // The log from the comparison on makes it a point.
      for (const conversation of diffs.flatMap((diff) => between(diff, diff))) {
        const accepted = Buffer.from(bytesOf(conversation, "S>")).toString("hex");
        expect((await ours.hear(conversation)).toString("hex")).toBe(accepted);
      }
      ours.world.close();
    }
  });

  test("is as before after recorded backups and diffs that broke off, and takes the next one", async () => {
    const ours = new Successor();
    await ours.open();
    await ours.run("init", { volume: "vol1" });
    const state = async () => {
      const { state, wdiffCount } = await ours.world.complete(() => statusOf(ours.role.control, "vol1"));
      return { state, wdiffCount };
    };
    for (const number of [509, 515, 572]) {
      const [broken] = between(number, number);
      await ours.hear(broken!);
      expect({ number, ...(await state()) }).toEqual({ number, state: "SyncReady", wdiffCount: 0 });
    }
    const [full] = between(517, 517);
    expect((await ours.hear(full!)).toString("hex")).toBe(Buffer.from(bytesOf(full!, "S>")).toString("hex"));
    const [diff] = between(521, 521);
    await ours.hear(diff!);
    expect(await state()).toEqual({ state: "Archived", wdiffCount: 0 });
    ours.world.close();
  });
});
