// What stands above the list: the totals, and the watchers that need a person.
import { exactZone, number, relative } from "./format.js";
import { LinkButton, Notice } from "./parts.js";
import { COUNTED, inADay, need } from "./story.js";
import { say, tell } from "./words.js";
import { h, Link } from "./react.js";

const MOST = 8; // of those that need a person; a filter shows the rest

export const tabOf = (dag) => `/dags/${encodeURIComponent(dag)}/plugin/watcher`;
export const runOf = (dag, run) => `/dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(run)}`;

export const Lead = ({ watchers, total, now }) => {
  const runs = watchers.flatMap((watcher) => watcher.runs);
  const numbers = [
    ["lead.running", runs.filter((run) => run.state === "running" && !run.waits).length],
    ["lead.waiting", runs.filter((run) => run.waits || run.state === "queued").length],
    ...COUNTED.map((state) => [`lead.${state}`, watchers.reduce((sum, watcher) => sum + inADay(watcher, state, now), 0)]),
  ].filter(([, n]) => n).map(([key, n]) => say(key, { n: number(n) }));
  const next = watchers.filter((watcher) => !watcher.paused && watcher.next > now).sort((a, b) => a.next - b.next)[0];
  return h("header", null,
    h("h1", null, say("title")),
    h("div", { className: "lead" },
      h("span", null, [say("lead", { watchers: total ?? watchers.length }), ...numbers].join(" · "),
        next && [" · ", ...tell("lead.next", { name: next.name ?? next.id, when: relative(next.next, now) })].map((part, n) => h("span", { key: n }, part))),
      h("time", null, exactZone(now))));
};

const STEPS = {
  run: (watcher, found) => ({ to: runOf(watcher.id, found.run.id) }),
  lock: (watcher) => ({ to: tabOf(watcher.id) }),
  file: (watcher) => ({ to: `/dags/${encodeURIComponent(watcher.id)}` }),
  dryrun: (watcher) => ({ open: { what: "run", watcher, dry: true } }),
  again: (watcher) => ({ open: { what: "run", watcher } }),
  allow: (watcher, { limit }) => ({ open: { what: "run", watcher, values: { max_share: Math.min(1, Math.ceil((limit.matched / limit.eligible) * 100) / 100) } } }),
};

export const Attention = ({ watchers, home, now, may, onOpen, onAll }) => {
  const found = watchers.map((watcher) => ({ watcher, ...need(watcher, home, now) })).filter((one) => one.kind);
  found.sort((a, b) => (a.tone === b.tone ? 0 : a.tone === "failed" ? -1 : 1));
  if (!found.length) return null;
  return h("section", { className: "attention", "aria-labelledby": "iw-attention" },
    h("h2", { id: "iw-attention" }, say("attention")),
    ...found.slice(0, MOST).map(({ watcher, tone, text, steps, ...rest }) =>
      h(Notice, { key: watcher.id, tone, text },
        ...steps.map((step) => {
          const { to, open } = STEPS[step](watcher, rest);
          if (to) return h(Link, { key: step, to }, say(`step.${step}`));
          return may?.run && h(LinkButton, { key: step, onClick: () => onOpen(open) }, say(`step.${step}`));
        }))),
    found.length > MOST && h("small", null, say("attention.more", { n: found.length - MOST }), " ", h(LinkButton, { onClick: onAll }, say("attention.all"))));
};
