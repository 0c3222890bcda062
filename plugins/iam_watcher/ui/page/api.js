// What the page asks for: its own routes, and for what Airflow can do itself, Airflow's API.

/** Return the URL of a path below Airflow's base URL, whatever that is. */
const url = (path) => new URL(path, document.baseURI).href;

/** An answer that is not good: `status`, and the server's words as the message. */
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const words = (body, text) => {
  const detail = body?.detail;
  if (typeof detail === "string") return detail;
  if (Array.isArray(detail)) return detail.map((one) => `${(one.loc ?? []).slice(1).join(".")}: ${one.msg}`).join("; ");
  return text.slice(0, 300);
};

const call = async (path, { method = "GET", body, signal } = {}) => {
  const answer = await fetch(url(path), {
    method,
    signal,
    credentials: "same-origin",
    headers: {
      "X-Requested-With": "iam-watcher",
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  let parsed;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = undefined;
  }
  if (answer.status === 401) {
    location.assign(url(`api/v2/auth/login?next=${encodeURIComponent(location.href)}`));
  }
  if (!answer.ok) throw new Refused(answer.status, words(parsed, text) || answer.statusText);
  return parsed;
};

const id = encodeURIComponent;

export const watchers = (from, signal) => call(`iam-watcher/watchers?from=${from}`, { signal });
export const changes = (after, digest, unfinished, signal) =>
  call(`iam-watcher/changes?after=${after}&digest=${digest}&unfinished=${unfinished.join(",")}`, { signal });
export const watcher = (dag, signal) => call(`iam-watcher/watchers/${id(dag)}`, { signal });
export const runs = (dag, before, signal) =>
  call(`iam-watcher/watchers/${id(dag)}/runs?limit=20${before === undefined ? "" : `&before=${before}`}`, { signal });
export const users = (dag, run, task, from) =>
  call(`iam-watcher/watchers/${id(dag)}/users?run_id=${id(run)}&task_id=${id(task)}&from=${from}`);
export const forceRelease = (dag, owner, reason) =>
  call(`iam-watcher/watchers/${id(dag)}/force-release`, { method: "POST", body: { owner, reason } });
export const dryRun = (dag, conf) =>
  call(`iam-watcher/watchers/${id(dag)}/dry-run`, { method: "POST", body: { conf } });

export const params = async (dag) => (await call(`api/v2/dags/${id(dag)}/details`)).params ?? {};
export const trigger = (dag, conf) =>
  call(`api/v2/dags/${id(dag)}/dagRuns`, { method: "POST", body: { logical_date: null, conf } });
export const pause = (dag, paused) =>
  call(`api/v2/dags/${id(dag)}?update_mask=is_paused`, { method: "PATCH", body: { is_paused: paused } });
