import { expect, test } from 'vitest'
import en from '@/locales/en/adminsite.json'
import de from '@/locales/de/adminsite.json'
import { changesIn, dayLimit, EVENTS, eventName, thingPage, valueText, type AuditEvent } from './events'

const event: AuditEvent = {
  id: 1,
  at: '2026-01-01T00:00:00Z',
  event: 'user.changed',
  actorId: null,
  keyId: null,
  requestId: null,
  ip: null,
  entityType: 'User',
  entityId: { uuid: 'u', site: 'DMU-1' },
  before: null,
  after: null,
  hash: null,
}

test('every event has words in both languages', () => {
  for (const name of Object.values(EVENTS).flat())
    for (const words of [en.events, de.events]) expect(words).toHaveProperty(name.replace('.', '_'))
})

test('an event without words is named as the portal does', () => {
  expect(eventName('something.new')).toBe('something.new')
  expect(eventName('user.changed')).toBe('A user was changed')
})

test('values are shown as people read them', () => {
  expect(valueText(null)).toBe('')
  expect(valueText(false)).toBe('no')
  expect(valueText(0)).toBe('0')
  expect(valueText(['a', 'b'])).toBe('a, b')
  expect(valueText({ a: 'b', c: null })).toBe('a: b, c: ')
  expect(valueText('x'.repeat(1000))).toHaveLength(302)
  expect(valueText(`data:image/png;base64,${'A'.repeat(100)}`).length).toBeLessThan(60)
})

test('what was and what is stand beside each other', () => {
  const changes = changesIn({ before: { name: 'A', enabled: true }, after: { name: 'B', enabled: false } })
  expect(changes).toEqual([
    { name: 'Name', before: 'A', after: 'B' },
    { name: 'May sign in', before: 'yes', after: 'no' },
  ])
  expect(changesIn(event)).toEqual([])
})

test('things lead to their pages', () => {
  expect(thingPage(event)).toEqual({ path: '/admin/users', query: { user: 'DMU-1' } })
  const changed = {
    ...event,
    entityType: 'AppSetting',
    entityId: { uuid: 's' },
    after: { mail_reset_body: 'x' },
  }
  expect(thingPage(changed)).toEqual({ path: '/admin/settings', query: { area: 'mails', mail: 'reset' } })
  expect(thingPage({ ...event, entityType: 'ApiKey' })).toBeUndefined()
  expect(thingPage({ ...event, entityId: null })).toBeUndefined()
})

test('days are whole ones where the reader is', () => {
  const [start, end] = [dayLimit('2026-03-28', false)!, dayLimit('2026-03-28', true)!]
  expect(new Date(start).getTime()).toBe(new Date(2026, 2, 28).getTime() - 1)
  expect(new Date(end).getTime()).toBe(new Date(2026, 2, 29).getTime())
  expect(dayLimit('', false)).toBeUndefined()
  expect(dayLimit('28.3.', true)).toBeUndefined()
})
