/**
 * The files of this page load: which go next, and what becomes of each. The rules: all that lasts is the portal's, so
 * that a file chosen again goes on where it was; nothing at the portal is replaced unless somebody says so; and of all
 * the tabs of a browser, one sends a file.
 */
import { shallowRef } from 'vue'
import { ApiError, type Id } from '@/api/client'
import { t } from '@/i18n'
import { formatSize } from '@/lib/format'
import { makeKey } from '@/lib/ids'
import { PartHashes, UnreadableError, digest, warm } from './hashing'
import type { Totals, Transfer, Transfers, TransferState } from './index'
import { insist, pause } from './insist'
import { Lanes } from './lanes'
import { OtherContentError, checkReadable, sendParts } from './parts'
import { SMALL_BYTES, partLength } from './plan'
import * as portal from './portal'
import type { StagedFile } from './portal'
import { put, type PutRequest } from './put'
import { RateMeter } from './rate'

const ATTEMPTS = 3
/** Requests that carry bytes. A browser has six connections to a server; the page needs some for itself. */
const LANES = 4
const LARGE_AT_ONCE = 2
const SMALL_AT_ONCE = 4
/** Sessions that are asked for at the same time. */
const LOOK_AT_ONCE = 4
/** How often the list changes at most, in milliseconds. */
const PUBLISH_EVERY = 200
const FIRST_POLL = 300
const LONGEST_POLL = 4000

/** The codes of refusals after which the portal knows better what to do with a file than this page. */
const OVERTAKEN = ['session_over', 'not_modifiable', 'confirmation_running', 'verification_in_progress']

/** The portal has something else under this name. */
class ConflictError extends Error {}

class Job {
  readonly key: string
  state: TransferState
  file: File | null = null
  problem?: string
  note?: string
  isConflict = false
  arrived = 0
  verified = 0
  /** Bytes of each part on their way. */
  readonly moving = new Map<number, number>()
  control = new AbortController()
  /** It is being worked on; a moment longer than its state says. */
  isRunning = false
  /** Its content is complete at the portal, or about to be; it can't be paused any more. */
  isEnding = false
  /** So that a repeated announcement is the same. */
  announceKey: string | null = null
  snapshot: Transfer | null = null

  /** What the portal had under this name was read after the file was chosen. */
  isKnown = false
  /** What it is without its local file. */
  resting: TransferState = 'missing'

  constructor(
    readonly name: string,
    /** What the portal has of it. */
    public staged: StagedFile | null = null,
    /** How large that is, as far as anybody knows. */
    public stagedSize = staged?.filesize ?? 0,
  ) {
    this.key = staged?.id.uuid ?? makeKey()
    this.state = staged?.contentUploaded ? 'done' : 'missing'
  }

  get size(): number {
    return this.file?.size ?? this.stagedSize
  }

  get sent(): number {
    if (this.state === 'done') return this.size
    if (this.state === 'verifying') return this.verified
    let sum = this.arrived
    for (const bytes of this.moving.values()) sum += bytes
    return Math.min(sum, this.size)
  }

  get isSmall(): boolean {
    return this.size <= SMALL_BYTES
  }

  show(): Transfer {
    return (this.snapshot ??= {
      key: this.key,
      name: this.name,
      size: this.size,
      sent: this.sent,
      state: this.state,
      problem: this.problem,
      note: this.note,
      isConflict: this.isConflict,
      isLocal: this.file !== null,
      fileId: this.staged?.id,
      checksum: this.staged?.checksum,
    })
  }
}

const EMPTY: Totals = { files: 0, done: 0, bytes: 0, sent: 0, rate: 0, remaining: null, active: 0, failed: 0 }

export class Engine implements Transfers {
  private jobs: Job[] = []
  /** Whose files these are. */
  private owner: string | null = null
  private stagedByName = new Map<string, StagedFile[]>()
  private readonly lanes = new Lanes(LANES)
  private readonly meter = new RateMeter()
  private readonly shown = shallowRef<readonly Transfer[]>([])
  private readonly sums = shallowRef<Totals>(EMPTY)
  private publishing = 0
  private published = 0
  private ticking = 0
  private refreshing: Promise<void> | null = null
  private following: Promise<void> | null = null
  private isVerifying = false
  private isWarning = false

  get list(): readonly Transfer[] {
    return this.shown.value
  }

  get totals(): Totals {
    return this.sums.value
  }

  // What people do.

  add(files: readonly File[]): void {
    const byName = new Map<string, Job[]>()
    for (const job of this.jobs) byName.set(job.name, [...(byName.get(job.name) ?? []), job])
    const added: Job[] = []
    const given: Job[] = []
    for (const file of files) {
      const name = file.name.normalize('NFC')
      const known = byName.get(name) ?? []
      if (
        known.some((job) => job.file && !['failed', 'missing'].includes(job.state) && isSame(job.file, file))
      ) {
        for (const job of known) if (job.state === 'paused') this.resume(job.key)
        continue
      }
      let job = known.find(isAtRest)
      if (!job) {
        job = new Job(name)
        added.push(job)
        byName.set(name, [...known, job])
      }
      const isTaken = known.some((other) => other !== job && other.file && !isAtRest(other))
      job.file = file
      job.isKnown = false
      this.end(job, 'waiting')
      given.push(job)
      if (isTaken) this.end(job, 'failed', t('transfers.problems.twice'))
    }
    this.jobs.push(...added)
    this.changed()
    // What another tab or computer has sent since counts.
    void this.refreshPatiently().then(() => {
      for (const job of given) job.isKnown = true
      this.schedule()
    })
  }

  async load(): Promise<void> {
    warm()
    await this.refresh()
  }

  pause(key?: string): void {
    for (const job of this.select(key)) {
      if (!job.isEnding && ['waiting', 'sending'].includes(job.state) && job.file) {
        job.control.abort()
        this.end(job, 'paused')
      }
    }
  }

  resume(key?: string): void {
    for (const job of this.select(key)) if (job.state === 'paused') this.end(job, 'waiting')
    this.schedule()
  }

  retry(key: string): void {
    for (const job of this.select(key)) {
      if (job.state !== 'failed') continue
      if (job.file) this.end(job, 'waiting')
      else this.rest(job, 'missing')
    }
    void this.refreshPatiently().then(() => this.schedule())
  }

  async replace(key: string): Promise<void> {
    for (const job of this.select(key)) {
      if (!job.isConflict) continue
      await this.discard(job.name)
      if (job.file) this.end(job, 'waiting')
    }
    this.schedule()
  }

  async remove(key: string): Promise<void> {
    for (const job of this.select(key)) {
      job.control.abort()
      if (job.isConflict && job.staged) {
        // What was chosen here goes; what the portal has stays.
        this.rest(job, job.resting)
      } else {
        if (job.staged) {
          await deleteIfThere(job.staged.id)
          this.forget(job.staged)
        }
        this.drop(job)
      }
    }
    this.changed()
    this.schedule()
  }

  /** Whose session it is now: of another's files nothing is shown. */
  belongTo(owner: string | null): void {
    if (owner === this.owner) return
    this.owner = owner
    for (const job of this.jobs) job.control.abort()
    this.jobs = []
    this.stagedByName.clear()
    this.refreshing = this.following = null
    this.changed()
  }

  // What the portal has.

  /** Read what is staged; of several who want it at once, those who came too late for one reading share the next. */
  private refresh(): Promise<void> {
    if (!this.refreshing) {
      this.refreshing = this.readStaged().finally(() => {
        this.refreshing = null
      })
      return this.refreshing
    }
    this.following ??= this.refreshing
      .catch(() => undefined)
      .then(() => {
        this.following = null
        return this.refresh()
      })
    return this.following
  }

  private async refreshPatiently(): Promise<void> {
    try {
      await insist(
        () => this.refresh(),
        new AbortController().signal,
        () => undefined,
      )
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      for (const job of this.jobs) if (job.state === 'waiting') this.end(job, 'failed', error.message)
    }
  }

  private async readStaged(): Promise<void> {
    const owner = this.owner
    // Those that come while the list is on its way may not be in it.
    const before = new Set(this.jobs.filter((job) => job.staged && isAtRest(job)))
    const files = await portal.listStaged()
    if (owner !== this.owner) return
    this.stagedByName.clear()
    for (const file of files) this.note(file)
    const ids = new Set(files.map((file) => file.id.uuid))
    for (const job of before) {
      if (!isAtRest(job) || !job.staged || ids.has(job.staged.id.uuid)) continue
      // It was submitted, or deleted elsewhere. What could not be sent stays.
      if (job.file && job.state === 'failed') job.staged = null
      else this.drop(job)
    }
    const known = new Set(this.jobs.map((job) => job.staged?.id.uuid))
    const pending = new Map(this.jobs.filter((job) => !job.staged).map((job) => [job.name, job]))
    const found: Job[] = []
    for (const file of files) {
      if (known.has(file.id.uuid)) continue
      const name = file.name.normalize('NFC')
      const job = pending.get(name)
      if (job) {
        // It was chosen here meanwhile, or is announced at this moment.
        pending.delete(name)
        job.staged = file
        job.stagedSize = file.filesize ?? 0
      } else {
        found.push(new Job(name, file))
      }
    }
    const unfinished = found.filter((job) => job.state === 'missing')
    await this.lookAt(unfinished)
    if (owner !== this.owner) return
    this.jobs.unshift(...found.reverse())
    for (const job of unfinished) if (job.state === 'waiting') void this.watchElsewhere(job)
    this.changed()
    this.verify()
  }

  /** Find out how far files have come that were begun some time, somewhere. */
  private async lookAt(jobs: Job[]): Promise<void> {
    const held = await listLocks()
    const waiting = [...jobs]
    const look = async () => {
      for (let job = waiting.shift(); job; job = waiting.shift()) await this.lookAtOne(job, held)
    }
    await Promise.all(Array.from({ length: LOOK_AT_ONCE }, look))
  }

  private async lookAtOne(job: Job, held: ReadonlySet<string>): Promise<void> {
    const id = job.staged!.id.uuid
    const session = await findSession(id)
    if (session) {
      job.stagedSize = session.size
      if (session.state === 'failed') {
        job.state = 'failed'
        job.problem = t('transfers.problems.failed')
      } else if (session.state === 'open') {
        for (const part of (await portal.listParts(id)).values()) job.arrived += part.size
      } else {
        job.state = 'verifying'
        job.verified = session.verifiedBytes
      }
    }
    if (job.state === 'missing' && held.has(this.lockName(job.name))) {
      job.state = 'waiting'
      job.note = t('transfers.notes.otherTab')
    }
  }

  /** Wait until another tab has done with a file, or was closed: then the portal knows what has become of it. */
  private async watchElsewhere(job: Job): Promise<void> {
    await navigator.locks.request(this.lockName(job.name), { mode: 'shared' }, () => undefined)
    if (job.file || !this.jobs.includes(job)) return
    this.drop(job)
    await this.refreshPatiently()
  }

  private note(file: StagedFile): void {
    const name = file.name.normalize('NFC')
    const others = (this.stagedByName.get(name) ?? []).filter((other) => other.id.uuid !== file.id.uuid)
    this.stagedByName.set(name, [...others, file])
  }

  private forget(file: StagedFile): void {
    const name = file.name.normalize('NFC')
    const others = (this.stagedByName.get(name) ?? []).filter((other) => other.id.uuid !== file.id.uuid)
    this.stagedByName.set(name, others)
  }

  /** Delete what the portal has under a name. */
  private async discard(name: string): Promise<void> {
    for (const file of this.stagedByName.get(name) ?? []) {
      await deleteIfThere(file.id)
      this.forget(file)
      for (const job of this.jobs.filter((each) => each.staged?.id.uuid === file.id.uuid)) {
        job.staged = null
        if (!job.file) this.drop(job)
      }
    }
  }

  // What goes next.

  private schedule(): void {
    const running = this.jobs.filter((job) => job.isRunning)
    let large = running.filter((job) => !job.isSmall).length
    let small = running.length - large
    for (const job of this.jobs) {
      if (small >= SMALL_AT_ONCE && large >= LARGE_AT_ONCE) break
      if (job.state !== 'waiting' || job.isRunning || !job.file || !job.isKnown) continue
      if (job.isSmall ? small >= SMALL_AT_ONCE : large >= LARGE_AT_ONCE) continue
      if (job.isSmall) small++
      else large++
      void this.start(job)
    }
  }

  private async start(job: Job): Promise<void> {
    job.isRunning = true
    job.isEnding = false
    job.control = new AbortController()
    const { signal } = job.control
    try {
      await this.withLock(job, signal, () => this.run(job, signal))
    } catch (error) {
      if (!signal.aborted) this.fail(job, error)
    } finally {
      job.isRunning = false
      job.moving.clear()
      this.touch(job)
      this.schedule()
    }
  }

  private fail(job: Job, error: unknown): void {
    if (error instanceof ConflictError) {
      this.end(job, 'failed', error.message)
      job.isConflict = true
    } else if (error instanceof UnreadableError) {
      this.end(job, 'failed', t('transfers.problems.changed'))
    } else if (error instanceof ApiError) {
      this.end(job, 'failed', error.message)
    } else {
      this.end(job, 'failed', t('transfers.problems.fault'))
      throw error
    }
  }

  /** Let no other tab of this browser work on the same file meanwhile. */
  private async withLock(job: Job, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    // Only pages with HTTPS have locks.
    if (!navigator.locks) return work()
    const name = this.lockName(job.name)
    const workAlone = async () => {
      this.say(job, undefined)
      // Another tab may have done it meanwhile.
      if (await hasOtherTabs()) await this.refreshPatiently()
      await work()
    }
    const isDone = await navigator.locks.request(name, { ifAvailable: true }, async (lock) => {
      if (lock) await workAlone()
      return lock !== null
    })
    if (isDone) return
    this.say(job, t('transfers.notes.otherTab'))
    await navigator.locks.request(name, { signal }, workAlone)
  }

  private lockName(name: string): string {
    return `datameta.transfer ${this.owner} ${name}`
  }

  // What becomes of a file.

  private async run(job: Job, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.end(job, 'sending')
    for (let attempt = 1; ; attempt++) {
      job.arrived = 0
      try {
        return await (job.isSmall ? this.sendSmall(job, signal) : this.sendLarge(job, signal))
      } catch (error) {
        if (error instanceof OtherContentError) throw this.conflict(job)
        if (!(error instanceof ApiError) || attempt === ATTEMPTS || signal.aborted) throw error
        const isOver = error.status === 410 || error.has('session_over')
        if (!isOver && error.status !== 404 && !OVERTAKEN.some((code) => error.has(code))) throw error
        job.announceKey = null
        // Somebody else has sent or deleted it; or its time is over, or the store has dropped it.
        if (isOver && job.staged) {
          const session = await this.findSession(job, job.staged)
          if (error.status === 410 || session?.state === 'open') await this.delete(job, job.staged)
        }
        await this.refreshPatiently()
        if (job.staged && !this.named(job).some((file) => file.id.uuid === job.staged?.id.uuid))
          job.staged = null
      }
    }
  }

  private named(job: Job): StagedFile[] {
    return this.stagedByName.get(job.name) ?? []
  }

  private async sendSmall(job: Job, signal: AbortSignal): Promise<void> {
    const file = job.file!
    const checksum = await digest(file)
    signal.throwIfAborted()
    const same = await this.findSame(job, this.named(job))
    if (same?.contentUploaded) return this.take(job, same)
    let announced: PutRequest | null = null
    if (same) {
      this.adopt(job, same)
      // All bytes may be there, of a page that was closed just before the end.
      const confirmed = await this.tryConfirm(job, signal)
      if (confirmed) return this.take(job, confirmed)
      announced = await this.tryRenew(job, same)
      if (!announced) await this.delete(job, same)
    } else if (this.named(job).length) {
      throw this.conflict(job)
    }
    announced ??= await this.announce(job, checksum)
    for (let attempt = 1; ; attempt++) {
      try {
        await this.putSmall(job, announced, signal)
        const done = await this.confirm(job, signal)
        if (done.checksum !== checksum || done.filesize !== file.size) throw this.conflict(job)
        return this.take(job, done)
      } catch (error) {
        job.moving.clear()
        if (!(error instanceof ApiError) || attempt === ATTEMPTS || signal.aborted) throw error
        if ((await digest(file)) !== checksum) throw new UnreadableError('changed')
        // The address may have ended, or the bytes have been spoilt on their way.
        announced = (await this.insist(job, () => portal.renew(job.staged!.id.uuid))).request
      }
    }
  }

  private async putSmall(job: Job, request: PutRequest, signal: AbortSignal): Promise<void> {
    const file = job.file!
    const send = () =>
      this.insist(job, async () => {
        try {
          await put(request, file, signal, (loaded) => this.move(job, 1, loaded))
        } catch (error) {
          this.move(job, 1, 0)
          if (error instanceof ApiError && error.status === 0) await checkReadable(file)
          throw error
        }
      })
    await this.lanes.run(this.jobs.indexOf(job), signal, send)
  }

  private async confirm(job: Job, signal: AbortSignal): Promise<StagedFile> {
    const id = job.staged!.id.uuid
    for (let wait = FIRST_POLL; ; wait = Math.min(wait * 1.5, LONGEST_POLL)) {
      try {
        return await this.insist(job, () => portal.confirmFile(id))
      } catch (error) {
        if (!(error instanceof ApiError) || (error.status !== 409 && !error.has('not_modifiable')))
          throw error
        // The answer to a former request may have been lost.
        const file = await this.insist(job, () => portal.getFile(id))
        if (file.contentUploaded) return file
        if (!OVERTAKEN.some((code) => error.has(code))) throw error
      }
      await pause(wait, signal)
    }
  }

  private async tryConfirm(job: Job, signal: AbortSignal): Promise<StagedFile | null> {
    try {
      return await this.confirm(job, signal)
    } catch (error) {
      if (error instanceof ApiError) return null
      throw error
    }
  }

  private async tryRenew(job: Job, file: StagedFile): Promise<PutRequest | null> {
    try {
      return (await this.insist(job, () => portal.renew(file.id.uuid))).request
    } catch (error) {
      if (error instanceof ApiError) return null
      throw error
    }
  }

  private findSession(job: Job, file: StagedFile): Promise<portal.UploadSession | null> {
    return this.insist(job, () => findSession(file.id.uuid))
  }

  /** Delete what the portal has of a file that is sent anew. */
  private async delete(job: Job, file: StagedFile): Promise<void> {
    await this.insist(job, () => deleteIfThere(file.id))
    this.forget(file)
    job.announceKey = null
  }

  private insist<T>(job: Job, work: () => Promise<T>): Promise<T> {
    return insist(work, job.control.signal, (trouble) => this.say(job, trouble))
  }

  private async announce(job: Job, checksum: string): Promise<PutRequest> {
    job.announceKey ??= makeKey()
    const key = `${job.announceKey} ${checksum}`
    const announce = () => portal.announce(job.name, checksum, job.file!.size, key)
    const { id, request } = await this.insist(job, announce)
    if (!this.jobs.includes(job)) await deleteIfThere(id)
    const userId = { uuid: this.owner ?? '', site: '' }
    this.adopt(job, {
      id,
      name: job.name,
      checksum,
      contentUploaded: false,
      filesize: null,
      userId,
      expires: null,
    })
    return request
  }

  private async sendLarge(job: Job, signal: AbortSignal): Promise<void> {
    // Parts have nearly always this size.
    const hashes = new PartHashes(job.file!, SMALL_BYTES)
    try {
      await this.sendHashed(job, hashes, signal)
    } finally {
      hashes.close()
    }
  }

  private async sendHashed(job: Job, hashes: PartHashes, signal: AbortSignal): Promise<void> {
    const first = await hashes.part(1)
    signal.throwIfAborted()
    const begun = await this.findBegun(job, first)
    if (begun) this.adopt(job, begun)
    else {
      const whole = this.named(job).length ? await this.findWhole(job) : null
      const known = whole && (await this.findSame(job, whole))
      if (whole && !known) throw this.conflict(job)
      if (known?.contentUploaded) return this.take(job, known)
      if (known) {
        const session = await this.findSession(job, known)
        this.adopt(job, known)
        if (session?.state !== 'failed') return this.await(job, session?.verifiedBytes ?? 0)
        // The portal has read something else than was sent; only anew can it become right.
        await this.delete(job, known)
      }
      // The true checksum is told at the end. This one can be told at once, and always is the same: by it the upload is
      // found again.
      hashes.ahead(LANES)
      await this.announce(job, first)
    }
    await this.sendInParts(job, hashes, begun !== null, signal)
  }

  private async sendInParts(
    job: Job,
    hashes: PartHashes,
    isBegun: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const file = job.file!
    const id = job.staged!.id.uuid
    const tell = (trouble?: string) => this.say(job, trouble)
    for (let attempt = 1; ; attempt++) {
      const { partSize, state, verifiedBytes } = await this.insist(job, () =>
        portal.openSession(id, file.size),
      )
      if (state !== 'open') return this.await(job, verifiedBytes)
      // Of what was announced a moment ago nothing has arrived.
      const arrived = isBegun || attempt > 1 ? await this.insist(job, () => portal.listParts(id)) : new Map()
      job.arrived = 0
      for (const part of arrived.values()) job.arrived += part.size
      this.say(job, arrived.size ? t('transfers.notes.comparing') : undefined)
      const plan = { size: file.size, partSize }
      hashes.cut(partSize)
      const checksum = await sendParts({
        ...plan,
        file,
        arrived,
        hashes,
        lanes: this.lanes,
        order: this.jobs.indexOf(job),
        signal,
        tell,
        requestParts: (md5s) => portal.requestParts(id, md5s),
        onProgress: (number, loaded) => this.move(job, number, loaded),
        onArrived: (number) => {
          job.moving.delete(number)
          job.arrived += partLength(plan, number)
          this.touch(job)
        },
      })
      await checkReadable(file)
      try {
        job.isEnding = true
        const session = await this.insist(job, () => portal.complete(id, checksum))
        this.adopt(job, { ...job.staged!, checksum })
        return this.await(job, session.verifiedBytes)
      } catch (error) {
        job.isEnding = false
        if (!(error instanceof ApiError) || !error.has('parts_missing') || attempt === ATTEMPTS) throw error
      }
    }
  }

  /** The file of this name whose sending was begun, and that can go on with these bytes. */
  private async findBegun(job: Job, first: string): Promise<StagedFile | null> {
    const open: StagedFile[] = []
    for (const file of this.named(job)) {
      if (file.contentUploaded) continue
      const session = await this.findSession(job, file)
      const isOpen = session === null || (session.state === 'open' && session.size === job.file!.size)
      if (isOpen && file.checksum === first) return file
      // Announced by other means; its parts will tell.
      if (session && isOpen) open.push(file)
    }
    return open[0] ?? null
  }

  /** The files of this name and size of which the portal has all bytes. */
  private async findWhole(job: Job): Promise<StagedFile[]> {
    const whole: StagedFile[] = []
    for (const file of this.named(job)) {
      const session = file.contentUploaded ? null : await this.findSession(job, file)
      const size = file.contentUploaded
        ? file.filesize
        : session?.state !== 'open'
          ? session?.size
          : undefined
      if (size === job.file!.size) whole.push(file)
    }
    return whole
  }

  /** The one with this very content, by its checksum; preferably one that is confirmed. */
  private async findSame(job: Job, files: StagedFile[]): Promise<StagedFile | undefined> {
    if (!files.length) return undefined
    const digests = new Map<number, string>()
    for (const { checksum } of files) {
      if (digests.has(checksum.length)) continue
      if (!job.isSmall) this.say(job, t('transfers.notes.comparing'))
      digests.set(checksum.length, await digest(job.file!, checksum.length === 64 ? 'sha256' : 'md5'))
    }
    const same = files.filter((file) => file.checksum.toLowerCase() === digests.get(file.checksum.length))
    return same.find((file) => file.contentUploaded) ?? same[0]
  }

  private conflict(job: Job): ConflictError {
    const [theirs] = this.named(job).slice(-1)
    if (!theirs?.contentUploaded) {
      const { size, stagedSize } = job
      const isOfOtherSize = stagedSize > 0 && stagedSize !== size
      const sizes = { here: formatSize(size), there: formatSize(stagedSize) }
      return new ConflictError(
        isOfOtherSize ? t('transfers.problems.otherSize', sizes) : t('transfers.problems.otherBegun'),
      )
    }
    return new ConflictError(t('transfers.problems.other'))
  }

  // What the portal verifies.

  /** The portal has all bytes, and reads them once more. */
  private await(job: Job, verified: number): void {
    job.verified = verified
    this.end(job, 'verifying')
    this.verify()
  }

  private verify(): void {
    if (!this.isVerifying) void this.watchVerification()
  }

  /** Ask in turn how far those are that are being verified; no more than a few at once, however many wait. */
  private async watchVerification(): Promise<void> {
    this.isVerifying = true
    let wait = FIRST_POLL
    let queue: Job[] = []
    try {
      for (;;) {
        const waiting = this.jobs.filter((job) => job.state === 'verifying')
        if (!waiting.length) return
        queue = [
          ...queue.filter((job) => waiting.includes(job)),
          ...waiting.filter((job) => !queue.includes(job)),
        ]
        const round = queue.splice(0, LOOK_AT_ONCE)
        const moved = await Promise.all(round.map((job) => this.askVerified(job)))
        queue.push(...round)
        wait = moved.includes(true) ? FIRST_POLL : Math.min(wait * 1.5, LONGEST_POLL)
        await pause(wait)
      }
    } finally {
      this.isVerifying = false
    }
  }

  /** Say whether something has happened. */
  private async askVerified(job: Job): Promise<boolean> {
    const before = job.verified
    try {
      const session = await portal.getSession(job.staged!.id.uuid)
      if (job.state !== 'verifying') return false
      job.verified = session.verifiedBytes
      this.touch(job)
      if (session.state === 'verified') this.take(job, await portal.getFile(job.staged!.id.uuid))
      if (session.state === 'failed') this.end(job, 'failed', t('transfers.problems.failed'))
      return job.state !== 'verifying' || job.verified !== before
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      if (error.status === 404) this.drop(job)
      return error.status === 404
    }
  }

  // What is shown.

  /** Tie a job to what the portal has. */
  private adopt(job: Job, staged: StagedFile): void {
    for (const other of this.jobs)
      if (other !== job && other.staged?.id.uuid === staged.id.uuid) this.drop(other)
    job.staged = staged
    this.note(staged)
    this.touch(job)
  }

  private take(job: Job, staged: StagedFile): void {
    this.adopt(job, staged)
    job.stagedSize = staged.filesize ?? job.size
    job.announceKey = null
    this.end(job, 'done')
  }

  /** Take the local file from a job that the portal knows. */
  private rest(job: Job, state: TransferState): void {
    job.file = null
    this.end(job, state)
  }

  private end(job: Job, state: TransferState, problem?: string): void {
    job.state = state
    job.problem = problem
    job.note = undefined
    job.isConflict = false
    job.resting = job.staged?.contentUploaded ? 'done' : 'missing'
    this.touch(job)
  }

  private drop(job: Job): void {
    job.control.abort()
    this.jobs = this.jobs.filter((other) => other !== job)
    this.changed()
  }

  private say(job: Job, note: string | undefined): void {
    job.note = note
    this.touch(job)
  }

  private move(job: Job, part: number, loaded: number): void {
    const moved = loaded - (job.moving.get(part) ?? 0)
    job.moving.set(part, loaded)
    if (moved > 0) {
      this.meter.add(moved, performance.now() / 1000)
      job.note = undefined
    }
    this.touch(job)
  }

  private select(key?: string): Job[] {
    return key === undefined ? [...this.jobs] : this.jobs.filter((job) => job.key === key)
  }

  private touch(job: Job): void {
    job.snapshot = null
    this.changed()
  }

  /** Show what has changed: soon, and not all the time. */
  private changed(): void {
    if (this.publishing) return
    const wait = Math.max(0, this.published + PUBLISH_EVERY - performance.now())
    this.publishing = window.setTimeout(() => this.publish(), wait)
  }

  private publish(): void {
    this.publishing = 0
    this.published = performance.now()
    this.shown.value = this.jobs.map((job) => job.show())
    const totals = this.sum()
    this.sums.value = totals
    this.warn(totals.active > 0)
    // The rate falls also while nothing happens.
    clearTimeout(this.ticking)
    if (totals.active) this.ticking = window.setTimeout(() => this.changed(), 1000)
    else this.meter.reset()
  }

  private sum(): Totals {
    const totals = { ...EMPTY, files: this.jobs.length }
    let left = 0
    for (const job of this.jobs) {
      const isActive = job.file !== null && (job.state === 'waiting' || job.state === 'sending')
      if (job.state === 'done') totals.done++
      if (job.state === 'failed') totals.failed++
      if (isActive) totals.active++
      if (!job.file) continue
      const sent = job.state === 'verifying' ? job.size : job.sent
      totals.bytes += job.size
      totals.sent += sent
      if (isActive) left += job.size - sent
    }
    const now = performance.now() / 1000
    return {
      ...totals,
      rate: this.meter.rate(now),
      remaining: totals.active ? this.meter.remaining(left, now) : null,
    }
  }

  /** Let nobody leave by mistake while files are on their way. */
  private warn(isNeeded: boolean): void {
    if (isNeeded === this.isWarning) return
    this.isWarning = isNeeded
    if (isNeeded) addEventListener('beforeunload', stay)
    else removeEventListener('beforeunload', stay)
  }
}

function stay(event: BeforeUnloadEvent): void {
  event.preventDefault()
}

/** Whether nothing happens to it until somebody does something. */
function isAtRest(job: Job): boolean {
  if (job.isRunning) return false
  // What waits without its file is sent by another tab.
  return ['done', 'missing', 'failed'].includes(job.state) || (job.state === 'waiting' && !job.file)
}

function isSame(one: File, other: File): boolean {
  return one.size === other.size && one.lastModified === other.lastModified
}

async function deleteIfThere(id: Id): Promise<void> {
  try {
    await portal.deleteFile(id.uuid)
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error
  }
}

async function findSession(id: string): Promise<portal.UploadSession | null> {
  try {
    return await portal.getSession(id)
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null
    throw error
  }
}

/** The locks that tabs of this browser hold. */
async function listLocks(): Promise<ReadonlySet<string>> {
  if (!navigator.locks) return new Set()
  const { held } = await navigator.locks.query()
  return new Set(held?.map((lock) => lock.name ?? ''))
}

const TAB = 'datameta.tab'

/** Whether this browser shows the portal in other tabs, too; each holds a lock as long as it lives. */
async function hasOtherTabs(): Promise<boolean> {
  const { held } = await navigator.locks.query()
  return (held?.filter((lock) => lock.name === TAB).length ?? 0) > 1
}

void navigator.locks?.request(TAB, { mode: 'shared' }, () => new Promise(() => undefined))
