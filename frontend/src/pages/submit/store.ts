/** What is being worked on, kept in the browser: row by row, so that a change costs no more than the row. */
import type { Found, Row } from '@/grid/model'
import type { Notice } from '@/grid/report'

/** A metadataset that holds one of the rows; `isOurs` if this page has staged it. */
export interface HeldSet {
  readonly uuid: string
  readonly site: string
  readonly isOurs: boolean
}

/** A submission that was asked for; whether it was made, the portal knows. */
export interface Pending {
  readonly key: string
  readonly body: { metadatasetIds: string[]; fileIds: string[]; label: string | null }
}

export interface Kept {
  columns: string[]
  /** The ids of the rows in their order. */
  order: number[]
  sticky: [number, readonly Found[]][]
  notices: readonly Notice[]
  label: string
  sets: HeldSet[]
  pending: Pending | null
  savedAt: string
}

export interface KeptSheet {
  readonly name: string
  readonly content: Blob
}

const NAMES = ['drafts', 'rows', 'sheets'] as const

function wait<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
}

let opened: Promise<IDBDatabase> | null = null

function open(): Promise<IDBDatabase> {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open('datameta', 1)
    request.onupgradeneeded = () => {
      for (const name of NAMES) request.result.createObjectStore(name)
    }
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
  return opened
}

async function begin(mode: IDBTransactionMode) {
  const transaction = (await open()).transaction(NAMES, mode, { durability: 'relaxed' })
  const done = new Promise<void>((resolve, reject) => {
    transaction.oncomplete = () => resolve()
    transaction.onabort = transaction.onerror = () => reject(transaction.error)
  })
  const [drafts, rows, sheets] = NAMES.map((name) => transaction.objectStore(name))
  return { transaction, done, drafts: drafts!, rows: rows!, sheets: sheets! }
}

const ofUser = (user: string) => IDBKeyRange.bound([user], [user, []])

export async function readDraft(
  user: string,
): Promise<{ kept: Kept; rows: Row[]; sheet: KeptSheet | null } | null> {
  const { drafts, rows, sheets } = await begin('readonly')
  const [kept, keys, values, sheet] = await Promise.all([
    wait<Kept | undefined>(drafts.get(user)),
    wait(rows.getAllKeys(ofUser(user))),
    wait<string[][]>(rows.getAll(ofUser(user))),
    wait<KeptSheet | undefined>(sheets.get(user)),
  ])
  if (!kept) return null
  const byId = new Map(keys.map((key, index) => [(key as [string, number])[1], values[index]!]))
  const list = kept.order.flatMap((id) => (byId.has(id) ? [{ id, values: byId.get(id)! }] : []))
  return { kept, rows: list, sheet: sheet ?? null }
}

/** Store what has changed; rows that are null are gone. */
export async function writeDraft(
  user: string,
  kept: Kept,
  changed: ReadonlyMap<number, Row | null>,
): Promise<void> {
  const { transaction, done, drafts, rows } = await begin('readwrite')
  drafts.put(kept, user)
  for (const [id, row] of changed) {
    if (row) rows.put(row.values, [user, id])
    else rows.delete([user, id])
  }
  transaction.commit()
  await done
}

export async function writeSheet(user: string, sheet: KeptSheet | null): Promise<void> {
  const { done, sheets } = await begin('readwrite')
  if (sheet) sheets.put(sheet, user)
  else sheets.delete(user)
  await done
}

export async function deleteDraft(user: string): Promise<void> {
  const { done, drafts, rows, sheets } = await begin('readwrite')
  drafts.delete(user)
  rows.delete(ofUser(user))
  sheets.delete(user)
  await done
}
