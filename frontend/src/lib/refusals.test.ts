import { readdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { setLocale } from '@/i18n'
import { inWords, sayAgain } from './refusals'

const SOURCE = resolve(import.meta.dirname, '..')
const PORTAL = resolve(SOURCE, '../..')
const PROBLEM = {
  error_code: 'duplicate_name',
  message: 'There is a group with this name already.',
  field: 'name',
}
const read = (path: string) => readFileSync(path, 'utf-8')
const texts: Record<string, string> = JSON.parse(read(resolve(SOURCE, 'locales/de/codes.json'))).refusals
const sentences: Record<string, string> = JSON.parse(read(resolve(SOURCE, 'locales/sentences.de.json')))
const found: Record<string, string> = JSON.parse(read(resolve(SOURCE, 'locales/de/submit.json'))).found

/** Each code that the portal documents, and the messages it comes with, in which … stands for a value. */
const documented = [
  ...read(resolve(PORTAL, 'docs/errors.md')).matchAll(/^\| `(\w+)` \| .* \| (.*) \|$/gm),
].map(([, code, messages]) => ({ code: code!, messages: messages!.replaceAll('\\|', '|').split('<br>') }))
/** Each code of what is found in a sheet. */
const ofSheets = [
  ...read(resolve(PORTAL, 'docs/sheets.md')).matchAll(/^\| (`\w+`(?:, `\w+`)*) \|/gm),
].flatMap(([, codes]) => codes!.replaceAll('`', '').split(', '))
const toPattern = (message: string) =>
  new RegExp(
    `^${message
      .split('…')
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('.*')}$`,
  )
/** Whether a sentence is one of those that a message with … may be. */
const fits = (message: string, sentence: string) => toPattern(message).test(sentence.replace(/[{}]/g, ''))
const namesOf = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort()

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

test('values are told in German, too', async () => {
  await setLocale('de')
  const say = (message: string) => inWords({ error_code: 'any', message }).message
  expect(say('The list has more than 10 items.')).toBe('Die Liste hat mehr als 10 Einträge.')
  expect(say('The number must be from 0 to 1.5 kg.')).toBe('Die Zahl muss zwischen 0 und 1.5 kg liegen.')
  expect(say('“a\nb” is a synonym of “$&” already.')).toBe('„a\nb“ ist schon ein Synonym von „$&“.')
  expect(say('The value of quota must be a whole number from 0 to 9.')).toBe(
    'Für quota ist nötig: eine ganze Zahl von 0 bis 9.',
  )
  expect(
    say(
      'Your group has 1 GB of 2 GB here, and this file has 3 GB. Delete what is not needed, or ask for more.',
    ),
  ).toBe(
    'Ihre Gruppe hat hier 1 GB von 2 GB belegt, und diese Datei hat 3 GB. Löschen Sie, was nicht mehr gebraucht wird, oder bitten Sie um mehr.',
  )
})

test("the site's own words stay as they are", async () => {
  await setLocale('de')
  const problem = { error_code: 'regex_mismatch', message: 'The first three digits of the postal code.' }
  expect(inWords(problem)).toEqual(problem)
})

describe('all that the portal can say', () => {
  beforeAll(() => expect([documented.length, ofSheets.length].every((count) => count > 40)).toBe(true))

  test('is said in German, with its values', async () => {
    await setLocale('de')
    const isTold = (code: string, message: string) =>
      message.includes('…')
        ? Object.keys(sentences).some((sentence) => fits(message, sentence))
        : sayAgain(message) || texts[code]
    const untold = documented.flatMap(({ code, messages }) =>
      messages.filter((message) => !isTold(code, message)).map((message) => `${code}: ${message}`),
    )
    expect(untold).toEqual([])
  })

  test('is not taken for another sentence with a value in it', async () => {
    await setLocale('de')
    const fixed = documented.flatMap(({ messages }) => messages).filter((message) => !message.includes('…'))
    expect(fixed.filter((message) => !Object.hasOwn(sentences, message) && sayAgain(message))).toEqual([])
  })

  test('is said of sheets, too', () => {
    expect(ofSheets.filter((code) => !texts[code] && !found[code])).toEqual([])
  })

  test('and nothing is translated that it does not say', () => {
    const codes = new Set([...documented.map(({ code }) => code), ...ofSheets])
    expect(Object.keys(texts).filter((name) => !codes.has(name.replace(/_of$/, '')))).toEqual([])
    const messages = documented.flatMap((one) => one.messages)
    const logic = resolve(PORTAL, 'datameta/logic')
    const source = readdirSync(logic)
      .filter((name) => name.endsWith('.py'))
      .map((name) => read(resolve(logic, name)))
      .join()
    const stale = Object.keys(sentences).filter((sentence) => {
      // What is no sentence stands in one, as a value.
      if (!/[.?}]$/.test(sentence) || !/^[A-Z“{]/.test(sentence))
        return !source.includes(sentence.split('{')[0]!)
      return !messages.some((message) => fits(message, sentence))
    })
    expect(stale).toEqual([])
  })

  test.each(Object.entries(sentences))('%s: with the same values', (sentence, translation) => {
    expect(namesOf(translation)).toEqual(namesOf(sentence))
  })
})
