// The tab on a watcher's DAG page: what is fixed on the left, what happened on the right.
import * as api from "./api.js";
import { Button, Notice } from "./parts.js";
import { Dialogs } from "./dialogs.js";
import { beforeOf, hasOthers, merged, withNewest } from "./known.js";
import { LockCard, ScheduleCard, SettingsCard } from "./cards.js";
import { Runs } from "./runs.js";
import { css } from "./style.js";
import { isDone } from "./story.js";
import { numberLanguage, say } from "./words.js";
import { C, h, useCallback, useEffect, useRef, useState } from "./react.js";

const EVERY = 2_000; // ms while something happens
const CALM = 10_000; // ms else
const AFTER_ERROR = 10_000;

/** Return the watcher with its runs, newest first, kept up to date. */
const useWatcher = (dag) => {
  const [state, set] = useState({ runs: [] });
  const [generation, setGeneration] = useState(0);
  const known = useRef({ runs: [] });
  useEffect(() => {
    const stop = new AbortController();
    let timer;
    const ask = async () => {
      clearTimeout(timer);
      if (document.hidden) return;
      let pause = AFTER_ERROR;
      try {
        const watcher = await api.watcher(dag, stop.signal);
        if (watcher.none) {
          set({ isOther: true, runs: [] });
          return;
        }
        const page = await api.runs(dag, undefined, stop.signal);
        const { runs } = page;
        known.current = withNewest(known.current.dag === dag ? known.current : { dag, runs: [] }, page);
        set({ watcher: { ...watcher, runs }, ...known.current, home: watcher.deployment });
        pause = runs.some((run) => !isDone(run)) || watcher.lock?.owner ? EVERY : CALM;
      } catch (error) {
        if (stop.signal.aborted) return;
        set((old) => ({ ...old, error }));
      }
      timer = setTimeout(ask, pause);
    };
    const onVisible = () => document.hidden || ask();
    document.addEventListener("visibilitychange", onVisible);
    ask();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisible);
    };
  }, [dag, generation]);
  const more = useCallback(async () => {
    const asked = known.current.runs;
    let page;
    for (const before of beforeOf(asked)) {
      page = await api.runs(dag, before);
      if (!page.more || hasOthers(asked, page.runs)) break;
    }
    if (!known.current.runs.some((run) => run.n === asked.at(-1).n)) return; // the list began anew meanwhile
    known.current = { ...known.current, runs: merged(known.current.runs, page.runs), isMore: page.more };
    set((old) => ({ ...old, ...known.current }));
  }, [dag]);
  return { ...state, more, reload: () => setGeneration((number) => number + 1) };
};

export const Tab = ({ dagId }) => {
  const { watcher, isOther, runs, isMore, home, error, more, reload } = useWatcher(dagId);
  const [open, setOpen] = useState(null);
  if (!watcher) {
    return h("div", { className: "iw", "aria-busy": !error && !isOther }, h("style", null, css),
      isOther ? h("div", null, h("strong", null, say("tab.not")), h("p", { className: "small" }, say("tab.not.text")))
        : error ? h(Notice, { tone: "failed", text: say("error.load", { error: error.message }) }, h(Button, { size: "xs", onClick: reload }, say("error.try")))
          : h(C.Stack, { gap: 3, "aria-label": say("loading") }, h(C.Skeleton, { height: "160px" }), h(C.Skeleton, { height: "160px" })));
  }
  const { now } = watcher;
  return h("div", { className: "iw", lang: numberLanguage() }, h("style", null, css),
    error && h(Notice, { tone: "warn", text: say("error.live", { error: error.message }) }),
    h("div", { className: "grid" },
      h("div", null,
        h(ScheduleCard, { watcher, now }),
        h(LockCard, { watcher, home, now, onRelease: () => setOpen({ what: "release", watcher }) }),
        h(SettingsCard, { watcher })),
      h("div", null,
        watcher.may.run && h("section", { className: "card" },
          h("h2", null, say("tab.run"), h("span", null,
            h(Button, { size: "xs", onClick: () => setOpen({ what: "run", watcher }) }, say("form.start"), " …"), " ",
            watcher.drydefault && h(Button, { size: "xs", onClick: () => setOpen({ what: "run", watcher, dry: true }) }, say("do.dry")))),
          watcher.drydefault && h("small", null, say("tab.run.text"))),
        h(Runs, { watcher, runs, isMore, home, now, more, onOpen: setOpen }))),
    h(Dialogs, { open, onClose: () => setOpen(null), home, onDone: reload }));
};

