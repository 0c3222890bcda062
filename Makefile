# Every target first installs what is missing (dev/bootstrap.sh; nothing to do costs nothing).
.DEFAULT_GOAL := help
.PHONY: help demo run cluster compose compose-test test test-servers e2e soak chaos mutants bench docs docs-serve docs-links coverage versions audit constraints check clean bootstrap
# A target's commands run in one shell, and stop at the first one that fails.
.ONESHELL:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
python := .venv/bin/python
# Processes of `make test`, each with its own servers. Tests wait half of their time: three keep two cores busy.
TEST_PROCESSES ?= 3
in_parallel = -n $(TEST_PROCESSES) --dist worksteal
# A terminal that can't show an arrow gets a question mark instead of an error.
export PYTHONIOENCODING := :replace
# Python keeps what it compiled: the tests and the benchmarks start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

help: ## List these targets
	@echo "make <target>:"
	sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do
		printf '  %-12s %s\n' "$$target" "$$text"
	done

demo: bootstrap ## Run the watchers once on sample rows, in private servers, and compare every row
	@exec $(python) -m dev.demo

run: bootstrap ## Run a whole Airflow on private servers, until Ctrl-C; ROWS=1000000 adds rows, and a watcher that takes minutes
	@exec $(python) -m dev.run --rows $(or $(ROWS),0)

cluster: ## Run an Airflow cluster without Docker, until Ctrl-C; NAME=b runs another one beside it
	@dev/bootstrap.sh cluster
	exec .venv-cluster/bin/python -m dev.cluster --name $(or $(NAME),a)

compose: ## Build and start docker-compose.yaml with Docker, wait until it is healthy, and print its URL
	@exec python3 -m dev.compose

compose-test: bootstrap ## Test docker-compose.yaml in a Docker engine of its own, from Debian's packages; needs root
	@dev/download_servers.sh docker
	exec $(python) -m pytest tests/e2e/test_docker_compose.py

test: bootstrap ## Run all tests except the long ones on MariaDB, and at once one case of each test of SQL on MySQL
	@dev/download_servers.sh mysql
	dev/bootstrap.sh browser
	mkdir -p .run
	# The shell lets Ctrl-C end only what it waits for, unless told otherwise.
	(
		trap - INT
		IAM_WATCHER_DATABASE=mysql exec $(python) -m pytest --one-case-each -m "every_server and not e2e" \
			$$(grep --recursive --files-with-matches --include='test_*.py' every_server tests)
	) > .run/test-mysql.log 2>&1 &
	failed=0
	$(python) -m pytest $(in_parallel) -m "not e2e" --durations=10 --durations-min=5 || failed=$$?
	wait $$! || failed=$$?
	printf '\nMySQL:\n'
	cat .run/test-mysql.log
	exit $$failed

test-servers: bootstrap ## Run the tests of tests/integration and tests/contract on each of three database servers
	@dev/download_servers.sh mariadb-11.8 mysql
	for server in mariadb mariadb-11.8 mysql; do
		printf '\n%s\n' "$$server:"
		IAM_WATCHER_DATABASE=$$server $(python) -m pytest $(in_parallel) -m "not e2e" tests/integration tests/contract
	done

e2e: bootstrap .run/peers ## Run the long tests: complete Airflows, the page in a browser, workers killed fifty times
	@dev/bootstrap.sh browser
	dev/bootstrap.sh cluster
	dev/bootstrap.sh bench
	dev/download_servers.sh docker
	export UNDER_FIRE_KILLS=50 ROWS_UNDER_FIRE=100000 ARCHIVED_ROWS=500
	exec $(python) -m pytest tests/e2e tests/page tests/packaging/test_wheel.py tests/packaging/test_tooling.py \
		tests/integration/test_under_fire.py tests/integration/test_rows_under_fire.py \
		tests/integration/test_children_under_fire.py tests/integration/test_archive_values.py \
		tests/integration/test_keys.py tests/integration/test_key_plans.py \
		tests/dags/test_how_do_i.py tests/dags/test_notices.py

soak: bootstrap ## Test the lock under random faults for SOAK_SECONDS (default 300)
	@PYTHONPATH=plugins exec $(python) -m dev.soak

chaos: ## Kill and stop parts of a cluster for CHAOS_SECONDS (default 900), and judge what its watchers did
	@dev/bootstrap.sh cluster
	PYTHONPATH=plugins exec .venv-cluster/bin/python -m dev.chaos

mutants: bootstrap ## Make MUTANTS (default 100) small changes to the core, and list those that no test notices
	@dev/download_servers.sh mysql
	exec $(python) -m dev.mutants

bench: bootstrap .run/peers ## Compare with other programs; SUBJECTS="lock purge" measures a part
	@dev/bootstrap.sh bench
	PYTHONPATH=plugins:.run/peers exec $(python) -m bench

# Beside .venv, which holds exactly constraints.txt.
.run/peers: pyproject.toml constraints-bench.txt | bootstrap
	@echo "bench: installing the peers of constraints-bench.txt into $@" >&2
	rm -rf $@
	$(python) -m pip --disable-pip-version-check --quiet --no-input install \
		--target $@ --no-deps --constraint constraints-bench.txt --group bench
	touch $@

sphinx = PYTHONPATH=plugins:.run/docs $(python) -m sphinx -q -E -W --keep-going -c docs

docs: bootstrap .run/docs ## Build the documentation site in .run/site, and check its links inside the repository
	@rm -rf .run/site
	$(sphinx) -b html . .run/site
	echo "The site is in .run/site. To read it: make docs-serve"

docs-serve: docs ## Build the documentation site and show it on a free port, until Ctrl-C
	@exec $(python) -m http.server --bind 127.0.0.1 --directory .run/site 0

docs-links: bootstrap .run/docs ## Check the links of the pages to other sites; needs the internet
	@$(sphinx) -b linkcheck . .run/links

coverage: bootstrap ## Measure which lines and branches the tests reach; COVERAGE_TESTS="tests/unit …" measures a part
	@dev/download_servers.sh mysql
	dev/bootstrap.sh browser
	rm -rf .run/coverage
	mkdir -p .run/coverage
	$(python) -m coverage run -m pytest $(in_parallel) -m "not e2e" $(COVERAGE_TESTS) || echo "coverage: a test failed" >&2
	$(python) -m coverage combine --quiet
	exec $(python) -m dev.coverage_report

versions: bootstrap ## Run tests on each Python that is here, and with the oldest allowed packages; PYTHONS="…" names them
	@exec $(python) -m dev.versions

audit: bootstrap .run/audit ## Look up known vulnerabilities of the pinned packages; needs the internet
	@PYTHONPATH=.run/audit $(python) -m pip_audit --strict --disable-pip --no-deps --progress-spinner off \
		$(foreach name,constraints constraints-cluster,--requirement <(grep == $(name).txt))

constraints: bootstrap ## Renew the constraints files: the newest versions that fit together
	@exec $(python) -m dev.constraints

# Beside .venv too, for the same reason.
.run/docs .run/audit: .run/%: pyproject.toml constraints-%.txt | bootstrap
	@echo "$*: installing the packages of constraints-$*.txt into $@" >&2
	rm -rf $@
	$(python) -m pip --disable-pip-version-check --quiet --no-input install \
		--target $@ --constraint constraints-$*.txt --group $*
	touch $@

check: bootstrap ## Check format, lint, types, import layers, the examples in the pages, and the documentation site
	@set -x
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	PYTHONPATH=plugins .venv/bin/lint-imports --no-logo
	$(python) -m pytest --quiet tests/dags/test_docs.py
	$(MAKE) --no-print-directory docs

clean: ## Remove the files of the other targets, except .venv and .venv-cluster
	rm -rf .run build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

bootstrap:
	@dev/bootstrap.sh
