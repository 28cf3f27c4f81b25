/** What is looked for, as the page's address says it, and as the API is asked for it. */
import type { LocationQuery, LocationQueryRaw, LocationQueryValue } from 'vue-router'
import type { paths } from '@/api/schema'

export const OPERATORS = ['contains', 'equals', 'present', 'absent'] as const
export type Operator = (typeof OPERATORS)[number]
export interface Condition {
  field: string
  operator: Operator
  text: string
}

export interface Search {
  q: string
  where: Condition[]
  /** The first and the last day of the submission, as a date field writes them. */
  from: string
  to: string
  group: string
  submission: string
  service: string
  /** What the service has done; empty without one. */
  state: '' | 'done' | 'awaiting'
  sort: string
  /** The columns beside the id, as `sort` names them; null if the address leaves them to the reader. */
  columns: string[] | null
}

export const FIXED_COLUMNS = ['submission', 'submitted', 'group', 'user'] as const
export const DEFAULT_SORT = '-submitted'
const FIELD = 'field:'
export const columnOf = (field: string) => FIELD + field
export const fieldOf = (column: string) => (column.startsWith(FIELD) ? column.slice(FIELD.length) : null)

export const makeSearch = (given: Partial<Search> = {}): Search => ({
  q: '',
  where: [],
  from: '',
  to: '',
  group: '',
  submission: '',
  service: '',
  state: '',
  sort: DEFAULT_SORT,
  columns: null,
  ...given,
})

/** Read a condition as the API writes it. A name may have the sign itself: it ends where it is that of a field. */
export function parseCondition(written: string, fields: string[]): Condition | null {
  const ends = [...written.matchAll(/=/g)].map((match) => match.index)
  const end = ends.find((end) => fields.includes(written.slice(0, end))) ?? ends[0]
  if (!end) return null
  const field = written.slice(0, end)
  const rest = written.slice(end + 1)
  if (rest === '') return { field, operator: 'present', text: '' }
  if (rest === '=') return { field, operator: 'absent', text: '' }
  if (rest.startsWith('=')) return { field, operator: 'equals', text: rest.slice(1) }
  return { field, operator: 'contains', text: rest }
}

/** A contained text that begins with the sign becomes an equal one: the API has no other word for it. */
export function writeCondition({ field, operator, text }: Condition): string {
  return {
    contains: `${field}=${text}`,
    equals: `${field}==${text}`,
    present: `${field}=`,
    absent: `${field}==`,
  }[operator]
}

/** A condition that says nothing is none. */
export const isComplete = ({ field, operator, text }: Condition) =>
  field !== '' && (operator === 'present' || operator === 'absent' || text !== '')

type Given = LocationQueryValue | LocationQueryValue[] | undefined
const listOf = (given: Given): string[] =>
  (Array.isArray(given) ? given : [given]).filter((one): one is string => typeof one === 'string')
const textOf = (given: Given) => listOf(given)[0] ?? ''
const dayOf = (given: Given) => (/^\d{4}-\d\d-\d\d$/.test(textOf(given)) ? textOf(given) : '')

/** Read an address. What it says of no use is left out. */
export function readAddress(query: LocationQuery, fields: string[]): Search {
  const service = textOf(query.service)
  return makeSearch({
    q: textOf(query.q),
    where: listOf(query.where)
      .map((written) => parseCondition(written, fields))
      .filter((one) => one !== null),
    from: dayOf(query.from),
    to: dayOf(query.to),
    group: textOf(query.group),
    submission: textOf(query.submission),
    service,
    state: service ? (textOf(query.state) === 'awaiting' ? 'awaiting' : 'done') : '',
    sort: textOf(query.sort) || DEFAULT_SORT,
    columns: query.column === undefined ? null : listOf(query.column),
  })
}

/** Write the address of a search; what is as it is anyway is left out. */
export function writeAddress(search: Search): LocationQueryRaw {
  const query: LocationQueryRaw = {}
  for (const name of ['q', 'from', 'to', 'group', 'submission', 'service', 'state'] as const)
    if (search[name]) query[name] = search[name]
  const where = search.where.filter(isComplete).map(writeCondition)
  if (where.length) query.where = where
  if (search.sort !== DEFAULT_SORT) query.sort = search.sort
  if (search.columns) query.column = search.columns.length ? search.columns : null
  return query
}

export type Parameters = NonNullable<paths['/search']['get']['parameters']['query']>

/** Say the search to the API. A day is the reader's, from midnight to midnight. */
export function toParameters(search: Search): Parameters {
  const parameters: Parameters = { sort: search.sort }
  const where = search.where.filter(isComplete).map(writeCondition)
  if (search.q) parameters.q = search.q
  if (where.length) parameters.where = where
  if (search.from) parameters.submittedAfter = new Date(midnight(search.from).getTime() - 1).toISOString()
  if (search.to) parameters.submittedBefore = midnight(search.to, 1).toISOString()
  if (search.group) parameters.groupId = search.group
  if (search.submission) parameters.submissionId = search.submission
  if (search.service && search.state) {
    parameters.serviceId = search.service
    parameters.serviceState = search.state
  }
  return parameters
}

function midnight(day: string, later = 0): Date {
  const [year, month, date] = day.split('-').map(Number)
  return new Date(year!, month! - 1, date! + later)
}

/** Whether anything is left out. */
export const isFiltered = (search: Search) => {
  const { sort, ...conditions } = toParameters(search)
  return Object.keys(conditions).length > 0
}

/** The address of an export; the parameters that occur more than once are repeated. */
export function writeQuery(parameters: Record<string, string | number | string[] | undefined>): string {
  const written = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters))
    for (const one of Array.isArray(value) ? value : value === undefined ? [] : [value])
      written.append(name, String(one))
  return written.toString()
}

/** Turn the order by a column round, or begin with it: the newest first, all else from the first on. */
export function nextSort(sort: string, column: string): string {
  if (sort === column) return `-${column}`
  if (sort === `-${column}`) return column
  return column === 'submitted' ? '-submitted' : column
}
