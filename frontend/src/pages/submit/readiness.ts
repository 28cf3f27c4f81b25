/** What is missing before the rows can be submitted, and what only has to be waited for. */
import type { Place, Summary } from '@/grid/model'
import type { Transfer } from '@/transfers'

export type Obstacle =
  | { readonly kind: 'rows' }
  | { readonly kind: 'errors'; readonly count: number; readonly place: Place }
  | { readonly kind: 'omitted'; readonly count: number }
  | { readonly kind: 'notices'; readonly count: number }
  | { readonly kind: 'check'; readonly message: string }
  | { readonly kind: 'absent' | 'failed' | 'ambiguous'; readonly names: readonly string[] }

export type Wait =
  | { readonly kind: 'unchecked'; readonly count: number }
  | { readonly kind: 'sending' | 'paused'; readonly names: readonly string[] }

export interface Readiness {
  readonly obstacles: readonly Obstacle[]
  readonly waits: readonly Wait[]
  /** The confirmed files that the rows name. */
  readonly fileIds: readonly string[]
}

/** The files by their name in NFC. */
export function groupFiles(list: readonly Transfer[]): Map<string, Transfer[]> {
  const files = new Map<string, Transfer[]>()
  for (const transfer of list) {
    const name = transfer.name.normalize('NFC')
    const same = files.get(name)
    if (same) same.push(transfer)
    else files.set(name, [transfer])
  }
  return files
}

export function findObstacles(
  summary: Summary,
  wanted: Iterable<string>,
  files: ReadonlyMap<string, readonly Transfer[]>,
  more: { omitted: number; notices: number; checkProblem: string },
): Readiness {
  const obstacles: Obstacle[] = []
  const waits: Wait[] = []
  const names: Record<'absent' | 'failed' | 'ambiguous' | 'sending' | 'paused', string[]> = {
    absent: [],
    failed: [],
    ambiguous: [],
    sending: [],
    paused: [],
  }
  const fileIds: string[] = []
  for (const name of wanted) {
    const [file, ...others] = files.get(name) ?? []
    if (!file || (file.state === 'missing' && !others.length)) names.absent.push(name)
    else if (others.length) names.ambiguous.push(name)
    else if (file.state === 'done') fileIds.push(file.fileId!.uuid)
    else if (file.state === 'failed' || file.state === 'paused') names[file.state].push(name)
    else names.sending.push(name)
  }
  if (!summary.rows) obstacles.push({ kind: 'rows' })
  if (summary.firstError)
    obstacles.push({ kind: 'errors', count: summary.errorRows, place: summary.firstError })
  if (more.omitted) obstacles.push({ kind: 'omitted', count: more.omitted })
  if (more.notices) obstacles.push({ kind: 'notices', count: more.notices })
  if (more.checkProblem) obstacles.push({ kind: 'check', message: more.checkProblem })
  else if (summary.unchecked) waits.push({ kind: 'unchecked', count: summary.unchecked })
  for (const kind of ['absent', 'failed', 'ambiguous'] as const)
    if (names[kind].length) obstacles.push({ kind, names: names[kind] })
  for (const kind of ['sending', 'paused'] as const)
    if (names[kind].length) waits.push({ kind, names: names[kind] })
  return { obstacles, waits, fileIds }
}

/** Whether a file that was dropped is a sample sheet: rows may name a table as one of their files. */
export function isSheet(name: string, wanted: ReadonlyMap<string, unknown>): boolean {
  return /\.(xlsx|xlsm|xls|ods|csv|tsv)$/i.test(name) && !wanted.has(name.normalize('NFC'))
}
