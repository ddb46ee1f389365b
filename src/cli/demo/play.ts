/**
 * @module The play of the demo: a volume with files is backed up while it changes, destroyed, and brought back as it was
 * at a named snapshot and at a moment between two snapshots.
 */
import { statSync } from "node:fs";
import { WalbError } from "../../errors.ts";
import type { Net } from "../../platform/net.ts";
import { archiveClient, storageClient } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { formatDuration, formatTime } from "../text/time.ts";
import type { Io } from "../verb.ts";
import { type Content, makeContent } from "./content.ts";
import { copyImage, firstDifference, recordVolume, writeChanges } from "./images.ts";
import { NbdClient } from "./nbd.ts";
import type { Report } from "./report.ts";
import type { Stage } from "./stage.ts";
import { eventually } from "./waiting.ts";

const volumeName = "demo";
const settleMs = 30_000;

/** A state of the volume that was recorded while it was live. */
interface Recorded {
  readonly imagePath: string;
  readonly gid: bigint;
  readonly atMs: number;
}

/** Everything the acts share. */
export class Play {
  readonly #stage: Stage;
  readonly #report: Report;
  readonly #io: Io;
  readonly #net: Net;
  readonly #sizeBytes: number;
  readonly #content: Content;
  #volume: NbdClient | undefined;
  #round = 0;

  constructor(stage: Stage, report: Report, io: Io, net: Net, sizeBytes: number) {
    this.#stage = stage;
    this.#report = report;
    this.#io = io;
    this.#net = net;
    this.#sizeBytes = sizeBytes;
    this.#content = makeContent(stage.directory, stage.path("live.img"), sizeBytes);
  }

  /** All acts. @throws WalbError when anything is not as it must be. */
  async perform(): Promise<void> {
    if (this.#content.kind !== "ext4") {
      this.#report.say("e2fsprogs is not installed: using generated file data instead of an ext4 file system");
    }
    await this.#createVolume();
    await this.#backUp();
    await this.#change("files change while the log ships", 4);
    const named = await this.#takeNamedSnapshot();
    await this.#change("more files change", 3);
    const moment = await this.#markMoment();
    await this.#change("and still more", 2);
    await this.#destroy();
    await this.#report.step("list the points in time", async () => {
      await this.#stage.walb("snapshots", volumeName);
      const { snapshots } = await this.#archive.call("snapshots", { volume: volumeName, all: true });
      return { result: `${snapshots.length} points can be restored` };
    });
    await this.#restore(
      "restore the named snapshot",
      named,
      ["--snapshot", named.gid.toString()],
      "restored-named.img",
    );
    const at = new Date(moment.atMs).toISOString();
    await this.#restore("restore a moment between snapshots", moment, ["--at", at], "restored-moment.img");
    await this.#report.step("ask whether the volume is protected", async () => {
      await this.#stage.walb("status", volumeName);
      return { result: "protected" };
    });
    this.close();
  }

  close(): void {
    this.#volume?.close();
    this.#volume = undefined;
  }

  get #archive() {
    return archiveClient({ name: "a0", address: this.#stage.addresses.archive });
  }

  get #storage() {
    return storageClient({ name: "s0", address: this.#stage.addresses.storage });
  }

  get #live(): string {
    return this.#stage.path("live.img");
  }

  async #createVolume(): Promise<void> {
    await this.#report.step(`create a ${formatSize(this.#sizeBytes)} volume`, async () => {
      const size = ["--size", String(this.#sizeBytes), "--log-size", "1G"];
      await this.#stage.walb("device", "create", volumeName, ...size, "--device-data", this.#stage.path("device"));
      await this.#stage.walb("init", volumeName, "--device", volumeName);
      return {};
    });
    await this.#report.step(`fill it through NBD with ${this.#content.kind}`, async () => {
      await this.#content.create();
      const address = { kind: "unix", path: this.#stage.nbdPath } as const;
      this.#volume = await NbdClient.connect(this.#net, address, volumeName);
      const bytes = await writeChanges(this.#volume, this.#live, undefined);
      return { moved: formatSize(bytes) };
    });
  }

  async #backUp(): Promise<void> {
    await this.#report.step("take a full backup", async () => {
      await this.#stage.walb("backup", volumeName, "--wait");
      const { volumes } = await this.#archive.call("status", { volume: volumeName });
      return { moved: formatSize(volumes[0]?.imageBytes ?? 0), result: "the log ships by itself from now on" };
    });
  }

  async #change(what: string, rounds: number): Promise<void> {
    await this.#report.step(what, async () => {
      let bytes = 0;
      for (let i = 0; i < rounds; i += 1) {
        if (this.#io.signal.aborted) throw new WalbError("cancelled", { what: "interrupted" });
        const before = this.#stage.path("before.img");
        copyImage(this.#live, before);
        await this.#content.change(this.#round);
        this.#round += 1;
        bytes += await writeChanges(this.#volume!, this.#live, before);
        await Bun.sleep(300);
      }
      return { moved: formatSize(bytes), result: `${rounds} rounds` };
    });
  }

  async #takeNamedSnapshot(): Promise<Recorded> {
    const imagePath = this.#stage.path("recorded-named.img");
    const recorded = await this.#report.step("take a named snapshot", async () => {
      const label = ["--label", "before the accident"];
      const output = await this.#stage.walb("snapshot", volumeName, ...label, "--wait", "--json");
      const answer = JSON.parse(output) as { gid: number; timeMs: number };
      await recordVolume(this.#volume!, imagePath);
      return { imagePath, gid: BigInt(answer.gid), atMs: answer.timeMs, result: `snapshot ${answer.gid}` };
    });
    return recorded;
  }

  /** Lets everything written so far become a point of the clock, and remembers when that was. */
  async #markMoment(): Promise<Recorded> {
    const imagePath = this.#stage.path("recorded-moment.img");
    return this.#report.step("remember how it is at this moment", async () => {
      await recordVolume(this.#volume!, imagePath);
      const gid = await eventually("shipping the log", settleMs, async () => {
        const { volumes } = await this.#storage.call("status", { volume: volumeName });
        const volume = volumes[0];
        const isShipped = volume?.latestLsid !== undefined && volume.doneLsid === volume.latestLsid;
        return isShipped ? volume.doneGid : undefined;
      });
      await eventually("the arrival of the log at the archive", settleMs, async () => {
        const { volumes } = await this.#archive.call("status", { volume: volumeName });
        return (volumes[0]?.newestPoint?.gid ?? -1n) >= gid ? true : undefined;
      });
      // Points carry whole seconds: let one pass before and after, so that the moment is surely between points.
      await Bun.sleep(1100);
      const atMs = this.#io.nowMs();
      await Bun.sleep(1100);
      return { imagePath, gid, atMs, result: formatTime(atMs) };
    });
  }

  async #destroy(): Promise<void> {
    await this.#report.step("destroy the file system on the volume", async () => {
      const junk = new Uint8Array(1 << 20).fill(0xdb);
      const bytes = 64 << 20;
      for (let offset = 0; offset < bytes; offset += junk.length) await this.#volume!.write(offset, junk);
      await this.#volume!.flush();
      const destroyed = this.#stage.path("destroyed.img");
      await recordVolume(this.#volume!, destroyed);
      const check = await this.#content.check(destroyed);
      if (check?.isClean === true)
        throw new WalbError("internal", { what: "the file system survived its destruction" });
      return { moved: formatSize(bytes), result: check === undefined ? "overwritten" : `e2fsck: ${check.text}` };
    });
  }

  async #restore(what: string, recorded: Recorded, point: readonly string[], name: string): Promise<void> {
    const to = this.#stage.path(name);
    await this.#report.step(what, async () => {
      const startMs = performance.now();
      const output = await this.#stage.walb("restore", volumeName, ...point, "--to", to, "--json");
      const tookMs = performance.now() - startMs;
      const { bytes } = JSON.parse(output) as { bytes: number };
      const difference = await firstDifference(recorded.imagePath, to);
      if (difference !== undefined) {
        throw new WalbError("damaged", {
          what: "the restored image differs from what was live",
          where: { volume: volumeName, file: to, offsetBytes: difference },
        });
      }
      const check = await this.#content.check(to);
      if (check !== undefined && !check.isClean) {
        throw new WalbError("damaged", { what: `e2fsck does not like it: ${check.text}`, where: { file: to } });
      }
      const verdict = check === undefined ? "" : ", e2fsck clean";
      const result = `restored in ${formatDuration(tookMs)}, all ${formatSize(statSync(to).size)} identical${verdict}`;
      return { moved: formatSize(bytes), result };
    });
  }
}
