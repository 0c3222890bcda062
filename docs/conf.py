"""Settings of Sphinx for the documentation site: `make docs` builds it.

The source folder is the repository itself, so that the links of the pages work here and on a code host alike.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

# The reference is read from the modules, and they import Airflow, which writes files into its home.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="iam-watcher-docs-")
os.environ["COLUMNS"] = "100"  # the width of the commands' help
logging.getLogger("airflow").setLevel(logging.WARNING)  # noqa: TID251  Airflow's logger, not ours
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"])

from iam_watcher import __version__  # noqa: E402  after Airflow's home is set

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "iam-watcher for Airflow"
author = "the iam-watcher authors"
release = version = __version__
language = "en"

root_doc = "docs/index"
include_patterns = [
    "README.md",
    "README.zh.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "bench/README.md",
    "docs/**.md",
]
exclude_patterns = [".*", "build", "dist"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "from_code",
]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # a signature has the names of the arguments; their texts say what they take
napoleon_numpy_docstring = False
default_role = "code"  # one backtick in a docstring
nitpicky = True
# The build needs no network, so it reads no inventories of other projects. Only our own names must be found.
nitpick_ignore_regex = [("py:.*", r"(?!iam_watcher\.).*")]

html_theme = "furo"
html_title = "iam-watcher for Airflow"
html_copy_source = False


def setup(app: Sphinx) -> None:
    """Let the address of the site lead to its first page, which is in the folder docs/."""
    app.connect("build-finished", _lead_to_the_first_page)


def _lead_to_the_first_page(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        refresh = '<meta http-equiv="refresh" content="0; url=docs/index.html">'
        page = f"<!doctype html>{refresh}<title>iam-watcher</title>\n"
        (Path(app.outdir) / "index.html").write_text(page)
