// What Airflow loads for both places: the list in its navigation, and the tab on a DAG's page.
import { h } from "./react.js";
import { List } from "./list.js";
import { Tab } from "./tab.js";
import { useLanguage } from "./words.js";
import { useZone } from "./format.js";

const Watchers = ({ dagId }) => {
  useLanguage();
  useZone();
  return dagId ? h(Tab, { dagId, key: dagId }) : h(List);
};

// Airflow's loader looks for the name of the entry first, and loads a module only once.
globalThis.Watchers = Watchers;
globalThis.Watcher = Watchers;
globalThis.AirflowPlugin = Watchers;
