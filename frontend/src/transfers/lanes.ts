/** So many things at the same time; of those that wait, the lowest order goes first. */
export class Lanes {
  private free: number
  private waiting: { order: number; enter: () => void }[] = []

  constructor(readonly count: number) {
    this.free = count
  }

  async run<T>(order: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.enter(order)
    try {
      signal.throwIfAborted()
      return await work()
    } finally {
      const next = this.waiting.shift()
      if (next) next.enter()
      else this.free++
    }
  }

  private enter(order: number): Promise<void> {
    if (this.free > 0) {
      this.free--
      return Promise.resolve()
    }
    return new Promise((enter) => {
      const place = this.waiting.findIndex((other) => other.order > order)
      this.waiting.splice(place < 0 ? this.waiting.length : place, 0, { order, enter })
    })
  }
}
