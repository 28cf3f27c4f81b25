/** Files on their way to the portal: one list per page load, which outlives the pages of the app. */
import type { Id } from '@/api/client'

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
  /** Why it failed, or what it waits for, in words. */
  readonly problem?: string
  readonly fileId?: Id
  readonly checksum?: string
}

export interface Totals {
  readonly files: number
  readonly done: number
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
  /** Without a key: all of them. */
  pause(key?: string): void
  resume(key?: string): void
  /** Take a file off the list, and off the portal. */
  remove(key: string): Promise<void>
  retry(key: string): void
}

/** The transfers of this page load. */
export function useTransfers(): Transfers {
  throw new Error('transfers are not built yet')
}
