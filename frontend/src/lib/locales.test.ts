import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const FOLDER = join(import.meta.dirname, '../locales')
const areas = readdirSync(join(FOLDER, 'en')).filter((name) => name.endsWith('.json'))

type Texts = { [name: string]: string | Texts }

function flatten(texts: Texts, before = ''): [string, string][] {
  return Object.entries(texts).flatMap(([name, text]): [string, string][] =>
    typeof text === 'string' ? [[before + name, text]] : flatten(text, `${before}${name}.`),
  )
}

function read(locale: string, area: string): Map<string, string> {
  const texts = new Map(flatten(JSON.parse(readFileSync(join(FOLDER, locale, area), 'utf-8'))))
  // In English refusals are as the portal writes them.
  if (area === 'codes.json')
    for (const key of [...texts.keys()].filter((name) => name.startsWith('refusals.'))) texts.delete(key)
  return texts
}

const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]!).sort()

test('both languages have the same areas', () => {
  expect(readdirSync(join(FOLDER, 'de')).sort()).toEqual(readdirSync(join(FOLDER, 'en')).sort())
})

test.each(areas)('%s says the same in both languages, with the same values', (area) => {
  const [english, german] = [read('en', area), read('de', area)]
  expect([...german.keys()].sort()).toEqual([...english.keys()].sort())
  for (const [key, text] of english) {
    const forms = [text.split(' | ').length, german.get(key)!.split(' | ').length]
    expect(forms[0], key).toBe(forms[1])
    expect([...new Set(placeholders(german.get(key)!))], key).toEqual([...new Set(placeholders(text))])
  }
})
