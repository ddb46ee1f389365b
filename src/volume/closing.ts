/** @module Lets go of what a role has opened, in reverse order. */

/** Something to close; may fail. */
export type Closing = () => void | Promise<void>;

/** Closes all, the last opened first; a failure does not keep the others open. @throws the first failure. */
export async function closeAll(opened: Closing[]): Promise<void> {
  const failures: unknown[] = [];
  for (let close = opened.pop(); close !== undefined; close = opened.pop()) {
    try {
      await close();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}
