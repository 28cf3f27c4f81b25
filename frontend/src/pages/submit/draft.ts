/**
 * The rows on their way to a submission: read, checked while they are changed, kept in this browser, staged and
 * submitted. There is one for each page load, which goes on while other pages of the app are shown.
 *
 * Nothing is handed in twice: rows that were staged before are found by the portal, and whether a submission whose
 * answer was lost was made is asked before another one is.
 */
import { computed, effectScope, ref, shallowRef, watch } from 'vue'
import { api, ApiError, call, type Schemas } from '@/api/client'
import { loadColumns, type FieldColumn } from '@/grid/columns'
import { isEmpty, SheetModel, writeCsv, type Found, type Row } from '@/grid/model'
import { sortFindings, type Notice, type Report } from '@/grid/report'
import { t } from '@/i18n'
import { makeKey } from '@/lib/ids'
import { readPages } from '@/lib/paging'
import { router } from '@/router'
import { current } from '@/session'
import { tell } from '@/toasts'
import { useTransfers } from '@/transfers'
import { findObstacles, groupFiles } from './readiness'
import {
  deleteDraft,
  readDraft,
  writeDraft,
  writeSheet,
  type HeldSet,
  type Kept,
  type KeptSheet,
  type Pending,
} from './store'
import { TabClaim } from './tab'

const CHECK_DELAY = 300
const SAVE_DELAY = 50
const RETRY_DELAY = 5000
/** So many sets are deleted with one request. */
const MOST_DELETED = 1000
/** So far below the last row somebody may have begun to type. */
const MOST_NEW = 10
const EDITING = 'datameta.editing'

type Phase = 'checking' | 'staging' | 'submitting'
type Staged = Schemas['StagedSheet']['staged']

export type Draft = ReturnType<typeof makeDraft>
let draft: Draft | null = null

/** The rows of who is signed in. */
export function useDraft(): Draft {
  const user = current.session!.userId.uuid
  if (draft?.user !== user) {
    draft?.end()
    draft = makeDraft(user)
  }
  return draft
}

function makeDraft(user: string) {
  const scope = effectScope(true)
  const transfers = useTransfers()
  const columns = shallowRef<readonly FieldColumn[]>([])
  const model = shallowRef<SheetModel | null>(null)
  const loadProblem = ref('')
  const isElsewhere = ref(false)
  /** When the rows were changed that this page began with. */
  const resumedAt = ref<string | null>(null)
  const label = ref('')
  const notices = shallowRef<readonly Notice[]>([])
  const sheet = shallowRef<KeptSheet | null>(null)
  const reading = ref('')
  const readProblem = ref('')
  const isChecking = ref(false)
  const checkProblem = ref('')
  /** Errors that there are beside those that are shown. */
  const omitted = ref(0)
  const phase = ref<Phase | null>(null)
  const problems = shallowRef<readonly string[]>([])
  const isWaiting = ref(false)
  /** Staged rows of this user that are not among those here; null: not known. */
  const otherSets = shallowRef<readonly Schemas['MetaDataSetResponse'][]>([])
  const hasMoreSets = ref(false)
  let sets: HeldSet[] = []
  let pending: Pending | null = null

  const files = computed(() => groupFiles(transfers.list))
  const wanted = computed(() => {
    void model.value?.filesVersion.value
    return model.value?.listFiles() ?? new Map<string, number[]>()
  })
  const summary = computed(() => {
    void model.value?.version.value
    return model.value?.summarise() ?? null
  })
  const readiness = computed(() =>
    findObstacles(
      summary.value ?? { rows: 0, errorRows: 0, errors: 0, warnings: 0, unchecked: 0, firstError: null },
      wanted.value.keys(),
      files.value,
      {
        omitted: omitted.value,
        notices: notices.value.filter((notice) => notice.severity === 'error').length,
        checkProblem: checkProblem.value,
      },
    ),
  )
  const isReady = computed(() => !readiness.value.obstacles.length && !readiness.value.waits.length)
  const canWait = computed(() => !readiness.value.obstacles.length && readiness.value.waits.length > 0)

  // Beginning and ending.

  const claim = new TabClaim(
    `datameta.draft.${user}`,
    async () => {
      // What is being typed is part of it.
      if (document.activeElement instanceof HTMLElement) document.activeElement.blur()
      await save()
    },
    () => {
      isElsewhere.value = true
      isWaiting.value = false
    },
  )

  /** Get the fields, and the rows as they were left. */
  async function load(): Promise<void> {
    loadProblem.value = ''
    try {
      if (!columns.value.length) columns.value = await loadColumns()
      if (!model.value && !isElsewhere.value) {
        if (await claim.take()) await restore()
        else isElsewhere.value = true
      }
      void transfers.load().catch(() => undefined)
      if (model.value) await findOtherSets()
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      loadProblem.value = error.message
    }
  }

  async function takeOver(): Promise<void> {
    await claim.demand()
    isElsewhere.value = false
    await restore()
    await findOtherSets()
  }

  async function restore(): Promise<void> {
    const made = new SheetModel(columns.value)
    const found = await readDraft(user).catch(() => null)
    resumedAt.value = found?.rows.some((row) => !isEmpty(row)) ? found.kept.savedAt : null
    if (found) {
      const { kept, rows } = found
      const places = columns.value.map((column) => kept.columns.indexOf(column.name))
      const moved = rows.map(({ id, values }) => ({ id, values: places.map((place) => values[place] ?? '') }))
      const sticky = kept.sticky.map(([id, list]): [number, Found[]] => [
        id,
        list.map((one) => ({ ...one, column: places.indexOf(one.column) })),
      ])
      made.load(moved, sticky)
      label.value = kept.label
      notices.value = kept.notices
      sets = kept.sets
      pending = kept.pending
      sheet.value = found.sheet
    }
    restoreEditing(made)
    made.onChange = changed
    model.value = made
    if (pending && (await findSubmitted().catch(() => false))) return
    scheduleCheck()
  }

  /** What was being typed when the page went away. */
  function restoreEditing(made: SheetModel): void {
    const text = sessionStorage.getItem(EDITING)
    sessionStorage.removeItem(EDITING)
    if (!text) return
    const editing = JSON.parse(text) as { user: string; row: number; name: string; value: string }
    const column = columns.value.findIndex(({ name }) => name === editing.name)
    if (editing.user === user && column >= 0 && editing.row < made.rows.length + MOST_NEW)
      made.setValue({ row: editing.row, column }, editing.value)
  }

  function keepEditing(row: number, column: number, value: string | null): void {
    if (value === null) sessionStorage.removeItem(EDITING)
    else
      sessionStorage.setItem(EDITING, JSON.stringify({ user, row, name: columns.value[column]!.name, value }))
  }

  function end(): void {
    void save()
    claim.end()
    scope.stop()
    clearTimeout(checkTimer)
    window.removeEventListener('pagehide', saveNow)
    document.removeEventListener('visibilitychange', saveNow)
  }

  // Keeping.

  let saveTimer: ReturnType<typeof setTimeout> | undefined
  let isKeepingRefused = false

  function changed(): void {
    problems.value = []
    scheduleSave()
    scheduleCheck()
  }

  function scheduleSave(): void {
    clearTimeout(saveTimer)
    saveTimer = setTimeout(() => void save(), SAVE_DELAY)
  }

  async function save(): Promise<void> {
    clearTimeout(saveTimer)
    if (!model.value || isElsewhere.value) return
    const { rows, dirty } = model.value
    const kept: Kept = {
      columns: columns.value.map((column) => column.name),
      order: rows.map((row) => row.id),
      sticky: model.value.listSticky(),
      notices: [...notices.value],
      label: label.value,
      sets,
      pending,
      savedAt: new Date().toISOString(),
    }
    const changes = new Map<number, Row | null>()
    for (const id of dirty) changes.set(id, rows[model.value.placeOf(id)] ?? null)
    dirty.clear()
    try {
      await writeDraft(user, kept, changes)
    } catch {
      if (!isKeepingRefused) tell(t('submit.notKept'), 'error')
      isKeepingRefused = true
    }
  }

  function saveNow(): void {
    void save()
  }
  window.addEventListener('pagehide', saveNow)
  document.addEventListener('visibilitychange', saveNow)

  /** Forget all rows; what this page has staged of them is deleted at the portal, too. */
  async function startAnew(): Promise<void> {
    const ours = sets.filter((set) => set.isOurs).map((set) => set.uuid)
    clear()
    await deleteDraft(user).catch(() => undefined)
    await deleteSets(ours)
    await findOtherSets()
  }

  function clear(): void {
    model.value?.load([])
    model.value?.dirty.clear()
    sets = []
    pending = null
    label.value = ''
    notices.value = []
    sheet.value = null
    omitted.value = 0
    problems.value = []
    checkProblem.value = readProblem.value = ''
    resumedAt.value = null
    isWaiting.value = false
  }

  // Reading sheets, and rows that were staged before.

  /** Read a sheet's rows, behind those that are there or in their place. */
  async function readSheet(file: File, isReplacing: boolean): Promise<void> {
    reading.value = file.name
    readProblem.value = ''
    try {
      const query = new URLSearchParams({ filename: file.name.slice(-255), rows: 'true' })
      const answer = await call(`/sheets/check?${query}`, {
        method: 'POST',
        body: file,
        // What it is, its content tells.
        headers: { 'Content-Type': 'application/octet-stream' },
      })
      takeReport(file, (await answer.json()) as Report, isReplacing)
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      readProblem.value = `${file.name}: ${error.message}`
    } finally {
      reading.value = ''
    }
  }

  function takeReport(file: File, report: Report, isReplacing: boolean): void {
    const places = columns.value.map((column) => report.fields!.indexOf(column.name))
    const content = report.content!
    const rows = model.value!.addRows(
      content.map((row) => places.map((place) => row.values[place] ?? '')),
      isReplacing,
    )
    const byNumber = new Map(content.map((row, index) => [`${row.sheet ?? ''}!${row.row}`, rows[index]!]))
    const sorted = sortFindings(report, columns.value, (name, row) => byNumber.get(`${name}!${row}`))
    model.value!.takeFindings(rows, withoutOwn(sorted.found))
    // Where a field had no column the file's check says nothing of its rows.
    const isWhole = !report.findings.some(
      ({ code, row }) => code === 'column_missing' || code === 'duplicate_column' || row === null,
    )
    if (!isWhole || countOmitted(report)) model.value!.checkAgain(rows)
    notices.value = isReplacing ? sorted.notices : [...notices.value, ...sorted.notices]
    const kept = { name: file.name, content: file }
    sheet.value = kept
    void writeSheet(user, kept).catch(() => undefined)
    changed()
  }

  /** Take a problem of the file as seen. */
  function dismiss(notice: Notice): void {
    notices.value = notices.value.filter((other) => other !== notice)
    scheduleSave()
  }

  async function findOtherSets(): Promise<void> {
    const { data, response } = await api.GET('/staged/metadatasets', { params: { query: { limit: 1000 } } })
    const own = new Set(sets.map((set) => set.uuid))
    otherSets.value = data!.filter((set) => !own.has(set.id!.uuid))
    hasMoreSets.value = response.headers.has('Link')
  }

  /** Put the user's other staged rows behind those that are here. */
  async function takeOtherSets(): Promise<void> {
    const found = await readPages((cursor) =>
      api.GET('/staged/metadatasets', { params: { query: { limit: 1000, cursor } } }),
    )
    const own = new Set(sets.map((set) => set.uuid))
    // The newest come first.
    const other = found.filter((set) => !own.has(set.id!.uuid)).toReversed()
    sets = [...sets, ...other.map(({ id }) => ({ uuid: id!.uuid, site: id!.site!, isOurs: false }))]
    model.value!.addRows(other.map(({ record }) => columns.value.map((column) => record[column.name] ?? '')))
    otherSets.value = []
    hasMoreSets.value = false
  }

  async function deleteOtherSets(): Promise<void> {
    await deleteSets(otherSets.value.map((set) => set.id!.uuid))
    await findOtherSets()
  }

  // Checking.

  let checkTimer: ReturnType<typeof setTimeout> | undefined

  function scheduleCheck(delay = CHECK_DELAY): void {
    clearTimeout(checkTimer)
    checkTimer = setTimeout(() => void checkStale(), delay)
  }

  /** Check the rows that were changed since they were checked. */
  async function checkStale(): Promise<void> {
    clearTimeout(checkTimer)
    const sheetModel = model.value
    if (isChecking.value || phase.value || isElsewhere.value || !sheetModel) return
    const rows = sheetModel.rows.filter((row) => sheetModel.stale.has(row.id))
    if (!rows.length) return
    isChecking.value = true
    try {
      await check(rows)
      checkProblem.value = ''
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      checkProblem.value = error.message
      if ([0, 429, 503].includes(error.status)) scheduleCheck(RETRY_DELAY)
      return
    } finally {
      isChecking.value = false
    }
    if (sheetModel.stale.size) scheduleCheck()
  }

  /** Let the portal check rows as they are; values go verbatim. */
  async function check(rows: readonly Row[]): Promise<void> {
    const report = (await send('/sheets/check', rows)) as Report
    const sorted = sortFindings(report, columns.value, (_, row) => rows[row - 2])
    model.value!.takeFindings(rows, withoutOwn(sorted.found))
    omitted.value = countOmitted(report)
  }

  async function send(path: string, rows: readonly Row[]): Promise<unknown> {
    const answer = await call(`${path}?filename=rows.csv`, {
      method: 'POST',
      body: writeCsv(columns.value, rows),
      headers: { 'Content-Type': 'text/csv' },
    })
    return await answer.json()
  }

  /** Leave out what the portal says of sets that are former states of these very rows. */
  function withoutOwn(found: Map<number, Found[]>): Map<number, Found[]> {
    if (!sets.length) return found
    const own = new Set(sets.map((set) => set.site))
    for (const [id, list] of found) {
      const others = list.filter(
        ({ code, message }) => code !== 'value_staged' || !message.split(' ').some((word) => own.has(word)),
      )
      found.set(id, others)
    }
    return found
  }

  // Submitting.

  async function submit(): Promise<void> {
    if (phase.value || !model.value) return
    isWaiting.value = false
    problems.value = []
    phase.value = 'checking'
    clearTimeout(checkTimer)
    try {
      if (await findSubmitted()) return
      const rows = model.value.rows.filter((row) => !isEmpty(row))
      await check(rows)
      checkProblem.value = ''
      if (!isReady.value) return
      phase.value = 'staging'
      const { staged } = (await send('/sheets/stage', rows)) as Schemas['StagedSheet']
      if (await takeSubmitted(rows, staged)) return
      phase.value = 'submitting'
      await handIn(rows, staged)
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      if (!problems.value.length) problems.value = [error.message]
    } finally {
      phase.value = null
      if (model.value.stale.size) scheduleCheck()
    }
  }

  /** Hold what was staged; if it has been submitted before, say so and return true. */
  async function takeSubmitted(rows: readonly Row[], staged: Staged): Promise<boolean> {
    const before = sets
    sets = staged.map(({ id, isNew }) => ({
      uuid: id.uuid,
      site: id.site!,
      isOurs: isNew || before.some((set) => set.uuid === id.uuid && set.isOurs),
    }))
    const submitted = staged.filter((row) => row.submissionId)
    if (!submitted.length) {
      const now = new Set(sets.map((set) => set.uuid))
      // Former states of rows that say something else by now.
      await deleteSets(before.filter((set) => !now.has(set.uuid)).map((set) => set.uuid))
      await save()
      return false
    }
    const ids = new Set(staged.map((row) => row.submissionId?.uuid))
    if (ids.size === 1) {
      await finish(submitted[0]!.submissionId!)
      return true
    }
    const found = new Map<number, Found[]>()
    for (const { row, submissionId } of submitted) {
      const { id } = rows[row! - 2]!
      const message = t('submit.partSubmitted', { id: submissionId!.site })
      found.set(id, [{ severity: 'error', code: 'part_submitted', message, column: -1 }])
    }
    const sent = rows.filter((row) => found.has(row.id))
    model.value!.takeFindings(sent, found)
    await deleteSets(staged.filter((row) => row.isNew).map((row) => row.id.uuid))
    sets = []
    return true
  }

  async function handIn(rows: readonly Row[], staged: Staged): Promise<void> {
    const body = {
      metadatasetIds: staged.map((row) => row.id.uuid),
      fileIds: [...readiness.value.fileIds],
      label: label.value.trim() || null,
    }
    try {
      await api.POST('/presubvalidation', { body })
      const key = pending && JSON.stringify(pending.body) === JSON.stringify(body) ? pending.key : makeKey()
      pending = { key, body }
      await save()
      const { data } = await api.POST('/submissions', {
        body,
        params: { header: { 'Idempotency-Key': key } },
      })
      await finish(data!.id)
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 400) throw error
      pending = null
      showRefusal(error, rows, staged)
    }
  }

  /** Show the problems of a refused submission at the cells that they are about. */
  function showRefusal(error: ApiError, rows: readonly Row[], staged: Staged): void {
    const rowOf = new Map(staged.map(({ id, row }) => [id.uuid, rows[row! - 2]!]))
    const found = new Map<number, Found[]>()
    const rest: string[] = []
    for (const { entity, field, error_code: code, message } of error.problems) {
      const row = entity && rowOf.get(entity.uuid)
      if (!row) {
        rest.push(message)
        continue
      }
      const column = columns.value.findIndex(({ name }) => name === field)
      const list = found.get(row.id) ?? []
      found.set(row.id, [...list, { severity: 'error', code, message, column }])
    }
    const sent = rows.filter((row) => found.has(row.id))
    model.value!.takeFindings(sent, found)
    problems.value = [...new Set(rest)].slice(0, 20)
  }

  /** Ask what became of a submission whose answer never came; return whether it was made. */
  async function findSubmitted(): Promise<boolean> {
    const first = pending?.body.metadatasetIds[0]
    if (!first) return false
    try {
      const { data } = await api.GET('/metadatasets/{id}', { params: { path: { id: first } } })
      if (!data!.submissionId) return false
      await finish(data!.submissionId)
      return true
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return false
      throw error
    }
  }

  /** The rows are handed in: show the receipt, and begin anew. */
  async function finish(id: Schemas['Identifier']): Promise<void> {
    clear()
    await deleteDraft(user).catch(() => undefined)
    tell(t('submit.done', { id: id.site }))
    void transfers.load().catch(() => undefined)
    if (router.currentRoute.value.path === '/submit')
      await router.push({ path: '/submit', query: { receipt: id.site } })
  }

  async function deleteSets(ids: readonly string[]): Promise<void> {
    for (let start = 0; start < ids.length; start += MOST_DELETED) {
      const metadatasetIds = ids.slice(start, start + MOST_DELETED)
      try {
        await api.POST('/rpc/delete-metadatasets', { body: { metadatasetIds } })
      } catch (error) {
        // Somebody else has deleted one of them, or submitted it.
        if (!(error instanceof ApiError) || error.status < 400 || error.status >= 500) throw error
      }
    }
  }

  scope.run(() => {
    watch(label, scheduleSave)
    watch([isWaiting, readiness], () => {
      if (!isWaiting.value) return
      if (isReady.value) void submit()
      else if (!canWait.value) {
        isWaiting.value = false
        tell(t('submit.waitEnded'), 'error')
      }
    })
  })

  return {
    user,
    columns,
    model,
    loadProblem,
    isElsewhere,
    resumedAt,
    label,
    notices,
    sheet,
    reading,
    readProblem,
    isChecking,
    checkProblem,
    phase,
    problems,
    isWaiting,
    otherSets,
    hasMoreSets,
    files,
    wanted,
    summary,
    readiness,
    isReady,
    canWait,
    load,
    takeOver,
    keepEditing,
    end,
    startAnew,
    readSheet,
    dismiss,
    takeOtherSets,
    deleteOtherSets,
    checkStale,
    submit,
  }
}

/** Of how many cells with errors the report says nothing. */
function countOmitted(report: Report): number {
  return report.findings.reduce(
    (rest, { severity, count }) => rest - (severity === 'error' ? count : 0),
    report.errors,
  )
}
