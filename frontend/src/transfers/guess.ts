/** Which of the wanted names a file's name may have been meant as. */

/** Farther apart than this share of its letters, a name is another one. */
const FARTHEST = 0.34

/** The closest of the names, or undefined if none is close; of two that are equally close, neither is a guess. */
export function guessName(name: string, wanted: Iterable<string>): string | undefined {
  const folded = fold(name)
  let best: string | undefined
  let distance = Math.floor(folded.length * FARTHEST) + 1
  let isTied = false
  for (const candidate of wanted) {
    const found = editDistance(folded, fold(candidate), distance)
    if (found > distance || found === Infinity) continue
    isTied = found === distance && best !== undefined
    if (found < distance) {
      best = candidate
      distance = found
      isTied = false
    }
  }
  return isTied ? undefined : best
}

/** What people mix up does not count: case, and what stands between words. */
function fold(name: string): string {
  return name.toLowerCase().replace(/[\s_.\-]+/g, '_')
}

/** How many letters must change to make one of the other; `Infinity` if more than `most`. */
export function editDistance(one: string, other: string, most: number): number {
  if (Math.abs(one.length - other.length) > most) return Infinity
  let before = Array.from({ length: other.length + 1 }, (_, place) => place)
  for (let row = 1; row <= one.length; row++) {
    const now = [row]
    let least = row
    for (let column = 1; column <= other.length; column++) {
      const cost = one[row - 1] === other[column - 1] ? 0 : 1
      const value = Math.min(before[column]! + 1, now[column - 1]! + 1, before[column - 1]! + cost)
      now.push(value)
      if (value < least) least = value
    }
    if (least > most) return Infinity
    before = now
  }
  const distance = before[other.length]!
  return distance > most ? Infinity : distance
}
