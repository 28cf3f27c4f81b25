/** How fast bytes move: over the last seconds, so that a pause or a fast burst is soon forgotten. */

const WINDOW_SECONDS = 12
const SLOT_SECONDS = 0.5

/** Times are seconds of any clock that only goes forward. */
export class RateMeter {
  private slots: { at: number; bytes: number }[] = []
  private began: number | null = null

  add(bytes: number, now: number): void {
    this.began ??= now
    const last = this.slots.at(-1)
    if (last && now - last.at < SLOT_SECONDS) last.bytes += bytes
    else this.slots.push({ at: now, bytes })
  }

  /** Begin anew: nothing moves, and the time until something does again says nothing. */
  reset(): void {
    this.slots = []
    this.began = null
  }

  /** Bytes per second; 0 until there is something to go by. */
  rate(now: number): number {
    this.slots = this.slots.filter((slot) => now - slot.at <= WINDOW_SECONDS)
    if (this.began === null) return 0
    const seconds = Math.min(now - this.began, WINDOW_SECONDS)
    if (seconds < SLOT_SECONDS) return 0
    return this.slots.reduce((sum, slot) => sum + slot.bytes, 0) / seconds
  }

  /** Seconds that so many bytes still take, or null where nobody can say. */
  remaining(bytes: number, now: number): number | null {
    if (bytes <= 0) return 0
    const rate = this.rate(now)
    return rate > 0 ? bytes / rate : null
  }
}
