"use strict";

// No page can set the session's cookie: whoever has signed in needs not authorise here, and nobody else can that way.
const withoutCookieAuth = {
  statePlugins: {
    auth: {
      wrapSelectors: {
        definitionsToAuthorize: (list) => (state) => list(state).filter((scheme) => !scheme.has("cookieAuth")),
      },
    },
  },
};

// Without a key the browser sends the session's cookie; a change by cookie needs the session's token, too.
async function addCsrfToken(request) {
  if (!request.loadSpec && request.method !== "GET" && !request.headers.Authorization) {
    const answer = await fetch("sessions/current");
    if (answer.ok) {
      request.headers["X-CSRF-Token"] = (await answer.json()).csrfToken;
    }
  }
  return request;
}

SwaggerUIBundle({
  url: "openapi.yaml",
  dom_id: "#explorer",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  plugins: [withoutCookieAuth],
  requestInterceptor: addCsrfToken,
  tryItOutEnabled: true,
  validatorUrl: null,
});
