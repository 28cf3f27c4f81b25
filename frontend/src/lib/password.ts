/**
 * What the portal demands of a password, as far as a browser can judge it while somebody types: the rules of
 * `datameta/logic/passwords.py`, but for its list of common passwords and the passwords before.
 */

export interface Verdict {
  /** Characters, as the portal counts them. */
  length: number
  isLong: boolean
  /** Neither one piece again and again, nor counted on from character to character. */
  isVaried: boolean
  /** The words in it that anybody can guess, if it is too short without them. */
  guessable: string[]
}

const MIN_WORD = 4

/** The words of an account that do not count towards the length of its password. */
export function findWords(...texts: string[]): string[] {
  const words = texts.flatMap((text) => fold(text).split(/[^\p{L}\p{N}]+/u))
  return [...new Set(words)].filter((word) => count(word) >= MIN_WORD)
}

export function judgePassword(password: string, minLength: number, words: string[]): Verdict {
  const folded = fold(password)
  const found = words.filter((word) => folded.includes(word)).sort((a, b) => b.length - a.length)
  const rest = found.reduce((text, word) => text.replaceAll(word, ''), folded)
  const length = count(password.normalize('NFC'))
  return {
    length,
    isLong: length >= minLength,
    isVaried: !isRepeated(folded) && !isCounted(folded),
    guessable: count(rest) < minLength ? found : [],
  }
}

export function isGood(verdict: Verdict): boolean {
  return verdict.isLong && verdict.isVaried && verdict.guessable.length === 0
}

const fold = (text: string) => text.normalize('NFC').toLowerCase()
const count = (text: string) => [...text].length
const isRepeated = (text: string) => text !== '' && (text + text).slice(1, -1).includes(text)

function isCounted(text: string): boolean {
  const points = [...text].map((character) => character.codePointAt(0)!)
  return new Set(points.slice(1).map((point, place) => point - points[place]!)).size === 1
}
