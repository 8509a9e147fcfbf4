// Loaded before a client whose base URL is a constant: its requests go to the service under test instead.
"use strict";

const http = require("node:http");
const https = require("node:https");

const constant = new URL(process.env.CLIENT_BASE_URL);
const service = new URL(process.env.SERVICE_BASE_URL);

https.request = (url, options, callback) => {
  if (!(url instanceof URL) || url.origin !== constant.origin) {
    throw new Error(`not to be asked from a test: ${url}`);
  }
  const rerouted = new URL(service.pathname.replace(/\/$/, "") + url.pathname + url.search, service);
  return http.request(rerouted, { ...options, agent: undefined, protocol: "http:" }, callback);
};
