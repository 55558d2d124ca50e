# Two images: `nerloop` (the last stage, so the default) runs every process of ours; `mlflow` is the registry's server.
# Neither holds a secret: all of them come through the environment when a container starts (docker-compose.yml).

FROM python:3.11-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --create-home nerloop


FROM base AS mlflow
# The package index; a mirror makes the build much faster in some countries.
ARG PIP_INDEX_URL=https://pypi.org/simple
COPY requirements.txt /tmp/
# The server has the clients' release. psycopg2-binary is its driver for PostgreSQL, which no other part needs.
RUN pip install "$(grep '^mlflow==' /tmp/requirements.txt)" psycopg2-binary==2.9.13
# A named volume mounted here starts with this folder's owner.
RUN install --directory --owner nerloop --group nerloop /mlflow/artifacts
ENV MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /mlflow
USER nerloop
EXPOSE 5000
CMD ["mlflow", "server", "--host", "0.0.0.0"]


FROM base AS nerloop
ARG PIP_INDEX_URL=https://pypi.org/simple
# PyTorch's index of CPU builds; for workers with a GPU use one of its CUDA indexes, or empty for PyPI's build.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /app
# The packages first: this layer, which takes minutes, is made again only when the pins change.
COPY requirements.txt requirements-label-studio-ml.txt ./
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' requirements.txt)" \
    && pip install --requirement requirements.txt \
    && pip install --no-deps --requirement requirements-label-studio-ml.txt
COPY . .
RUN pip install --no-deps --editable . \
    && install --directory --owner nerloop --group nerloop /data
ENV NERLOOP_HOME=/data
USER nerloop
EXPOSE 9090 9091
CMD ["python", "-m", "ml_backend"]
