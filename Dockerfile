# gproxy in a container: `docker build -t gproxy .`; compose.yaml beside this file runs it (docs/operations.md).
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/gproxy \
    && /opt/gproxy/bin/pip install --no-cache-dir --require-hashes -r requirements.lock -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY gproxy ./gproxy
RUN /opt/gproxy/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home --home-dir /var/lib/gproxy --shell /usr/sbin/nologin gproxy
COPY --from=build /opt/gproxy /opt/gproxy
# All that is kept is in /var/lib/gproxy: gproxy.toml, which commands edit in place, and data/gproxy.db.
# The address is the container's own: what is published of it is the host's to say.
ENV PATH=/opt/gproxy/bin:$PATH \
    GPROXY_CONFIG=/var/lib/gproxy/gproxy.toml \
    GPROXY_HOST=0.0.0.0
USER gproxy
WORKDIR /var/lib/gproxy
VOLUME /var/lib/gproxy
EXPOSE 8787
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8787/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["gproxy"]
CMD ["serve"]
