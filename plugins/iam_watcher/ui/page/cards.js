// The left side of the tab: schedule, lock, settings.
import { duration, exact, exactZone, number, period, relative, tick } from "./format.js";
import { dotted, LinkButton, Notice } from "./parts.js";
import { who, whyNoNext } from "./story.js";
import { schedule as inWords, say } from "./words.js";
import { h } from "./react.js";

const Fact = (label, ...value) => [h("dt", { key: `${label}.` }, label), h("dd", { key: label }, ...value)];

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

const graceOf = ({ kind, grace }) => {
  if (kind === "after") return "";
  if (grace === undefined) return say("grace.default");
  return grace > 0 ? say("grace.some", { time: period(grace) }) : say("grace.none");
};

export const ScheduleCard = ({ watcher, now }) => {
  const { schedule } = watcher;
  if (!schedule) {
    const text = watcher.spec && watcher.spec !== "None" ? say("tab.airflows", { words: inWords(watcher.words) || watcher.spec }) : say("tab.noschedule");
    return h("section", { className: "card" }, h("h2", null, say("tab.schedule")), h("p", null, text));
  }
  const ticks = schedule.ticks ?? (watcher.next ? [[watcher.next, false]] : []);
  return h("section", { className: "card" },
    h("h2", null, say("tab.schedule")),
    h("strong", null, capital(inWords(schedule.words))),
    h("div", null, h("code", null, schedule.spec)),
    schedule.values && h("small", null, say("tab.splay", { spec: schedule.values })),
    watcher.paused && h("small", null, say("paused")),
    ticks.length ? h("ol", { className: "ticks" }, ...ticks.map(([moment, isChange], n) =>
      h("li", { key: moment, className: isChange ? "change" : undefined, title: exactZone(moment) },
        h("span", null, tick(moment)), h("span", null, isChange ? say("tab.clock") : n < 3 ? relative(moment, now) : ""))))
      : h("p", { className: "small" }, whyNoNext(watcher) === "next.after" ? capital(say("next.after")) : say("tab.noticks")),
    h("small", null, schedule.kind === "after" ? say("overlap.after") : say(`overlap.${schedule.overlap ?? "skip"}`), " ", graceOf(schedule)));
};

const Held = ({ watcher, home, now }) => {
  const { lock } = watcher;
  if (lock?.unknown) return h(Notice, { tone: "warn", text: say("error.redis", { error: (lock.errors ?? []).join(" ") }) });
  if (!lock?.owner) return h("dl", null, Fact(say("lock.holder"), h("span", { className: "free" }, say("lock.free"))));
  return h("dl", null,
    Fact(say("lock.holder"), h("strong", null, h("bdi", null, who(lock.owner, home, lock.since))), h("small", null, h("bdi", null, lock.owner))),
    lock.since && Fact(say("lock.since.label"), say("lock.since.value", { when: exact(lock.since), time: duration(now - lock.since), left: duration(lock.left ?? 0) })),
    lock.busy && Fact(say("lock.busy"), lock.busy.join(", ")));
};

export const LockCard = ({ watcher, home, now, onRelease }) => {
  const { lock_facts: facts, lock, waiting = [], history = [] } = watcher;
  if (!facts) return h("section", { className: "card" }, h("h2", null, say("tab.lock")), h("p", null, say("lock.no")));
  const names = facts.redis_conn_ids.join(", ");
  const errors = lock?.errors ?? [];
  return h("section", { className: "card" },
    h("h2", null, say("tab.lock"), watcher.may.change && lock?.owner && !facts.per_tick && h(LinkButton, { onClick: onRelease }, say("do.release"))),
    h(Held, { watcher, home, now }),
    h("dl", null,
      Fact(say(facts.per_tick ? "lock.key.tick" : "lock.key"), h("code", null, facts.key), facts.per_tick && " + …"),
      Fact(say("lock.lease"), period(facts.lease)),
      Fact(say("lock.wait"), say(`lock.busy.${facts.on_busy}`, { time: period(facts.wait) })),
      facts.max_hold && Fact(say("lock.maxhold"), period(facts.max_hold)),
      Fact(say("lock.servers"), facts.redis_conn_ids.length > 1 ? say("lock.servers.quorum", { names }) : names)),
    errors.length > 0 && !lock.unknown && h(Notice, { tone: "warn", text: say("lock.some", { n: errors.length, of: facts.redis_conn_ids.length }) }, h("small", null, errors.join(" "))),
    waiting.length > 0 && [
      h("h2", { key: "title" }, say("tab.queue")),
      h("ol", { key: "queue", className: "ticks" }, ...waiting.map((one, n) => h("li", { key: one.owner, title: one.owner },
        h("span", null, `${n + 1}. `, h("bdi", null, who(one.owner, home, one.since))),
        h("span", null, dotted([say("wait.since", { when: relative(one.since, now) }), say("wait.until", { when: relative(one.until, now) })]))))),
    ],
    history.length > 0 && [
      h("h2", { key: "past" }, say("tab.history")),
      ...history.slice(0, 5).map((one, n) => h("small", { key: n, title: one.owner }, say("tab.forced", { ...one, at: exact(Date.parse(one.at) / 1000) }))),
    ]);
};

const shown = (value) => (typeof value === "number" ? number(value) : String(value));

export const SettingsCard = ({ watcher }) => {
  const found = watcher.settings.filter((job) => Object.keys(job.values).length);
  if (!found.length) return null;
  return h("section", { className: "card" }, h("h2", null, say("tab.settings")),
    ...found.map((job) => h("div", { key: job.task }, found.length > 1 && h("small", null, job.task),
      h("dl", null, ...Object.entries(job.values).flatMap(([name, value]) => Fact(name.replaceAll("_", " "), h("code", null, shown(value))))))));
};
