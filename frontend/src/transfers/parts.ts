/**
 * A file sent in parts, several at a time. The rule: a part is done once the receiver has taken the bytes that were
 * announced by their MD5, and only what is missing is sent. The file is read in order, a little ahead of the parts
 * that travel; what arrived before is compared on the way.
 */
import { ApiError } from '@/api/client'
import { PartHashes, UnreadableError, digest } from './hashing'
import { insist } from './insist'
import type { Lanes } from './lanes'
import { countAhead, countParts, isTimeToAsk, partLength, partSpan, type Plan } from './plan'
import type { Arrived } from './portal'
import { put, type PutRequest } from './put'

const ATTEMPTS = 3

/** What has arrived are other bytes than the file's. */
export class OtherContentError extends Error {}

export interface Sending extends Plan {
  readonly file: File
  readonly arrived: ReadonlyMap<number, Arrived>
  readonly hashes: PartHashes
  readonly lanes: Lanes
  /** The file's place among the others. */
  readonly order: number
  readonly signal: AbortSignal
  requestParts(md5s: Map<number, string>): Promise<Map<number, PutRequest>>
  /** How many bytes of a part are on their way, or 0 if it has to begin anew. */
  onProgress(number: number, loaded: number): void
  onArrived(number: number): void
  /** What is being waited for. */
  tell(trouble: string | undefined): void
}

interface Part {
  readonly number: number
  readonly md5: string
  readonly request?: PutRequest
}

/** Send what has not arrived, and return the MD5 of the whole. */
export async function sendParts(sending: Sending): Promise<string> {
  const stopped = new AbortController()
  const signal = AbortSignal.any([sending.signal, stopped.signal])
  const run = new Run({ ...sending, signal })
  signal.addEventListener('abort', () => run.changed())
  try {
    const senders = Array.from({ length: sending.lanes.count }, () => run.send())
    await Promise.all([run.hash(), run.address(), ...senders])
    return await sending.hashes.whole()
  } catch (error) {
    stopped.abort(error)
    throw error
  }
}

class Run {
  private hashed: Part[] = []
  private readonly addressed: Part[] = []
  private underway = 0
  private isHashed = false
  private isAddressed = false
  private wake: (() => void)[] = []

  constructor(private readonly sending: Sending) {}

  /** Read the whole file, in order. */
  async hash(): Promise<void> {
    const { sending } = this
    const ahead = countAhead(sending.partSize, sending.lanes.count)
    for (let number = 1; number <= countParts(sending); number++) {
      await this.until(() => this.hashed.length + this.addressed.length + this.underway < ahead)
      const md5 = await sending.hashes.part(number)
      sending.signal.throwIfAborted()
      const known = sending.arrived.get(number)
      if (!known) this.hashed.push({ number, md5 })
      else if (known.md5 !== md5 || known.size !== partLength(sending, number)) throw new OtherContentError()
      this.changed()
    }
    this.isHashed = true
    this.changed()
  }

  /** Ask where parts go, several at once. */
  async address(): Promise<void> {
    const { lanes } = this.sending
    const isTime = () => isTimeToAsk(this.hashed.length, this.addressed.length, lanes.count, this.isHashed)
    for (;;) {
      await this.until(() => isTime() || (this.isHashed && this.hashed.length === 0))
      if (this.hashed.length === 0) break
      const parts = this.hashed
      this.hashed = []
      const requests = await this.request(new Map(parts.map(({ number, md5 }) => [number, md5])))
      for (const part of parts) this.addressed.push({ ...part, request: requests.get(part.number)! })
      this.changed()
    }
    this.isAddressed = true
    this.changed()
  }

  /** Send what has an address, one part after the other, until all are sent. */
  async send(): Promise<void> {
    const { lanes, order, signal } = this.sending
    for (;;) {
      await this.until(() => this.addressed.length > 0 || this.isAddressed)
      const part = this.addressed.shift()
      // Another one may have been faster.
      if (!part && !this.isAddressed) continue
      if (!part) return
      this.underway++
      this.changed()
      await lanes.run(order, signal, () => this.sendPart(part))
      this.underway--
      this.changed()
    }
  }

  /** Somebody may go on, or has to stop. */
  changed(): void {
    const { wake } = this
    this.wake = []
    for (const each of wake) each()
  }

  private async until(isTrue: () => boolean): Promise<void> {
    this.sending.signal.throwIfAborted()
    while (!isTrue()) {
      await new Promise<void>((resolve) => this.wake.push(resolve))
      this.sending.signal.throwIfAborted()
    }
  }

  private slice(number: number): Blob {
    const { start, end } = partSpan(this.sending, number)
    return this.sending.file.slice(start, end)
  }

  private request(md5s: Map<number, string>): Promise<Map<number, PutRequest>> {
    const { requestParts, signal, tell } = this.sending
    return insist(() => requestParts(md5s), signal, tell)
  }

  private async sendPart({ number, md5, request }: Part): Promise<void> {
    const { signal, tell, onProgress, onArrived } = this.sending
    for (let attempt = 1; ; attempt++) {
      try {
        await insist(() => this.put(number, request!), signal, tell)
        return onArrived(number)
      } catch (error) {
        onProgress(number, 0)
        if (!(error instanceof ApiError) || attempt === ATTEMPTS || signal.aborted) throw error
        // The address may have ended, or the bytes have been spoilt on their way.
        if ((await digest(this.slice(number))) !== md5) throw new UnreadableError('changed')
        request = (await this.request(new Map([[number, md5]]))).get(number)
      }
    }
  }

  private async put(number: number, request: PutRequest): Promise<void> {
    const { file, signal, onProgress } = this.sending
    try {
      await put(request, this.slice(number), signal, (loaded) => onProgress(number, loaded))
    } catch (error) {
      onProgress(number, 0)
      if (error instanceof ApiError && error.status === 0) await checkReadable(file)
      throw error
    }
  }
}

/** A browser tells of a file that has changed as of a lost connection. */
export async function checkReadable(file: File): Promise<void> {
  try {
    await file.slice(0, 1).arrayBuffer()
  } catch {
    throw new UnreadableError('changed')
  }
}
