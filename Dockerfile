# An image of the portal: docker build --tag datameta:2.0.0 .
# It runs as an ordinary user, with a root that is read only; what changes is in /data, what is brief in /tmp.

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
# What it needs, to the byte as it was tested, is a layer of its own.
COPY requirements.lock ./
RUN python -m venv /opt/datameta \
    && /opt/datameta/bin/pip install --require-hashes --no-deps --only-binary=:all: --requirement requirements.lock
# The wheel, with the browser application: Node comes from PyPI for the build alone.
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheels . \
    && /opt/datameta/bin/pip install --no-deps /wheels/datameta-*.whl

FROM python:3.11-slim-bookworm
COPY --from=build /opt/datameta /opt/datameta
# By number, for those who want to see that it is not root.
RUN useradd --uid 10001 --no-create-home --home-dir /data datameta \
    && install --directory --owner=10001 --group=10001 --mode=0750 /data
ENV PATH=/opt/datameta/bin:$PATH HOME=/data DATAMETA_HOME=/data PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# What a load balancer asks. The worker answers for itself, or is not asked.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health/ready?exclude=worker')"]
ENTRYPOINT ["datameta"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
