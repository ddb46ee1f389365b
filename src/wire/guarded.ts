/** @module What is to be given up when a step of a conversation fails. */

/** Where data goes: `abandon` removes what is there of it. */
export interface Abandonable {
  abandon(error: unknown): Promise<void>;
}

/** Does a step; when it fails the sink is abandoned, and the error goes on. */
export async function guarded<T>(sink: Abandonable, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    await sink.abandon(error);
    throw error;
  }
}
