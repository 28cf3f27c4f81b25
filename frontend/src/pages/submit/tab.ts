/** One tab works on the rows at a time; another one asks for them, and gets them as they are. */

const PATIENCE = 2000

export class TabClaim {
  private release: (() => void) | null = null
  private readonly channel: BroadcastChannel | null

  /** `onAsked` stores what there is; afterwards the rows are another tab's. */
  constructor(
    private readonly name: string,
    private readonly onAsked: () => Promise<void>,
    private readonly onLost: () => void,
  ) {
    this.channel = 'BroadcastChannel' in window ? new BroadcastChannel(name) : null
    this.channel?.addEventListener('message', () => void this.handOver())
  }

  /** Take the rows if no other tab has them. */
  take(): Promise<boolean> {
    return this.request({ ifAvailable: true })
  }

  /** Take the rows from the tab that has them; one that does not answer loses them. */
  async demand(): Promise<void> {
    this.channel?.postMessage('wanted')
    const patience = new AbortController()
    const timer = setTimeout(() => patience.abort(), PATIENCE)
    try {
      await this.request({ signal: patience.signal })
    } catch {
      await this.request({ steal: true })
    } finally {
      clearTimeout(timer)
    }
  }

  end(): void {
    this.release?.()
    this.release = null
    this.channel?.close()
  }

  private async handOver(): Promise<void> {
    if (!this.release) return
    await this.onAsked()
    this.release()
    this.release = null
    this.onLost()
  }

  private request(options: LockOptions): Promise<boolean> {
    // Pages that were not sent safely have no locks.
    if (!navigator.locks) return Promise.resolve(true)
    return new Promise((resolve, reject) => {
      navigator.locks
        .request(this.name, options, (lock) => {
          resolve(lock !== null)
          if (lock) return new Promise<void>((release) => (this.release = release))
          return undefined
        })
        .catch((error: unknown) => {
          if (this.release) {
            this.release = null
            this.onLost()
          }
          reject(error as Error)
        })
    })
  }
}
