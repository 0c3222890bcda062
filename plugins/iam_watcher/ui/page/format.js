// Numbers and times as the page shows them: Airflow's time zone, relative first, exact on hover.
import { numberLanguage, say } from "./words.js";
import { useEffect, useState } from "./react.js";

export const number = (value) =>
  value === undefined || value === null ? "" : new Intl.NumberFormat(numberLanguage(), { maximumFractionDigits: 2 }).format(value);

export const percent = (share) =>
  new Intl.NumberFormat(numberLanguage(), { style: "percent", maximumFractionDigits: share < 0.1 ? 1 : 0 }).format(share);

/** Return a number of seconds exactly, in several units: a setting, such as "1 h 30 min". */
export const period = (seconds) => {
  let left = seconds;
  const found = [["time.d", 86400], ["time.h", 3600], ["time.min", 60]].map(([unit, size]) => {
    const n = Math.floor(left / size);
    left -= n * size;
    return n ? say(unit, { n: number(n) }) : "";
  });
  return [...found, left || !seconds ? say("time.s", { n: number(left) }) : ""].filter(Boolean).join(" ");
};

/** Return a number of seconds in one unit, rounded. */
export const duration = (seconds) => {
  const s = Math.max(0, seconds);
  if (s < 0.995) return say("time.s", { n: number(Math.round(s * 100) / 100) });
  if (s < 9.95) return say("time.s", { n: number(Math.round(s * 10) / 10) });
  if (s < 90) return say("time.s", { n: Math.round(s) });
  if (s < 90 * 60) return say("time.min", { n: Math.round(s / 60) });
  if (s < 36 * 3600) return say("time.h", { n: Math.round(s / 3600) });
  return say("time.d", { n: Math.round(s / 86400) });
};

/** Return "in 3 h" or "2 min ago". */
export const relative = (moment, now) => {
  const away = moment - now;
  if (Math.abs(away) < 1) return say("time.now");
  return away > 0 ? say("time.in", { time: duration(away) }) : say("time.ago", { time: duration(-away) });
};

const zoneOf = () => {
  try {
    return JSON.parse(localStorage.getItem("timezone") ?? "null") || "UTC";
  } catch {
    return "UTC";
  }
};

const parts = (moment, options) => {
  try {
    const format = new Intl.DateTimeFormat("en-CA", { timeZone: zoneOf(), hourCycle: "h23", ...options });
    return Object.fromEntries(format.formatToParts(moment * 1000).map((part) => [part.type, part.value]));
  } catch {
    return Object.fromEntries(
      new Intl.DateTimeFormat("en-CA", { timeZone: "UTC", hourCycle: "h23", ...options })
        .formatToParts(moment * 1000).map((part) => [part.type, part.value]),
    );
  }
};

const FULL = {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
};

/** Return a moment as Airflow does: YYYY-MM-DD HH:mm:ss. */
export const exact = (moment) => {
  const at = parts(moment, FULL);
  return `${at.year}-${at.month}-${at.day} ${at.hour}:${at.minute}:${at.second}`;
};

/** The same with the name of the zone. */
export const exactZone = (moment) => `${exact(moment)} ${zoneOf()}`;

const day = (moment) => exact(moment).slice(0, 10);

/** Return a moment in few words: today's clock, "tomorrow 03:00", "Thu 03:00", or the date. */
export const short = (moment, now) => {
  const text = exact(moment);
  const clock = text.endsWith(":00") ? text.slice(11, 16) : text.slice(11);
  if (day(moment) === day(now)) return say("time.today", { clock });
  if (day(moment) === day(now + 86400)) return say("time.tomorrow", { clock });
  if (day(moment) === day(now - 86400)) return say("time.yesterday", { clock });
  if (Math.abs(moment - now) < 6 * 86400) return `${weekday(moment)} ${clock}`;
  return text.slice(0, 16);
};

const weekday = (moment) =>
  new Intl.DateTimeFormat(numberLanguage(), { timeZone: zoneOf(), weekday: "short" }).format(moment * 1000);

/** The same within a sentence, without seconds: "at 03:00", "on Thu at 03:00". */
export const at = (moment, now) => {
  const minute = Math.floor(moment / 60) * 60;
  return day(moment) === day(now) ? say("time.at", { clock: exact(moment).slice(11, 16) }) : short(minute, now);
};

/** Return a day and time for a list of ticks. */
export const tick = (moment) => `${weekday(moment)} ${exact(moment).replace(/:00$/, "")}`;

/** Render again when Airflow's time zone changes. */
export const useZone = () => {
  const [zone, set] = useState(zoneOf());
  useEffect(() => {
    const look = () => set(zoneOf());
    addEventListener("storage", look);
    addEventListener("local-storage", look);
    return () => {
      removeEventListener("storage", look);
      removeEventListener("local-storage", look);
    };
  }, []);
  return zone;
};
