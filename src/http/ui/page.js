// The page: asks the HTTP API, shows what it says. Text goes in as text, never as markup. The token lives in this variable alone.
"use strict";

(() => {
  let token = "";
  const LOOK_EVERY_MS = 10000;
  const LOG_CHARS_MAX = 1000000;
  const find = (id) => document.getElementById(id);
  const part = (name) => document.querySelector(`[data-part="${name}"]`);
  let timer = 0;
  let shown = null;

  class Refused extends Error {
    constructor(code, message) { super(message); this.code = code; }
  }

  async function ask(path, read = (answer) => answer.json()) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(`/api/v1/${path}`, { headers, cache: "no-store" });
    if (answer.ok) return read(answer);
    let message = `HTTP ${answer.status}`;
    try { message = (await answer.json()).message; } catch { /* not JSON: the number has to do */ }
    throw new Refused(answer.status, message);
  }

  function make(tag, content, attributes = {}) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    for (const one of [content].flat()) if (one !== undefined && one !== null) element.append(one);
    return element;
  }

  // Heads: names; one that begins with # is of numbers. Rows: lists of texts or elements.
  function table(heads, rows, nothing) {
    if (rows.length === 0) return make("p", nothing);
    const name = (head) => head.replace("#", "");
    const kind = (head) => (head.startsWith("#") ? { class: "number" } : {});
    const head = make("thead", make("tr", heads.map((one) => make("th", name(one), { scope: "col", ...kind(one) }))));
    const cell = (value, at) => make("td", value === "" || value === undefined ? [] : make("span", value), { "data-head": name(heads[at]), ...kind(heads[at]) });
    return make("table", [head, make("tbody", rows.map((row) => make("tr", row.map(cell))))]);
  }

  function show(name, content) {
    const place = part(name);
    // What has the focus keeps it.
    const label = place.contains(document.activeElement) ? document.activeElement.getAttribute("data-key") : null;
    place.replaceChildren(...[content].flat());
    if (label) [...place.querySelectorAll("[data-key]")].find((one) => one.getAttribute("data-key") === label)?.focus();
  }

  const refused = (error) => make("p", error.message, { class: "bad" });

  function age(time) {
    if (!time) return "";
    const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
    if (seconds < 120) return `${seconds} s`;
    if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
    if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
    return `${Math.round(seconds / 86400)} d`;
  }

  const short = (time) => (time || "").replace("T", " ").replace(/:\d\d(\.\d+)?Z$/, "Z");
  const tone = (outcome) => (outcome === "Succeeded" ? "good" : outcome === "Skipped" || outcome === "Cancelled" || !outcome ? "wait" : "bad");
  const marks = { Succeeded: "✓", Failed: "✗", TimedOut: "⏱", Cancelled: "⊘", Lost: "?", Skipped: "–" };

  function use(of, unit) {
    if (!of || of.allocatable === 0) return "";
    const share = of.requested / of.allocatable;
    const meter = make("meter", `${Math.round(share * 100)} %`, { min: "0", max: "1", value: String(Math.min(1, share)), "aria-label": `${Math.round(share * 100)} % requested` });
    return make("span", [meter, ` ${unit(of.requested)} of ${unit(of.allocatable)}`]);
  }

  const cores = (milli) => `${Math.round(milli / 100) / 10}`;
  const gib = (bytes) => `${Math.round(bytes / 107374182.4) / 10} GiB`;

  function overview(look) {
    show("clusters", table(["Cluster", "Ready", "Why"],
      look.clusters.map((one) => [one.name, make("span", one.ready ? "yes" : "no", { class: one.ready ? "good" : "bad" }), one.ready ? "" : `${one.reason || ""} ${one.message || ""}`]),
      "There is none beside the home cluster."));
    show("nodes", table(["Architecture", "GPU", "#Nodes", "State", "#Pods", "CPU cores", "Memory", "GPUs"],
      look.nodes.map((one) => {
        const state = [one.notReady ? `${one.notReady} not ready` : "", one.cordoned ? `${one.cordoned} cordoned` : ""].filter(Boolean).join(", ");
        return [`${one.architecture || "unknown"}${one.cluster ? ` (cluster ${one.cluster})` : ""}`, one.gpu, String(one.count),
          state ? make("span", state, { class: "bad" }) : make("span", "ready", { class: "good" }), String(one.pods),
          use(one.cpuMilli, cores), use(one.memoryBytes, gib), use(one.gpus, String)];
      }), "There are no nodes."));
    const more = look.waiting > look.queue.length ? [make("p", `${look.waiting} wait; the ${look.queue.length} that have waited longest:`)] : [];
    show("queue", [...more, table(["Pod", "Waits", "#Priority", "Why it waits"],
      look.queue.map((one) => [`${one.namespace}/${one.pod}`, age(one.since), String(one.priority), `${one.reason ? `${one.reason}: ` : ""}${one.message}`]),
      "No pod waits.")]);
  }

  function tasks(list, all) {
    const of = new Map();
    for (const run of all) {
      const key = `${run.metadata.namespace}/${run.spec.taskRef.name}`;
      of.set(key, [...(of.get(key) || []), run]);
    }
    const trigger = (one) => one.cron ? `${one.cron.schedule} ${one.cron.timeZone || ""}` : one.after ? `after ${one.after.tasks.map((task) => task.name).join(", ")}` : one.data ? `data of ${one.data.source || "several"}` : "";
    show("tasks", table(["Task", "Starts", "Next", "Last runs", "State"], list.map((task) => {
      const key = `${task.metadata.namespace}/${task.metadata.name}`;
      const last = (of.get(key) || []).slice(0, 10).reverse();
      const dots = last.map((run) => {
        const outcome = run.status?.outcome;
        const text = `${run.metadata.name}: ${outcome || run.status?.phase || "New"}`;
        const dot = make("button", marks[outcome] || "…", { type: "button", class: `link ${tone(outcome)}`, title: text, "aria-label": text, "data-key": `${key}:${run.metadata.name}` });
        dot.addEventListener("click", () => open(run.metadata.namespace, run.metadata.name));
        return dot;
      });
      const valid = (task.status?.conditions || []).find((one) => one.type === "Valid");
      const state = valid?.status === "False" ? make("span", valid.message, { class: "bad" }) : task.spec.suspend ? make("span", "suspended", { class: "wait" }) : "";
      return [key, (task.spec.triggers || []).map(trigger).join("; ") || "by hand", short(task.status?.nextScheduled), dots.length ? make("span", dots, { class: "dots" }) : "", state];
    }), "There are no tasks."));
    const select = find("task");
    const names = list.map((task) => `${task.metadata.namespace}/${task.metadata.name}`);
    if ([...select.options].slice(1).map((one) => one.value).join() !== names.join()) {
      const chosen = select.value;
      select.replaceChildren(make("option", "all", { value: "" }), ...names.map((name) => make("option", name, { value: name })));
      select.value = names.includes(chosen) ? chosen : "";
    }
  }

  function runs(all) {
    const [task, phase] = [find("task").value, find("phase").value];
    const wanted = all.filter((run) => (!task || `${run.metadata.namespace}/${run.spec.taskRef.name}` === task) && (!phase || run.status?.phase === phase));
    show("runs", table(["Run", "Cycle", "State", "Node", "Age", "Why"], wanted.slice(0, 100).map((run) => {
      const status = run.status || {};
      const key = `${run.metadata.namespace}/${run.metadata.name}`;
      const button = make("button", key, { type: "button", class: "link", "data-key": key });
      button.addEventListener("click", () => open(run.metadata.namespace, run.metadata.name));
      const why = status.pending ? `${status.pending.reason}: ${status.pending.detail}` : status.outcome === "Succeeded" ? "" : `${status.reason || ""} ${status.message || ""}`;
      return [button, short(run.spec.cycle), make("span", status.outcome || status.phase || "New", { class: status.outcome ? tone(status.outcome) : "" }), status.node, age(run.metadata.creationTimestamp), why];
    }), "There are no such runs."));
  }

  let known = [];

  async function look() {
    clearTimeout(timer);
    try {
      const [one, list, all] = await Promise.allSettled([ask("overview"), ask("tasks"), ask("runs?limit=500")]);
      const failures = [one, list, all].filter((answer) => answer.status === "rejected").map((answer) => answer.reason);
      if (failures.some((error) => error.code === 401)) return door(token ? failures[0].message : "");
      find("door").hidden = true;
      find("all").hidden = false;
      if (one.status === "fulfilled") overview(one.value); else for (const name of ["clusters", "nodes", "queue"]) show(name, refused(one.reason));
      known = all.status === "fulfilled" ? all.value.items : [];
      if (list.status === "fulfilled") tasks(list.value.items, known); else show("tasks", refused(list.reason));
      if (all.status === "fulfilled") runs(known); else show("runs", refused(all.reason));
      find("state").textContent = failures.length ? "Not everything could be read" : `As of ${new Date().toLocaleTimeString()}`;
    } catch (error) {
      find("state").textContent = `No answer: ${error.message}`;
    }
    timer = setTimeout(look, LOOK_EVERY_MS);
  }

  function door(message) {
    token = "";
    find("all").hidden = true;
    find("door").hidden = false;
    find("refused").textContent = message;
    find("state").textContent = "A token is needed";
    find("token").focus();
  }

  async function open(namespace, name) {
    try {
      const run = await ask(`namespaces/${encodeURIComponent(namespace)}/runs/${encodeURIComponent(name)}`);
      shown = { namespace, name };
      find("run-name").textContent = `${namespace}/${name}`;
      const status = run.status || {};
      const lines = [["Task", run.spec.taskRef.name], ["Cycle", run.spec.cycle], ["Trigger", `${run.spec.trigger?.type || ""} ${run.spec.trigger?.key || ""}`],
        ["Parameters", Object.entries(run.spec.params || {}).map(([key, value]) => `${key}=${value}`).join(" ")],
        ["State", status.outcome || status.phase], ["Why", `${status.reason || ""} ${status.message || ""}`.trim()],
        ["Pending", status.pending ? `${status.pending.reason}: ${status.pending.detail}` : ""], ["Late", (status.late || []).join(", ")]];
      const list = make("dl", lines.filter(([, value]) => value).flatMap(([head, value]) => [make("dt", head), make("dd", value)]));
      const attempts = status.attempts || [];
      const rows = attempts.map((one) => [String(one.number), one.node, short(one.started), one.ended, one.exitCode === undefined ? "" : String(one.exitCode),
        one.logs ? `${one.logs.bytes} bytes${one.logs.complete ? "" : ", incomplete"}` : "", one.reap?.result]);
      show("run", [list, table(["#Attempt", "Node", "Started", "Ended", "#Exit", "Log", "Pod now"], rows, "No attempt yet.")]);
      find("attempt").replaceChildren(...attempts.map((one) => make("option", String(one.number))).reverse());
      const spec = run.spec.frozen?.template?.spec || {};
      find("container").replaceChildren(...[...(spec.containers || []), ...(spec.initContainers || [])].map((one) => make("option", one.name)));
      find("log").hidden = true;
      find("show-log").disabled = attempts.length === 0;
      if (!find("run").open) find("run").showModal();
    } catch (error) {
      find("state").textContent = error.message;
    }
  }

  async function log() {
    const place = find("log");
    place.hidden = false;
    place.textContent = "Reading";
    try {
      const query = new URLSearchParams({ attempt: find("attempt").value, container: find("container").value });
      const text = await ask(`namespaces/${encodeURIComponent(shown.namespace)}/runs/${encodeURIComponent(shown.name)}/log?${query}`, (answer) => answer.text());
      place.textContent = text.length > LOG_CHARS_MAX ? `(only the end)\n${text.slice(-LOG_CHARS_MAX)}` : text || "(nothing was written)";
      place.scrollTop = place.scrollHeight;
      place.focus();
    } catch (error) {
      place.textContent = error.message;
    }
  }

  find("door").addEventListener("submit", (event) => {
    event.preventDefault();
    token = find("token").value.trim();
    find("token").value = "";
    look();
  });
  for (const id of ["task", "phase"]) find(id).addEventListener("change", () => runs(known));
  find("show-log").addEventListener("click", log);
  find("close").addEventListener("click", () => find("run").close());
  // A question that is bound to be refused would only leave an error on the console.
  fetch("settings.json").then((answer) => answer.json()).then((settings) => (settings.anonymous ? look() : door("")), () => door(""));
})();
