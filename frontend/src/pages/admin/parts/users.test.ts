import { expect, test } from 'vitest'
import { changesOf, endsSessions, hasRole, hasState, type User } from './users'

const user: User = {
  id: { uuid: 'u', site: 'DMU-1' },
  name: 'Lena Lab',
  email: 'lab@demo.example',
  group: { id: { uuid: 'g', site: 'DMG-1' }, name: 'North' },
  groupId: { uuid: 'g', site: 'DMG-1' },
  groupAdmin: true,
  siteAdmin: false,
  siteRead: false,
  enabled: true,
  secondFactor: false,
  lastSeenAt: null,
}
const same = {
  name: user.name,
  groupId: 'g',
  groupAdmin: true,
  siteAdmin: false,
  siteRead: false,
  enabled: true,
}

test('roles', () => {
  expect(hasRole(user, '')).toBe(true)
  expect(hasRole(user, 'groupAdmin')).toBe(true)
  expect(hasRole(user, 'siteAdmin')).toBe(false)
  expect(hasRole(user, 'none')).toBe(false)
  expect(hasRole({ ...user, groupAdmin: false }, 'none')).toBe(true)
  expect(hasRole(user, 'something typed into the address')).toBe(true)
})

test('states', () => {
  expect(hasState(user, '')).toBe(true)
  expect(hasState(user, 'enabled')).toBe(true)
  expect(hasState(user, 'disabled')).toBe(false)
  expect(hasState(user, 'never')).toBe(true)
  expect(hasState({ ...user, lastSeenAt: '2026-01-01T00:00:00Z' }, 'never')).toBe(false)
  expect(hasState({ ...user, secondFactor: true }, 'noSecondFactor')).toBe(false)
})

test('only what differs is sent', () => {
  expect(changesOf(user, same)).toEqual({})
  expect(changesOf(user, { ...same, name: 'Lena', groupAdmin: false })).toEqual({
    name: 'Lena',
    groupAdmin: false,
  })
})

test('another group, and less than before, end the sessions', () => {
  expect(endsSessions({})).toBe(false)
  expect(endsSessions({ name: 'Lena', siteRead: true, enabled: true })).toBe(false)
  expect(endsSessions({ groupId: 'h' })).toBe(true)
  expect(endsSessions({ groupAdmin: false })).toBe(true)
  expect(endsSessions({ enabled: false })).toBe(true)
})
