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

test('what it is about is named, where there is a sentence for it', async () => {
  await setLocale('de')
  const entity = { uuid: '7d0ef0fe-3f29-4f6b-8b8c-6b2c0c6a7d11', site: 'DMF-12345678' }
  const problem = { error_code: 'not_confirmed', message: 'This file is not confirmed yet.' }
  expect(inWords({ ...problem, entity }).message).toBe('Die Datei DMF-12345678 ist noch nicht bestätigt.')
  expect(inWords(problem).message).toBe('Die Datei ist noch nicht bestätigt.')
  const other = { error_code: 'forbidden', message: 'You are not allowed to do this.', entity }
  expect(inWords(other).message).toBe('Das dürfen Sie nicht.')
})

test('what needs the values of the case stays as the portal wrote it', async () => {
  await setLocale('de')
  const problem = { error_code: 'regex_mismatch', message: 'The first three digits of the postal code.' }
  expect(inWords(problem)).toEqual(problem)
})

test('only codes that the portal has are translated', () => {
  const documented = readFileSync(resolve(SOURCE, '../../docs/errors.md'), 'utf-8')
  const { refusals } = JSON.parse(readFileSync(resolve(SOURCE, 'locales/de/codes.json'), 'utf-8'))
  const codes = Object.keys(refusals).map((name) => name.replace(/_of$/, ''))
  expect(codes.filter((code) => !documented.includes(`| \`${code}\` |`))).toEqual([])
})
