/** Files on their way to the portal: one list per page load, which outlives the pages of the app. */
import { effectScope, watch } from 'vue'
import type { Id } from '@/api/client'
import { current } from '@/session'
import { Engine } from './engine'

/**
 * `missing`: an upload that was begun before and is not complete; its local file must be chosen again to go on.
 */
export type TransferState = 'waiting' | 'sending' | 'paused' | 'verifying' | 'done' | 'failed' | 'missing'

export interface Transfer {
  readonly key: string
  /** In NFC, as the portal knows it. */
  readonly name: string
  readonly size: number
  /** Bytes that have arrived, or, while `verifying`, that the portal has read again. */
  readonly sent: number
  readonly state: TransferState
  /** Why it failed, in words. */
  readonly problem?: string
  /** What it waits for, or does, in words. */
  readonly note?: string
  /** It failed because the portal has something else under this name: `replace` or `remove`. */
  readonly isConflict: boolean
  /** Its local file was chosen in this page. */
  readonly isLocal: boolean
  readonly fileId?: Id
  readonly checksum?: string
}

export interface Totals {
  readonly files: number
  readonly done: number
  /** Of the files that were chosen in this page. */
  readonly bytes: number
  readonly sent: number
  /** Bytes per second. */
  readonly rate: number
  /** Seconds, or null where nobody can say. */
  readonly remaining: number | null
  readonly active: number
  readonly failed: number
}

export interface Transfers {
  /** Reactive; with many files it changes at most five times a second. */
  readonly list: readonly Transfer[]
  readonly totals: Totals
  /** Send these files; those that are `missing` go on where they were. */
  add(files: readonly File[]): void
  /** Ask the portal for this user's files that are staged or begun. */
  load(): Promise<void>
  /** Without a key: all of them. What has been sent of a part is lost, what has arrived stays. */
  pause(key?: string): void
  resume(key?: string): void
  /** Take a file off the list, and off the portal; of one with a conflict, only what was chosen here. */
  remove(key: string): Promise<void>
  retry(key: string): void
  /** Delete what the portal has under the name of a file with a conflict, and send this one. */
  replace(key: string): Promise<void>
}

let engine: Engine | undefined

/** The transfers of this page load. */
export function useTransfers(): Transfers {
  if (!engine) {
    const started = (engine = new Engine())
    // It outlives the component that asks for it first.
    effectScope(true).run(() =>
      watch(
        () => current.session?.userId.uuid ?? null,
        (owner) => started.belongTo(owner),
        { immediate: true, flush: 'sync' },
      ),
    )
  }
  return engine
}
