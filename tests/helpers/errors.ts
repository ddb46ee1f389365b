/** @module What work fails with. */
import { expect } from "bun:test";
import { WalbError } from "../../src/errors.ts";

/** The error of work. @throws when it does not fail. */
export async function errorOf(work: Promise<unknown>): Promise<Error> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

/** As {@link errorOf}, of our own class. @throws any other. */
export async function failureOf(work: Promise<unknown>): Promise<WalbError> {
  const error = await errorOf(work);
  if (error instanceof WalbError) return error;
  throw error;
}

/**
 * Work fails, with these words or fields. Not `expect(work).rejects`, which runs the event loop inside of itself: in there a
 * simulated world has no turn for as long as the process has anything else to wait for.
 */
export async function expectError(work: Promise<unknown>, expected: string | RegExp | object = {}): Promise<void> {
  const error = await errorOf(work);
  if (typeof expected === "string" || expected instanceof RegExp) expect(error.message).toMatch(expected);
  else expect(error).toMatchObject(expected);
}

/** The code of the error that work fails with, or what it did instead. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "no error";
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : `not a WalbError: ${error}`;
  }
}
