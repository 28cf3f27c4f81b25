import { expect, test } from 'vitest'
import { areaOf, editorOf, mailOf, placeholdersIn } from './settings'

test('settings by area', () => {
  expect(areaOf('site_name')).toBe('branding')
  expect(areaOf('support_email')).toBe('branding')
  expect(areaOf('registration_days')).toBe('registration')
  expect(areaOf('user_agreement')).toBe('registration')
  expect(areaOf('password_token_minutes')).toBe('security')
  expect(areaOf('second_factor_required')).toBe('security')
  expect(areaOf('quota_user_bytes')).toBe('limits')
  expect(areaOf('mail_sender')).toBe('mails')
  expect(areaOf('mail_registration_known_body')).toBe('mails')
  expect(areaOf('something_new')).toBe('other')
})

test('editors by type and key', () => {
  expect(editorOf({ key: 'session_idle_hours', valueType: 'int' })).toBe('int')
  expect(editorOf({ key: 'registration_open', valueType: 'int' })).toBe('switch')
  expect(editorOf({ key: 'quota_user_bytes', valueType: 'int' })).toBe('bytes')
  expect(editorOf({ key: 'something_new', valueType: 'date' })).toBe('date')
  expect(editorOf({ key: 'something_new', valueType: 'string' })).toBe('line')
  expect(editorOf({ key: 'mail_reset_subject', valueType: 'string' })).toBe('line')
  expect(editorOf({ key: 'mail_reset_body', valueType: 'string' })).toBe('lines')
  expect(editorOf({ key: 'site_color', valueType: 'string' })).toBe('colour')
})

test('mails and what they may name', () => {
  expect(mailOf('mail_registration_known_body')).toBe('registration_known')
  expect(mailOf('mail_sender')).toBeUndefined()
  expect(placeholdersIn('Text of the mail. Filled in: {name}, {site_name}.')).toEqual([
    '{name}',
    '{site_name}',
  ])
  expect(placeholdersIn(undefined)).toEqual([])
})
