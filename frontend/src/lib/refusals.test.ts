import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { setLocale } from '@/i18n'
import { inWords } from './refusals'

const SOURCE = resolve(import.meta.dirname, '..')
const PROBLEM = {
  error_code: 'duplicate_name',
  message: 'There is a group with this name already.',
  field: 'name',
}

afterEach(() => setLocale('en'))

test('in English a refusal is as the portal wrote it', () => {
  expect(inWords(PROBLEM)).toEqual(PROBLEM)
})

test('in German it is translated, and keeps all else', async () => {
  await setLocale('de')
  expect(inWords(PROBLEM)).toEqual({ ...PROBLEM, message: 'Diesen Namen gibt es schon.' })
})

test('what needs the values of the case stays as the portal wrote it', async () => {
  await setLocale('de')
  const problem = { error_code: 'regex_mismatch', message: 'The first three digits of the postal code.' }
  expect(inWords(problem)).toEqual(problem)
})

test('only codes that the portal has are translated', () => {
  const documented = readFileSync(resolve(SOURCE, '../../docs/errors.md'), 'utf-8')
  const { refusals } = JSON.parse(readFileSync(resolve(SOURCE, 'locales/de/codes.json'), 'utf-8'))
  expect(Object.keys(refusals).filter((code) => !documented.includes(`| \`${code}\` |`))).toEqual([])
})
