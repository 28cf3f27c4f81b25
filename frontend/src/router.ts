import { createRouter, createWebHistory, type RouteRecordRaw } from 'vue-router'
import { t } from './i18n'
import { current } from './session'
import { site } from './site'

declare module 'vue-router' {
  interface RouteMeta {
    /** The key of the page's title. */
    title: string
    isPublic?: boolean
    isAdmin?: boolean
  }
}

const routes: RouteRecordRaw[] = [
  { path: '/', component: () => import('./pages/OverviewPage.vue'), meta: { title: 'overview.title' } },
  {
    path: '/submit',
    component: () => import('./pages/submit/SubmitPage.vue'),
    meta: { title: 'submit.title' },
  },
  { path: '/data', component: () => import('./pages/data/DataPage.vue'), meta: { title: 'data.title' } },
  {
    path: '/data/submissions/:id',
    component: () => import('./pages/data/SubmissionPage.vue'),
    meta: { title: 'data.submission' },
  },
  {
    path: '/data/metadatasets/:id',
    component: () => import('./pages/data/MetadatasetPage.vue'),
    meta: { title: 'data.metadataset' },
  },
  {
    path: '/data/files/:id',
    component: () => import('./pages/data/FilePage.vue'),
    meta: { title: 'data.file' },
  },
  {
    path: '/account',
    component: () => import('./pages/account/AccountPage.vue'),
    meta: { title: 'account.title' },
  },
  {
    path: '/admin',
    component: () => import('./pages/admin/AdminPage.vue'),
    meta: { title: 'admin.title', isAdmin: true },
    redirect: '/admin/users',
    children: [
      {
        path: 'users',
        component: () => import('./pages/admin/UsersPage.vue'),
        meta: { title: 'admin.users.title' },
      },
      {
        path: 'groups',
        component: () => import('./pages/admin/GroupsPage.vue'),
        meta: { title: 'admin.groups.title' },
      },
      {
        path: 'registrations',
        component: () => import('./pages/admin/RegistrationsPage.vue'),
        meta: { title: 'admin.registrations.title' },
      },
      {
        path: 'fields',
        component: () => import('./pages/admin/FieldsPage.vue'),
        meta: { title: 'admin.fields.title' },
      },
      {
        path: 'fields/:id',
        component: () => import('./pages/admin/FieldPage.vue'),
        meta: { title: 'admin.fields.title' },
      },
      {
        path: 'rules',
        component: () => import('./pages/admin/RulesPage.vue'),
        meta: { title: 'admin.rules.title' },
      },
      {
        path: 'services',
        component: () => import('./pages/admin/ServicesPage.vue'),
        meta: { title: 'admin.services.title' },
      },
      {
        path: 'settings',
        component: () => import('./pages/admin/SettingsPage.vue'),
        meta: { title: 'admin.settings.title' },
      },
      {
        path: 'audit',
        component: () => import('./pages/admin/AuditPage.vue'),
        meta: { title: 'admin.audit.title' },
      },
      {
        path: 'jobs',
        component: () => import('./pages/admin/JobsPage.vue'),
        meta: { title: 'admin.jobs.title' },
      },
      {
        path: 'storage',
        component: () => import('./pages/admin/StoragePage.vue'),
        meta: { title: 'admin.storage.title' },
      },
    ],
  },
  { path: '/explorer', component: () => import('./pages/ApiPage.vue'), meta: { title: 'common.api' } },
  {
    path: '/sign-in',
    component: () => import('./pages/signin/SignInPage.vue'),
    meta: { title: 'signin.title', isPublic: true },
  },
  {
    path: '/second-factor',
    component: () => import('./pages/signin/SecondFactorPage.vue'),
    meta: { title: 'signin.secondFactor' },
  },
  {
    path: '/forgotten',
    component: () => import('./pages/signin/ForgottenPage.vue'),
    meta: { title: 'signin.forgotten', isPublic: true },
  },
  {
    path: '/setpass',
    component: () => import('./pages/signin/SetPasswordPage.vue'),
    meta: { title: 'signin.setPassword', isPublic: true },
  },
  {
    path: '/register',
    component: () => import('./pages/signin/RegisterPage.vue'),
    meta: { title: 'signin.register', isPublic: true },
  },
  {
    path: '/:path(.*)*',
    component: () => import('./pages/NotFoundPage.vue'),
    meta: { title: 'common.notFound', isPublic: true },
  },
]

export const router = createRouter({
  history: createWebHistory(),
  routes,
  scrollBehavior: (to, from, saved) => saved ?? (to.path === from.path ? false : { top: 0 }),
})

router.beforeEach((to) => {
  if (!current.session && !to.meta.isPublic) return { path: '/sign-in', query: { next: to.fullPath } }
  // Nothing else is open to who has yet to set up a second factor.
  const isSetUp = current.session?.secondFactor !== 'setup_required'
  if (!isSetUp && !to.meta.isPublic && to.path !== '/second-factor') return '/second-factor'
  return true
})

router.afterEach((to, from) => {
  document.title = `${t(to.meta.title)} · ${site.value?.name ?? 'DataMeta'}`
  // Who listens to the page hears where the link led; the first page is read anyway.
  if (from.matched.length && to.path !== from.path)
    setTimeout(() => document.getElementById('content')?.focus(), 0)
})
