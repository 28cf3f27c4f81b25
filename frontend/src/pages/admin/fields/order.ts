/** Where things stand: moving one, and the fewest changes of their order numbers that say so. */

export interface Placed {
  id: string
  order: number
}

export const LEAST = -(2 ** 31)
export const GREATEST = 2 ** 31 - 1
/** What lies between two fields by default, so that there is room for others. */
export const STEP = 100

export function move<T>(list: readonly T[], from: number, to: number): T[] {
  const moved = [...list]
  moved.splice(to, 0, ...moved.splice(from, 1))
  return moved
}

/** Return the new order numbers by id, as few as possible, that make `sequence` the order of its fields. */
export function changeOrders(sequence: readonly Placed[]): Map<string, number> {
  const changes = new Map<string, number>()
  const kept = findKept(sequence)
  // Before the first and after the last there is room without end, up to what an order number can be.
  for (let at = 0; at <= kept.length; at++) {
    const [before, after] = [kept[at - 1] ?? -1, kept[at] ?? sequence.length]
    const count = after - before - 1
    const above = sequence[after]?.order
    const below = sequence[before]?.order
    const end = above ?? Math.min(GREATEST + 1, (below ?? 0) + STEP * (count + 1))
    const start = below ?? Math.max(LEAST - 1, end - STEP * (count + 1))
    for (let step = 1; step <= count; step++) {
      const { id, order } = sequence[before + step]!
      const next = start + Math.floor(((end - start) * step) / (count + 1))
      if (next !== order) changes.set(id, next)
    }
  }
  return changes
}

/** Return the places of the most fields that can keep their number, with room for those between them. */
function findKept(sequence: readonly Placed[]): number[] {
  // Two can both stay if their numbers lie as far apart as their places: order − place must not fall.
  const best: number[] = []
  const previous: number[] = []
  let last = -1
  sequence.forEach(({ order }, place) => {
    best[place] = 0
    previous[place] = -1
    if (order - LEAST < place || GREATEST - order < sequence.length - 1 - place) return
    best[place] = 1
    for (let earlier = 0; earlier < place; earlier++) {
      const fits = sequence[earlier]!.order - earlier <= order - place
      if (best[earlier]! && fits && best[earlier]! + 1 > best[place]!) {
        best[place] = best[earlier]! + 1
        previous[place] = earlier
      }
    }
    if (last < 0 || best[place]! > best[last]!) last = place
  })
  const kept: number[] = []
  for (let place = last; place >= 0; place = previous[place]!) kept.unshift(place)
  return kept
}
