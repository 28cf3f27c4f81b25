import account from './account.json'
import admin from './admin.json'
import common from './common.json'
import data from './data.json'
import overview from './overview.json'
import signin from './signin.json'
import submit from './submit.json'
import transfers from './transfers.json'

export default { account, admin, common, data, overview, signin, submit, transfers }
