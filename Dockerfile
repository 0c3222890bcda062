# The image of docker-compose.yaml: Airflow's own, with what the watchers and the cluster need, at the
# versions of constraints-cluster.txt. The watchers themselves are mounted: an edit needs no new image.
# slim: the other one has all providers, at versions that those of constraints.txt would contradict.
ARG AIRFLOW_IMAGE=apache/airflow:slim-3.3.2-python3.11

# mysqlclient has no Linux wheel: it is compiled here, so that the compiler stays out of the image.
FROM ${AIRFLOW_IMAGE} AS wheels
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends default-libmysqlclient-dev gcc libc6-dev pkg-config
USER airflow
COPY constraints.txt /tmp/project/
RUN pip wheel --no-cache-dir --no-deps --constraint /tmp/project/constraints.txt --wheel-dir /tmp/wheels mysqlclient

FROM ${AIRFLOW_IMAGE}
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libmariadb3 \
    && rm -rf /var/lib/apt/lists/*
USER airflow
WORKDIR /tmp/project
COPY pyproject.toml constraints.txt constraints-cluster.txt README.md LICENSE ./
# It has the version, without which pip can't read the project.
COPY plugins/iam_watcher/__init__.py plugins/iam_watcher/
RUN --mount=type=bind,from=wheels,source=/tmp/wheels,target=/tmp/wheels \
    pip install --no-cache-dir --constraint constraints.txt --upgrade pip \
    && pip install --no-cache-dir --constraint constraints-cluster.txt --find-links /tmp/wheels --only-deps . \
    && pip install --no-cache-dir --constraint constraints-cluster.txt --group cluster \
    && pip check
WORKDIR /opt/airflow
# A volume that is mounted here begins with this owner and mode.
RUN mkdir --mode=0700 archive
