/**
 * @module Directories of volumes that are cleared, or are reset where not even a row can be written: each gets another
 * name in one step, which takes no space, so that no half of a volume can come back.
 */
import { createVolume, type VolumeParts, volumeDirectory } from "./open-volume.ts";
import type { ArchiveVolume } from "./volume.ts";

/** What their names begin with; no volume can have such a name. */
const prefixes = { clear: ".clearing-", reset: ".resetting-" } as const;

/** Whether a directory of the data directory is one of them. */
export function isMovedAway(directory: string): boolean {
  return Object.values(prefixes).some((prefix) => directory.startsWith(prefix));
}

/** The volume it was of. */
export function volumeMovedAway(trash: string): string {
  return trash.slice(trash.indexOf("-") + 1, trash.lastIndexOf("-"));
}

/** Moves them away, and finishes what was begun with them. */
export class MovedAway {
  readonly #parts: VolumeParts;
  /** Of cleared volumes. */
  readonly #deleting = new Set<Promise<void>>();

  constructor(parts: VolumeParts) {
    this.#parts = parts;
  }

  /** Gives the directory of a volume that is closed another name, durably. @returns it. */
  async take(volume: ArchiveVolume, why: keyof typeof prefixes): Promise<string> {
    const { platform, settings } = this.#parts;
    const hex = Buffer.from(platform.random.bytes(6)).toString("hex");
    const trash = `${prefixes[why]}${volume.name}-${hex}`;
    await platform.disk.rename(volume.directory, `${settings.dataDir}/${trash}`);
    await platform.disk.syncDirectory(settings.dataDir);
    return trash;
  }

  /** Goes on with a directory that was moved away, now or before a crash. */
  async finish(trash: string): Promise<void> {
    if (trash.startsWith(prefixes.clear)) await this.#finishClear(trash);
    else await this.#finishReset(trash);
  }

  /** Waits until the files of all cleared volumes are deleted. */
  async settle(): Promise<void> {
    while (this.#deleting.size > 0) await Promise.all(this.#deleting);
  }

  /** Images outside of the directory go at once, for the volume may be made anew; files behind it, which may take long. */
  async #finishClear(trash: string): Promise<void> {
    const { platform, settings, images, log } = this.#parts;
    const name = volumeMovedAway(trash);
    for (const image of await images.list(name)) await images.remove(image);
    const work: Promise<void> = platform.disk
      .removeTree(`${settings.dataDir}/${trash}`)
      .catch((error: unknown) => {
        log.warn("a cleared volume could not be deleted; the next start tries again", { trash, error });
      })
      .finally(() => this.#deleting.delete(work));
    this.#deleting.add(work);
  }

  /** Empties the directory, makes the volume anew, and only then lets go of the name. */
  async #finishReset(trash: string): Promise<void> {
    const { platform, settings, images } = this.#parts;
    const { disk } = platform;
    const name = volumeMovedAway(trash);
    const path = `${settings.dataDir}/${trash}`;
    for (const entry of await disk.list(path)) await disk.removeTree(`${path}/${entry}`);
    if ((await disk.info(volumeDirectory(this.#parts, name))) === undefined) {
      for (const image of await images.list(name)) await images.remove(image);
      const volume = await createVolume(this.#parts, name);
      await volume.close();
    }
    await disk.removeTree(path);
  }
}
