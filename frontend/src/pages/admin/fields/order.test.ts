import { describe, expect, it } from 'vitest'
import { changeOrders, GREATEST, LEAST, move, type Placed } from './order'

const place = (...orders: number[]): Placed[] => orders.map((order) => ({ id: String(order), order }))

/** Apply the changes, and demand that the numbers rise along the sequence. */
function apply(sequence: Placed[]): number[] {
  const changes = changeOrders(sequence)
  const orders = sequence.map(({ id, order }) => changes.get(id) ?? order)
  orders.slice(1).forEach((order, at) => expect(order).toBeGreaterThan(orders[at]!))
  for (const order of orders) {
    expect(order).toBeGreaterThanOrEqual(LEAST)
    expect(order).toBeLessThanOrEqual(GREATEST)
  }
  return orders
}

describe('changeOrders', () => {
  it('changes nothing that is in order', () => {
    expect(changeOrders(place(100, 200, 300)).size).toBe(0)
    expect(changeOrders([]).size).toBe(0)
  })

  it.each([
    [0, 2, [200, 300, 350, 400]],
    [3, 0, [0, 100, 200, 300]],
    [0, 3, [200, 300, 400, 500]],
    [2, 1, [100, 300, 350, 400]],
  ])('changes one number where there is room: %i to %i', (from, to, expected) => {
    const sequence = move(place(100, 200, 300, 400), from, to)
    expect(changeOrders(sequence).size).toBe(1)
    expect(apply(sequence)).toEqual(expected)
  })

  it('makes room by as few changes as needed', () => {
    const sequence = move(place(1, 2, 3, 4, 9), 3, 1)
    expect(sequence.map(({ order }) => order)).toEqual([1, 4, 2, 3, 9])
    // 4 has no room between 1 and 2: to change two numbers is enough.
    expect(changeOrders(sequence).size).toBe(2)
    apply(sequence)
  })

  it('gives numbers to those that have the same', () => {
    const sequence = ['a', 'b', 'c'].map((id) => ({ id, order: 0 }))
    expect(changeOrders(sequence).size).toBe(2)
    apply(sequence)
  })

  it('stays within what a number can be', () => {
    apply(move(place(LEAST, 5, GREATEST), 0, 2))
    apply(move(place(LEAST, LEAST + 1, LEAST + 2), 2, 0))
    apply(move(place(GREATEST - 2, GREATEST - 1, GREATEST), 0, 2))
  })

  it('is right for every move of a crowded list', () => {
    const orders = [0, 1, 2, 5, 5.5, 40].map(Math.ceil)
    for (let from = 0; from < orders.length; from++)
      for (let to = 0; to < orders.length; to++) apply(move(place(...orders), from, to))
  })
})
