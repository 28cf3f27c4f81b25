import account from './account.json'
import admin from './admin.json'
import adminfields from './adminfields.json'
import adminpeople from './adminpeople.json'
import adminsite from './adminsite.json'
import codes from './codes.json'
import common from './common.json'
import data from './data.json'
import explorer from './explorer.json'
import overview from './overview.json'
import signin from './signin.json'
import submit from './submit.json'
import transfers from './transfers.json'

export default {
  account,
  admin,
  adminfields,
  adminpeople,
  adminsite,
  codes,
  common,
  data,
  explorer,
  overview,
  signin,
  submit,
  transfers,
}
