/** How a file is cut and in which order it is announced; the arithmetic is the one of `datameta upload`. */

const MIB = 2 ** 20

/** Up to here a file goes in one piece; of a larger one, the checksum of so many bytes finds a begun upload again. */
export const SMALL_BYTES = 16 * MIB
/** Parts are hashed so far ahead of those that travel: the disk is then read once, and the network never waits. */
const AHEAD_PARTS = 12
const AHEAD_BYTES = 192 * MIB
/** So many addresses are asked for at once, unless the network would wait for more. */
export const RUN_PARTS = 8

export interface Span {
  readonly start: number
  readonly end: number
}

export interface Plan {
  readonly size: number
  readonly partSize: number
}

/** How many parts there are; an empty file has one, empty. */
export function countParts({ size, partSize }: Plan): number {
  return Math.max(1, Math.ceil(size / partSize))
}

/** Where the part of a number, from 1, begins and ends. */
export function partSpan({ size, partSize }: Plan, number: number): Span {
  return { start: (number - 1) * partSize, end: Math.min(number * partSize, size) }
}

export function partLength(plan: Plan, number: number): number {
  const { start, end } = partSpan(plan, number)
  return end - start
}

/** How many parts may be hashed and not sent yet; always more than travel at once. */
export function countAhead(partSize: number, lanes: number): number {
  return Math.max(lanes + 1, Math.min(AHEAD_PARTS, Math.floor(AHEAD_BYTES / partSize)))
}

/** Whether to ask for addresses now: enough parts wait for theirs, or soon nothing can be sent. */
export function isTimeToAsk(hashed: number, addressed: number, lanes: number, isLast: boolean): boolean {
  return hashed > 0 && (isLast || addressed < lanes || hashed >= RUN_PARTS)
}
