import { expect, test } from 'vitest'
import { toCsv } from './csv'

const read = async (rows: string[][]) =>
  new TextDecoder('utf-8', { ignoreBOM: true }).decode(await toCsv(rows).arrayBuffer())

test('cells are quoted where they must be', async () => {
  expect(
    await read([
      ['a', 'b, "c"', 'd\ne'],
      ['', 'ü'],
    ]),
  ).toBe('\ufeffa,"b, ""c""","d\ne"\r\n,ü\r\n')
})

test('no cell becomes a formula', async () => {
  expect(await read([['=1+1', '+1', '-1', '@x', ' =1', '\tx', '1-1']])).toBe(
    "\ufeff'=1+1,'+1,'-1,'@x,' =1,'\tx,1-1\r\n",
  )
})
